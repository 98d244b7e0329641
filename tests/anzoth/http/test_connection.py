"""One connection through its life: heads, keep-alive, pipelining, disconnects, slow readers.

The clock jumps (see conftest), so the timeouts here are the real defaults.
"""

from __future__ import annotations

import asyncio

import pytest

from anzoth.config import HttpConfig
from anzoth.http.connection import LINGER_S
from anzoth.http.exchange import FIRST_PROBE_S
from anzoth.http.messages import Request, Response
from anzoth.http.render import CONTINUE

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CONFIG = HttpConfig()


def post(length: int, fields: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" % (length, fields)


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
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
        while not wire.is_closed:
            wire.send(b"b")
            await wire.settle(0.5)
        took_s = asyncio.get_running_loop().time() - started_s
        assert CONFIG.head_timeout_s <= took_s < CONFIG.head_timeout_s + 1
        answer = wire.answers()[-1]
        assert answer.status == 408
        assert answer.json()["error"]["code"] == "request_timeout"

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


def test_reset_cancels_the_application_at_once(run, new_wire, new_recorder) -> None:
    async def scenario() -> None:
        recorder = new_recorder()
        wire = new_wire(recorder.wait)
        wire.send(GET)
        await wire.settle()
        wire.transport.reset_by_client()
        await wire.settle()
        assert recorder.outcome == "cancelled"
        assert wire.server.num_active == wire.server.num_connections == 0

    run(scenario())


def test_end_of_file_during_a_long_request_is_probed_with_interim_responses(
    run, new_wire, new_recorder
) -> None:
    async def scenario() -> None:
        recorder = new_recorder()
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


def test_flood_of_pipelined_requests_is_not_read(run, new_wire, new_recorder) -> None:
    async def scenario() -> None:
        recorder = new_recorder()
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


def test_last_response_must_be_taken_in_time(run, new_wire, echo) -> None:
    """A few unread bytes raise no back-pressure, and `close` alone would wait for ever."""

    async def scenario() -> None:
        wire = new_wire(echo, client_reads=False)
        wire.send(LAST_GET)
        await wire.settle(CONFIG.slow_reader_timeout_s - 1)
        assert not wire.transport.is_lost
        await wire.settle(2)
        assert wire.transport.was_aborted
        assert wire.transport.is_lost

    run(scenario())


def test_connections_far_beyond_the_maximum_are_reset_without_a_word(run, new_wire, echo) -> None:
    async def scenario() -> None:
        first = new_wire(echo, HttpConfig(max_connections=1))
        refused = [new_wire(echo, server=first.server) for _ in range(100)]
        told = [wire for wire in refused if wire.transport.written]
        assert {wire.answers()[0].status for wire in told} == {503}
        assert len(told) == 64
        assert all(wire.transport.was_aborted for wire in refused[64:])
        await first.settle(LINGER_S + 1)
        assert first.server.num_connections == 1
        first.send(GET)
        await first.settle()
        assert first.answers()[0].status == 200

    run(scenario())
