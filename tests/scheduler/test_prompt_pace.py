"""Does a contended step hold what arrives per step: no more, and no less for long?"""

from __future__ import annotations

from itertools import pairwise

from anzoth.scheduler.prompt_pace import PromptPace

MOST = 2048


def run(pace: PromptPace, per_step: float, num_steps: int) -> list[int]:
    """The limit after each step, when a prompt of 2,000 tokens comes now and then."""
    limits, owed = [], 0.0
    for _ in range(num_steps):
        owed += per_step
        if owed >= 2000:
            pace.arrive(2000)
            owed -= 2000
        pace.begin_step()
        limits.append(pace.limit_tokens(MOST))
    return limits


def test_few_prompts_make_short_steps() -> None:
    assert set(run(PromptPace(), 100, 2000)) == {256}


def test_the_limit_follows_what_arrives_with_some_headroom() -> None:
    limits = run(PromptPace(), 800, 4000)[2000:]
    assert min(limits) > 800
    assert max(limits) < 1.5 * 800


def test_it_never_passes_the_most_nor_falls_below_the_least() -> None:
    pace = PromptPace()
    assert max(run(pace, 20_000, 2000)) == MOST
    assert run(pace, 0, 4000)[-1] == 256
    pace.arrive(-100_000)
    pace.begin_step()
    assert pace.limit_tokens(MOST) == 256
    assert pace.limit_tokens(64) == 256


def test_a_backlog_behind_the_limit_lets_it_grow_until_there_is_none() -> None:
    """A flood that is held up sends its next request only when one is answered: no more arrives
    than the limit lets through."""
    pace, limits = PromptPace(), [256]
    for _ in range(4000):
        pace.arrive(min(limits[-1], 1000))
        pace.begin_step()
        limits.append(pace.limit_tokens(MOST))
    assert all(later >= earlier for earlier, later in pairwise(limits))
    assert limits[-1] > 1000


def test_what_is_cached_does_not_count() -> None:
    pace = PromptPace()
    for _ in range(2000):
        pace.arrive(1000)
        pace.arrive(-950)
        pace.begin_step()
    assert pace.limit_tokens(MOST) == 256
