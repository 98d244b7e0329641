"""What a tenant may hold, what is kept for it, and in which order cached blocks go."""

from __future__ import annotations

import random

import pytest

from anzoth.scheduler.block_pool import BlockPool, IntegrityError
from anzoth.scheduler.origin import Origin
from anzoth.scheduler.tenant_blocks import BlockShares


def make_pool(
    num_blocks: int, quota: float | None = None, floor: float = 0.0
) -> tuple[BlockPool, list[int]]:
    evicted: list[int] = []
    return BlockPool(num_blocks, evicted.append, BlockShares(quota, floor)), evicted


def allocate(pool: BlockPool, tenant: str, num_blocks: int, **how: bool) -> list[int]:
    blocks = pool.try_allocate(num_blocks, Origin(tenant, tenant), **how)
    assert blocks is not None
    pool.check_integrity()
    return blocks


def is_refused(pool: BlockPool, tenant: str, num_blocks: int) -> bool:
    return pool.try_allocate(num_blocks, Origin(tenant, tenant)) is None


def cache(pool: BlockPool, tenant: str, num_blocks: int) -> list[int]:
    """Blocks that the tenant used one after the other, in that order; all cached now."""
    blocks = allocate(pool, tenant, num_blocks)
    for block_id in blocks:
        pool.set_cached(block_id, True)
        pool.free([block_id])
    pool.check_integrity()
    return blocks


def test_without_floors_the_longest_unused_block_goes_first_whoever_holds_it() -> None:
    pool, evicted = make_pool(6)
    order = [block for tenant in "abcabc" for block in cache(pool, tenant, 1)]
    allocate(pool, "d", 5)
    assert evicted == order[:5]


def test_block_that_was_used_again_goes_last() -> None:
    pool, evicted = make_pool(4)
    first, second, third, fourth = (cache(pool, tenant, 1)[0] for tenant in "abab")
    pool.share([first])
    pool.free([first])
    allocate(pool, "c", 4)
    assert evicted == [second, third, fourth, first]


def test_latest_blocks_up_to_the_floor_are_not_evicted_for_others() -> None:
    pool, evicted = make_pool(20, floor=0.1)  # 2 blocks
    quiet = cache(pool, "quiet", 4)
    flood = cache(pool, "flood", 16)
    in_use = allocate(pool, "flood", 18)
    assert evicted == [*quiet[:2], *flood]
    assert is_refused(pool, "flood", 1)
    assert pool.num_lacking("flood", 3) == 3
    assert all(pool.is_cached(block) for block in quiet[2:])
    pool.free(in_use)
    allocate(pool, "flood", 18)
    assert all(pool.is_cached(block) for block in quiet[2:])


def test_own_blocks_below_the_floor_are_no_obstacle_to_their_tenant() -> None:
    pool, evicted = make_pool(20, floor=0.2)
    own = cache(pool, "a", 4)
    allocate(pool, "a", 20)
    assert evicted == own


def test_protected_block_yields_to_who_holds_less_than_its_own_floor() -> None:
    pool, evicted = make_pool(24, floor=0.25 / 3)  # 2 blocks, also with three tenants
    quiet = cache(pool, "quiet", 2)
    allocate(pool, "flood", 22)
    assert is_refused(pool, "flood", 1)
    assert is_refused(pool, "new", 3), "more than its floor"
    allocate(pool, "new", 2)
    assert evicted == quiet


def test_protected_blocks_yield_to_who_may_take_any() -> None:
    pool, evicted = make_pool(20, floor=0.1)
    quiet = cache(pool, "quiet", 2)
    allocate(pool, "flood", 18)
    assert pool.num_lacking("flood", 2) == 2
    assert pool.num_lacking("flood", 2, takes_any=True) == 0
    allocate(pool, "flood", 2, takes_any=True)
    assert evicted == quiet


