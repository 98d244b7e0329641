"""Pool and prefix cache stay in agreement where two sequences compute the same thing."""

from __future__ import annotations

import pytest

from anzoth.frames import SamplingParams
from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.kv_cache import KVCache
from anzoth.scheduler.origin import Deletion, Origin
from anzoth.scheduler.preemption import freed_blocks
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.tenant_blocks import BlockShares

SIZE = 4


def make_sequence(
    request: int, tokens: list[int], salt: str = "salt", tags: tuple[str, ...] = ()
) -> Sequence:
    params = SamplingParams()
    sequence = Sequence(request, 0, "t", salt, list(tokens), len(tokens), 99, params, 0.0)
    sequence.tags = frozenset(tags)
    return sequence


def admit(cache: KVCache, sequence: Sequence) -> None:
    assert cache.try_admit(sequence, cache.match(sequence))


def compute(cache: KVCache, sequence: Sequence) -> None:
    num_tokens = sequence.num_owed_tokens
    assert cache.try_grow(sequence, num_tokens)
    sequence.num_computed_tokens += num_tokens
    cache.commit(sequence)


def probe(cache: KVCache, tokens: list[int]) -> list[int]:
    """What a new sequence of these tokens would find."""
    sequence = make_sequence(99, tokens)
    matched = cache.match(sequence)
    cache.forget(sequence)
    return matched


def counts(cache: KVCache) -> tuple[int, int, int]:
    return cache.pool.num_free, cache.pool.num_cached, cache.pool.num_in_use


def test_admission_counts_the_cached_blocks_that_it_would_revive() -> None:
    cache = KVCache(4, SIZE)
    first = make_sequence(0, list(range(8)))
    admit(cache, first)
    compute(cache, first)
    cache.forget(first)
    assert counts(cache) == (2, 2, 0)
    holder = make_sequence(1, [90, 91])
    admit(cache, holder)
    compute(cache, holder)
    # Two revived blocks and one new one fit in what is left, two new ones do not.
    assert cache.try_admit(make_sequence(2, list(range(13))), [0, 1]) is False
    fitting = make_sequence(3, list(range(9)))
    admit(cache, fitting)
    compute(cache, fitting)
    cache.check_integrity([holder, fitting])
    assert fitting.block_table[:2].tolist() == [0, 1]


def test_admission_that_is_refused_has_no_effect() -> None:
    cache = KVCache(2, SIZE)
    sequence = make_sequence(0, list(range(8)))
    assert not cache.try_admit(sequence, cache.match(sequence))
    assert not sequence.block_table
    assert counts(cache) == (2, 0, 0)


def test_growth_that_is_refused_has_no_effect() -> None:
    cache = KVCache(2, SIZE)
    sequence = make_sequence(0, [1])
    admit(cache, sequence)
    compute(cache, sequence)
    sequence.token_ids += range(20)
    before = list(sequence.block_table)
    assert not cache.try_grow(sequence, 20)
    assert list(sequence.block_table) == before
    assert counts(cache) == (1, 0, 1)


def test_second_copy_of_a_block_stays_private_and_is_free_afterwards() -> None:
    cache = KVCache(8, SIZE)
    twins = [make_sequence(n, list(range(6))) for n in range(2)]
    for twin in twins:
        admit(cache, twin)
    for twin in twins:
        compute(cache, twin)
    cache.check_integrity(twins)
    assert twins[0].block_table[0] != twins[1].block_table[0]
    for twin in twins:
        cache.forget(twin)
    assert counts(cache) == (7, 1, 0)


def test_child_of_a_twin_is_forgotten_when_the_registered_parent_is_evicted() -> None:
    """The parent belongs to one twin, its child to the other: the parent may go first."""
    cache = KVCache(4, SIZE)
    first, second = make_sequence(0, list(range(4))), make_sequence(1, list(range(4)))
    for twin in (first, second):
        admit(cache, twin)
        compute(cache, twin)
    second.token_ids += [50, 51, 52, 53]
    compute(cache, second)
    parent, child = first.block_table[0], second.block_table[1]
    assert probe(cache, [*range(4), 50, 51, 52, 53, 9]) == [parent, child]
    cache.forget(first)
    # A third sequence takes the last free block and then the cached parent.
    third = make_sequence(3, [70, 71])
    admit(cache, third)
    compute(cache, third)
    third.token_ids += [72, 73, 74]
    compute(cache, third)
    assert parent in third.block_table
    cache.check_integrity([second, third])
    assert probe(cache, [*range(4), 50, 51, 52, 53, 9]) == []
    assert not cache.pool.is_cached(child)
    # The other twin goes on: its next block has no registered parent, and that is no error.
    cache.forget(third)
    second.token_ids += [1, 2, 3, 4]
    compute(cache, second)
    cache.check_integrity([second])
    cache.forget(second)
    cache.check_integrity([])
    cache.check_counts()


