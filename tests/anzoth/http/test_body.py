"""Request bodies: limits, deadlines, 100-continue, and what becomes of a body that nobody reads."""

from __future__ import annotations

import asyncio

import pytest

from anzoth.config import HttpConfig
from anzoth.errors import BadRequest, PayloadTooLarge
from anzoth.http.body import UNASKED_BYTES, Body
from anzoth.http.head import parse
from anzoth.http.messages import ClientDisconnected, Request, Response
from anzoth.http.render import CONTINUE

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CONFIG = HttpConfig()
RAW = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"


def new_body() -> Body:
    return Body(*parse(RAW))


async def body_error(body: Body, limit_bytes: int = 10) -> type[BaseException] | None:
    try:
        await body.read(limit_bytes)
    except (ClientDisconnected, BadRequest, PayloadTooLarge) as error:
        return type(error)
    return None


def test_bytes_behind_the_body_are_handed_back_unchanged(run) -> None:
    async def scenario() -> None:
        body = new_body()
        assert body.feed(b"ab") == b""
        assert body.feed(b"cde") == b"de"
        assert body.feed(b"fg") == b"fg"
        assert body.is_complete
        assert await body.read(3) == b"abc"

    run(scenario())


def test_two_readers_at_once_are_a_bug(run) -> None:
    async def scenario() -> None:
        body = new_body()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(body.read(3))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="two coroutines"):
                await body.read(3)
            body.feed(b"abc")
        assert first.result() == b"abc"

    run(scenario())


def test_a_reader_that_gave_up_leaves_the_body_to_the_next(run) -> None:
    async def scenario() -> None:
        body = new_body()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await body.read(3)
        assert not body.is_awaited
        body.feed(b"abc")
        assert await body.read(3) == b"abc"

    run(scenario())


def test_a_failure_reaches_the_reader_whether_it_waits_or_comes_later(run) -> None:
    async def scenario() -> None:
        body = new_body()
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(body_error(body))
            await asyncio.sleep(0)
            body.fail(ClientDisconnected())
        assert waiting.result() is ClientDisconnected
        assert await body_error(body) is ClientDisconnected
        assert not body.wants_data

    run(scenario())


def test_a_complete_body_cannot_fail_any_more(run) -> None:
    async def scenario() -> None:
        body = new_body()
        body.feed(b"abc")
        body.fail(ClientDisconnected())
        assert await body.read(3) == b"abc"
        assert await body_error(body, 2) is PayloadTooLarge

    run(scenario())


@pytest.mark.parametrize("length", [2, 4])
def test_framing_and_h11_must_see_the_same_end(run, length: int) -> None:
    async def scenario() -> None:
        head, parser = parse(RAW)
        body = Body(head._replace(content_length=length), parser)
        assert body.feed(b"abcd"[:length]) == b""
        assert await body_error(body) is BadRequest
        assert not body.is_complete

    run(scenario())


# --- through a connection -------------------------------------------------------------------------


