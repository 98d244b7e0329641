"""A hit means: same tenant, same tokens, same history; and never the whole sequence."""

from __future__ import annotations

import random

import pytest

from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.prefix_cache import KeyChain, PrefixCache, SharedPrompts

SIZE = 4


def keys_of(token_ids: list[int], salt: str = "salt") -> list[bytes]:
    chain = KeyChain(salt)
    chain.extend(token_ids, SIZE)
    return chain.keys


def register(
    cache: PrefixCache, token_ids: list[int], blocks: list[int], salt: str = "salt"
) -> None:
    keys = keys_of(token_ids, salt)
    for index, block_id in enumerate(blocks):
        assert cache.try_register(keys, index, token_ids, block_id)


def match(cache: PrefixCache, token_ids: list[int], salt: str = "salt") -> list[int]:
    return cache.match(keys_of(token_ids, salt), token_ids)


def test_longest_common_prefix_of_full_blocks_is_found() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, list(range(12)), [5, 2, 7])
    assert match(cache, [*range(12), 99]) == [5, 2, 7]
    assert match(cache, [*range(11), 99, 99]) == [5, 2]
    assert match(cache, [*range(7)]) == [5]
    assert match(cache, [99, *range(12)]) == []


def test_block_of_the_last_token_is_never_matched() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, list(range(8)), [0, 1])
    assert match(cache, list(range(8))) == [0]
    assert match(cache, list(range(9))) == [0, 1]
    assert match(cache, list(range(4))) == []
    assert match(cache, []) == []


def test_other_salt_never_hits() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, list(range(8)), [0, 1], salt="ours")
    for other in ("theirs", "our", "ours ", "OURS", "ours\0", "o" * 200):
        assert match(cache, list(range(9)), salt=other) == []
        assert not set(keys_of(list(range(8)), other)) & set(keys_of(list(range(8)), "ours"))


def test_long_salts_that_differ_at_the_end_are_different() -> None:
    assert keys_of(list(range(4)), "a" * 100 + "x") != keys_of(list(range(4)), "a" * 100 + "y")


def test_equal_block_after_other_history_is_no_hit() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, [1, 1, 1, 1, 7, 7, 7, 7], [0, 1])
    assert match(cache, [2, 2, 2, 2, 7, 7, 7, 7, 7]) == []


def test_digest_collision_is_not_a_hit_because_tokens_are_compared() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, list(range(4)), [0])
    colliding_keys = keys_of(list(range(4)))
    assert cache.match(colliding_keys, [9, 9, 9, 9, 9]) == []


def test_digest_collision_is_not_a_hit_because_parents_are_compared() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, [1, 1, 1, 1, 7, 7, 7, 7], [0, 1])
    register(cache, [2, 2, 2, 2], [2])
    second_block_key = keys_of([1, 1, 1, 1, 7, 7, 7, 7])[1]
    colliding_keys = [keys_of([2, 2, 2, 2])[0], second_block_key]
    assert cache.match(colliding_keys, [2, 2, 2, 2, 7, 7, 7, 7, 7]) == [2]


def test_first_registration_of_a_prefix_stands() -> None:
    cache = PrefixCache(8, SIZE)
    tokens = list(range(8))
    register(cache, tokens, [0])
    assert not cache.try_register(keys_of(tokens), 0, tokens, 3)
    assert not cache.held()[3]
    # The other copy's next block continues the registered chain.
    assert cache.try_register(keys_of(tokens), 1, tokens, 4)
    assert match(cache, [*tokens, 8]) == [0, 4]


def test_block_without_registered_parent_is_not_registered() -> None:
    cache = PrefixCache(8, SIZE)
    tokens = list(range(8))
    assert not cache.try_register(keys_of(tokens), 1, tokens, 4)
    assert len(cache) == 0


def test_forgetting_a_block_forgets_all_that_continues_it() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, list(range(12)), [0, 1, 2])
    fork = [*range(4), 50, 50, 50, 50]
    assert cache.try_register(keys_of(fork), 1, fork, 3)
    assert sorted(cache.forget(1)) == [1, 2]
    assert match(cache, [*range(13)]) == [0]
    assert match(cache, [*fork, 1]) == [0, 3]
    assert sorted(cache.forget(0)) == [0, 3]
    assert cache.forget(0) == []
    assert len(cache) == 0


def test_chain_hashed_in_pieces_equals_chain_hashed_at_once() -> None:
    tokens = list(range(100, 130))
    chain = KeyChain("salt")
    for end in range(len(tokens) + 1):
        chain.extend(tokens[:end], SIZE)
    assert chain.keys == keys_of(tokens)
    assert len(chain.keys) == len(tokens) // SIZE