def test_unregistered_sequence_keeps_its_blocks_but_nobody_finds_them() -> None:
    cache = KVCache(8, SIZE)
    sequence = make_sequence(0, list(range(9)))
    admit(cache, sequence)
    compute(cache, sequence)
    cache.unregister(sequence)
    cache.check_integrity([sequence])
    assert probe(cache, list(range(9))) == []
    cache.forget(sequence)
    assert counts(cache) == (8, 0, 0)


# --- deletion -------------------------------------------------------------------------------------


def delete(cache: KVCache, running: list[Sequence], salt: str, *tags: str) -> tuple[int, int]:
    deletion = Deletion(frozenset({salt}), frozenset(tags) if tags else None)
    numbers = cache.delete(deletion, running)
    cache.check_integrity(running)
    return numbers


def run(cache: KVCache, sequence: Sequence) -> list[int]:
    """Admits and computes a sequence; the blocks that it took over."""
    matched = cache.match(sequence)
    admit(cache, sequence)
    compute(cache, sequence)
    return matched


def test_deleted_tenant_is_found_no_more_and_others_still_are() -> None:
    cache = KVCache(12, SIZE)
    ours, theirs = make_sequence(0, list(range(9))), make_sequence(1, list(range(9)), "theirs")
    for sequence in (ours, theirs):
        run(cache, sequence)
        cache.forget(sequence)
    assert delete(cache, [], "salt") == (3, 0)  # two cached ones and the tail that was free again
    assert cache.pool.take_scrubs() == [0, 1, 2]
    assert probe(cache, list(range(9))) == []
    assert len(cache.match(make_sequence(9, list(range(9)), "theirs"))) == 2
    assert delete(cache, [], "salt") == (0, 0)


def test_running_sequence_of_a_deleted_tenant_goes_on_and_leaves_nothing() -> None:
    cache = KVCache(12, SIZE)
    sequence = make_sequence(0, list(range(9)))
    run(cache, sequence)
    assert delete(cache, [sequence], "salt") == (0, 3)
    assert cache.pool.take_scrubs() == []
    assert probe(cache, list(range(9))) == []
    sequence.token_ids += range(20, 30)
    compute(cache, sequence)
    assert probe(cache, sequence.token_ids) == []
    table = sorted(sequence.block_table)
    cache.forget(sequence)
    assert cache.pool.take_scrubs() == table
    assert counts(cache) == (12, 0, 0)


def test_sequence_that_was_preempted_before_the_deletion_leaves_nothing_either() -> None:
    cache = KVCache(12, SIZE)
    sequence = make_sequence(0, list(range(9)))
    run(cache, sequence)
    cache.release(sequence)
    assert delete(cache, [sequence], "salt") == (3, 0)
    cache.pool.take_scrubs()
    assert run(cache, sequence) == []
    table = sorted(sequence.block_table)
    cache.forget(sequence)
    assert cache.pool.take_scrubs() == table
    assert counts(cache) == (12, 0, 0)


def test_deletion_by_tag_takes_only_what_was_computed_from_that_document() -> None:
    cache = KVCache(20, SIZE)
    prompts = {"a": [1] * 9, "b": [2] * 9, "": [3] * 9}
    for number, (tag, tokens) in enumerate(prompts.items()):
        sequence = make_sequence(number, tokens, tags=(tag,) if tag else ())
        run(cache, sequence)
        cache.forget(sequence)
    assert delete(cache, [], "theirs", "a") == (0, 0)
    assert delete(cache, [], "salt", "a", "unknown") == (3, 0)
    assert [len(probe(cache, tokens)) for tokens in prompts.values()] == [0, 2, 2]


def test_whoever_takes_over_blocks_takes_over_their_tags() -> None:
    """Two documents: the second prompt names only one of them, and begins with both."""
    cache = KVCache(20, SIZE)
    first = make_sequence(0, list(range(9)), tags=("a",))
    run(cache, first)
    cache.forget(first)
    second = make_sequence(1, [*range(8), *range(50, 56)], tags=("b",))
    assert len(run(cache, second)) == 2
    third = make_sequence(2, [*range(8), *range(50, 54), *range(70, 76)])
    assert len(run(cache, third)) == 3
    cache.forget(second)
    assert delete(cache, [third], "salt", "a")[1] == len(third.block_table)
    assert probe(cache, third.token_ids) == []
    table = sorted(third.block_table)
    cache.pool.take_scrubs()
    cache.forget(third)
    assert cache.pool.take_scrubs() == table
    assert counts(cache) == (20, 0, 0)


