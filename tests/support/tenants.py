"""What tests of the scheduler share: small blocks, tenants' sequences, a step without a model."""

from __future__ import annotations

from typing import Any

from anzoth.frames import SamplingParams
from anzoth.scheduler.fairness import FairnessPolicy
from anzoth.scheduler.scheduler import Scheduler
from anzoth.scheduler.sequence import ScheduledSequence, Sequence

SIZE = 4


def make_sequence(
    request: int,
    num_prompt_tokens: int,
    tenant: str,
    *,
    tokens: list[int] | None = None,
    **more: Any,
) -> Sequence:
    """Its prompt is like no other request's unless `tokens` says so."""
    token_ids = tokens or [1000 * (request + 1) + i for i in range(num_prompt_tokens)]
    return Sequence(
        request=request,
        choice=0,
        tenant=tenant,
        cache_salt=tenant,
        token_ids=list(token_ids),
        num_prompt_tokens=len(token_ids),
        max_tokens=1000,
        sampling=SamplingParams(),
        arrival_s=float(request),
        **more,
    )


def make_scheduler(
    num_blocks: int = 400, budget: int = 32, max_running: int = 16, **policy: Any
) -> Scheduler:
    return Scheduler(num_blocks, SIZE, budget, max_running, FairnessPolicy(**policy))


def run_step(scheduler: Scheduler) -> dict[int, int]:
    """One step with a model that always samples token 7: tokens by request."""
    batch = scheduler.schedule()
    finish_step(scheduler, batch)
    return {item.sequence.request: item.num_tokens for item in batch}


def finish_step(scheduler: Scheduler, batch: list[ScheduledSequence]) -> None:
    for item in batch:
        samples = item.samples
        scheduler.computed([item])
        if samples:
            item.sequence.token_ids.append(7)
    scheduler.check_integrity()