def test_floors_of_many_tenants_are_lower_and_never_above_a_quarter_together() -> None:
    pool, evicted = make_pool(40, floor=0.1)
    blocks = {tenant: cache(pool, tenant, 4) for tenant in "abcdefghi"}  # nine of them: 1 block
    # With the tenth, a tenant's floor is one block: three of each go, the longest unused first.
    allocate(pool, "j", 4 + 27)
    assert evicted == [block for tenant in "abcdefghi" for block in blocks[tenant][:3]]
    assert is_refused(pool, "j", 1)


def test_tenant_at_its_quota_evicts_its_own_and_then_gets_no_more() -> None:
    pool, evicted = make_pool(20, quota=0.5)
    others = cache(pool, "b", 3)
    own = cache(pool, "a", 8)
    in_use = allocate(pool, "a", 6)
    assert evicted == own[:4]
    assert pool.num_free == 7
    allocate(pool, "a", 4)
    assert evicted == own
    assert is_refused(pool, "a", 1)
    pool.free(in_use)
    allocate(pool, "a", 6)
    assert is_refused(pool, "a", 1)
    assert all(pool.is_cached(block) for block in others)
    allocate(pool, "b", 10)


def test_quota_of_less_than_a_block_is_one_block() -> None:
    pool, _ = make_pool(4, quota=0.1)
    allocate(pool, "a", 1)
    assert is_refused(pool, "a", 1)


@pytest.mark.parametrize("damage", ["account", "protected", "heap", "order"])
def test_integrity_check_notices_damage(damage: str) -> None:
    pool, _ = make_pool(20, floor=0.1)
    blocks = cache(pool, "a", 4)
    tenants = pool.tenants
    if damage == "account":
        tenants._accounts["a"].num_in_use = 1
    elif damage == "protected":
        tenants._num_protected = 3
    elif damage == "heap":
        tenants._oldest.clear()
    else:
        pool._blocks[blocks[0]].stamp = 99
    with pytest.raises(IntegrityError):
        pool.check_integrity()


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_under_random_operations(seed: int) -> None:
    """The model: the order of use of every tenant's cached blocks, as plain lists."""
    random_ = random.Random(seed)
    quota, floor = random_.choice([(None, 0.1), (0.5, 0.1), (0.4, 0.0), (None, 0.25)])
    pool, evicted = make_pool(20, quota, floor)
    names = "abcdefg"
    tables: list[tuple[str, list[int]]] = []
    model: dict[str, list[int]] = {name: [] for name in names}

    def floor_beside(newcomer: str) -> int:
        holders = {name for name, table in tables if table} | {n for n in names if model[n]}
        return int(20 * min(floor, 0.25 / len(holders | {newcomer})))

    for _ in range(1500):
        name = random_.choice(names)
        operation = random_.choice(["allocate", "allocate", "free", "free", "share"])
        if operation == "allocate":
            floor_blocks = floor_beside(name)
            before = {other: list(model[other]) for other in names}
            num_held = pool.tenants.num_held(name)
            wanted = random_.randint(1, 5)
            evicted.clear()
            blocks = pool.try_allocate(wanted, Origin(name, name))
            if blocks is None:
                assert not evicted
            else:
                tables.append((name, blocks))
                for gone in evicted:
                    holder = next(other for other in names if gone in model[other])
                    assert model[holder].pop(0) == gone, "not its longest unused block"
                is_small = num_held + wanted <= floor_blocks
                for other in names:
                    if other != name and not is_small and model[other] != before[other]:
                        assert len(model[other]) >= floor_blocks
            assert pool.tenants.num_held(name) <= pool.tenants.quota_blocks
        elif operation == "free" and tables:
            owner, table = tables.pop(random_.randrange(len(tables)))
            for block_id in table:
                if random_.random() < 0.7:
                    pool.set_cached(block_id, True)
            is_last = {block_id: pool.refcount(block_id) == 1 for block_id in table}
            pool.free(table)
            model[owner] += [b for b in reversed(table) if is_last[b] and pool.is_cached(b)]
        elif operation == "share" and model[name]:
            block_id = model[name].pop(random_.randrange(len(model[name])))
            pool.share([block_id])
            tables.append((name, [block_id]))
        pool.check_integrity()