def post(length: int, fields: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" % (length, fields)


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


def test_refusal_before_the_body_spares_the_client_the_upload(run, new_wire, new_recorder) -> None:
    async def scenario() -> None:
        wire = new_wire(new_recorder().ignore_body)
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


def test_continue_is_not_sent_to_a_client_that_began_without_it(
    run, new_wire, new_recorder
) -> None:
    async def scenario() -> None:
        recorder = new_recorder()
        wire = new_wire(recorder.read)
        wire.send(post(3, b"Expect: 100-continue\r\n") + b"a")
        await wire.settle()
        wire.send(b"bc")
        await wire.settle()
        assert recorder.outcome == "read 3"
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


def test_unwanted_body_stays_with_the_client(run, new_wire, new_recorder) -> None:
    async def scenario() -> None:
        recorder = new_recorder()
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


def test_short_unread_body_does_not_cost_the_connection(run, new_wire, new_recorder) -> None:
    async def scenario() -> None:
        wire = new_wire(new_recorder().ignore_body)
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


def test_unread_body_that_never_comes_closes_the_connection(run, new_wire, new_recorder) -> None:
    async def scenario() -> None:
        wire = new_wire(new_recorder().ignore_body)
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
def test_client_that_leaves_within_its_body_is_disconnected(
    run, new_wire, new_recorder, how: str
) -> None:
    async def scenario() -> None:
        recorder = new_recorder()
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


def test_body_that_was_cut_off_behind_another_request_is_disconnected_at_once(
    run, new_wire, new_recorder
) -> None:
    async def scenario() -> None:
        recorder = new_recorder()
        wire = new_wire(recorder.read)
        wire.send(post(3) + b"abc" + post(3) + b"a")
        wire.send_eof()
        await wire.settle()
        assert recorder.outcome == "disconnected"
        assert [answer.body for answer in wire.answers()] == [b"3"]
        assert wire.transport.is_lost

    run(scenario())


# --- a body that is taken as it comes -------------------------------------------------------------

TIMEOUT_S = 1000.0


def collect(limit_bytes: int, seen: list[bytes], pause_s: float = 0.0):
    """An application that works on each piece for a while."""

    async def application(request: Request) -> Response:
        async for data in request.stream_body(limit_bytes, TIMEOUT_S):
            seen.append(data)
            await asyncio.sleep(pause_s)
        return Response(200, b"%d" % sum(map(len, seen)))

    return application


def test_a_streamed_body_comes_in_pieces_and_once(run, new_wire) -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        wire = new_wire(collect(10, seen))
        wire.send(post(6), b"ab")
        await wire.settle()
        assert seen == [b"ab"]
        wire.send(b"c", b"def" + LAST_GET)
        await wire.settle()
        assert seen == [b"ab", b"cdef"]
        assert [answer.body for answer in wire.answers()] == [b"6", b"6"]  # GET: no further bytes

    run(scenario())


def test_a_streamed_body_is_never_held_whole(run, new_wire) -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        wire = new_wire(collect(1 << 30, seen, pause_s=1.0))
        wire.send(post(8 << 20))
        piece, num_sent, most = b"x" * 16384, 0, 0
        while num_sent < 8 << 20:
            if wire.transport.is_reading_paused:
                await wire.settle(0.1)
                continue
            wire.send(piece)
            num_sent += len(piece)
            most = max(most, num_sent - sum(map(len, seen)))
            await wire.settle()
        await wire.settle(30)
        assert wire.answers()[0].body == b"%d" % (8 << 20)
        assert most <= UNASKED_BYTES + 2 * len(piece)

    run(scenario())


def test_a_reader_that_is_woken_takes_no_more_until_it_runs(run, new_wire) -> None:
    async def scenario() -> None:
        wire = new_wire(collect(1 << 30, []))
        wire.send(post(8 << 20))
        await wire.settle()
        num_sent = 0
        while not wire.transport.is_reading_paused:  # without ever letting the reader run
            wire.send(b"x" * 16384)
            num_sent += 16384
        assert num_sent <= UNASKED_BYTES + 16384

    run(scenario())


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_streamed_body_has_a_limit(run, new_wire, is_chunked: bool) -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        wire = new_wire(collect(10, seen))
        if is_chunked:
            wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(11):
                wire.send(b"1\r\nx\r\n")
                await wire.settle()
        else:
            wire.send(post(11), b"x" * 11)
            await wire.settle()
        assert wire.answers()[0].status == 413
        assert sum(map(len, seen)) == (10 if is_chunked else 0)

    run(scenario())


def test_only_waiting_for_the_client_counts_as_its_slowness(run, new_wire) -> None:
    async def scenario() -> None:
        seen: list[bytes] = []
        wire = new_wire(collect(1 << 20, seen, pause_s=CONFIG.body_timeout_s))
        wire.send(post(100))
        for _ in range(50):
            wire.send(b"xx")
            await wire.settle(CONFIG.body_timeout_s + 0.01)
        assert wire.answers()[0].body == b"100"

    run(scenario())


@pytest.mark.parametrize(("rate", "lasts_s"), [(0, CONFIG.body_grace_s), (1024, TIMEOUT_S)])
def test_a_streamed_body_has_a_rate_and_a_deadline(
    run, new_wire, rate: int, lasts_s: float
) -> None:
    async def scenario() -> None:
        wire = new_wire(collect(1 << 30, []))
        wire.send(post(1 << 29))
        started_s = asyncio.get_running_loop().time()
        while not wire.is_closed:
            wire.send(b"x" * (rate or 1))
            await wire.settle(0.99)
        took_s = asyncio.get_running_loop().time() - started_s
        assert lasts_s <= took_s < lasts_s + 3
        assert wire.answers()[0].status == 408

    run(scenario())


@pytest.mark.parametrize("how", ["reset", "eof"])
@pytest.mark.parametrize("is_busy", [True, False])
def test_a_client_that_leaves_ends_the_streaming(run, new_wire, how: str, is_busy: bool) -> None:
    async def scenario() -> None:
        ended = ""

        async def application(request: Request) -> Response:
            nonlocal ended
            try:
                async for _ in request.stream_body(1 << 20, TIMEOUT_S):
                    await asyncio.sleep(5 if is_busy else 0)
            except (ClientDisconnected, asyncio.CancelledError) as error:
                ended = type(error).__name__
                raise
            return Response(200)

        wire = new_wire(application)
        wire.send(post(1000), b"x" * 10)
        await wire.settle(1)
        if how == "reset":
            wire.transport.reset_by_client()
        else:
            wire.send_eof()
        await wire.settle(10)
        assert ended == ("CancelledError" if is_busy and how == "reset" else "ClientDisconnected")
        assert wire.server.num_active == 0

    run(scenario())
