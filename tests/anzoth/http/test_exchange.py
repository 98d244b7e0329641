"""What the client sees, and the log says, when the application fails."""

from __future__ import annotations

import asyncio
import logging

import pytest

from anzoth.errors import RateLimited
from anzoth.http.messages import Request, Response, Sink, StreamingResponse

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def _prompt() -> str:
    """A secret that is in no line of source code, which a traceback may show."""
    return "SECRET prompt"


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


def test_stream_that_raises_is_cut_without_its_last_chunk(run, new_wire, caplog) -> None:
    async def fail(sink: Sink) -> None:
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
