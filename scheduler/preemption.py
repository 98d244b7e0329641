"""Who gives up rows and blocks, and for whom?

Two occasions, one order: the tenant that has had most loses first, and of its sequences the one
with the fewest computed tokens, because that is what must be computed again.

    growth      a running sequence needs a block and none is left. Between tenants whose service
                differs by more than the policy's margin, the one that had more yields; otherwise
                the lower priority within a tenant, then the younger sequence.
    take-over   a waiting sequence lacks a row or blocks and its tenant's patience has run out. It
                takes from tenants that have had more, and that afterwards hold, per share, at least
                as much as its own tenant; or from a lower priority of its own tenant.

After a take-over the other side has no claim of the same kind, whatever the counters say: it would
have to leave the taker at least as much as it gets. So rows are not passed to and fro.

The oldest running sequence is never preempted on either occasion (see `scheduler` for why).

Does not know: the step's budget, or how a sequence is preempted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from anzoth.scheduler.fairness import FairShares
from anzoth.scheduler.kv_cache import KVCache
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.waiting_queue import age_order


def by_loss(sequences: Iterable[Sequence], fairness: FairShares) -> list[Sequence]:
    """The first one is to be preempted first."""

    def key(sequence: Sequence) -> tuple[float, int, int, int]:
        level = fairness.level(sequence.tenant, sequence.priority)
        return -level, sequence.num_computed_tokens, -sequence.request, -sequence.choice

    return sorted(sequences, key=key)


def victims_of_growth(
    sequence: Sequence, running: list[Sequence], fairness: FairShares
) -> list[Sequence]:
    """Who may be preempted so that a running sequence can grow, in order."""
    others = [other for other in running[1:] if other is not sequence]
    if sequence is not running[0]:
        others = [other for other in others if _yields(other, sequence, fairness)]
    return by_loss(others, fairness)


def freed_blocks(sequences: Iterable[Sequence], kv_cache: KVCache) -> Counter[str]:
    """By tenant that they count for, the blocks that nobody uses for certain once these are
    preempted. O(blocks)."""
    pool, freed = kv_cache.pool, Counter[str]()
    for sequence in sequences:
        freed.update(
            pool.holder(block_id)
            for block_id in sequence.block_table
            if pool.refcount(block_id) == 1
        )
    return freed


def with_more(
    sequence: Sequence, running: list[Sequence], fairness: FairShares, *, needs_row: bool
) -> list[Sequence]:
    """Running sequences that a waiting one may take over from, as far as their tenant decides it:
    it has had more and, if it is a row that is needed, has enough of them. The elder is spared."""
    level = fairness.level(sequence.tenant, sequence.priority)
    share = fairness.share(sequence.tenant)
    num_rows_after = fairness.num_rows(sequence.tenant) + 1

    def has_more(tenant: str, priority: int) -> bool:
        if tenant == sequence.tenant:
            return priority < sequence.priority
        num_rows_left = fairness.num_rows(tenant) - 1
        if needs_row and num_rows_left * share < num_rows_after * fairness.share(tenant):
            return False
        return fairness.level(tenant, priority) > level

    verdicts: dict[tuple[str, int], bool] = {}
    candidates: list[Sequence] = []
    for other in running[1:]:
        kind = other.tenant, other.priority
        verdict = verdicts.get(kind)
        if verdict is None:
            verdict = has_more(*kind)
            verdicts[kind] = verdict
        if verdict:
            candidates.append(other)
    return candidates


def victims_of_take_over(
    sequence: Sequence,
    candidates: list[Sequence],
    num_missing_rows: int,
    num_missing_blocks: int,
    running: list[Sequence],
    fairness: FairShares,
    kv_cache: KVCache,
) -> list[Sequence] | None:
    """Whom to preempt so that a waiting sequence gets what it misses; None if that is too much.

    `candidates` are those of `with_more`.
    """
    victims: list[Sequence] = []
    freed, num_gained_blocks = Counter[str](), 0
    num_rows = Counter(other.tenant for other in running)
    num_blocks: Counter[str] = Counter()
    for other in running:
        num_blocks[other.tenant] += len(other.block_table)
    share = fairness.share(sequence.tenant)
    num_rows_after = num_rows[sequence.tenant] + 1
    num_blocks_after = num_blocks[sequence.tenant] + kv_cache.num_blocks_for(
        len(sequence.token_ids) + 1
    )
    for victim in by_loss(candidates, fairness):
        tenant = victim.tenant
        if num_missing_rows > 0:
            left, claim = num_rows[tenant] - 1, num_rows_after
        elif num_missing_blocks > num_gained_blocks:
            left, claim = num_blocks[tenant] - len(victim.block_table), num_blocks_after
        else:
            break
        if tenant != sequence.tenant and left * share < claim * fairness.share(tenant):
            continue
        victims.append(victim)
        num_rows[tenant] -= 1
        num_blocks[tenant] -= len(victim.block_table)
        num_missing_rows -= 1
        freed += freed_blocks((victim,), kv_cache)
        num_gained_blocks = kv_cache.pool.tenants.num_gained(sequence.tenant, freed)
    is_enough = num_missing_rows <= 0 and num_missing_blocks <= num_gained_blocks
    return victims if is_enough else None


def _yields(other: Sequence, sequence: Sequence, fairness: FairShares) -> bool:
    if other.tenant == sequence.tenant:
        if other.priority != sequence.priority:
            return other.priority < sequence.priority
    elif fairness.is_over(other.tenant, sequence.tenant):
        return True
    elif fairness.is_over(sequence.tenant, other.tenant):
        return False
    return age_order(other) > age_order(sequence)