def test_what_an_untagged_twin_computed_is_not_touched() -> None:
    """Twins: the tagged one registers first, so the untagged one continues its chain."""
    cache = KVCache(20, SIZE)
    tagged, plain = make_sequence(0, list(range(4)), tags=("a",)), make_sequence(1, list(range(4)))
    for twin in (tagged, plain):
        admit(cache, twin)
        compute(cache, twin)
    plain.token_ids += range(10, 16)
    compute(cache, plain)
    assert delete(cache, [tagged, plain], "salt", "a") == (0, 1)
    cache.forget(tagged)
    assert cache.pool.take_scrubs() == [0]
    # Its own blocks were computed from no such prompt: they stay as they are, but unregistered.
    plain.token_ids += range(20, 24)
    compute(cache, plain)
    cache.forget(plain)
    assert cache.pool.take_scrubs() == []
    cache.check_integrity([])


@pytest.mark.parametrize("damage", ["tags", "tenant", "deletion"])
def test_integrity_check_notices_who_could_use_what_is_deleted(damage: str) -> None:
    cache = KVCache(20, SIZE)
    first, second = make_sequence(0, list(range(9)), tags=("a",)), make_sequence(1, list(range(9)))
    run(cache, first)
    assert len(run(cache, second)) == 2
    cache.check_integrity([first, second])
    chain = cache._chains[second]
    if damage == "tags":
        chain.origin = Origin("t", "salt")
    elif damage == "tenant":
        chain.origin = Origin("t", "theirs", chain.origin.tags)
    else:
        delete(cache, [first, second], "salt", "a")
        chain.is_deleted = False
    with pytest.raises(IntegrityError, match="delet"):
        cache.check_integrity([first, second])


# --- choices of one request ---------------------------------------------------------------------


def make_choices(number: int, tokens: list[int], salt: str = "salt") -> list[Sequence]:
    siblings: list[Sequence] = []
    for choice in range(number):
        sequence = make_sequence(0, tokens, salt)
        sequence.choice, sequence.num_choices, sequence.siblings = choice, number, siblings
        siblings.append(sequence)
    return siblings


def test_choice_copies_the_last_block_of_a_prompt_and_computes_its_last_token() -> None:
    for num_tokens in range(2, 14):
        cache = KVCache(20, SIZE)
        leader, *others = make_choices(3, list(range(num_tokens)))
        assert not cache.awaits_sibling(leader, [])
        assert not cache.awaits_sibling(others[0], [])
        admit(cache, leader)
        assert cache.try_grow(leader, num_tokens)
        assert cache.awaits_sibling(others[0], cache.match(others[0]))
        compute(cache, leader)
        assert not cache.awaits_sibling(others[0], cache.match(others[0]))
        for other in others:
            admit(cache, other)
            assert other.num_computed_tokens == num_tokens - 1
            compute(cache, other)
        num_shared = (num_tokens - 1) // SIZE
        copies = [(leader.block_table[num_shared], o.block_table[num_shared]) for o in others]
        assert cache.take_copies() == (copies if (num_tokens - 1) % SIZE else [])
        assert cache.take_copies() == []
        cache.check_integrity([leader, *others])


def test_copy_reads_what_is_there_before_the_step_whoever_owns_the_block_then() -> None:
    """Leader and first copy are preempted, and another tenant gets their blocks, in one step."""
    cache = KVCache(5, SIZE)
    leader, first, second = make_choices(3, list(range(6)))
    run(cache, leader)
    tail = leader.block_table[1]
    admit(cache, first)
    admit(cache, second)
    copies = [first.block_table[1], second.block_table[1]]
    cache.release(leader)
    cache.release(first)
    stranger = make_sequence(1, list(range(90, 99)), "theirs")
    run(cache, stranger)
    assert {tail, copies[0]} < set(stranger.block_table)
    assert cache.take_copies() == [(tail, copies[0]), (tail, copies[1])]
    # Copied first, then zeroed for the stranger: nothing of the copy that is still in use.
    assert cache.pool.take_scrubs() == sorted([tail, copies[0]])
    cache.check_integrity([second, stranger])


def test_block_of_another_tenant_that_is_overwritten_by_a_copy_is_not_zeroed_after_it() -> None:
    cache = KVCache(3, SIZE)
    stranger = make_sequence(1, [90], "theirs")
    leader, other = make_choices(2, list(range(3)))
    run(cache, leader)
    run(cache, stranger)
    (freed,) = stranger.block_table
    holder = make_sequence(2, [91])
    run(cache, holder)  # the block that was never used
    cache.forget(stranger)
    admit(cache, other)
    assert list(other.block_table) == [freed]
    assert cache.take_copies() == [(leader.block_table[0], freed)]
    assert cache.pool.take_scrubs() == []


