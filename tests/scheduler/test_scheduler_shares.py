"""What quota and floor mean for running work: nobody flushes another's prefixes, everybody ends."""

from __future__ import annotations

from typing import Any

import pytest

from anzoth.config import ConfigError
from anzoth.frames import SamplingParams, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.admission import Refusal
from anzoth.scheduler.engine import Engine
from fake_runner import FakeRunner, continuation

ENDLESS = SamplingParams(ignore_eos=True)


def make_engine(num_blocks: int = 60, **settings: Any) -> Engine:
    runner = FakeRunner(num_blocks=num_blocks, max_model_tokens=10_000)
    return Engine(runner, EngineConfig(max_batch_tokens=32, **settings), lambda: 0.0)


def submit(engine: Engine, tenant: str, prompt: list[int], max_tokens: int) -> int:
    answer = engine.submit(Submit(0, tenant, tenant, 1, max_tokens, ENDLESS), prompt)
    assert isinstance(answer, int), answer
    return answer


def flood(engine: Engine, tenant: str) -> None:
    """Prompts that share nothing, several times what the cache holds."""
    for n in range(30):
        submit(engine, tenant, [n, n // 7, *range(n, n + 18)], 30)


def run(engine: Engine) -> dict[int, int]:
    """To the end; the cached tokens of each request."""
    cached: dict[int, int] = {}
    while engine.has_work:
        for row in engine.step():
            if row.cached_tokens is not None:
                cached[row.request] = row.cached_tokens
        engine.check_integrity()
    engine.check_idle()
    return cached


@pytest.mark.parametrize(("floor", "is_kept"), [(0.0, False), (0.05, True)])
def test_flood_flushes_a_quiet_tenants_prefix_only_without_a_floor(
    floor: float, is_kept: bool
) -> None:
    engine = make_engine(kv_floor=floor)
    prompt = list(range(40, 53))  # three full blocks, and the floor is three blocks
    submit(engine, "quiet", prompt, 3)
    run(engine)
    flood(engine, "flood")
    run(engine)
    assert engine.stats().preemptions > 0
    again = submit(engine, "quiet", prompt, 3)
    assert run(engine)[again] == (12 if is_kept else 0)


def test_default_settings_keep_a_prefix_through_a_flood() -> None:
    engine = make_engine()
    prompt = list(range(40, 53))
    submit(engine, "quiet", prompt, 3)
    run(engine)
    flood(engine, "flood")
    run(engine)
    again = submit(engine, "quiet", prompt, 3)
    assert run(engine)[again] == 12


def test_request_that_needs_the_whole_cache_runs_whatever_is_protected() -> None:
    engine = make_engine(kv_floor=0.25)
    submit(engine, "quiet", list(range(40, 53)), 3)
    run(engine)
    prompt = [n % 97 for n in range(200)]
    large = submit(engine, "large", prompt, 40)
    rows = []
    while engine.has_work:
        rows += [row.token for row in engine.step() if row.request == large]
        engine.check_integrity()
    assert rows == continuation(prompt, 40, ENDLESS)


def num_blocks_in_use(engine: Engine) -> int:
    stats = engine.stats()
    return stats.total_blocks - stats.free_blocks - stats.cached_blocks


def test_tenant_at_its_quota_leaves_room_and_ends_all_the_same() -> None:
    engine = make_engine(kv_quota=0.5, kv_floor=0.0)
    flood(engine, "flood")
    for _ in range(20):
        engine.step()
    assert 20 <= num_blocks_in_use(engine) <= 30
    # The other half of the cache is there for others, in the very next step.
    other = submit(engine, "other", list(range(40, 53)), 3)
    assert other in {row.request for row in engine.step()}
    run(engine)


def test_waiting_for_the_own_quota_stops_nobody_else() -> None:
    """Other tenants are admitted in the step in which one is refused for its quota."""
    engine = make_engine(kv_quota=0.4, kv_floor=0.0, max_running_sequences=40)
    flood(engine, "first")
    flood(engine, "second")
    for _ in range(12):
        engine.step()
    assert num_blocks_in_use(engine) > 0.7 * 60
    run(engine)


def test_what_can_never_fit_in_the_quota_is_refused_and_what_just_fits_runs() -> None:
    engine = make_engine(kv_quota=0.5)
    assert engine.hello("m").max_model_tokens == 120
    prompt = list(range(90))
    refusal = engine.submit(Submit(0, "t", "t", 1, 31, ENDLESS), prompt)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, "at most 120 tokens" in refusal.message) == ("too_long", True)
    submit(engine, "t", prompt, 30)
    run(engine)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kv_quota": 0.0}, "kv_quota is 0.0"),
        ({"kv_quota": 1.1}, "kv_quota is 1.1"),
        ({"kv_floor": 1.5}, "kv_floor is 1.5"),
        ({"kv_quota": 0.5, "max_model_tokens": 200}, "may hold only 120 tokens"),
    ],
)
def test_impossible_shares_stop_the_start(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_engine(**settings)
