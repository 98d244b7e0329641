"""One connection through its life: deadlines, bodies, keep-alive, streams, disconnects.

The clock jumps (see conftest), so the timeouts here are the real defaults.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from anzoth.config import HttpConfig
from anzoth.errors import RateLimited, Unauthorized
from anzoth.http.body import UNASKED_BYTES
from anzoth.http.connection import LINGER_S
from anzoth.http.exchange import FIRST_PROBE_S
from anzoth.http.messages import ClientDisconnected, Request, Response, StreamingResponse
from anzoth.http.render import CONTINUE
from anzoth.http.stream import HARD_LIMIT_FACTOR

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CONFIG = HttpConfig()


def post(length: int, fields: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" % (length, fields)


def _prompt() -> str:
    """A secret that is in no line of source code, which a traceback may show."""
    return "SECRET prompt"


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


# --- heads and keep-alive -------------------------------------------------------------------------


def test_one_connection_serves_many_requests(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        for number in range(5):
            wire.send(GET)
            await wire.settle(60)  # shorter than the keep-alive timeout
            assert len(wire.answers()) == number + 1
        assert not wire.is_closed
        assert all(answer.status == 200 for answer in wire.answers())

    run(scenario())


def test_pipelined_requests_are_answered_one_after_the_other(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(GET + post(3) + b"abc" + LAST_GET + GET)
        await wire.settle()
        seen = [answer.json() for answer in wire.answers()]
        assert [(one["path"], one["body"]) for one in seen] == [
            ("/a", ""),
            ("/", "abc"),
            ("/z", ""),
        ]
        assert wire.is_closed

    run(scenario())


def test_requests_that_arrive_behind_a_body_while_it_is_answered_are_not_lost(
    run, new_wire, echo
) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(post(3) + b"abc", GET, LAST_GET)  # three reads before the application ran
        await wire.settle()
        assert [answer.json()["path"] for answer in wire.answers()] == ["/", "/a", "/z"]

    run(scenario())


def test_idle_connection_is_closed_without_a_word(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(GET)
        await wire.settle(CONFIG.keep_alive_timeout_s - 1)
        assert not wire.is_closed
        await wire.settle(2)
        assert wire.is_closed
        assert len(wire.answers()) == 1

    run(scenario())


def test_connection_that_never_speaks_is_closed(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        await wire.settle(CONFIG.head_timeout_s + 1)
        assert wire.is_closed
        assert not wire.transport.written

    run(scenario())


@pytest.mark.parametrize("is_first", [True, False])
def test_dripped_head_meets_an_absolute_deadline(run, new_wire, echo, is_first: bool) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        if not is_first:
            wire.send(GET)
            await wire.settle(30)
        started_s = asyncio.get_running_loop().time()
        head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 90
        await wire.drip(head, pause_s=0.5)
        answer = wire.answers()[-1]
        assert answer.status == 408
        assert answer.json()["error"]["code"] == "request_timeout"
        assert wire.is_closed
        assert asyncio.get_running_loop().time() - started_s >= 0.5 * len(head) > 100

    run(scenario())


def test_refused_client_may_finish_sending_but_not_for_long(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(b"\0")
        assert wire.transport.has_sent_eof
        for _ in range(3):
            wire.send(b"x" * 100_000)
            await wire.settle(0.1)
        assert not wire.transport.is_closing()
        assert len(wire.connection._gate) == 0, "nothing of it is kept"
        await wire.settle(LINGER_S)
        assert wire.transport.is_lost

    run(scenario())


def test_half_closed_client_gets_its_response(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(GET + GET)
        wire.send_eof()
        await wire.settle()
        assert [answer.status for answer in wire.answers()] == [200, 200]
        assert wire.is_closed

    run(scenario())


def test_end_of_file_within_a_head_is_a_bad_request(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(GET[:-2])
        wire.send_eof()
        await wire.settle()
        assert [answer.status for answer in wire.answers()] == [400]
        assert wire.is_closed

    run(scenario())


def test_request_id_is_the_clients_or_minted_and_on_every_response(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine-1\r\n\r\n" + GET + GET + b"\0")
        await wire.settle()
        ids = [answer.headers["x-request-id"] for answer in wire.answers()]
        assert len(ids) == 4
        assert ids[0] == "mine-1"
        assert len(set(ids)) == 4
        assert all(one.startswith("req_") for one in ids[1:])

    run(scenario())


# --- bodies ---------------------------------------------------------------------------------------


def test_continue_is_sent_when_the_application_asks_for_the_body(run, new_wire) -> None:
    async def scenario() -> None:
        allowed = asyncio.Event()

        async def application(request: Request) -> Response:
            await allowed.wait()
            return Response(200, await request.read_body(10))

        wire = new_wire(application)
        wire.send(post(3, b"Expect: 100-continue\r\n"))
        await wire.settle(1)
        assert wire.transport.written == b""
        allowed.set()
        await wire.settle(1)
        assert wire.transport.written == CONTINUE
        wire.send(b"abc")
        await wire.settle()
        assert wire.answers()[0].body == b"abc"
        assert not wire.is_closed

    run(scenario())


def test_refusal_before_the_body_spares_the_client_the_upload(run, new_wire) -> None:
    async def scenario() -> None:
        wire = new_wire(Recorder().ignore_body)
        wire.send(post(3, b"Expect: 100-continue\r\n"))
        await wire.settle()
        (answer,) = wire.answers()
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert CONTINUE not in wire.transport.written
        # The client may or may not send the body now: no byte after this can be trusted.
        assert answer.headers["connection"] == "close"

    run(scenario())


def test_continue_is_not_sent_for_a_body_that_is_too_large_or_already_here(
    run, new_wire, echo
) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(post(3, b"Expect: 100-continue\r\n") + b"abc")
        wire.send(post(2 << 20, b"Expect: 100-continue\r\n"))
        await wire.settle()
        assert [answer.status for answer in wire.answers()] == [200, 413]
        assert CONTINUE not in wire.transport.written

    run(scenario())


@pytest.mark.parametrize("size", [10, 11])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_body_limit_at_the_cap_and_beyond(run, new_wire, size: int, is_chunked: bool) -> None:
    async def application(request: Request) -> Response:
        return Response(200, await request.read_body(10))

    async def scenario() -> None:
        wire = new_wire(application)
        if is_chunked:
            wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            wire.send(b"1\r\nx\r\n" * size, b"0\r\n\r\n")
        else:
            wire.send(post(size), b"x" * size)
        await wire.settle()
        (answer,) = wire.answers()
        assert answer.status == (200 if size == 10 else 413)
        if size == 11:
            assert answer.json()["error"]["code"] == "request_too_large"

    run(scenario())


def test_endless_chunked_body_is_cut_at_the_limit(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        num_sent = 0
        while not wire.is_closed and num_sent < 1000:
            wire.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await wire.settle()
            num_sent += 1
        assert 16 <= num_sent <= 18
        assert wire.answers()[0].status == 413

    run(scenario())


def test_dripped_body_falls_below_the_minimum_rate(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(post(10_000))
        started_s = asyncio.get_running_loop().time()
        while not wire.is_closed:
            wire.send(b"x")
            await wire.settle(0.5)
        assert CONFIG.body_grace_s <= asyncio.get_running_loop().time() - started_s < 8
        assert wire.answers()[0].status == 408

    run(scenario())


def test_body_at_the_minimum_rate_meets_the_absolute_deadline(run, new_wire, echo) -> None:
    async def scenario() -> None:
        wire = new_wire(echo)
        wire.send(post(1 << 20))
        started_s = asyncio.get_running_loop().time()
        while not wire.is_closed:
            wire.send(b"x" * CONFIG.min_body_bytes_per_s)
            await wire.settle(0.99)
        took_s = asyncio.get_running_loop().time() - started_s
        assert CONFIG.body_timeout_s <= took_s < CONFIG.body_timeout_s + 2
        assert wire.answers()[0].status == 408

    run(scenario())


def test_a_slow_application_is_not_the_uploaders_fault(run, new_wire) -> None:
    async def application(request: Request) -> Response:
        await asyncio.sleep(100)
        return Response(200, await request.read_body(10))

    async def scenario() -> None:
        wire = new_wire(application)
        wire.send(post(3))
        await wire.settle(101)
        wire.send(b"abc")
        await wire.settle()
        assert wire.answers()[0].body == b"abc"

    run(scenario())


def test_unwanted_body_stays_with_the_client(run, new_wire) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        wire = new_wire(recorder.wait)
        wire.send(post(1 << 20))
        num_sent = await wire.flood(b"x" * 8192)
        assert num_sent <= UNASKED_BYTES // 8192
        assert wire.connection._exchange.body.received_bytes <= UNASKED_BYTES + 8192
        recorder.release.set()
        await wire.settle()
        assert wire.answers()[0].headers["connection"] == "close"
        assert wire.is_closed

    run(scenario())


def test_short_unread_body_does_not_cost_the_connection(run, new_wire) -> None:
    async def scenario() -> None:
        wire = new_wire(Recorder().ignore_body)
        wire.send(post(2000), b"x" * 1000)
        await wire.settle()
        assert [answer.status for answer in wire.answers()] == [401]
        wire.send(b"x" * 1000 + post(5) + b"12")
        await wire.settle()
        wire.send(b"345" + LAST_GET)
        await wire.settle()
        assert [answer.status for answer in wire.answers()] == [401, 401, 401]
        assert wire.is_closed

    run(scenario())


def test_unread_body_that_never_comes_closes_the_connection(run, new_wire) -> None:
    async def scenario() -> None:
        wire = new_wire(Recorder().ignore_body)
        wire.send(post(2000))
        await wire.settle(CONFIG.body_grace_s + 1)
        assert wire.is_closed
        assert [answer.status for answer in wire.answers()] == [401]

    run(scenario())


def test_body_can_be_read_twice_and_a_request_without_one_reads_empty(run, new_wire) -> None:
    async def application(request: Request) -> Response:
        once = await request.read_body(10)
        return Response(200, once + b"|" + await request.read_body(10))

    async def scenario() -> None:
        wire = new_wire(application)
        wire.send(post(2) + b"ab" + GET)
        await wire.settle()
        assert [answer.body for answer in wire.answers()] == [b"ab|ab", b"|"]

    run(scenario())


@pytest.mark.parametrize("how", ["reset", "eof"])
def test_client_that_leaves_within_its_body_is_disconnected(run, new_wire, how: str) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        wire = new_wire(recorder.read)
        wire.send(post(10) + b"abc")
        await wire.settle()
        if how == "reset":
            wire.transport.reset_by_client()
        else:
            wire.send_eof()
        await wire.settle()
        assert recorder.outcome == "disconnected"
        assert wire.transport.is_lost
        assert not wire.transport.written
        assert wire.server.num_active == 0

    run(scenario())


# --- disconnects ----------------------------------------------------------------------------------


def test_reset_cancels_the_application_at_once(run, new_wire) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        wire = new_wire(recorder.wait)
        wire.send(GET)
        await wire.settle()
        wire.transport.reset_by_client()
        await wire.settle()
        assert recorder.outcome == "cancelled"
        assert wire.server.num_active == wire.server.num_connections == 0

    run(scenario())


def test_end_of_file_during_a_long_request_is_probed_with_interim_responses(run, new_wire) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        wire = new_wire(recorder.wait)
        wire.send(GET)
        wire.send_eof()
        await wire.settle(0.9 * FIRST_PROBE_S)
        assert wire.transport.written == b"", "a quick response needs no probe"
        await wire.settle(3 * FIRST_PROBE_S)
        assert wire.transport.written == CONTINUE * 2
        await wire.settle(1000)
        assert 60 < wire.transport.written.count(CONTINUE) < 90, "ever fewer"
        recorder.release.set()
        await wire.settle()
        assert [answer.body for answer in wire.answers()] == [b"done"]
        assert wire.is_closed

    run(scenario())


def test_flood_of_pipelined_requests_is_not_read(run, new_wire) -> None:
    async def scenario() -> None:
        recorder = Recorder()
        wire = new_wire(recorder.wait)
        num_sent = await wire.flood(GET)
        assert num_sent * len(GET) <= CONFIG.max_head_bytes + 2 * len(GET)

    run(scenario())


def test_client_that_does_not_read_gets_no_further_request_answered(run, new_wire) -> None:
    """Symptom on other servers: a gigabyte of responses for 14 MB of unread pipelined requests."""
    num_calls = 0

    async def application(request: Request) -> Response:
        nonlocal num_calls
        num_calls += 1
        return Response(200, b"x" * 100_000)

    async def scenario() -> None:
        wire = new_wire(application, client_reads=False)
        num_sent = await wire.flood(GET)
        assert num_calls == 3
        assert wire.transport.unread_bytes < CONFIG.max_write_buffer_bytes + 110_000
        wire.transport.read_all()
        await wire.settle()
        assert num_calls == num_sent > 500, "it goes on where it stopped"

    run(scenario())


# --- streams --------------------------------------------------------------------------------------


class Streamer:
    """A streaming application whose sink the test holds."""

    def __init__(self, **response: object) -> None:
        self.sink = None
        self.end = asyncio.Event()
        self.was_cancelled = False
        self.num_disconnects = 0
        self._response = response

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._run, **self._response)

    def _disconnected(self) -> None:
        self.num_disconnects += 1

    async def _run(self, sink) -> None:
        self.sink = sink
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
        assert streamer.sink is None
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


def test_no_comment_before_the_head_of_a_stream_or_where_none_is_wanted(run, new_wire) -> None:
    async def scenario() -> None:
        streamer = Streamer(keep_alive_comment=None, content_type="text/plain")
        wire = new_wire(streamer)
        wire.send(GET)
        await wire.settle(100)
        assert wire.answers()[0].body == b""
        slow = new_wire(Recorder().wait)
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


def test_stream_that_raises_is_cut_without_its_last_chunk(run, new_wire, caplog) -> None:
    async def fail(sink) -> None:
        sink.write(b"abc")
        raise RuntimeError(_prompt())

    async def application(request: Request) -> StreamingResponse:
        return StreamingResponse(fail)

    async def scenario() -> None:
        wire = new_wire(application)
        wire.send(GET)
        await wire.settle()
        (answer,) = wire.answers()
        assert (answer.body, answer.is_complete) == (b"abc", False)
        assert wire.transport.is_lost
        assert len(caplog.records) == 1
        assert "SECRET" not in caplog.text
        assert answer.headers["x-request-id"] in caplog.text

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


@pytest.mark.parametrize("reads", [True, False])
def test_large_response_may_take_long_as_long_as_it_is_being_read(
    run, new_wire, reads: bool
) -> None:
    async def application(request: Request) -> Response:
        return Response(200, b"x" * 2_000_000)

    async def scenario() -> None:
        wire = new_wire(application, client_reads=False)
        wire.send(LAST_GET)
        for _ in range(20):
            await wire.settle(10)
            if reads:
                wire.transport.unread_bytes = max(0, wire.transport.unread_bytes - 50_000)
        assert wire.transport.was_aborted is not reads

    run(scenario())


# --- the application's failures -------------------------------------------------------------------


def test_error_of_the_tree_is_rendered_with_its_headers(run, new_wire, caplog) -> None:
    async def application(request: Request) -> Response:
        raise RateLimited(retry_after_ms=250)

    async def scenario() -> None:
        wire = new_wire(application)
        wire.send(GET)
        await wire.settle()
        (answer,) = wire.answers()
        assert answer.status == 429
        assert answer.headers["retry-after-ms"] == "250"
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert not wire.is_closed
        assert not caplog.records

    run(scenario())


@pytest.mark.parametrize("headers", [None, [("a", "b\r\nc: d")], [("a", "snow ☃")]])
def test_bug_is_logged_once_without_its_message_and_answered_with_500(
    run, new_wire, caplog, headers
) -> None:
    async def application(request: Request) -> Response:
        if headers is None:
            raise KeyError(_prompt())
        return Response(200, _prompt().encode(), headers=headers)

    async def scenario() -> None:
        wire = new_wire(application)
        wire.send(GET)
        await wire.settle()
        (answer,) = wire.answers()
        assert answer.status == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert not wire.is_closed
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert answer.headers["x-request-id"] in record.getMessage()
        assert "SECRET" not in caplog.text

    run(scenario())


def test_application_that_cancels_itself_does_not_hang_the_client(run, new_wire) -> None:
    async def application(request: Request) -> Response:
        raise asyncio.CancelledError

    async def scenario() -> None:
        wire = new_wire(application)
        wire.send(GET)
        await wire.settle()
        assert wire.is_closed
        assert wire.server.num_active == 0

    run(scenario())
