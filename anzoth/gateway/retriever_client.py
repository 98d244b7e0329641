"""How does the gateway keep a tenant's stores searchable in the retriever, and search them?

One connection to the retriever's Unix socket, opened again with a short backoff for as long as
`run` runs. A store is reached through `store`, which takes the handle that only authentication
makes. What the retriever is told is a copy: the database has the truth, and whenever the retriever
is behind it, because it was restarted, put the store aside, or another gateway made the change, the
store's owner replays what is missing and the search is made again.

    search ──Behind──▶ replay (once at a time per store) ──Advance──▶ search

Does not know: where files, vectors and data keys come from, or who restarts the retriever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from anzoth.errors import (
    AnzothError,
    CapacityUnavailable,
    DeadlineExceeded,
    InvalidValue,
    PayloadTooLarge,
    RetrieverUnavailable,
)
from anzoth.gateway.peer import keep_connected
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.retriever_connection import RetrieverConnection
from anzoth.index_frames import (
    MAX_FILE_CHUNKS,
    MAX_PAYLOAD_BYTES,
    Advance,
    Answer,
    Behind,
    Chunks,
    Close,
    Delete,
    Done,
    Forget,
    Fusion,
    Hits,
    Message,
    Open,
    Put,
    Refused,
    Saved,
    Search,
    SetAttributes,
    Stats,
    encode,
    pack_chunks,
)

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 120.0
"""Of what has no deadline of its own. Opening or changing a large store takes seconds."""
MAX_REPLAYS = 3
"""Of one search: the retriever may be restarted, or put the store aside, between two of them."""

State = Literal["connecting", "warming", "ready"]


@dataclass(slots=True, frozen=True)
class PutFile:
    """The file as it is now, chunks and attributes."""

    file: int
    seq: int
    chunks: Chunks
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True, frozen=True)
class DeleteFile:
    file: int
    seq: int


Apply = Callable[[PutFile | DeleteFile], Awaitable[None]]
Replay = Callable[[int, Apply], Awaitable[int]]
"""Given a seq, applies the present state of every file that changed after it, deleted ones too, in
any order; returns the store's seq at the moment of which it told. Raises what a database raises."""


@dataclass(slots=True, frozen=True)
class StoreSpec:
    """What the database knows of a store."""

    store: str
    dimensions: int
    analyzer: str
    data_key: bytes = field(repr=False)
    generation: int = 0
    """The last that was reported to `on_saved`."""


