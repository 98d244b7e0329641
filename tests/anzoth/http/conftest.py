"""A client without a socket and a clock without waiting, for every test of the HTTP layer.

`Wire` drives a real `Connection` (and its real `HttpServer`) through an in-memory transport.
`run` runs a coroutine on an event loop whose clock jumps to the next timer: a test may wait for the
75 seconds of a keep-alive timeout and takes no time.
"""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import h11
import pytest

from anzoth.config import HttpConfig
from anzoth.errors import Unauthorized
from anzoth.http.connection import Connection
from anzoth.http.messages import Application, ClientDisconnected, Request, Response
from anzoth.http.server import HttpServer


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting for input it moves the clock."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("the test waits for something that nobody will do")
        self.now_s += max(timeout, 0.0)
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class MemoryTransport(asyncio.Transport):
    """A socket's other end in memory. `client_reads=False`: what is written stays unread."""

    def __init__(self, protocol: asyncio.Protocol, *, client_reads: bool = True) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._high_water = 1 << 16
        self.client_reads = client_reads
        self.unread_bytes = 0
        self.written = bytearray()
        self.is_reading_paused = False
        self.has_sent_eof = False
        self.is_lost = False
        self.was_aborted = False
        self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 4711) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high_water = high

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def write(self, data: Any) -> None:
        assert not self.has_sent_eof, "written after the end of file"
        if self._is_closing:
            return
        self.written += data
        if not self.client_reads:
            was_below = self.unread_bytes <= self._high_water
            self.unread_bytes += len(data)
            if was_below and self.unread_bytes > self._high_water:
                self._protocol.pause_writing()

    def read_all(self) -> None:
        """The client reads what it left unread, and goes on reading."""
        was_above = self.unread_bytes > self._high_water
        self.client_reads, self.unread_bytes = True, 0
        if was_above:
            self._protocol.resume_writing()
        if self._is_closing:
            self._loop.call_soon(self._lose, None)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_sent_eof = True

    def pause_reading(self) -> None:
        assert not self.is_reading_paused
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert self.is_reading_paused
        self.is_reading_paused = False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self.unread_bytes:
                self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._is_closing = self.was_aborted = True
        self._loop.call_soon(self._lose, None)

    def reset_by_client(self) -> None:
        self._is_closing = True
        self._lose(ConnectionResetError())

    def _lose(self, error: Exception | None) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._protocol.connection_lost(error)


@dataclass
class Answer:
    """One response as an HTTP client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_complete: bool

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One client connection to a server. Make it inside a running loop."""

    def __init__(
        self,
        application: Application,
        config: HttpConfig | None = None,
        *,
        client_reads: bool = True,
        server: HttpServer | None = None,
    ) -> None:
        self.server = server or HttpServer(application, config or HttpConfig())
        self.connection = Connection(self.server, asyncio.get_running_loop())
        self.transport = MemoryTransport(self.connection, client_reads=client_reads)
        self.connection.connection_made(self.transport)

    def send(self, *pieces: bytes) -> None:
        """Delivers bytes as the event loop would: not when closed, and not when reading is paused.

        Raises BlockingIOError when the server does not read: a socket's buffers would fill up.
        """
        for piece in pieces:
            if self.transport.is_closing():
                return
            if self.transport.is_reading_paused:
                raise BlockingIOError
            self.connection.data_received(piece)

    async def flood(self, data: bytes) -> int:
        """Sends `data` again and again, until nobody reads. How often?"""
        for count in range(100_000):
            if self.transport.is_reading_paused:
                return count
            self.send(data)
            await self.settle()
        raise AssertionError("the server reads without end")

    async def drip(self, data: bytes, pause_s: float = 0.0) -> None:
        """Sends byte by byte, with a pause after each, as long as anybody listens."""
        for at in range(len(data)):
            while self.transport.is_reading_paused and not self.transport.is_closing():
                await self.settle()
            self.send(data[at : at + 1])
            await asyncio.sleep(pause_s)

    def send_eof(self) -> None:
        if not self.transport.is_closing() and not self.connection.eof_received():
            self.transport.close()

    async def settle(self, seconds: float = 0.001) -> None:
        """Lets everything happen that happens within `seconds`."""
        await asyncio.sleep(seconds)

    @property
    def is_closed(self) -> bool:
        """The client saw the end of the server's bytes."""
        return self.transport.is_lost or self.transport.has_sent_eof

    def answers(self, methods: Iterable[str] = ()) -> list[Answer]:
        """All responses so far, parsed by h11 as a client (methods: of the requests, default GET).

        Raises h11.RemoteProtocolError for bytes that are no valid HTTP response.
        """
        return _parse_answers(bytes(self.transport.written), list(methods), self.is_closed)


def _parse_answers(data: bytes, methods: list[str], is_closed: bool) -> list[Answer]:
    answers: list[Answer] = []
    while data:
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        answer = Answer(0, {}, b"", False)
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA and is_closed and client.their_state is h11.SEND_BODY:
                try:
                    client.receive_data(b"")
                    event = client.next_event()
                except h11.RemoteProtocolError:
                    break  # cut in the middle
            if isinstance(event, h11.InformationalResponse):
                continue
            if isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {k.decode(): v.decode("latin-1") for k, v in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += event.data
            else:
                answer.is_complete = isinstance(event, h11.EndOfMessage)
                break
        if answer.status == 0:
            break  # only interim responses so far
        answers.append(answer)
        if not answer.is_complete:
            break
        data = client.trailing_data[0]
    return answers


class Recorder:
    """An application that says what became of it."""

    def __init__(self) -> None:
        self.outcome = "never called"
        self.release = asyncio.Event()

    async def wait(self, request: Request) -> Response:
        self.outcome = "running"
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        self.outcome = "done"
        return Response(200, b"done")

    async def read(self, request: Request) -> Response:
        self.outcome = "reading"
        try:
            body = await request.read_body(1 << 20)
        except ClientDisconnected:
            self.outcome = "disconnected"
            raise
        self.outcome = f"read {len(body)}"
        return Response(200, b"%d" % len(body))

    async def ignore_body(self, request: Request) -> Response:
        raise Unauthorized()


async def _echo(request: Request) -> Response:
    """Says what the application was given."""
    body = await request.read_body(1 << 20)
    seen = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "body": body.decode("latin-1"),
        "peer": request.peer,
    }
    return Response(200, json.dumps(seen).encode())


@pytest.fixture(scope="session")
def echo() -> Application:
    return _echo


@pytest.fixture
def new_recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture(scope="session")
def new_wire() -> type[Wire]:
    return Wire


@pytest.fixture(scope="session")
def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    def run_with_jumping_clock(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
            return runner.run(work)

    return run_with_jumping_clock
