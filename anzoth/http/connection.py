"""In which order do things happen on one client connection, and how long may each of them take?

    HEAD ──head complete──▶ EXCHANGE ──response written──▶ HEAD              (kept alive)
      │                        │       ├─client must read─▶ FLUSH ─────────▶ HEAD
      │ refused                │       └─body left over───▶ DISCARD ───────▶ HEAD
      ▼                        ▼
    LINGER ──client closed──▶ CLOSING ──connection_lost──▶ CLOSED

One request at a time: bytes of later requests wait in the gate, and when they are many the socket
is not read. Nothing here waits: each callback changes the state and returns.

Does not know: the application (`exchange` calls it), or how a head is judged (`gate`, `head`).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Coroutine
from typing import Any, Protocol, cast

from anzoth.config import HttpConfig
from anzoth.errors import AnzothError, BadRequest, RequestTimeout
from anzoth.http.body import Body
from anzoth.http.deadline import Deadline
from anzoth.http.exchange import Exchange, mint_request_id
from anzoth.http.gate import HeadGate
from anzoth.http.head import parse
from anzoth.http.messages import Application
from anzoth.http.render import CONTINUE, Renderer, error_response
from anzoth.http.stream import Stream

LINGER_S = 2.0
"""How long a refused client may go on sending. A socket that is closed with unread input resets the
connection, and the reset may overtake the response that says what was wrong (RFC 9112 §9.6)."""


class Phase(enum.Enum):
    HEAD = "waits for a request head, or has a part of one"
    EXCHANGE = "the application works on a request"
    FLUSH = "the client has to read its response before the next request is looked at"
    DISCARD = "the response is written; the rest of the request's body is thrown away"
    LINGER = "the last response is written and our side is shut; input is thrown away"
    CLOSING = "closed as soon as the client has taken what is buffered"
    CLOSED = "the socket is gone"


class Owner(Protocol):
    """What a connection needs from its server."""

    application: Application
    config: HttpConfig
    renderer: Renderer

    @property
    def is_draining(self) -> bool: ...

    def connection_opened(self, connection: Connection) -> AnzothError | None:
        """Counts it. An error means that it is one too many, and is what the client is told."""
        ...

    def connection_closed(self, connection: Connection) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Connection(asyncio.Protocol):
    """One client connection, from accept to close."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.config = owner.config
        self.loop = loop
        self.renderer = owner.renderer
        self._owner = owner
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made
        self._peer = ""
        self._phase = Phase.HEAD
        self._gate = HeadGate(owner.config)
        self._exchange: Exchange | None = None
        self._is_reading = True
        self._is_write_paused = False
        self._unread_bytes = 0
        """What the client had not read when the slow-reader deadline was last set."""
        self._has_eof = False
        self._must_continue = False
        """The client waits for `100 Continue` before it sends its body."""
        self._body_started_s = 0.0
        self._has_head_deadline = True
        self._read_deadline = Deadline(loop, self._on_read_deadline)
        self._write_deadline = Deadline(loop, self._on_slow_reader)

    def __repr__(self) -> str:
        return f"<Connection {self._phase.name} buffered={len(self._gate)}>"

    @property
    def is_idle(self) -> bool:
        """Between two requests, with no byte of the next one."""
        return self._phase is Phase.HEAD and not self._gate

    # --- transport callbacks -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # a stream server makes no other kind
        self._transport.set_write_buffer_limits(high=self.config.max_write_buffer_bytes)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else "unix"
        error = self._owner.connection_opened(self)
        if error is None:
            self._read_deadline.set(self.loop.time() + self.config.head_timeout_s)
        elif not transport.is_closing():
            self._refuse(error)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.HEAD:
            self._gate.feed(data)
            self._try_begin_exchange()
        elif self._phase is Phase.EXCHANGE or self._phase is Phase.DISCARD:
            exchange = self._exchange
            if exchange is not None and exchange.body is not None:
                data = exchange.body.feed(data)
            if data:
                self._gate.feed(data)
            if self._phase is Phase.DISCARD:
                self._try_end_discard()
            else:
                self._regulate_reading()
        elif self._phase is Phase.FLUSH:
            self._gate.feed(data)
            self._regulate_reading()
        # LINGER and CLOSING: whatever the client still says is not heard.

    def eof_received(self) -> bool:
        """True keeps our side open: a client may shut its side and still wait for the response."""
        if self._has_eof:
            return True  # asyncio may say it again
        self._has_eof = True
        if self._phase is Phase.HEAD:
            if not self._gate:
                return False
            self._refuse(BadRequest("The connection ended within the request head."))
            return True
        if self._phase is Phase.EXCHANGE and self._exchange is not None:
            self._exchange.client_sent_eof()
            return True
        return self._phase is Phase.FLUSH

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = Phase.CLOSED
        self._read_deadline.close()
        self._write_deadline.close()
        self._gate.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnected()
        self._owner.connection_closed(self)

    def pause_writing(self) -> None:
        self._is_write_paused = True
        self._set_slow_reader_deadline()
        if self._exchange is not None and self._exchange.stream is not None:
            self._exchange.stream.pause()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._phase is not Phase.CLOSING:
            self._write_deadline.clear()
        if self._exchange is not None and self._exchange.stream is not None:
            self._exchange.stream.resume()
        if self._phase is Phase.FLUSH:
            self._await_head()

    # --- requests ------------------------------------------------------------------------------

    def _await_head(self) -> None:
        self._phase = Phase.HEAD
        self._exchange = None
        if self._owner.is_draining or (self._has_eof and not self._gate):
            self._close()
            return
        self._has_head_deadline = False
        self._read_deadline.set(self.loop.time() + self.config.keep_alive_timeout_s)
        self._resume_reading()
        if self._gate:
            self._try_begin_exchange()
        if self._has_eof and self._phase is Phase.HEAD:
            self._close()

    def _try_begin_exchange(self) -> None:
        try:
            raw = self._gate.try_take()
            if raw is None:
                if not self._has_head_deadline:
                    self._has_head_deadline = True
                    self._read_deadline.set(self.loop.time() + self.config.head_timeout_s)
                return
            head, parser = parse(raw)
        except AnzothError as error:
            self._refuse(error)
            return
        self._phase = Phase.EXCHANGE
        self._read_deadline.clear()
        body = None
        if head.has_body:
            body = Body(head, parser)
            if self._gate:
                self._gate.feed(body.feed(self._gate.take_rest()))
        self._must_continue = head.expects_continue and body is not None
        exchange = self._exchange = Exchange(self, head, body)
        self._regulate_reading()
        exchange.task = self._owner.spawn(exchange.run(self._owner.application, self._peer))
        if self._has_eof:
            exchange.client_sent_eof()

    def _refuse(self, error: AnzothError) -> None:
        """Answers what is not a request, and takes no more from this client."""
        response = error_response(error)
        self._transport.write(self.renderer.response(response, mint_request_id(), close=True))
        self._linger()

    # --- what an exchange calls ----------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._phase is not Phase.CLOSED:  # uvloop raises, asyncio only warns
            self._transport.write(data)

    def can_be_kept(self) -> bool:
        """Whether another request may follow the one that is being answered now."""
        exchange = self._exchange
        if exchange is None or exchange.head.wants_close or self._owner.is_draining:
            return False
        if self._has_eof and not self._gate:
            return False
        body = exchange.body
        if body is None or body.is_complete:
            return True
        return body.is_worth_discarding and not self._must_continue

    def open_stream(self, is_chunked: bool, comment: bytes | None) -> Stream:
        return Stream(
            self._transport,
            self.loop,
            is_chunked=is_chunked,
            comment=comment,
            ping_s=self.config.stream_ping_s,
            max_write_buffer_bytes=self.config.max_write_buffer_bytes,
        )

    def exchange_ended(self, is_kept: bool) -> None:
        """The response is written. `is_kept`: what its head promised about the connection."""
        exchange = self._exchange
        if exchange is None or self._phase is not Phase.EXCHANGE:
            return  # the client went while the response was written
        body = exchange.body
        is_all_read = body is None or body.is_complete
        if not is_kept:
            if is_all_read and not self._gate:
                self._close()
            else:
                self._linger()
        elif not is_all_read:
            self._phase = Phase.DISCARD
            self._read_deadline.set(self.loop.time() + self.config.body_grace_s)
            self._resume_reading()
        else:
            self._settle()

    def cut(self, *, with_reset: bool) -> None:
        """Ends the connection in the middle of an exchange. What is buffered still goes out, and
        the client can tell that it is not all, unless only a reset can tell it."""
        if with_reset:
            self._transport.abort()
        elif self._phase is not Phase.CLOSED:
            self._close()

    def body_read_begins(self, body: Body) -> None:
        """The application waits for the body: from now on the client's slowness counts."""
        self._body_started_s = self.loop.time()
        self._read_deadline.set(body.due_at_s(self._body_started_s, self.config))
        if self._must_continue:
            self._must_continue = False
            if body.wire_bytes == 0:
                self.write(CONTINUE)
        self._resume_reading()

    def body_read_ended(self) -> None:
        if self._phase is Phase.EXCHANGE:
            self._read_deadline.clear()
            self._regulate_reading()

    # --- what the server calls -----------------------------------------------------------------

    def begin_drain(self) -> None:
        """No further request; the present one may finish."""
        if self.is_idle:
            self._close()

    def abort(self) -> None:
        """Ends everything now. `connection_lost` follows and cancels the application's task."""
        self._transport.abort()

    # --- after a response ----------------------------------------------------------------------

    def _settle(self) -> None:
        """Goes on with the next request, once the client has read enough of the last response."""
        if self._is_write_paused:
            self._phase = Phase.FLUSH
            self._exchange = None
            self._regulate_reading()
        else:
            self._await_head()

    def _try_end_discard(self) -> None:
        body = self._exchange.body if self._exchange is not None else None
        if body is None or body.is_complete:
            self._read_deadline.clear()
            self._settle()
        elif not body.is_worth_discarding:
            self._linger()  # malformed
        else:
            body.discard()

    def _linger(self) -> None:
        if self._has_eof:
            self._close()
            return
        self._phase = Phase.LINGER
        self._exchange = None
        self._gate.clear()
        self._read_deadline.set(self.loop.time() + LINGER_S)
        self._resume_reading()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    def _close(self) -> None:
        """Closes when the client has taken what is buffered, which it must do in time."""
        self._phase = Phase.CLOSING
        self._exchange = None
        self._gate.clear()
        self._read_deadline.clear()
        self._transport.close()
        self._set_slow_reader_deadline()

    # --- reading -------------------------------------------------------------------------------

    def _regulate_reading(self) -> None:
        """Reads on as long as the next bytes have a place: the body, or a little room behind it.

        While the socket is read, a reset by the client is noticed at once; a client that floods us
        with pipelined requests gives that up.
        """
        body = self._exchange.body if self._exchange is not None else None
        if body is not None and not body.is_complete:
            wants_data = body.wants_data
        else:
            wants_data = len(self._gate) < self.config.max_head_bytes
        if wants_data:
            self._resume_reading()
        elif self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading and not self._has_eof:
            self._is_reading = True
            self._transport.resume_reading()

    # --- time ----------------------------------------------------------------------------------

    def _set_slow_reader_deadline(self) -> None:
        self._unread_bytes = self._transport.get_write_buffer_size()
        self._write_deadline.set(self.loop.time() + self.config.slow_reader_timeout_s)

    def _on_read_deadline(self) -> None:
        if self._phase is Phase.HEAD and self._gate:
            self._refuse(RequestTimeout("The request head did not arrive in time."))
        elif self._phase is Phase.EXCHANGE:
            body = self._exchange.body if self._exchange is not None else None
            if body is None:
                return
            deadline_s = body.due_at_s(self._body_started_s, self.config)
            if deadline_s > self.loop.time():
                self._read_deadline.set(deadline_s)
            else:
                body.fail(RequestTimeout("The request body did not arrive in time."))
        else:  # an idle connection, a body that we only throw away, or a client that lingers
            self._close()

    def _on_slow_reader(self) -> None:
        """Cuts the client off, unless it is taking a large finished response at a decent rate."""
        is_streaming = self._exchange is not None and self._exchange.stream is not None
        read_bytes = self._unread_bytes - self._transport.get_write_buffer_size()
        fair_bytes = self.config.min_body_bytes_per_s * self.config.slow_reader_timeout_s
        if not is_streaming and fair_bytes and read_bytes >= fair_bytes:
            self._set_slow_reader_deadline()
        else:
            self._transport.abort()
