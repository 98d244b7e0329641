"""Work in threads: who waits for it gets what came of it, and nothing is done that nobody wants."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from anzoth.index.threads import Threads


def run(body: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await body

    asyncio.run(within())


def test_results_and_errors_come_back_from_other_threads() -> None:
    async def body() -> None:
        threads = Threads(2, "some")
        here = threading.get_ident()
        assert await threads.run(threading.get_ident) != here
        with pytest.raises(KeyError, match="x"):
            await threads.run(lambda: {}["x"])
        assert await asyncio.gather(*(threads.run(lambda n=n: n * n) for n in range(50))) == [
            n * n for n in range(50)
        ]

    run(body())


def test_as_much_is_done_at_once_as_there_are_threads() -> None:
    async def body() -> None:
        threads, both = Threads(2, "two"), threading.Barrier(2)
        await asyncio.gather(*(threads.run(lambda: both.wait(20)) for _ in range(4)))

    run(body())


def test_what_is_cancelled_before_it_began_never_begins() -> None:
    async def body() -> None:
        threads, may_go, begun = Threads(1, "one"), threading.Event(), []
        first = asyncio.create_task(threads.run(lambda: may_go.wait(20)))
        second = asyncio.create_task(threads.run(lambda: begun.append(2)))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()  # it has begun, or never will
        await asyncio.wait([first, second])
        may_go.set()
        assert await threads.run(lambda: "still there") == "still there"
        assert begun == []

    run(body())


def test_what_was_done_is_let_go() -> None:
    class Large:
        pass

    async def body() -> None:
        threads, large = Threads(1, "one"), Large()
        gone = weakref.ref(large)
        await threads.run(lambda own=large: None)
        await threads.run(lambda: None)
        del large
        assert gone() is None

    run(body())


def test_a_loop_that_has_ended_does_not_end_the_thread() -> None:
    threads, may_go = Threads(1, "one"), threading.Event()

    async def leave() -> None:
        waiting = asyncio.create_task(threads.run(lambda: may_go.wait(20)))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave())
    may_go.set()
    assert asyncio.run(threads.run(lambda: 7)) == 7