def test_integrity_check_notices_a_dropped_entry() -> None:
    cache = PrefixCache(8, SIZE)
    register(cache, list(range(8)), [0, 1])
    cache._by_block[0] = None
    with pytest.raises(IntegrityError):
        cache.check_integrity()


@pytest.mark.parametrize("seed", range(3))
def test_match_equals_a_table_of_whole_prefixes_under_random_operations(seed: int) -> None:
    """The model: a dict from (salt, all tokens so far) to the block."""
    random_ = random.Random(seed)
    cache = PrefixCache(24, SIZE)
    model: dict[tuple[str, tuple[int, ...]], int] = {}
    for _ in range(1500):
        salt = random_.choice("ab")
        tokens = [random_.randrange(2) for _ in range(SIZE * random_.randint(1, 4))]
        unused = [i for i in range(24) if i not in model.values()]
        if random_.random() < 0.6 and unused:
            index = random_.randrange(len(tokens) // SIZE)
            prefix = (salt, tuple(tokens[: (index + 1) * SIZE]))
            parent = (salt, tuple(tokens[: index * SIZE]))
            expected = prefix not in model and (index == 0 or parent in model)
            block_id = random_.choice(unused)
            assert cache.try_register(keys_of(tokens, salt), index, tokens, block_id) == expected
            if expected:
                model[prefix] = block_id
        elif model:
            (gone_salt, gone), block_id = random_.choice(sorted(model.items()))
            lost = [key for key in model if key[0] == gone_salt and key[1][: len(gone)] == gone]
            assert sorted(cache.forget(block_id)) == sorted(model.pop(key) for key in lost)
        cache.check_integrity()
        wanted: list[int] = []
        for end in range(SIZE, len(tokens), SIZE):
            if (salt, tuple(tokens[:end])) not in model:
                break
            wanted.append(model[salt, tuple(tokens[:end])])
        assert match(cache, tokens, salt) == wanted
        assert len(cache) == len(model)


# --- prompts that all tenants may share -----------------------------------------------------------


def shared_keys_of(token_ids: list[int], salt: str, *prompts: list[int]) -> list[bytes]:
    chain = KeyChain(salt, SharedPrompts(prompts, SIZE).num_blocks(token_ids))
    chain.extend(token_ids, SIZE)
    return chain.keys


def test_only_the_full_blocks_of_an_approved_prompt_have_one_key_for_all_tenants() -> None:
    approved = list(range(11))
    text = [*approved, *range(50, 60)]
    ours, theirs = (shared_keys_of(text, salt, approved) for salt in ("ours", "theirs"))
    assert ours[:2] == theirs[:2]
    assert not set(ours[2:]) & set(theirs[2:])
    # Neither are they the keys of the same text where nothing was approved.
    assert not {*ours, *theirs} & {*keys_of(text, "ours"), *keys_of(text, "theirs")}
    assert shared_keys_of(text, "ours") == keys_of(text, "ours")


def test_an_approved_prompt_is_shared_as_a_whole_or_not_at_all() -> None:
    approved = list(range(12))
    prompts = SharedPrompts([approved], SIZE)
    assert prompts.num_blocks(approved) == 3
    assert prompts.num_blocks([*approved, 99]) == 3
    for num_tokens in range(12):
        assert prompts.num_blocks(approved[:num_tokens]) == 0
        assert prompts.num_blocks([*approved[:num_tokens], 99, *approved[num_tokens:]]) == 0


def test_the_longest_approved_prompt_counts_and_short_ones_are_ignored() -> None:
    prompts = SharedPrompts([list(range(8)), list(range(3)), [], list(range(17))], SIZE)
    assert prompts.num_blocks(list(range(40))) == 4
    assert prompts.num_blocks(list(range(15))) == 2
    assert prompts.num_blocks(list(range(7))) == 0


def test_same_text_under_another_root_is_no_hit() -> None:
    """A tenant's own entry behind an approved prompt, and another's whose text goes on alike."""
    cache = PrefixCache(8, SIZE)
    approved, text = list(range(4)), [*range(4), *range(60, 69)]
    ours, theirs = (shared_keys_of(text, salt, approved) for salt in ("ours", "theirs"))
    for index, block_id in enumerate([5, 6, 7]):
        assert cache.try_register(ours, index, text, block_id)
    assert cache.match(ours, text) == [5, 6, 7]
    assert cache.match(theirs, text) == [5]
    assert cache.match(keys_of(text, "ours"), text) == []
