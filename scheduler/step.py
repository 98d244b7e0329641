"""What is in the step that is being decided, and who had to leave it?

Does not know: who should be in it, or in which order they are asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from anzoth.scheduler.preemption import freed_blocks, victims_of_growth
from anzoth.scheduler.rows import Rows
from anzoth.scheduler.sequence import Sequence


@dataclass(slots=True)
class Step:
    """One step while it is being decided."""

    budget: int
    decodes: dict[Sequence, tuple[int, ...]] = field(default_factory=dict)
    """Streams, and the drafts behind the one token that each owes."""
    prefills: dict[Sequence, int] = field(default_factory=dict)
    """How many of their owed tokens are in the batch so far."""
    unbacked: dict[Sequence, int] = field(default_factory=dict)
    """Blocks that running prompts still need: they are not admission's to give away."""
    in_flight: set[bytes] = field(default_factory=set)
    """The block of each running prompt that is computed now or next."""
    lacked_blocks: bool = False
    at_quota: set[str] = field(default_factory=set)
    """Tenants that wait for blocks of their own."""


def try_grow(step: Step, rows: Rows, sequence: Sequence, num_tokens: int) -> bool:
    """Blocks for the next `num_tokens` owed tokens of a running sequence, if need be at the cost of
    others: preempts until it can grow. If too few yield to it, it sits out."""
    kv_cache, tenant = rows.kv_cache, sequence.tenant
    if kv_cache.try_grow(sequence, num_tokens):
        return True
    is_elder = sequence is rows.running[0]
    victims = victims_of_growth(sequence, rows.running, rows.fairness)
    num_blocks = kv_cache.num_blocks_to_grow(sequence, num_tokens)
    is_at_quota = kv_cache.exceeds_quota(sequence, num_blocks)
    if is_at_quota:
        step.at_quota.add(tenant)
        victims.sort(key=lambda victim: victim.tenant != tenant)
    else:
        step.lacked_blocks = True
    if not is_elder:
        if is_at_quota:
            victims = [victim for victim in victims if victim.tenant == tenant]
        freed = freed_blocks(victims, kv_cache)
        num_gained = kv_cache.pool.tenants.num_gained(tenant, freed)
        if num_gained < kv_cache.pool.num_lacking(tenant, num_blocks):
            return False
        if kv_cache.exceeds_quota(sequence, num_blocks - freed[tenant]):
            return False
    for victim in victims:
        # What it had of the budget is there again, but nobody who was passed over is asked.
        step.budget += step.prefills.pop(victim, 0)
        step.budget += step.decodes.pop(victim, None) is not None
        step.unbacked.pop(victim, None)
        rows.preempt(victim)
        if kv_cache.try_grow(sequence, num_tokens):
            return True
    return is_elder and kv_cache.try_grow(sequence, num_tokens, takes_any=True)
