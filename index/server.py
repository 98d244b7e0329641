"""How do gateways reach the retriever, and what does it do with each message?

One event loop reads the sockets and answers; collections are searched and changed in threads. Each
connection gets `Hello` first and `Stats` once a second. Requests of one connection are answered in
any order. A peer that sends what is not a message, leaves its answers unread, or speaks of a store
under no key, is cut off, not asked.

Does not know: how the process began, or how collections are kept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from anzoth.framing import FrameError
from anzoth.index.analyzer import analyzer
from anzoth.index.collection import BadChunks, Collection, CollectionFull
from anzoth.index.dense import BadVector
from anzoth.index.filters import BadAttributes, BadFilter, parse_filter
from anzoth.index.fusion import Convex, Rrf
from anzoth.index.search import Answer as Found
from anzoth.index.search import Fusion as HowToFuse
from anzoth.index.snapshot import Owner
from anzoth.index.store import Spec, Store, StoreForgotten, StoreName, Unlike
from anzoth.index.stores import SAVE_AFTER_S, Stores
from anzoth.index_frames import (
    DATA_KEY_BYTES,
    PROTOCOL,
    Advance,
    Answer,
    Behind,
    Close,
    Decoder,
    Delete,
    Done,
    Forget,
    Fusion,
    Hello,
    HitRow,
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
    unpack_chunks,
)

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
MAX_CONNECTIONS = 64
MAX_STORES = 100_000
"""That one connection has open."""
MAX_UNSENT_BYTES = 64 << 20
MAX_UNANSWERED = 64
MAX_UNANSWERED_BYTES = 64 << 20
"""Of one connection; beyond either no more is read from it until something is answered."""
DRAIN_S = 5.0


class NotOpen(Exception):
    """The connection has not opened this store."""


class Impossible(ValueError):
    """A value of a message means nothing; the message of this says why."""


_BAD_VALUES = (BadVector, BadAttributes, BadFilter, BadChunks, Unlike, Impossible)
"""Their messages are for whoever asked."""


async def serve(
    listener: socket.socket,
    folder: Path,
    memory_bytes: int,
    stop: asyncio.Event,
    *,
    save_after_s: float = SAVE_AFTER_S,
) -> None:
    """Until `stop`; then what was begun is ended, and every change is in a snapshot."""
    server = Server(folder, memory_bytes, save_after_s)
    loop = asyncio.get_running_loop()
    async with server.running():
        accepting = await loop.create_unix_server(lambda: Connection(server), sock=listener)
        await stop.wait()
        accepting.close()
        await server.drain(DRAIN_S)


class Server:
    """The connections, and the stores that they share."""

    def __init__(self, folder: Path, memory_bytes: int, save_after_s: float) -> None:
        self.hello = Hello(PROTOCOL, memory_bytes)
        self.connections: set[Connection] = set()
        self.stores = Stores(folder, memory_bytes, self._saved, save_after_s)
        self.num_searches = self.num_changes = 0
        self._answering: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            self._group = group
            tasks = [group.create_task(self.stores.run()), group.create_task(self._report())]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def drain(self, timeout_s: float) -> None:
        for connection in self.connections:
            connection.stop_reading()
        if self._answering:
            await asyncio.wait(self._answering, timeout=timeout_s)
        await self.stores.save_all()
        for connection in list(self.connections):
            connection.close()
        for task in self._answering:
            task.cancel()

    def begin(self, connection: Connection, message: Message, payload: bytes) -> None:
        task = self._group.create_task(self._answer(connection, message, payload))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _report(self) -> None:
        while True:
            stats = Stats(
                self.stores.num_stores,
                self.stores.num_loaded,
                self.stores.loaded_bytes,
                self.num_searches,
                self.num_changes,
                self.stores.num_snapshots,
                self.stores.num_evictions,
                self.stores.num_quarantined,
            )
            for connection in list(self.connections):
                connection.send(stats)
            await asyncio.sleep(HEARTBEAT_S)

    def _saved(self, name: StoreName, generation: int, seq: int) -> None:
        for connection in list(self.connections):
            if name in connection.opened:
                connection.send(Saved(*name, generation, seq))

    # --- one message --------------------------------------------------------------------------

    async def _answer(self, connection: Connection, message: Message, payload: bytes) -> None:
        request = message.request if not isinstance(message, Close) else 0  # type: ignore[union-attr]  # checked by `Connection`
        answer: Answer | None
        try:
            answer = await _HANDLERS[type(message)](self, connection, message, payload)
        except FrameError as error:
            log.error("a gateway broke the protocol: %s", error)
            connection.close()
            return
        except (StoreForgotten, NotOpen):
            answer = Refused(request, "closed", "This store is not open.")
        except CollectionFull as error:
            answer = Refused(request, "full", str(error))
        except _BAD_VALUES as error:
            answer = Refused(request, "invalid", str(error))
        except TimeoutError:
            answer = Refused(request, "late", "The search was not done before its deadline.")
        except Exception as error:  # noqa: BLE001  # must not end the other requests
            # Where, but not what: the message of an unexpected error may quote a document.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s failed: %s\n%s", type(message).__name__, type(error).__name__, frames)
            answer = Refused(request, "failed", "The retriever failed.")
        finally:
            connection.answered(len(payload))
        if answer is not None:
            connection.send(answer)
        self.stores.fit()

    async def _open(self, connection: Connection, message: Open, payload: bytes) -> Answer:
        if len(payload) != DATA_KEY_BYTES:
            raise FrameError(f"a data key has {DATA_KEY_BYTES} bytes, not {len(payload)}")
        name = StoreName(message.tenant, message.store)
        owner = Owner(message.tenant, message.store, payload)
        spec = Spec(owner, message.dimensions, message.analyzer, message.generation)
        _require_analyzer(message.analyzer)
        if len(connection.opened) >= MAX_STORES:
            raise Impossible(f"a connection may have {MAX_STORES} stores open")
        store = await self.stores.open(name, spec)
        if connection.is_closed:
            self.stores.close(store)
            raise NotOpen
        before = connection.opened.pop(name, None)
        connection.opened[name] = store
        if before is not None:
            self.stores.close(before)
        return Done(message.request, await self._seq(store))

    async def _seq(self, store: Store) -> int:
        self.stores.touch(store)
        return await store.seq()

    async def _put(self, connection: Connection, message: Put, payload: bytes) -> Answer:
        store = self._store(connection, message)
        return await self._change(store, message, partial(_put, message, payload))

    async def _delete(self, connection: Connection, message: Delete, _payload: bytes) -> Answer:
        store = self._store(connection, message)
        return await self._change(store, message, lambda it: it.delete(message.file))

    async def _attributes(
        self, connection: Connection, message: SetAttributes, _payload: bytes
    ) -> Answer:
        store = self._store(connection, message)
        # A file's content may be among what is missing, and must not be taken for older than this.
        return await self._change(
            store,
            message,
            lambda it: it.set_attributes(message.file, message.attributes),
            needs_all_before=True,
        )

    async def _change(
        self,
        store: Store,
        message: Put | Delete | SetAttributes,
        run: Callable[[Collection], Any],
        *,
        needs_all_before: bool = False,
    ) -> Answer:
        self.num_changes += 1
        seq, is_done = await store.change(
            message.file, message.seq, run, needs_all_before=needs_all_before
        )
        return Done(message.request, seq) if is_done else Behind(message.request, seq, store.life)

    async def _advance(self, connection: Connection, message: Advance, _payload: bytes) -> Answer:
        store = self._store(connection, message)
        return Done(message.request, await store.advance(message.after, message.seq, message.life))

    async def _search(self, connection: Connection, message: Search, payload: bytes) -> Answer:
        store = self._store(connection, message)
        if len(payload) not in (0, 4 * store.dimensions):
            raise FrameError(f"{len(payload)} bytes are not {store.dimensions} numbers")
        if not payload and message.text is None:
            raise Impossible("a search needs a vector or a text")
        self.num_searches += 1
        vector = np.frombuffer(payload, "<f4") if payload else None
        filters = None if message.filters is None else parse_filter(message.filters)
        run = partial(_search, message, vector, filters, _fusion(message.fusion))
        timeout_s = None if message.timeout_ms is None else message.timeout_ms / 1000
        async with asyncio.timeout(timeout_s):
            seq, found = await store.search(message.head, run)
        if found is None:
            return Behind(message.request, seq, store.life)
        return _hits(message, seq, found)

    async def _close(self, connection: Connection, message: Close, _payload: bytes) -> None:
        store = connection.opened.pop(StoreName(message.tenant, message.store), None)
        if store is not None:
            self.stores.close(store)

    async def _forget(self, _connection: Connection, message: Forget, _payload: bytes) -> Answer:
        await self.stores.forget(message.tenant, message.only_store)
        return Done(message.request, 0)

    def _store(
        self, connection: Connection, message: Put | Delete | SetAttributes | Advance | Search
    ) -> Store:
        """Raises NotOpen: only what this connection has opened with its key can be named."""
        store = connection.opened.get(StoreName(message.tenant, message.store))
        if store is None:
            raise NotOpen
        self.stores.touch(store)
        return store


_HANDLERS: dict[type[Any], Any] = {  # each takes messages of its own type
    Open: Server._open,
    Put: Server._put,
    Delete: Server._delete,
    SetAttributes: Server._attributes,
    Advance: Server._advance,
    Search: Server._search,
    Close: Server._close,
    Forget: Server._forget,
}


class Connection(asyncio.Protocol):
    """One gateway."""

    def __init__(self, server: Server) -> None:
        self.opened: dict[StoreName, Store] = {}
        self.is_closed = False
        self._server = server
        self._decoder = Decoder()
        self._transport: asyncio.Transport | None = None
        self._unanswered = self._unanswered_bytes = 0
        self._is_reading = True

    def send(self, message: Message) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(encode(message))
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.warning("a gateway does not read its answers and was cut off")
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def stop_reading(self) -> None:
        self._is_reading = False
        if self._transport is not None:
            self._transport.pause_reading()

    def answered(self, payload_bytes: int) -> None:
        """One more request is done with."""
        self._unanswered -= 1
        self._unanswered_bytes -= payload_bytes
        self._balance()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._server.connections) >= MAX_CONNECTIONS:
            log.warning("refused a connection: %d are open", MAX_CONNECTIONS)
            self.close()
            return
        self._server.connections.add(self)
        self.send(self._server.hello)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._server.connections.discard(self)
        for store in self.opened.values():
            self._server.stores.close(store)
        self.opened.clear()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for message, payload in self._decoder.feed(data):
                if type(message) not in _HANDLERS:
                    raise FrameError(f"a gateway does not send {type(message).__name__}")
                self._unanswered += 1
                self._unanswered_bytes += len(payload)
                self._server.begin(self, message, payload)
        except FrameError as error:
            log.error("a gateway broke the protocol: %s", error)
            self.close()
            return
        self._balance()

    def _balance(self) -> None:
        if self._transport is None or self._transport.is_closing() or not self._is_reading:
            return
        if self._unanswered > MAX_UNANSWERED or self._unanswered_bytes > MAX_UNANSWERED_BYTES:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


# --- in threads -----------------------------------------------------------------------------------


def _put(message: Put, payload: bytes, collection: Collection) -> None:
    dimensions = collection.dimensions
    chunks = unpack_chunks(payload, message.num_chunks, dimensions)
    vectors = np.frombuffer(chunks.vectors, "<f4").reshape(-1, dimensions)
    collection.put(message.file, chunks.numbers, chunks.texts, vectors, message.attributes)


def _search(
    message: Search, vector: Any, filters: Any, fusion: HowToFuse, collection: Collection
) -> Found:
    return collection.search(vector, message.text, message.k, filters, fusion)


def _fusion(asked: Fusion) -> HowToFuse:
    """Raises Impossible: weights that mean nothing."""
    try:
        match asked.method:
            case "calibrated":
                return "calibrated"
            case "convex":
                return Convex(asked.dense_weight)
            case "rrf":
                return Rrf(asked.dense_weight, asked.sparse_weight)
    except ValueError as error:
        raise Impossible(str(error)) from None


def _hits(message: Search, seq: int, found: Found) -> Hits:
    rows = tuple(map(HitRow._make, found.hits))  # they have the same fields
    return Hits(message.request, seq, rows, found.exact, found.trace._asdict())


def _require_analyzer(name: str) -> None:
    try:
        analyzer(name)
    except KeyError:
        raise Impossible(f"there is no analyzer {name!r}") from None