class RetrieverClient:
    """The gateway's end of the retriever."""

    def __init__(
        self, socket_path: Path, on_saved: Callable[[str, str, int], None] = lambda *_: None
    ) -> None:
        """`on_saved` is told the tenant, the store and the generation that must be found again."""
        self.last_stats: Stats | None = None
        self._socket_path = socket_path
        self._on_saved = on_saved
        self._connection: RetrieverConnection | None = None
        self._stores: dict[tuple[UUID, str], Store] = {}

    @property
    def state(self) -> State:
        if self._connection is None:
            return "connecting"
        return "ready" if self._connection.is_greeted else "warming"

    @property
    def healthy(self) -> bool:
        return self.state == "ready"

    def store(self, tenant: TenantHandle, spec: StoreSpec, replay: Replay) -> Store:
        """The same one for the same store, as long as its `spec` stays."""
        key = (tenant.id, spec.store)
        found = self._stores.get(key)
        if found is None or not found.is_of(spec):
            found = self._stores[key] = Store(self, tenant, spec, replay)
        return found

    async def forget(self, tenant_id: UUID, store: str | None = None) -> None:
        """Deletes a store, or all of a tenant's, from the retriever's memory and disk.

        Raises RetrieverUnavailable: then it may or may not have happened.
        """
        for key in [k for k in self._stores if k[0] == tenant_id and store in (None, k[1])]:
            del self._stores[key]
        answer = await self.ask(lambda request: Forget(request, str(tenant_id), store))
        if not isinstance(answer, Done):
            raise error_of(answer)

    async def ask(
        self,
        message_of: Callable[[int], Message],
        payload: bytes = b"",
        *,
        on: RetrieverConnection | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> Answer:
        """The answer to a message, which is given its number. Raises RetrieverUnavailable."""
        connection = on or self.require_connection()
        try:
            async with asyncio.timeout(timeout_s):
                await connection.can_write.wait()
                request = connection.next_request()
                answer = await connection.ask(request, message_of(request), payload)
        except TimeoutError:
            if timeout_s < ANSWER_TIMEOUT_S:
                raise DeadlineExceeded() from None
            raise RetrieverUnavailable() from None
        if answer is None:
            raise RetrieverUnavailable()
        return answer

    def require_connection(self) -> RetrieverConnection:
        """Raises RetrieverUnavailable."""
        if self._connection is None or not self.healthy:
            raise RetrieverUnavailable()
        return self._connection

    def closed(self, tenant: TenantHandle, store: str) -> None:
        """It is not used any more."""
        self._stores.pop((tenant.id, store), None)
        if self._connection is not None:
            self._connection.send(encode(Close(str(tenant.id), store)))

    # --- the connection's life ------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps a connection to the retriever until cancelled."""
        try:
            await keep_connected(
                self._socket_path, lambda: RetrieverConnection(self), self._until_closed
            )
        finally:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def _until_closed(self, connection: RetrieverConnection) -> None:
        self._connection = None if connection.closed.is_set() else connection
        await connection.closed.wait()

    def greeted(self, connection: RetrieverConnection) -> None:
        log.info("the retriever is ready")

    def saved(self, saved: Saved) -> None:
        if store := self._stores.get((UUID(saved.tenant), saved.store)):
            store.generation = saved.generation
        self._on_saved(saved.tenant, saved.store, saved.generation)

    def counted(self, stats: Stats) -> None:
        self.last_stats = stats

    def connection_closed(self, connection: RetrieverConnection) -> None:
        if self._connection is connection:
            log.warning("the retriever is lost")
            self._connection = None


class Store:
    """One store of one tenant, as the retriever has it."""

    def __init__(
        self, client: RetrieverClient, tenant: TenantHandle, spec: StoreSpec, replay: Replay
    ) -> None:
        self._client = client
        self._tenant = tenant
        self._names = (str(tenant.id), spec.store)
        self.generation = spec.generation
        """The least that a snapshot must have."""
        self._spec = spec
        self._replay = replay
        self._opened_on: RetrieverConnection | None = None
        self._opening = asyncio.Lock()
        self._replaying = asyncio.Lock()
        self._num_replays = 0

    def is_of(self, spec: StoreSpec) -> bool:
        own = self._spec
        return (own.dimensions, own.analyzer, own.data_key) == (
            spec.dimensions,
            spec.analyzer,
            spec.data_key,
        )

    def close(self) -> None:
        self._client.closed(self._tenant, self._spec.store)

    async def put(self, change: PutFile) -> None:
        """Tells of a change that was committed. Raises RetrieverUnavailable: no harm, a search that
        needs it has it replayed; InvalidValue, PayloadTooLarge: it cannot be searched."""
        payload = pack_chunks(change.chunks)
        num_chunks = len(change.chunks.numbers)
        if num_chunks > MAX_FILE_CHUNKS or len(payload) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge(f"A file may have {MAX_FILE_CHUNKS:,} chunks to be searched.")
        attributes = dict(change.attributes)
        await self._tell(
            lambda request: Put(
                request, *self._names, change.file, change.seq, num_chunks, attributes
            ),
            payload,
        )

    async def delete(self, change: DeleteFile) -> None:
        """As `put`."""
        await self._tell(lambda r: Delete(r, *self._names, change.file, change.seq))

    async def set_attributes(self, file: int, seq: int, attributes: Mapping[str, Any]) -> None:
        """As `put`."""
        told = dict(attributes)
        await self._tell(lambda r: SetAttributes(r, *self._names, file, seq, told))

    async def search(
        self,
        head: int,
        *,
        vector: bytes | None = None,
        text: str | None = None,
        k: int = 10,
        filters: Mapping[str, Any] | None = None,
        fusion: Fusion = Fusion(),  # noqa: B008  # frozen
        timeout_ms: int | None = None,
    ) -> Hits:
        """The k best chunks of the store as it was at `head`, or later.

        `vector`: float32, little-endian. Raises RetrieverUnavailable, DeadlineExceeded,
        InvalidValue, and what the replay raises.
        """
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                return await self._search(
                    lambda request: Search(
                        *(request, *self._names, head, k, text, filters, fusion, timeout_ms)
                    ),
                    vector or b"",
                )
        except TimeoutError:
            raise DeadlineExceeded() from None

    async def _search(self, message_of: Callable[[int], Message], vector: bytes) -> Hits:
        for _ in range(MAX_REPLAYS + 1):
            num_replays = self._num_replays
            answer = await self._ask(message_of, vector)
            match answer:
                case Hits():
                    return answer
                case Behind():
                    await self._catch_up(answer, num_replays)
                case _:
                    raise error_of(answer)
        log.error("a store is behind after %d replays", MAX_REPLAYS)
        raise RetrieverUnavailable()

    async def _catch_up(self, behind: Behind, num_replays: int) -> None:
        """Replays what it lacks, unless somebody did since `num_replays`."""
        async with self._replaying:
            if num_replays != self._num_replays:
                return
            head = await self._replay(behind.seq, self._apply)
            await self._tell(lambda r: Advance(r, *self._names, behind.seq, head, behind.life))
            self._num_replays += 1

    async def _apply(self, change: PutFile | DeleteFile) -> None:
        await (self.put(change) if isinstance(change, PutFile) else self.delete(change))

    async def _tell(self, message_of: Callable[[int], Message], payload: bytes = b"") -> None:
        answer = await self._ask(message_of, payload)
        if not isinstance(answer, Done | Behind):  # what it lacks, the next search has replayed
            raise error_of(answer)

    async def _ask(self, message_of: Callable[[int], Message], payload: bytes) -> Answer:
        """Opens the store first, on a connection where it is not open."""
        connection = await self._opened()
        answer = await self._client.ask(message_of, payload, on=connection)
        if isinstance(answer, Refused) and answer.code == "closed":  # it was forgotten
            self._opened_on = None
            connection = await self._opened()
            answer = await self._client.ask(message_of, payload, on=connection)
        return answer

    async def _opened(self) -> RetrieverConnection:
        connection = self._client.require_connection()
        async with self._opening:
            if self._opened_on is not connection:
                spec = self._spec
                answer = await self._client.ask(
                    lambda request: Open(
                        request, *self._names, spec.dimensions, spec.analyzer, self.generation
                    ),
                    spec.data_key,
                    on=connection,
                )
                if not isinstance(answer, Done):
                    raise error_of(answer)
                self._opened_on = connection
        return connection


def error_of(answer: Answer) -> AnzothError:
    """What a client gets for an answer that is none."""
    if not isinstance(answer, Refused):
        log.error("the retriever answered with %s", type(answer).__name__)
        return AnzothError()
    match answer.code:
        case "late":
            return DeadlineExceeded()
        case "invalid":
            return InvalidValue(answer.message)
        case "full":
            return CapacityUnavailable(answer.message)
        case "closed":
            return RetrieverUnavailable()
        case _:
            return AnzothError()
