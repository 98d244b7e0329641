"""How does the gateway talk to one engine, and how does it notice that the engine is lost or hung?

One connection to the engine's Unix socket, opened again with a short backoff for as long as `run`
runs. One `Step` frame is one synchronous loop over its rows: no task and no queue per request
(research/http-reliability §3). Everything that waits on a lost engine is told at once.

    connecting ──connected──▶ warming ──Hello──▶ ready ──end of stream, bad frame, silence──┐
        ▲───────────────────────────────────────────────────────────────────────────────────┘

Does not know: text, keys, HTTP, or who restarts the engine.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import traceback
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from anzoth.errors import (
    AnzothError,
    CapacityUnavailable,
    DeadlineExceeded,
    KeyRevoked,
    ModelUnavailable,
)
from anzoth.frames import (
    Abort,
    Admitted,
    Embed,
    Embedded,
    Failed,
    FrameError,
    Hello,
    Message,
    PromptRow,
    Purge,
    Purged,
    Refused,
    Row,
    SamplingParams,
    Stats,
    Step,
    Submit,
    encode,
    pack_token_ids,
)
from anzoth.gateway.engine_connection import EngineConnection
from anzoth.gateway.engine_errors import error_of_refusal
from anzoth.gateway.gone_tags import GoneTags
from anzoth.gateway.peer import keep_connected
from anzoth.gateway.pending_vectors import PendingVectors
from anzoth.gateway.principal import TenantHandle
from anzoth.telemetry import Metrics

log = logging.getLogger(__name__)

ADMISSION_TIMEOUT_S = 30.0
"""The engine answers between two steps; one that takes longer than this serves nobody."""
DEFAULT_STALL_TIMEOUT_S = 60.0

T = TypeVar("T")
State = Literal["connecting", "warming", "ready"]


class Listener(Protocol):
    """Whoever submitted a request. Called from the loop over a step's rows: must not block."""

    def row(self, row: Row, now_s: float) -> None: ...

    def prompt_row(self, row: PromptRow) -> None: ...

    def lost(self, error: AnzothError) -> None:
        """Nothing more will come: the engine is gone."""
        ...


@dataclass(slots=True, eq=False)
class _Live:
    """A request that the engine knows of."""

    owners: frozenset[UUID]
    """The tenant, and the key if it is known."""
    listener: Listener
    open_choices: set[int]
    admission: asyncio.Future[None]


