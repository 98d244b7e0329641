"""One process asks, another answers, and neither can be harmed by how the other ends."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from anzoth import control
from anzoth.control import ControlError, Fields, NotReached, Tell

Scenario = Callable[[Path], Awaitable[None]]


async def _double(request: Fields, tell: Tell) -> Fields:
    tell({"half": 1})
    tell({"half": 2})
    return {"twice": 2 * request["number"]}


async def _refuse(_request: Fields, _tell: Tell) -> Fields:
    raise ControlError("it cannot be done")


async def _break(_request: Fields, _tell: Tell) -> Fields:
    raise ZeroDivisionError


HANDLERS = {"double": _double, "refuse": _refuse, "break": _break}


def run(tmp_path: Path, scenario: Scenario, **more: control.Handler) -> None:
    async def main() -> None:
        path = tmp_path / "control.sock"
        async with asyncio.timeout(10), control.serving(path, {**HANDLERS, **more}):
            await scenario(path)
        assert not path.exists()

    asyncio.run(main())


def test_events_come_before_what_was_done(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        events: list[Fields] = []
        done = await control.ask(path, {"do": "double", "number": 21}, events.append)
        assert done == {"twice": 42}
        assert events == [{"half": 1}, {"half": 2}]

    run(tmp_path, scenario)


def test_a_refusal_is_its_own_sentence(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        with pytest.raises(ControlError, match=r"^it cannot be done$"):
            await control.ask(path, {"do": "refuse"})

    run(tmp_path, scenario)


def test_a_failing_handler_ends_one_request_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(path: Path) -> None:
        with pytest.raises(ControlError, match="its log says why"):
            await control.ask(path, {"do": "break"})
        assert (await control.ask(path, {"do": "double", "number": 1}))["twice"] == 2

    run(tmp_path, scenario)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "sent", [b"\n", b"{}\n", b"[]\n", b'{"do": "x"}\n', b'{"do": []}\n', b"\xff\n", b"{"]
)
def test_what_is_no_request_is_told_so(tmp_path: Path, sent: bytes) -> None:
    async def scenario(path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(sent)
        writer.write_eof()
        assert b"no request" in await reader.read()
        writer.close()
        await writer.wait_closed()
        assert (await control.ask(path, {"do": "double", "number": 1}))["twice"] == 2

    run(tmp_path, scenario)


def test_a_peer_that_leaves_ends_what_it_asked_for(tmp_path: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(_request: Fields, _tell: Tell) -> Fields:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return {}

    async def scenario(path: Path) -> None:
        asking = asyncio.create_task(control.ask(path, {"do": "wait"}))
        await began.wait()
        asking.cancel()
        await ended.wait()
        await asyncio.gather(asking, return_exceptions=True)

    run(tmp_path, scenario, wait=wait)


def test_the_end_of_the_server_breaks_off_the_answer(tmp_path: Path) -> None:
    async def main() -> None:
        path, began = tmp_path / "control.sock", asyncio.Event()

        async def wait(_request: Fields, _tell: Tell) -> Fields:
            began.set()
            return await asyncio.get_running_loop().create_future()

        async with asyncio.timeout(10):
            async with control.serving(path, {"wait": wait}):
                asking = asyncio.create_task(control.ask(path, {"do": "wait"}))
                await began.wait()
            with pytest.raises(NotReached):
                await asking
            with pytest.raises(NotReached):
                await control.ask(path, {"do": "wait"})

    asyncio.run(main())


def test_nobody_else_may_connect(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600

    run(tmp_path, scenario)


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))

    async def scenario(path: Path) -> None:
        assert (await control.ask(path, {"do": "double", "number": 3}))["twice"] == 6

    run(tmp_path, scenario)
