"""Blocks are never lost, never shared by accident, and reused in the right order."""

from __future__ import annotations

import random

import pytest

from anzoth.scheduler.block_pool import BlockPool, IntegrityError
from anzoth.scheduler.origin import Origin

OURS, THEIRS = Origin("us", "salt-1"), Origin("them", "salt-2")


def make_pool(num_blocks: int) -> tuple[BlockPool, list[int]]:
    evicted: list[int] = []
    return BlockPool(num_blocks, evicted.append), evicted


def allocate(pool: BlockPool, num_blocks: int, origin: Origin = OURS) -> list[int]:
    blocks = pool.try_allocate(num_blocks, origin)
    assert blocks is not None
    return blocks


def counts(pool: BlockPool) -> tuple[int, int, int]:
    return pool.num_free, pool.num_cached, pool.num_in_use


def test_allocation_beyond_the_pool_is_refused_without_effect() -> None:
    pool, _ = make_pool(4)
    allocate(pool, 3)
    assert pool.try_allocate(2, OURS) is None
    assert counts(pool) == (1, 0, 3)
    assert len(allocate(pool, 1)) == 1


def test_consecutive_allocations_do_not_overlap() -> None:
    pool, _ = make_pool(6)
    assert sorted(allocate(pool, 2) + allocate(pool, 4)) == list(range(6))


def test_free_blocks_are_used_before_cached_ones_are_evicted() -> None:
    pool, evicted = make_pool(4)
    kept = allocate(pool, 2)
    for block_id in kept:
        pool.set_cached(block_id, True)
    pool.free(kept)
    assert counts(pool) == (2, 2, 0)
    assert set(allocate(pool, 2)).isdisjoint(kept)
    assert evicted == []
    allocate(pool, 1)
    assert evicted == [kept[-1]]


def test_tail_of_a_table_is_evicted_before_its_head() -> None:
    pool, evicted = make_pool(3)
    table = allocate(pool, 3)
    for block_id in table:
        pool.set_cached(block_id, True)
    pool.free(table)
    allocate(pool, 3)
    assert evicted == list(reversed(table))


def test_recently_shared_blocks_are_evicted_last() -> None:
    pool, evicted = make_pool(2)
    first, second = allocate(pool, 1), allocate(pool, 1)
    for block_id in first + second:
        pool.set_cached(block_id, True)
    pool.free(first)
    pool.free(second)
    pool.share(first)
    pool.free(first)
    allocate(pool, 2)
    assert evicted == second + first


def test_shared_block_stays_in_use_until_its_last_user_frees_it() -> None:
    pool, _ = make_pool(1)
    table = allocate(pool, 1)
    pool.set_cached(table[0], True)
    pool.share(table)
    pool.free(table)
    assert counts(pool) == (0, 0, 1)
    assert pool.try_allocate(1, OURS) is None
    pool.free(table)
    assert counts(pool) == (0, 1, 0)


def test_unused_block_that_loses_its_prefix_becomes_free() -> None:
    pool, _ = make_pool(1)
    table = allocate(pool, 1)
    pool.set_cached(table[0], True)
    pool.free(table)
    pool.set_cached(table[0], False)
    assert counts(pool) == (1, 0, 0)
    pool.check_integrity()


def test_block_is_zeroed_before_it_goes_to_another_origin_and_not_otherwise() -> None:
    pool, _ = make_pool(1)
    for origin, is_zeroed in ((OURS, False), (OURS, False), (THEIRS, True), (OURS, True)):
        table = allocate(pool, 1, origin)
        assert pool.take_scrubs() == (table if is_zeroed else [])
        pool.free(table)
    tagged = Origin("us", "salt-1", frozenset({"document"}))
    assert pool.take_scrubs() == []
    allocate(pool, 1, tagged)
    assert pool.take_scrubs() == [0]


def test_evicted_block_is_zeroed_for_another_origin() -> None:
    pool, evicted = make_pool(1)
    table = allocate(pool, 1)
    pool.set_cached(table[0], True)
    pool.free(table)
    allocate(pool, 1, THEIRS)
    assert (evicted, pool.take_scrubs()) == (table, table)


def test_condemned_block_is_zeroed_at_once_or_when_its_last_user_gives_it_back() -> None:
    pool, _ = make_pool(3)
    unused, used, shared = allocate(pool, 1), allocate(pool, 1), allocate(pool, 1)
    pool.free(unused)
    pool.set_cached(shared[0], True)
    pool.share(shared)
    pool.set_cached(shared[0], False)
    assert [pool.condemn(blocks[0]) for blocks in (unused, used, shared)] == [True, False, False]
    assert pool.take_scrubs() == unused
    pool.free(used)
    pool.free(shared)
    assert pool.take_scrubs() == used
    pool.free(shared)
    assert pool.take_scrubs() == shared
    assert pool.blocks_of(lambda _: True) == []
    pool.check_integrity()


def test_block_for_bytes_that_are_deleted_already_is_zeroed_when_it_is_given_back() -> None:
    pool, _ = make_pool(1)
    table = pool.try_allocate(1, OURS, is_condemned=True)
    assert table is not None
    pool.free(table)
    assert pool.take_scrubs() == table


@pytest.mark.parametrize("damage", ["lost", "refcount", "mark"])
def test_integrity_check_notices_damage(damage: str) -> None:
    pool, _ = make_pool(4)
    table = allocate(pool, 2)
    block = pool._blocks[table[0]]
    if damage == "lost":
        block.refcount = 0
    elif damage == "refcount":
        pool._blocks[3].refcount = 1
    else:
        pool._blocks[3].is_cached = True
    with pytest.raises(IntegrityError):
        pool.check_integrity()


@pytest.mark.parametrize("seed", range(4))
def test_states_stay_disjoint_and_complete_under_random_operations(seed: int) -> None:
    random_ = random.Random(seed)
    pool, evicted = make_pool(12)
    tables: list[list[int]] = []
    for _ in range(1500):
        operation = random_.choice(
            ["allocate", "free", "free", "cache", "cache", "share", "uncache"]
        )
        if operation == "allocate":
            wanted = random_.randint(1, 5)
            available = pool.num_available
            blocks = pool.try_allocate(wanted, random_.choice([OURS, THEIRS]))
            assert (blocks is not None) == (wanted <= available)
            if blocks is not None:
                tables.append(blocks)
        elif operation == "free" and tables:
            pool.free(tables.pop(random_.randrange(len(tables))))
        elif operation == "cache" and tables:
            pool.set_cached(random_.choice(random_.choice(tables)), True)
        elif operation == "share":
            cached = [i for i in range(12) if pool.is_cached(i)]
            shared = random_.sample(cached, min(2, len(cached)))
            pool.share(shared)
            tables.append(shared)
        elif operation == "uncache" and random_.random() < 0.2:
            pool.set_cached(random_.randrange(12), False)
        tables = [table for table in tables if table]
        pool.check_integrity()
        assert sum(counts(pool)) == 12
        for block_id in range(12):
            assert pool.refcount(block_id) == sum(block_id in table for table in tables)
    assert evicted