class EngineClient:
    """The gateway's end of one engine."""

    def __init__(
        self,
        model: str,
        socket_path: Path,
        metrics: Metrics,
        *,
        stall_timeout_s: float = DEFAULT_STALL_TIMEOUT_S,
    ) -> None:
        self.model = model
        self.hello: Hello | None = None
        """What the engine said about itself when it last became ready; kept while it is away."""
        self.last_stats: Stats | None = None
        self.stalled = False
        """It stopped making progress and was cut off; False again once an engine says Hello."""
        self._socket_path = socket_path
        self._metrics = metrics
        self._stall_timeout_s = stall_timeout_s
        self._connection: EngineConnection | None = None
        self._live: dict[int, _Live] = {}
        self._embeddings: dict[int, PendingVectors] = {}
        self._purges: dict[int, asyncio.Future[Purged]] = {}
        self._gone_tags = GoneTags()
        self._ended: set[UUID] = set()
        """Tenants and keys. Whoever authenticated just before the end of one comes too late."""
        self._next_request = 1
        self._last_step_s = 0.0
        metrics.engine_up(model, False)

    # --- what the supervisor's and the health page's eyes need ---------------------------------

    @property
    def state(self) -> State:
        if self._connection is None:
            return "connecting"
        return "ready" if self._connection.is_greeted else "warming"

    @property
    def healthy(self) -> bool:
        return self.state == "ready"

    @property
    def num_live_requests(self) -> int:
        return len(self._live) + len(self._embeddings)

    # --- requests ------------------------------------------------------------------------------

    def require_ready(self) -> Hello:
        """What the engine holds. Raises ModelUnavailable unless it could take a request now."""
        if self.hello is None or not self.healthy:
            raise ModelUnavailable()
        return self.hello

    async def submit(
        self,
        listener: Listener,
        prompt: Sequence[int],
        *,
        num_choices: int,
        max_tokens: int,
        sampling: SamplingParams,
        tenant: TenantHandle,
        key_id: UUID | None = None,
        tags: tuple[str, ...] = (),
        priority: int = 0,
        timeout_ms: int | None = None,
    ) -> int:
        """Returns the request's number once the engine has admitted it.

        `tags`: ids of the documents in the prompt. Rows may reach the listener before the caller
        runs again. Raises ModelUnavailable, CapacityUnavailable, DeadlineExceeded,
        ContextLengthExceeded, InvalidValue or KeyRevoked; then no row ever comes.
        """
        owners = _owners(tenant, key_id)
        connection = self._require_connection(owners)
        request = self._next_number()
        message = Submit(
            request,
            tenant.cache_salt,
            str(tenant.id),
            num_choices,
            max_tokens,
            sampling,
            tags=tags,
            priority=priority,
            timeout_ms=timeout_ms,
        )
        wait_s = ADMISSION_TIMEOUT_S
        if timeout_ms is not None:
            wait_s = min(wait_s, timeout_ms / 1000)
        admission = asyncio.get_running_loop().create_future()
        self._live[request] = _Live(owners, listener, set(range(num_choices)), admission)
        connection.send(encode(message, pack_token_ids(prompt)))
        if gone := self._gone_tags.among(tags):  # between the search and now
            connection.send(encode(Purge(self._next_number(), (tenant.cache_salt,), gone)))
        try:
            async with asyncio.timeout(wait_s):
                await admission
        except TimeoutError:
            self.abort(request)
            if wait_s < ADMISSION_TIMEOUT_S:
                raise DeadlineExceeded() from None
            raise ModelUnavailable() from None
        except BaseException:
            # Refused or lost (then this has no effect), or our caller was cancelled: in that case
            # the engine may be about to begin.
            self.abort(request)
            raise
        return request

    async def embed(
        self,
        inputs: Sequence[Sequence[int]],
        *,
        dimensions: int | None,
        tenant: TenantHandle,
        key_id: UUID | None = None,
        second_at: tuple[int, ...] = (),
        background: bool = False,
    ) -> list[bytes]:
        """Each input's vector, as little-endian float32. `second_at`, `background`: see
        `frames.Embed`.

        Cancelled: the engine is told. Raises ModelUnavailable, CapacityUnavailable,
        ContextLengthExceeded, InvalidValue or KeyRevoked.
        """
        owners = _owners(tenant, key_id)
        connection = self._require_connection(owners)
        request = self._next_number()
        pending = self._embeddings[request] = PendingVectors(owners, len(inputs))
        lengths = tuple(map(len, inputs))
        message = Embed(request, str(tenant.id), lengths, dimensions, second_at, background)
        token_ids = list(itertools.chain.from_iterable(inputs))
        connection.send(encode(message, pack_token_ids(token_ids)))
        try:
            # No timeout: an engine without progress is cut off, and ends every request.
            await pending.answer
        finally:
            if self._embeddings.pop(request, None) is not None:
                self._send(Abort(request))
        return pending.vectors()

    async def purge(self, cache_salts: Iterable[str], tags: Iterable[str] | None = None) -> Purged:
        """What the engine computed for these tenants is found no more when this returns.

        `tags`: only what it computed from prompts with one of these; for some minutes nothing new
        is kept of such a prompt either, which may have been on its way.

        Raises ModelUnavailable (then it may or may not have happened) or CapacityUnavailable.
        """
        connection = self._require_connection()
        number = self._next_number()
        message = Purge(number, tuple(cache_salts), None if tags is None else tuple(tags))
        self._gone_tags.add(message.tags or ())
        answer = self._purges[number] = asyncio.get_running_loop().create_future()
        connection.send(encode(message))
        try:
            async with asyncio.timeout(ADMISSION_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise ModelUnavailable() from None
        finally:
            self._purges.pop(number, None)

    def _require_connection(self, owners: frozenset[UUID] = frozenset()) -> EngineConnection:
        """Raises ModelUnavailable, CapacityUnavailable or KeyRevoked."""
        if not self._ended.isdisjoint(owners):
            raise KeyRevoked()
        self.require_ready()
        if self._connection is None or self._connection.is_congested:
            raise CapacityUnavailable()
        return self._connection

    def _next_number(self) -> int:
        self._next_request += 1
        return self._next_request - 1

    def abort(self, request: int, choice: int | None = None) -> None:
        """Stops a request, or one of its choices; no more rows come. Idempotent, never blocks."""
        entry = self._live.get(request)
        if entry is None or (choice is not None and choice not in entry.open_choices):
            return
        if choice is not None:
            entry.open_choices.discard(choice)
        if choice is None or not entry.open_choices:
            choice = None
            del self._live[request]
        self._send(Abort(request, choice))

    def end_all(self, error: AnzothError) -> None:
        """Stops every request; each ends with `error`."""
        self._end((*self._live, *self._embeddings), error)

    def end_owners(self, owners: Collection[UUID]) -> None:
        """Stops every request of these tenants and keys and takes no more of them, ever."""
        self._ended.update(owners)
        for pending in (self._live, self._embeddings):
            ended = [number for number, p in pending.items() if not p.owners.isdisjoint(owners)]
            self._end(ended, KeyRevoked())

    def _end(self, requests: Iterable[int], error: AnzothError) -> None:
        for request in requests:
            self._send(Abort(request))
            self._fail(request, error)

    def _fail(self, request: int, error: AnzothError) -> None:
        if entry := self._live.pop(request, None):
            if entry.admission.done():
                entry.listener.lost(error)
            else:
                entry.admission.set_exception(error)
        elif pending := self._embeddings.pop(request, None):
            _settle(pending.answer, error)

    def _send(self, message: Message) -> None:
        if self._connection is not None:
            self._connection.send(encode(message))

    # --- the connection's life -----------------------------------------------------------------

    async def run(self) -> None:
        """Keeps a connection to the engine until cancelled."""
        try:
            await keep_connected(self._socket_path, lambda: EngineConnection(self), self._watch)
        finally:
            self._cut()
            self._metrics.engine_gone(self.model)

    async def _watch(self, connection: EngineConnection) -> None:
        """Returns when the connection has ended."""
        tick_s = self._stall_timeout_s / 10
        while not connection.closed.is_set():
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(tick_s):
                    await connection.closed.wait()
            except TimeoutError:
                # After a pause of our own (a stopped process, a long callback) what the engine
                # sent meanwhile is still unread: its silence is then not known yet.
                now_s = time.monotonic()
                if now_s - began_s < 2 * tick_s:
                    self.check_progress(now_s)

    def check_progress(self, now_s: float) -> None:
        """Cuts off an engine that has work and has been silent for too long.

        Silence is measured from the last step, not from when a request came: an idle engine sends
        a heartbeat every second.
        """
        silence_s = now_s - self._last_step_s
        if not (self.healthy and self.num_live_requests and silence_s > self._stall_timeout_s):
            return
        log.error("engine %s: no step for %.1f s with work pending", self.model, silence_s)
        self.stalled = True
        self._cut()

    def _cut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self.connection_closed(self._connection)

    # --- called by the connection --------------------------------------------------------------

    def connection_opened(self, connection: EngineConnection) -> None:
        self._connection = connection

    def connection_closed(self, connection: EngineConnection) -> None:
        """Idempotent. Every waiting request learns of it now."""
        if self._connection is not connection:
            return
        self._connection = None
        self._metrics.engine_up(self.model, False)
        if self.num_live_requests:
            log.warning("engine %s is lost with %d requests", self.model, self.num_live_requests)
        for request in (*self._live, *self._embeddings):
            self._fail(request, ModelUnavailable())
        for answer in self._purges.values():
            _settle(answer, ModelUnavailable())

    def greeted(self, hello: Hello) -> None:
        self.hello = hello
        self.stalled = False
        self._last_step_s = time.monotonic()
        self._metrics.engine_up(self.model, True)
        log.info("engine %s is ready (%s, %s)", self.model, hello.device, hello.dtype)

    def message(self, message: Message, payload: bytes) -> None:
        match message:
            case Step():
                self._step(message)
            case Admitted():
                if entry := self._live.get(message.request):
                    _settle(entry.admission, None)
            case Embedded():
                self._embedded(message, payload)
            case Failed():
                self._fail(message.request, AnzothError())
            case Refused():
                self._fail(message.request, error_of_refusal(message))
            case Purged():
                if answer := self._purges.get(message.purge):
                    _settle(answer, message)
            case _:
                raise FrameError(f"an engine does not send {type(message).__name__} here")

    def _embedded(self, message: Embedded, payload: bytes) -> None:
        pending = self._embeddings.get(message.request)
        if pending is None:
            return  # aborted while this step was computed
        pending.add(message, payload)
        if pending.is_complete:
            del self._embeddings[message.request]
            _settle(pending.answer, None)

    def _step(self, step: Step) -> None:
        now_s = self._last_step_s = time.monotonic()
        self.last_stats = step.stats
        self._metrics.engine_step(self.model, step.stats)
        live = self._live
        for prompt_row in step.prompt_rows:
            if entry := live.get(prompt_row.request):
                entry.listener.prompt_row(prompt_row)
        for row in step.rows:
            entry = live.get(row.request)
            if entry is None or row.choice not in entry.open_choices:
                continue  # aborted while this step was computed
            if row.finish is not None:
                entry.open_choices.discard(row.choice)
                if not entry.open_choices:
                    del live[row.request]
            try:
                entry.listener.row(row, now_s)
            except Exception as error:  # noqa: BLE001  # must not end the other requests
                # Where, but not what: the message of an unexpected error may quote a prompt.
                frames = "".join(traceback.format_tb(error.__traceback__))
                log.error("a listener failed: %s\n%s", type(error).__name__, frames)
                self.abort(row.request)
                live.pop(row.request, None)
                entry.listener.lost(error if isinstance(error, AnzothError) else AnzothError())


def _owners(tenant: TenantHandle, key_id: UUID | None) -> frozenset[UUID]:
    return frozenset({tenant.id} if key_id is None else {tenant.id, key_id})


def _settle(waiting: asyncio.Future[T], outcome: T | AnzothError) -> None:
    if waiting.done():  # the caller was cancelled, or the engine repeats itself
        return
    if isinstance(outcome, AnzothError):
        waiting.set_exception(outcome)
    else:
        waiting.set_result(outcome)