def test_deleted_choice_is_not_copied_and_copies_carry_the_tags_of_what_they_copy() -> None:
    cache = KVCache(20, SIZE)
    tagged = make_sequence(9, list(range(4)), tags=("a",))
    run(cache, tagged)
    cache.forget(tagged)
    leader, first, second = make_choices(3, list(range(6)))
    assert len(run(cache, leader)) == 1
    # Were the shared block not there any more, the copy would still be of what followed it.
    admit(cache, first)
    assert delete(cache, [leader, first, second], "salt", "a") == (0, 3)
    cache.take_copies()
    admit(cache, second)
    assert second.num_computed_tokens == 0
    assert cache.take_copies() == []
    compute(cache, second)
    for sequence in (leader, first, second):
        cache.forget(sequence)
    assert len(probe(cache, list(range(6)))) == 1
    cache.check_integrity([])


def test_copy_that_the_quota_does_not_leave_room_for_is_not_begun() -> None:
    cache = KVCache(10, SIZE, BlockShares(quota=0.4))
    leader, other = make_choices(2, list(range(7)))
    run(cache, leader)
    hog = make_sequence(1, [50] * 5)
    run(cache, hog)
    assert cache.try_admit(other, cache.match(other)) is False
    assert not other.block_table
    assert cache.take_copies() == []


# --- prompts that all tenants may share ---------------------------------------------------------

APPROVED = list(range(30, 38))


def of_tenant(
    tenant: str, tokens: list[int], request: int = 0, tags: tuple[str, ...] = ()
) -> Sequence:
    sequence = make_sequence(request, tokens, f"salt of {tenant}", tags)
    sequence.tenant = tenant
    return sequence


def test_an_approved_prompt_is_found_by_every_tenant_and_counts_for_none() -> None:
    cache = KVCache(20, SIZE, BlockShares(quota=0.25), shared_prompts=[APPROVED])
    first, second = (of_tenant(tenant, [*APPROVED, *range(9)]) for tenant in "ab")
    assert run(cache, first) == []
    assert cache.pool.tenants.num_held("a") == 3  # of 5: the approved two are nobody's
    assert cache.pool.tenants.num_held("") == 2
    assert run(cache, second) == list(first.block_table[:2])
    assert set(second.block_table[2:]).isdisjoint(first.block_table)
    assert cache.pool.tenants.num_held("b") == 3
    cache.check_integrity([first, second])
    # What "a" writes on does not fit in its quota only because of its own blocks.
    assert cache.try_grow(first, 2 * SIZE)
    first.token_ids += range(2 * SIZE + 4)
    assert not cache.try_grow(first, 2 * SIZE + 4)
    for sequence in (first, second):
        cache.forget(sequence)
    cache.check_integrity([])


def test_no_tenants_deletion_takes_an_approved_prompt_away_nor_leaves_what_is_behind_it() -> None:
    cache = KVCache(20, SIZE, shared_prompts=[APPROVED])
    texts = {tenant: [*APPROVED, *range(9)] for tenant in "ab"}
    for tenant, tokens in texts.items():
        sequence = of_tenant(tenant, tokens, tags=("doc",))
        run(cache, sequence)
        cache.forget(sequence)
    assert delete(cache, [], "salt of a", "doc") == (3, 0)
    assert len(cache.match(of_tenant("a", texts["a"]))) == 2
    assert len(cache.match(of_tenant("b", texts["b"]))) == 4
    assert delete(cache, [], "salt of a") == (0, 0)
    # One that was deleted while it ran shares nothing of what it computes from then on.
    other = KVCache(20, SIZE, shared_prompts=[APPROVED])
    running = of_tenant("a", texts["a"])
    admit(other, running)
    assert other.try_grow(running, 5)
    running.num_computed_tokens = 5
    other.commit(running)
    assert delete(other, [running], "salt of a")[1] > 0
    compute(other, running)
    first, *rest = running.block_table
    assert other.match(of_tenant("b", texts["b"])) == [first]
    other.forget(running)
    assert other.pool.take_scrubs() == sorted(rest)


def test_a_block_of_an_approved_prompt_is_zeroed_before_a_tenant_writes_to_it() -> None:
    cache = KVCache(4, SIZE, shared_prompts=[APPROVED])
    first = of_tenant("a", [*APPROVED, 1])
    run(cache, first)
    shared = first.block_table[:2]
    cache.forget(first)
    second = of_tenant("a", list(range(15)))
    run(cache, second)
    assert set(cache.pool.take_scrubs()) == set(shared)
    cache.check_integrity([second])


def test_what_becomes_free_of_an_approved_prompt_is_not_counted_for_the_tenant_that_used_it() -> (
    None
):
    cache = KVCache(20, SIZE, shared_prompts=[APPROVED])
    first = of_tenant("a", [*APPROVED, *range(9)])
    run(cache, first)
    assert freed_blocks([first], cache) == {"": 2, "a": 3}
