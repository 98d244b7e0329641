"""Streaming responses: chunks, keep-alive comments, disconnects, readers that are too slow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anzoth.config import HttpConfig
from anzoth.http.messages import Request, Sink, StreamingResponse
from anzoth.http.stream import HARD_LIMIT_FACTOR

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CONFIG = HttpConfig()


class Streamer:
    """A streaming application whose sink the test holds."""

    def __init__(self, **response: Any) -> None:
        self._sink: Sink | None = None
        self.end = asyncio.Event()
        self.was_cancelled = False
        self.num_disconnects = 0
        self._response = response

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._run, **self._response)

    @property
    def has_run(self) -> bool:
        return self._sink is not None

    @property
    def sink(self) -> Sink:
        assert self._sink is not None
        return self._sink

    def _disconnected(self) -> None:
        self.num_disconnects += 1

    async def _run(self, sink: Sink) -> None:
        self._sink = sink
        sink.on_disconnect(self._disconnected)
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


def test_stream_is_chunked_and_keeps_the_connection(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer(headers=[("cache-control", "no-cache")])
        wire = new_wire(streamer)
        wire.send(GET)
        await wire.settle()
        for piece in (b"a", b"", b"bc"):  # an empty chunk would end the body
            streamer.sink.write(piece)
        assert not wire.answers()[0].is_complete
        streamer.end.set()
        await wire.settle()
        (answer,) = wire.answers()
        assert (answer.status, answer.body, answer.is_complete) == (200, b"abc", True)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-request-id"]
        assert not wire.is_closed
        streamer.sink.write(b"late")
        streamer.sink.on_disconnect(pytest.fail)
        wire.send(GET)
        await wire.settle()
        assert [one.is_complete for one in wire.answers()] == [True, True]
        assert streamer.num_disconnects == 0

    run(scenario())


def test_stream_to_http_1_0_ends_with_the_connection(run, new_wire) -> None:
    async def scenario(fails: bool) -> bool:
        streamer = Streamer()
        wire = new_wire(streamer)
        wire.send(b"GET / HTTP/1.0\r\n\r\n")
        await wire.settle()
        streamer.sink.write(b"abc")
        if fails:
            next(iter(wire.server._tasks)).cancel()
        streamer.end.set()
        await wire.settle()
        assert b"chunked" not in wire.transport.written
        assert wire.transport.written.endswith(b"connection: close\r\n\r\nabc")
        assert wire.transport.is_lost
        return wire.transport.was_aborted

    assert not run(scenario(fails=False))
    assert run(scenario(fails=True)), "only a reset tells a broken stream from a whole one"


def test_head_of_a_stream_has_no_body_and_does_not_run_it(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer)
        wire.send(GET.replace(b"GET", b"HEAD") + LAST_GET.replace(b"GET", b"HEAD"))
        await wire.settle()
        assert not streamer.has_run
        assert wire.transport.written.count(b"HTTP/1.1 200 OK") == 2
        assert wire.transport.written.endswith(b"\r\n\r\n")
        assert wire.is_closed

    run(scenario())


def test_silent_stream_gets_keep_alive_comments_with_one_line_break(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer)
        wire.send(GET)
        await wire.settle(10)
        streamer.sink.write(b"data: a\n\n")
        await wire.settle(14)
        assert wire.answers()[0].body == b"data: a\n\n"
        await wire.settle(2)
        assert wire.answers()[0].body == b"data: a\n\n: keep-alive\n"
        await wire.settle(15)
        assert wire.answers()[0].body == b"data: a\n\n: keep-alive\n: keep-alive\n"

    run(scenario())


def test_no_comment_before_the_head_of_a_stream_or_where_none_is_wanted(
    run, new_wire, new_recorder
) -> None:
    async def scenario() -> None:
        streamer = Streamer(keep_alive_comment=None, content_type="text/plain")
        wire = new_wire(streamer)
        wire.send(GET)
        await wire.settle(100)
        assert wire.answers()[0].body == b""
        slow = new_wire(new_recorder().wait)
        slow.send(GET)
        await slow.settle(100)
        assert slow.transport.written == b""

    run(scenario())


def test_disconnect_during_a_stream_calls_back_once_and_cancels(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer)
        wire.send(GET)
        await wire.settle()
        assert not streamer.sink.disconnected
        wire.transport.reset_by_client()
        assert streamer.num_disconnects == 1, "at once, not a loop iteration later"
        assert streamer.sink.disconnected
        streamer.sink.write(b"ignored")
        late = []
        streamer.sink.on_disconnect(lambda: late.append(1))
        assert late == [1]
        await wire.settle()
        assert streamer.was_cancelled
        assert streamer.num_disconnects == 1
        assert wire.server.num_active == 0

    run(scenario())


def test_failing_disconnect_callback_does_not_hide_the_disconnect_from_others(
    run, new_wire, caplog
) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer)
        wire.send(GET)
        await wire.settle()
        called = []
        streamer.sink.on_disconnect(lambda: called[0])
        streamer.sink.on_disconnect(lambda: called.append(1))
        wire.transport.reset_by_client()
        assert called == [1]
        await wire.settle()
        assert wire.server.num_connections == wire.server.num_active == 0
        assert "IndexError" in caplog.text

    run(scenario())


def test_slow_reader_of_a_stream_is_cut_off(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer, client_reads=False)
        wire.send(GET)
        await wire.settle()
        streamer.sink.write(b"x" * (CONFIG.max_write_buffer_bytes + 1))
        await wire.settle(CONFIG.slow_reader_timeout_s - 1)
        assert not streamer.was_cancelled
        assert b"keep-alive" not in wire.transport.written, "no comments into a full buffer"
        await wire.settle(2)
        assert wire.transport.was_aborted
        assert streamer.was_cancelled
        assert streamer.num_disconnects == 1

    run(scenario())


def test_reader_that_catches_up_in_time_is_not_cut_off(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer, client_reads=False)
        wire.send(GET)
        await wire.settle()
        streamer.sink.write(b"x" * (CONFIG.max_write_buffer_bytes + 1))
        await wire.settle(CONFIG.slow_reader_timeout_s - 1)
        wire.transport.read_all()
        await wire.settle(1000)
        assert not wire.is_closed

    run(scenario())


def test_who_waits_for_a_slow_reader_goes_on_when_it_has_caught_up(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer, client_reads=False)
        wire.send(GET)
        await wire.settle()
        async with asyncio.timeout(1):
            await streamer.sink.drained()  # nothing is unread yet
        streamer.sink.write(b"x" * (CONFIG.max_write_buffer_bytes + 1))
        waiting = asyncio.ensure_future(streamer.sink.drained())
        await wire.settle(CONFIG.slow_reader_timeout_s - 1)
        assert not waiting.done()
        wire.transport.read_all()
        await wire.settle()
        assert waiting.done()

    run(scenario())


def test_stream_never_buffers_more_than_its_hard_limit(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer, client_reads=False)
        wire.send(GET)
        await wire.settle()
        for _ in range(10_000):
            streamer.sink.write(b"x" * 10_000)
        hard_limit_bytes = CONFIG.max_write_buffer_bytes * HARD_LIMIT_FACTOR
        assert wire.transport.unread_bytes < hard_limit_bytes + 20_000
        await wire.settle()
        assert streamer.was_cancelled

    run(scenario())


def test_connection_that_promised_to_be_kept_is_closed_when_a_drain_began(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer()
        wire = new_wire(streamer)
        wire.send(GET)
        await wire.settle()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(wire.server.drain(100))
            await wire.settle(10)
            assert not drained.done()
            streamer.end.set()
            await wire.settle()
            assert drained.done()
        (answer,) = wire.answers()
        assert answer.is_complete
        assert "connection" not in answer.headers
        assert wire.transport.is_lost

    run(scenario())
