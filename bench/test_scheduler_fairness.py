"""What does another tenant's flood cost a quiet tenant, and what does its protection cost?

In virtual time (see `virtual_load` for the cost of a step), so the numbers are the policy's own and
the same on every machine. The flood is 64 requests of 2,000 prompt tokens, each followed by the
next; the quiet tenant sends 200 prompt tokens once a second and reads 256. Ceiling: the quiet
tenant alone. "first come" is the same scheduler when it cannot tell the tenants apart.

A step cannot be interrupted: whoever arrives waits for its end. Therefore the time to first token
under a flood is about twice the longest step. The default holds as many prompt tokens per step as
arrive (see `prompt_pace`): few where the flood's answers are long, many where they are short. The
two ends are "short steps" (256 tokens) and "long steps" (a quarter of the budget).

The other half measures host time: one step with 256 streams of many tenants.
"""

from __future__ import annotations

import random
import statistics

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from virtual_load import Arrival, Outcome, simulate

from anzoth.frames import SamplingParams
from anzoth.scheduler.fairness import FairnessPolicy
from anzoth.scheduler.scheduler import Scheduler
from anzoth.scheduler.sequence import Sequence

DURATION_S = 60.0
BUDGET = 8192
SHORT_STEPS = FairnessPolicy(contended_prefill_tokens=256)
LONG_STEPS = FairnessPolicy(contended_prefill_tokens=BUDGET // 4)
POLICIES = {"default": FairnessPolicy(), "short steps": SHORT_STEPS, "long steps": LONG_STEPS}


def quiet() -> list[Arrival]:
    random_ = random.Random(1)
    return [Arrival(i + random_.random(), "quiet", 200, 256) for i in range(int(DURATION_S) - 1)]


def run(
    arrivals: list[Arrival],
    num_blocks: int,
    policy: FairnessPolicy | None = None,
    is_tenant_blind: bool = False,
) -> tuple[Outcome, int]:
    scheduler = Scheduler(num_blocks, 16, BUDGET, 64, policy)
    outcome = simulate(scheduler, arrivals, until_s=DURATION_S, is_tenant_blind=is_tenant_blind)
    scheduler.check_integrity()
    return outcome, scheduler.num_preemptions


@pytest.mark.parametrize("num_blocks", [20_000, 5_000])
@pytest.mark.parametrize("num_output_tokens", [512, 128])
def test_quiet_tenant_beside_a_flood(
    benchmark: BenchmarkFixture, num_output_tokens: int, num_blocks: int
) -> None:
    """20,000 blocks hold everything; 5,000 hold half of the flood."""
    flood = [Arrival(3.0, "flood", 2000, num_output_tokens, repeats=True)] * 64
    alone, _ = run(quiet(), num_blocks)
    solo_s = alone.p99_ttft_s("quiet")
    print(f"\nflood with {num_output_tokens} output tokens, {num_blocks} KV blocks")
    first_come = report("first come", *run(quiet() + flood, num_blocks, None, True), solo_s, None)
    outcomes = {
        name: report(name, *run(quiet() + flood, num_blocks, policy), solo_s, first_come)
        for name, policy in POLICIES.items()
    }
    report("alone", alone, 0, solo_s, None)
    for outcome in outcomes.values():
        assert outcome.p99_ttft_s("quiet") < first_come.p99_ttft_s("quiet") / 10
    if num_output_tokens == 512 and num_blocks == 20_000:
        assert outcomes["default"].p99_ttft_s("quiet") <= 2 * solo_s
        assert outcomes["default"].tokens_per_s > 0.95 * first_come.tokens_per_s
    for name, outcome in outcomes.items():
        benchmark.extra_info[f"{name}: p99 ttft ms"] = outcome.p99_ttft_s("quiet") * 1000
        benchmark.extra_info[f"{name}: tokens/s"] = outcome.tokens_per_s
    # What is timed is one short run: the host time of a few hundred steps.
    benchmark.pedantic(
        lambda: simulate(Scheduler(num_blocks, 16, BUDGET, 64), quiet() + flood, until_s=5.0),
        rounds=3,
    )


def report(
    name: str, outcome: Outcome, num_preemptions: int, solo_s: float, before: Outcome | None
) -> Outcome:
    times_s = outcome.ttft_s["quiet"]
    p99_s = outcome.p99_ttft_s("quiet")
    change = f" ({outcome.tokens_per_s / before.tokens_per_s - 1:+.1%})" if before else ""
    print(
        f"  {name:12} ttft p50 {statistics.median(times_s) * 1000:7.1f} ms, "
        f"p99 {p99_s * 1000:7.1f} ms = {p99_s / solo_s:6.2f} x alone; "
        f"{outcome.tokens_per_s:6.0f} tokens/s{change}; longest step "
        f"{outcome.longest_step_s * 1000:.0f} ms; {num_preemptions} preemptions"
    )
    return outcome


@pytest.mark.parametrize("num_tenants", [1, 16, 256])
@pytest.mark.parametrize("num_waiting", [0, 256])
def test_host_time_of_a_step_with_many_tenants(
    benchmark: BenchmarkFixture, num_tenants: int, num_waiting: int
) -> None:
    """256 streams; the waiting ones come from the same tenants and are refused a row each step."""
    scheduler = Scheduler(60_000, 16, BUDGET, 256)
    for request in range(256 + num_waiting):
        tokens = list(range(request, request + 100 + request % 16))
        tenant = f"tenant-{request % num_tenants}"
        scheduler.add(
            Sequence(request, 0, tenant, tenant, tokens, len(tokens), 4096, SamplingParams(), 0.0)
        )

    def step() -> int:
        batch = scheduler.schedule()
        for item in batch:
            samples = item.samples
            scheduler.computed([item])
            if samples:
                item.sequence.token_ids.append(7)
        return len(batch)

    for _ in range(40):
        step()
    assert benchmark.pedantic(step, rounds=200, warmup_rounds=20) == 256
    assert len(scheduler.waiting) == num_waiting
