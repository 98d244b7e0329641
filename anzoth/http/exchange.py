"""What happens between one complete request head and the end of its response?

An exchange calls the application, turns what it returns or raises into bytes, and tells the
connection how it went. It is the edge at which an unexpected exception becomes a logged 500.

Does not know: how bytes are split into requests, deadlines, or other requests on the connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import traceback
from collections.abc import AsyncIterator
from typing import Protocol

from anzoth.config import HttpConfig
from anzoth.errors import AnzothError
from anzoth.http.body import Body
from anzoth.http.head import Head
from anzoth.http.messages import (
    Application,
    ClientDisconnected,
    Headers,
    Request,
    Response,
    StreamingResponse,
)
from anzoth.http.render import CONTINUE, Renderer, error_response
from anzoth.http.stream import Stream

_LOGGER = logging.getLogger(__name__)

FIRST_PROBE_S = 0.25
"""A client that sent its end-of-file may have closed, or may still wait for its response: the two
look alike until something is written to it. Requests that take longer than this are probed."""


class Channel(Protocol):
    """What an exchange needs from its connection."""

    config: HttpConfig
    loop: asyncio.AbstractEventLoop
    renderer: Renderer

    def write(self, data: bytes) -> None: ...

    def can_be_kept(self) -> bool:
        """Whether another request may follow on the connection."""
        ...

    def open_stream(self, is_chunked: bool, comment: bytes | None) -> Stream: ...

    def exchange_ended(self, is_kept: bool) -> None:
        """The response is written. `is_kept`: what its head promised about the connection."""
        ...

    def cut(self, *, with_reset: bool) -> None:
        """Ends the connection in the middle of the exchange."""
        ...

    def body_read_begins(self, body: Body) -> None: ...

    def body_read_ended(self) -> None: ...


def mint_request_id() -> str:
    return "req_" + os.urandom(12).hex()


class Exchange:
    """One request and its response, run as one task."""

    __slots__ = (
        "_connection",
        "_is_head_sent",
        "_probe_timer",
        "_request_id",
        "body",
        "has_ended",
        "head",
        "stream",
        "task",
    )

    def __init__(self, connection: Channel, head: Head, body: Body | None) -> None:
        self._connection = connection
        self._request_id = head.request_id or mint_request_id()
        self._is_head_sent = False
        self._probe_timer: asyncio.TimerHandle | None = None
        self.head = head
        self.body = body
        self.stream: Stream | None = None
        self.task: asyncio.Task[None] | None = None
        self.has_ended = False

    async def run(self, application: Application, peer: str) -> None:
        # The request is no attribute: it would refer to itself through `read_body`, and every
        # request would wait for the garbage collector.
        head = self.head
        request = Request(
            method=head.method,
            path=head.path,
            query=head.query,
            headers=Headers(head.headers),
            request_id=self._request_id,
            peer=peer,
            received_at_s=time.monotonic(),
            read_body=self._read_body,
            stream_body=self._stream_body,
        )
        try:
            response = await self._call(application, request)
            if isinstance(response, StreamingResponse):
                await self._send_stream(response)
            else:
                self._send(response)
        except ClientDisconnected:
            pass  # there is nobody to tell
        finally:
            # Cancelled, disconnected, or failed after the head: there is no valid way to go on.
            if not self.has_ended:
                self._give_up()

    async def _call(
        self, application: Application, request: Request
    ) -> Response | StreamingResponse:
        try:
            return await application(request)
        except AnzothError as error:
            return error_response(error)
        except ClientDisconnected:
            raise
        except Exception as error:  # noqa: BLE001  # the edge between our code and the client
            self._log_bug(error)
            return error_response(AnzothError())

    def _send(self, response: Response) -> None:
        connection = self._connection
        is_kept = connection.can_be_kept()
        render = connection.renderer.response
        is_head = self.head.method == "HEAD"
        try:
            data = render(response, self._request_id, is_head=is_head, close=not is_kept)
        except (ValueError, TypeError) as error:  # a header or a body that cannot be written
            self._log_bug(error)
            response = error_response(AnzothError())
            data = render(response, self._request_id, is_head=is_head, close=not is_kept)
        connection.write(data)
        self._end(is_kept)

    async def _send_stream(self, response: StreamingResponse) -> None:
        connection = self._connection
        is_chunked = self.head.is_http_1_1
        is_kept = is_chunked and connection.can_be_kept()
        try:
            data = connection.renderer.stream_head(
                response.status,
                self._request_id,
                response.content_type,
                response.headers,
                is_chunked=is_chunked,
                close=not is_kept,
            )
        except (ValueError, TypeError) as error:
            self._log_bug(error)
            self._send(error_response(AnzothError()))
            return
        self._is_head_sent = True
        connection.write(data)
        if self.head.method != "HEAD":
            stream = self.stream = connection.open_stream(is_chunked, response.keep_alive_comment)
            try:
                await response.run(stream)
            except AnzothError as error:
                _LOGGER.warning("request %s was cut: %s", self._request_id, type(error).__name__)
                return
            except ClientDisconnected:
                return
            except Exception as error:  # noqa: BLE001  # the edge; the head is out, so no 500
                self._log_bug(error)
                return
            stream.finish()
        self._end(is_kept)

    def _end(self, is_kept: bool) -> None:
        self.has_ended = True
        self._cancel_probe()
        self._connection.exchange_ended(is_kept)

    def _give_up(self) -> None:
        self.has_ended = True
        self._cancel_probe()
        if self.stream is not None:
            self.stream.close()
        # Without chunks a clean end would look like the end of the body: only a reset tells.
        self._connection.cut(with_reset=self._is_head_sent and not self.head.is_http_1_1)

    async def _read_body(self, limit_bytes: int) -> bytes:
        body = self.body
        if body is None:
            return b""
        body.check_limit(limit_bytes)
        if body.is_complete:
            return await body.read(limit_bytes)
        self._connection.body_read_begins(body)
        try:
            return await body.read(limit_bytes)
        finally:
            self._connection.body_read_ended()

    async def _stream_body(self, limit_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
        body, connection = self.body, self._connection
        if body is None:
            return
        body.check_limit(limit_bytes)
        body.timeout_s = timeout_s
        while True:
            started_s = connection.loop.time()
            connection.body_read_begins(body)
            try:
                data = await body.read_some(limit_bytes)
            finally:
                body.waited_s += connection.loop.time() - started_s
                connection.body_read_ended()
            if not data:
                return
            yield data

    # --- what the connection calls -------------------------------------------------------------

    def client_sent_eof(self) -> None:
        """The client will send no more. It may still be there for the response, or not."""
        if self.body is not None and not self.body.is_complete:
            self.body.fail(ClientDisconnected())
        elif not self.has_ended:
            self._probe_later(FIRST_PROBE_S)

    def disconnected(self) -> None:
        """The client is gone for good."""
        if self.has_ended:
            return
        self._cancel_probe()
        if self.stream is not None:
            self.stream.disconnect()
        if self.body is not None:
            was_awaited = self.body.is_awaited
            self.body.fail(ClientDisconnected())
            if was_awaited:
                return  # the application hears of it where it waits, instead of being cancelled
        if self.task is not None:
            self.task.cancel()

    # --- probes --------------------------------------------------------------------------------

    def _probe(self, delay_s: float) -> None:
        """Writes something harmless to a client that sent its end-of-file.

        A client that is gone answers with a reset, and the reset makes the *next* write fail: hence
        a second probe soon, and then ever fewer. `100 Continue` may be sent at any time before the
        response (RFC 9110 §15.2.1: who did not ask for it discards it).
        """
        if self.stream is not None:
            self.stream.ping()
        elif not self._is_head_sent and self.head.is_http_1_1:
            self._connection.write(CONTINUE)
        self._probe_later(min(2 * delay_s, self._connection.config.stream_ping_s))

    def _probe_later(self, delay_s: float) -> None:
        loop = self._connection.loop
        self._probe_timer = loop.call_later(delay_s, self._probe, delay_s)

    def _cancel_probe(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
            self._probe_timer = None

    def _log_bug(self, error: Exception) -> None:
        """Where, but not what: an exception's message may quote a prompt or a key."""
        _LOGGER.error(
            "request %s failed: %s\n%s",
            self._request_id,
            type(error).__name__,
            "".join(traceback.format_tb(error.__traceback__)),
        )
