"""A child says what it does, and its end is an accident or a reason."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_peer import EnginePeer

from anzoth import index_frames
from anzoth.processes import Child, ChildCannotStart, EngineWatch, Report

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(autouse=True)
def _children_find_the_support_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


def talker(reports: list[Report], said: list[str] | None = None, **settings: object) -> Child:
    return Child(
        name="talker",
        module="talking_child",
        settings=lambda: {"log_level": "info", **settings},
        log=(said if said is not None else []).append,
        on_report=reports.append,
    )


def test_what_a_child_reports_is_passed_on_and_other_output_is_not() -> None:
    reports: list[Report] = []

    async def main() -> None:
        child = talker(reports)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            async with child.running(group, 5):
                while not reports:  # noqa: ASYNC110  # nothing announces it
                    await asyncio.sleep(0.01)
                assert child.pid is not None
            assert child.pid is None

    asyncio.run(main())
    assert reports == [{"progress": 0.5}]


def test_a_child_with_impossible_settings_ends_with_its_own_reason() -> None:
    reports: list[Report] = []

    async def main() -> None:
        with pytest.raises(ChildCannotStart) as caught:
            await talker(reports, impossible="no such colour").keep_running()
        assert caught.value.reason == "no such colour"

    asyncio.run(main())
    assert reports[-1] == {"error": "no such colour"}


def test_a_child_that_ends_is_started_again_only_if_it_may() -> None:
    said: list[str] = []

    async def main() -> None:
        child = talker([], said, status=3)
        child.may_restart = lambda: not said  # once
        with pytest.raises(ChildCannotStart) as caught:
            await child.keep_running()
        assert caught.value.reason == "the talker ended (exit status 3)"

    asyncio.run(main())
    assert said == ["talker ended (exit status 3); starting it again in 0.1 s"]


def test_a_child_is_told_its_settings_anew_whenever_it_starts() -> None:
    reports: list[Report] = []
    told = iter([{"status": 1}, {"impossible": "the second start"}])

    async def main() -> None:
        child = talker(reports)
        child.settings = lambda: {"log_level": "info", **next(told)}
        with pytest.raises(ChildCannotStart, match="cannot start"):
            await child.keep_running()

    asyncio.run(main())
    assert reports[-1] == {"error": "the second start"}


def test_a_retriever_that_makes_no_progress_is_killed_and_started_again(tmp_path: Path) -> None:
    said: list[str] = []
    socket_path = tmp_path / "retriever.sock"
    child = Child(
        name="retriever",
        module="anzoth.index.process",
        settings=lambda: {
            "socket": str(socket_path),
            "folder": str(tmp_path / "index"),
            "memory_bytes": 1 << 20,
            "log_level": "critical",
        },
        log=said.append,
    )
    watch = EngineWatch(child, socket_path, 2.0, new_decoder=index_frames.Decoder)

    async def until(holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run())
            async with child.running(group, 10):
                await watch.was_ready.wait()
                first = child.pid
                assert first is not None
                os.kill(first, signal.SIGSTOP)
                await until(lambda: child.pid not in (None, first) and watch.is_ready)
            watching.cancel()

    asyncio.run(main())
    assert said == [
        "retriever made no progress for 2 s",
        "retriever ended (killed by SIGKILL); starting it again in 0.1 s",
    ]


def test_the_watch_knows_whether_an_engine_answers(tmp_path: Path) -> None:
    async def main() -> None:
        peer = EnginePeer(tmp_path / "engine.sock", lambda *_: [])
        watch = EngineWatch(talker([]), peer.path, stall_timeout_s=60)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            running = group.create_task(watch.run())
            await asyncio.sleep(0)
            assert not watch.is_ready
            await peer.start()
            await watch.was_ready.wait()
            assert watch.is_ready
            assert watch.hello == peer.hello
            await peer.stop()
            while watch.is_ready:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.01)
            assert watch.hello == peer.hello
            running.cancel()

    asyncio.run(main())
