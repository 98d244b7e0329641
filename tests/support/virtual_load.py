"""What would tenants see of the scheduler if a step took a fixed time and a time for each token?

Drives a `Scheduler` through virtual time: no model, no wall clock. A step of n tokens takes
`fixed_s + n * token_s`; requests that arrive meanwhile are seen when it is over, as in the engine.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from anzoth.frames import SamplingParams
from anzoth.scheduler.scheduler import Scheduler
from anzoth.scheduler.sequence import Sequence


@dataclass(slots=True, frozen=True)
class StepCost:
    """An 8B model in bf16 on one H200, from its data sheet: 5 ms to read the weights and start the
    kernels; 16 GFLOP a token at 60 % of 990 TFLOP/s. Attention is left out."""

    fixed_s: float = 0.005
    token_s: float = 27.5e-6


@dataclass(slots=True, frozen=True, order=True)
class Arrival:
    at_s: float
    tenant: str
    num_prompt_tokens: int
    num_output_tokens: int
    repeats: bool = False
    """When it is finished, the same comes again at once: the tenant keeps its flood up."""


@dataclass(slots=True)
class Outcome:
    """What happened, per tenant where it says so."""

    ttft_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    num_tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Prompt tokens of requests that gave their first token, and output tokens."""
    num_steps: int = 0
    now_s: float = 0.0
    longest_step_s: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        return sum(self.num_tokens.values()) / self.now_s

    def p99_ttft_s(self, tenant: str) -> float:
        ordered = sorted(self.ttft_s[tenant])
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def simulate(
    scheduler: Scheduler,
    arrivals: Iterable[Arrival],
    *,
    until_s: float | None = None,
    cost: StepCost | None = None,
    is_tenant_blind: bool = False,
) -> Outcome:
    """Runs until `until_s`, or until every request is finished.

    `is_tenant_blind`: the scheduler is told one name for all tenants, which makes it first come,
    first served.
    """
    cost = cost or StepCost()
    outcome = Outcome()
    pending = sorted(arrivals)
    heapq.heapify(pending)
    origin: dict[Sequence, Arrival] = {}
    numbers = itertools.count()
    while pending or origin:
        if until_s is not None and outcome.now_s >= until_s:
            break
        if not origin:
            outcome.now_s = max(outcome.now_s, pending[0].at_s)
        while pending and pending[0].at_s <= outcome.now_s:
            arrival = heapq.heappop(pending)
            sequence = make_sequence(next(numbers), arrival, is_tenant_blind)
            origin[sequence] = arrival
            scheduler.add(sequence)
        batch = scheduler.schedule()
        step_s = cost.fixed_s + cost.token_s * sum(item.num_tokens for item in batch)
        outcome.now_s += step_s
        outcome.longest_step_s = max(outcome.longest_step_s, step_s)
        outcome.num_steps += 1
        for item in batch:
            samples, sequence = item.samples, item.sequence
            scheduler.computed([item])
            if not samples:
                continue
            arrival = origin[sequence]
            if not sequence.num_output_tokens:
                outcome.ttft_s[arrival.tenant].append(outcome.now_s - arrival.at_s)
                outcome.num_tokens[arrival.tenant] += arrival.num_prompt_tokens
            outcome.num_tokens[arrival.tenant] += 1
            sequence.token_ids.append(7)
            if sequence.num_output_tokens == arrival.num_output_tokens:
                scheduler.end(sequence)
                del origin[sequence]
                if arrival.repeats:
                    heapq.heappush(pending, again(arrival, outcome.now_s))
    return outcome


def make_sequence(request: int, arrival: Arrival, is_tenant_blind: bool) -> Sequence:
    """A prompt that shares nothing with any other."""
    tenant = "everyone" if is_tenant_blind else arrival.tenant
    token_ids = [1_000_000 * (request + 1) + i for i in range(arrival.num_prompt_tokens)]
    return Sequence(
        request=request,
        choice=0,
        tenant=tenant,
        cache_salt=tenant,
        token_ids=token_ids,
        num_prompt_tokens=len(token_ids),
        max_tokens=arrival.num_output_tokens,
        sampling=SamplingParams(),
        arrival_s=arrival.at_s,
    )


def again(arrival: Arrival, at_s: float) -> Arrival:
    return Arrival(
        at_s, arrival.tenant, arrival.num_prompt_tokens, arrival.num_output_tokens, arrival.repeats
    )
