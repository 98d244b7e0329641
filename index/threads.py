"""How does a coroutine have work done in a thread, at little cost?

`run_in_executor` passes through a second future, with a lock, a condition and callbacks of its own:
twice the processor time of what is here, and as much as the arithmetic of a keyword search.

Does not know: what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """Some threads that take work in the order in which it comes.

    They begin with the first work. The end of the process does not wait for them.
    """

    def __init__(self, count: int, name: str) -> None:
        self._names = [f"{name}-{number}" for number in range(count)]
        self._waiting: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]]] = SimpleQueue()

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, or raises. Cancelled before it began, it never begins; afterwards it
        goes on, and nobody hears of it."""
        if self._names:
            for name in self._names:
                threading.Thread(target=self._work, name=name, daemon=True).start()
            self._names = []
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put((done, work))
        return await done

    def _work(self) -> None:
        while True:
            _do(*self._waiting.get())


def _do(done: asyncio.Future[Any], work: Callable[[], Any]) -> None:
    if done.cancelled():
        return
    result, error = None, None
    try:
        result = work()
    except BaseException as raised:  # noqa: BLE001  # handed to whoever waits
        error = raised
    with contextlib.suppress(RuntimeError):  # the loop has ended
        done.get_loop().call_soon_threadsafe(_settle, done, result, error)


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
