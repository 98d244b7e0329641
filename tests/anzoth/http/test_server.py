"""Real sockets, on asyncio's loop and on uvloop: what an in-memory transport cannot show.

Timeouts are configured to tens of milliseconds; each client waits for an event, never for a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from anzoth.config import HttpConfig
from anzoth.http.messages import Application, Request, Response, StreamingResponse
from anzoth.http.server import HttpServer

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_S = 10.0

pytestmark = pytest.mark.parametrize(
    "loop_factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(loop_factory: LoopFactory, scenario: Callable[[], Awaitable[None]]) -> None:
    async def within_patience() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await scenario()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(within_patience())


@contextlib.asynccontextmanager
async def serving(
    application: Application, config: HttpConfig | None = None
) -> AsyncIterator[tuple[HttpServer, tuple[str, int]]]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = HttpServer(application, config or HttpConfig())
    await server.start(listener)
    try:
        yield server, listener.getsockname()
    finally:
        await server.drain(0.0)
        assert server.num_connections == server.num_active == 0


async def until(condition: Callable[[], bool]) -> None:
    """Gives the event loop turns until something is true (the test's patience bounds it)."""
    while not condition():  # noqa: ASYNC110  # the kernel sets no Event
        await asyncio.sleep(0.005)


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


class Holder:
    """Answers when released; remembers what happened to it."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.num_started = 0
        self.num_cancelled = 0

    async def __call__(self, request: Request) -> Response:
        self.num_started += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        return Response(200, b"done")


class Flooder:
    """Streams for ever; remembers whether it was stopped."""

    def __init__(self, piece: bytes, every_s: float) -> None:
        self._piece = piece
        self._every_s = every_s
        self.num_disconnects = 0
        self.was_cancelled = False

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._run)

    def _disconnected(self) -> None:
        self.num_disconnects += 1

    async def _run(self, sink) -> None:
        sink.on_disconnect(self._disconnected)
        try:
            while True:
                sink.write(self._piece)
                await asyncio.sleep(self._every_s)
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


def test_connection_is_reused(loop_factory: LoopFactory, echo) -> None:
    async def scenario() -> None:
        async with serving(echo) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(3):
                writer.write(GET)
                head = await read_head(reader)
                assert head.startswith(b"HTTP/1.1 200 OK")
                body = await reader.readexactly(int(head.split(b"content-length: ")[1].split()[0]))
                assert b'"peer": "127.0.0.1"' in body
            assert server.num_connections == 1
            writer.close()
            await until(lambda: server.num_connections == 0)

    run(loop_factory, scenario)


def test_unix_socket(loop_factory: LoopFactory, echo, tmp_path: Path) -> None:
    async def scenario() -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        server = HttpServer(echo, HttpConfig())
        await server.start(listener)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(GET)
        writer.write_eof()
        assert b'"peer": "unix"' in await reader.read()
        writer.close()
        await server.drain(1.0)

    run(loop_factory, scenario)


def test_half_closed_client_gets_the_whole_stream(loop_factory: LoopFactory) -> None:
    async def stream(sink) -> None:
        for number in range(20):
            sink.write(b"data: %d\n\n" % number)
            await asyncio.sleep(0.005)

    async def application(request: Request) -> StreamingResponse:
        return StreamingResponse(stream)

    async def scenario() -> None:
        async with serving(application) as (_, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            writer.write_eof()
            data = await reader.read()
            assert b"data: 19\n\n" in data
            assert data.endswith(b"\r\n0\r\n\r\n")
            writer.close()

    run(loop_factory, scenario)


def test_refusal_reaches_a_client_that_is_still_sending(loop_factory: LoopFactory, echo) -> None:
    """Symptom without the lingering close: a connection reset instead of the 413."""

    async def scenario() -> None:
        async with serving(echo) as (_, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
            writer.write(b"x" * 4_000_000)
            assert b"HTTP/1.1 413" in await reader.read()
            writer.close()

    run(loop_factory, scenario)


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "close"])
def test_disconnect_during_a_stream_stops_it(loop_factory: LoopFactory, is_reset: bool) -> None:
    async def scenario() -> None:
        flooder = Flooder(b"data: x\n\n", 0.005)
        async with serving(flooder) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            await reader.readuntil(b"data: x")
            if is_reset:
                reset_on_close(writer)
            writer.close()
            await until(lambda: flooder.was_cancelled)
            assert flooder.num_disconnects == 1
            await until(lambda: server.num_connections == 0)

    run(loop_factory, scenario)


def reset_on_close(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_reset_while_the_application_works_cancels_it(loop_factory: LoopFactory) -> None:
    async def scenario() -> None:
        holder = Holder()
        async with serving(holder) as (server, address):
            _, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            await until(lambda: holder.num_started == 1)
            reset_on_close(writer)
            writer.close()
            await until(lambda: holder.num_cancelled == 1)
            await until(lambda: server.num_connections == 0)

    run(loop_factory, scenario)


@pytest.mark.slow
def test_ordinary_close_while_the_application_works_is_found_out(loop_factory: LoopFactory) -> None:
    """A close looks like a half-close until something is written: the probe finds out."""

    async def scenario() -> None:
        holder = Holder()
        async with serving(holder) as (server, address):
            _, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            await until(lambda: holder.num_started == 1)
            writer.close()
            await until(lambda: holder.num_cancelled == 1)
            await until(lambda: server.num_connections == 0)

    run(loop_factory, scenario)


def test_slow_reader_is_cut_and_its_stream_stopped(loop_factory: LoopFactory) -> None:
    async def scenario() -> None:
        flooder = Flooder(b"x" * 65_536, 0.001)
        config = HttpConfig(slow_reader_timeout_s=0.1, max_write_buffer_bytes=65_536)
        async with serving(flooder, config) as (server, address):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, address)
            client.send(GET)
            await until(lambda: flooder.was_cancelled)
            await until(lambda: server.num_connections == 0)
            client.close()

    run(loop_factory, scenario)


def test_closing_connection_of_a_client_that_never_reads_is_freed(
    loop_factory: LoopFactory,
) -> None:
    async def application(request: Request) -> Response:
        return Response(200, b"x" * 20_000_000)

    async def scenario() -> None:
        async with serving(application, HttpConfig(slow_reader_timeout_s=0.1)) as (server, address):
            client = socket.socket()
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, address)
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            await until(lambda: server.num_connections == 1)
            await until(lambda: server.num_connections == 0)
            client.close()

    run(loop_factory, scenario)


def test_unread_flood_of_pipelined_requests_stops_being_read(loop_factory: LoopFactory) -> None:
    num_calls = 0

    async def application(request: Request) -> Response:
        nonlocal num_calls
        num_calls += 1
        return Response(200, b"x" * 10_000)

    async def scenario() -> None:
        config = HttpConfig(max_write_buffer_bytes=65_536, slow_reader_timeout_s=30.0)
        async with serving(application, config) as (_, address):
            reader, writer = await asyncio.open_connection(*address, limit=1024)
            num_requests = 5_000  # 50 MB of responses
            writer.write(GET * num_requests)
            await until(lambda: num_calls > 0)
            num_before = -1
            while num_before != num_calls:  # until it has come to rest
                num_before = num_calls
                await asyncio.sleep(0.05)
            assert num_calls < num_requests / 2
            del reader
            reset_on_close(writer)
            writer.close()

    run(loop_factory, scenario)


@pytest.mark.parametrize("part", ["head", "body"])
def test_dripping_client_is_told_and_closed(loop_factory: LoopFactory, echo, part: str) -> None:
    async def scenario() -> None:
        config = HttpConfig(head_timeout_s=0.1, body_timeout_s=0.1, body_grace_s=0.05)
        async with serving(echo, config) as (_, address):
            reader, writer = await asyncio.open_connection(*address)
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
            writer.write(head[:-2] if part == "head" else head + b"x")
            assert (await reader.read()).startswith(b"HTTP/1.1 408 Request Timeout")
            writer.close()

    run(loop_factory, scenario)


def test_connection_beyond_the_maximum_is_told_503(loop_factory: LoopFactory, echo) -> None:
    async def scenario() -> None:
        async with serving(echo, HttpConfig(max_connections=2)) as (server, address):
            held = [await asyncio.open_connection(*address) for _ in range(2)]
            await until(lambda: server.num_connections == 2)
            reader, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            data = await reader.read()
            assert data.startswith(b"HTTP/1.1 503")
            assert b"retry-after-ms: " in data
            assert b"x-request-id: req_" in data
            writer.close()
            for _, held_writer in held:
                held_writer.close()
            await until(lambda: server.num_connections == 0)
            reader, writer = await asyncio.open_connection(*address)
            writer.write(GET)
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
            writer.close()

    run(loop_factory, scenario)


def test_drain_closes_idle_connections_and_lets_requests_finish(loop_factory: LoopFactory) -> None:
    async def scenario() -> None:
        holder = Holder()
        async with serving(holder) as (server, address):
            idle_reader, idle_writer = await asyncio.open_connection(*address)
            busy_reader, busy_writer = await asyncio.open_connection(*address)
            busy_writer.write(GET + GET)
            await until(lambda: holder.num_started == 1 and server.num_connections == 2)
            async with asyncio.TaskGroup() as group:
                group.create_task(server.drain(PATIENCE_S))
                assert await idle_reader.read() == b""
                with pytest.raises(OSError, match=r"."):
                    await asyncio.open_connection(*address)
                holder.release.set()
                data = await busy_reader.read()
                busy_writer.close()
            assert data.count(b"HTTP/1.1 200 OK") == 1
            assert b"connection: close\r\n" in data
            assert holder.num_started == 1
            assert server.is_draining
            idle_writer.close()

    run(loop_factory, scenario)


def test_drain_ends_what_does_not_finish_in_time(loop_factory: LoopFactory, caplog) -> None:
    async def scenario() -> None:
        holder = Holder()
        async with serving(holder) as (server, address):
            writers = []
            for _ in range(3):
                _, writer = await asyncio.open_connection(*address)
                writer.write(GET)
                writers.append(writer)
            await until(lambda: holder.num_started == 3)
            assert server.num_active == 3
            await server.drain(0.02)
            assert holder.num_cancelled == 3
            assert server.num_active == 0
            assert "3 connections did not finish" in caplog.text
            for writer in writers:
                writer.close()

    run(loop_factory, scenario)
