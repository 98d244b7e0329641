"""A deadline that is moved and cleared far more often than its timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from anzoth.http.deadline import Deadline


@pytest.mark.parametrize(
    ("steps", "expired_at_s"),
    [
        ([("set", 5)], [5]),
        ([("set", 5), ("set", 9)], [9]),
        ([("set", 9), ("set", 5)], [5]),
        ([("set", 5), ("clear", 0)], []),
        ([("set", 5), ("clear", 0), ("set", 7)], [7]),
        ([("set", 5), ("close", 0)], []),
        ([("set", 5), ("close", 0), ("set", 3)], [3]),
    ],
)
def test_only_the_last_setting_counts(
    run, steps: list[tuple[str, float]], expired_at_s: list[float]
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        expired: list[float] = []
        deadline = Deadline(loop, lambda: expired.append(loop.time() - start_s))
        for step, at_s in steps:
            if step == "set":
                deadline.set(start_s + at_s)
            elif step == "clear":
                deadline.clear()
            else:
                deadline.close()
        await asyncio.sleep(100)
        assert expired == pytest.approx(expired_at_s, abs=0.01)

    run(scenario())


def test_moving_a_deadline_to_later_arms_no_timer(run) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        num_armed = 0
        call_at = loop.call_at

        def counting_call_at(when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
            nonlocal num_armed
            num_armed += 1
            return call_at(when, callback)

        deadline = Deadline(loop, lambda: None)
        loop.call_at = counting_call_at  # type: ignore[method-assign]  # to count, not to change
        for number in range(1000):
            deadline.set(loop.time() + 75 + number)
            deadline.clear()
        assert num_armed == 1
        deadline.close()

    run(scenario())
