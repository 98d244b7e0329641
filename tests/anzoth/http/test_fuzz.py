"""Any bytes, cut anywhere, give valid HTTP responses or a closed connection; never an exception.

The invariant, checked after each example:
  * what the server wrote is a sequence of responses that a strict client can parse;
  * after the client's end of file (and a day) the connection is closed and no task is left;
  * the connection never held more of the client's bytes than its limits say.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anzoth.config import HttpConfig
from anzoth.errors import AnzothError
from anzoth.http.gate import HeadGate
from anzoth.http.head import parse
from anzoth.http.messages import Request, Response, StreamingResponse

CONFIG = HttpConfig(max_head_bytes=600, max_header_fields=12, max_target_bytes=200)
A_DAY_S = 86_400.0

_FRAGMENTS = [
    b"GET / HTTP/1.1\r\n",
    b"GET /stream HTTP/1.1\r\n",
    b"GET /fails HTTP/1.0\r\n",
    b"HEAD / HTTP/1.1\r\n",
    b"POST /body HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"CONNECT x:1 HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Host: x\r\n\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 300\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"x" * 300,
    b"A: b\r\n" * 10,
    b"\n",
    b"\r",
    b" ",
    b"\0",
    b"\xff",
]
_LOOKALIKES = st.lists(st.sampled_from(_FRAGMENTS), max_size=14).map(b"".join)
_INPUTS = st.one_of(
    _LOOKALIKES, st.binary(max_size=120), st.tuples(_LOOKALIKES, st.binary()).map(b"".join)
)


async def application(request: Request) -> Response | StreamingResponse:
    if request.path == "/stream":
        return StreamingResponse(_stream)
    if request.path == "/fails":
        raise ZeroDivisionError
    if request.path == "/body":
        return Response(200, await request.read_body(250))
    return Response(204)


async def _stream(sink) -> None:
    for _ in range(2):
        sink.write(b"data: x\n\n")
        await asyncio.sleep(20)


def requests_in(data: bytes) -> list[str]:
    """The methods of the requests whose heads stand in `data` (to parse the answers to HEAD)."""
    gate = HeadGate(CONFIG)
    gate.feed(data)
    try:
        raw = gate.try_take()
        return [] if raw is None else [parse(raw)[0].method]
    except AnzothError:
        return []


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=_INPUTS, cuts=st.lists(st.integers(0, 400), max_size=5), waits=st.booleans())
def test_any_bytes_give_valid_responses_or_a_closed_connection(
    data: bytes, cuts: list[int], waits: bool, run, new_wire, caplog
) -> None:
    data = data.replace(b"HEAD /", b"GET /")  # see the test below
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    caplog.clear()

    async def scenario() -> None:
        wire = new_wire(application, CONFIG)
        for start, end in zip([0, *ends], ends, strict=False):
            if start < end and not wire.transport.is_reading_paused:
                wire.send(data[start:end])
            assert len(wire.connection._gate) <= CONFIG.max_head_bytes + len(data)
            if waits:
                await wire.settle()
        await wire.settle()
        wire.send_eof()
        await wire.settle(A_DAY_S)
        assert wire.transport.is_lost
        assert wire.server.num_active == wire.server.num_connections == 0
        for answer in wire.answers():
            assert 200 <= answer.status < 600
            assert answer.headers["x-request-id"]
            assert answer.is_complete

    run(scenario())
    bugs = [record for record in caplog.records if "ZeroDivisionError" not in record.getMessage()]
    assert not bugs


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(fields=_LOOKALIKES)
def test_any_head_request_gets_an_answer_without_a_body(fields: bytes, run, new_wire) -> None:
    data = b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n\r\n"

    async def scenario() -> None:
        wire = new_wire(application, CONFIG)
        wire.send(data)
        await wire.settle(A_DAY_S)
        answers = wire.answers(requests_in(data))
        assert len(answers) == 1
        assert answers[0].is_complete
        assert wire.transport.is_lost

    run(scenario())


@pytest.mark.parametrize("method", ["reset", "eof"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=_LOOKALIKES, after_s=st.floats(0, 30))
def test_a_client_may_leave_at_any_time(
    data: bytes, after_s: float, method: str, run, new_wire
) -> None:
    async def scenario() -> None:
        wire = new_wire(application, CONFIG)
        wire.send(data)
        await wire.settle(after_s)
        if method == "eof":
            wire.send_eof()
        elif not wire.transport.is_lost:
            wire.transport.reset_by_client()
        await wire.settle(A_DAY_S)
        assert wire.transport.is_lost
        assert wire.server.num_active == wire.server.num_connections == 0

    run(scenario())
