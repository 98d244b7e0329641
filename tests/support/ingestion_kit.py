"""Files on their way into vector stores: real Postgres, real parsers, a scripted engine.

The engine makes of each text a vector of its tokens (`engine_peer.vector_of`). Stores and their
files are written as rows: how a request does that is not the question here.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import tokenizers
from checkpoints import tiny_tokenizer, write_embedding_checkpoint
from engine_peer import DIMENSIONS, EMBEDDING_HELLO, EnginePeer, vector_of
from files_kit import add_tenant, owner_of
from tokenizers import processors

from anzoth.db import pool
from anzoth.db.pool import Connection, Database
from anzoth.db.store import store_file_rows
from anzoth.file_config import FilesConfig
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.files import FileRequest, Files, new_id
from anzoth.gateway.keys import Pepper
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec, ChunkContent
from anzoth.gateway.knowledge.chunk_vectors import tokens_of
from anzoth.gateway.knowledge.claims import Claims
from anzoth.gateway.knowledge.file_ingestion import Parts
from anzoth.gateway.knowledge.ingestion import Ingestion, OnChange
from anzoth.gateway.models import ModelRegistry, load_model
from anzoth.gateway.principal import Principal
from anzoth.gateway.tenant_crypt import Label, MasterKey, TenantKeys
from anzoth.ingest.host import ParserHost
from anzoth.model_config import ModelConfig
from anzoth.telemetry import Metrics

MODEL = "org/embedder"
PEPPER = Pepper("pepper", bytes(32))
AUTO = {"type": "auto"}
_START_S = 10.0


def write_letters_checkpoint(folder: Path) -> Path:
    """An embedding model's half that is the gateway's, with a token for almost every letter."""
    write_embedding_checkpoint(folder)
    backend: tokenizers.Tokenizer = tiny_tokenizer()
    backend.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]  # so in its docs
        single="<|bos|> $A <|end|>", special_tokens=[("<|bos|>", 0), ("<|end|>", 1)]
    )
    backend.save(str(folder / "tokenizer.json"))
    return folder


@dataclass(slots=True, frozen=True)
class StoredFile:
    """A row of vector_store_files, but for who works on it."""

    status: str
    error_code: str | None
    error_message: str | None
    num_chunks: int
    num_tokens: int
    usage_bytes: int
    changed_seq: int
    attempts: int


@dataclass(slots=True, frozen=True)
class OpenedChunk:
    """A chunk as it is in the database, opened."""

    number: int
    position: int
    content: ChunkContent
    vector: bytes


@dataclass
class Gateway:
    """One that ingests, and tests call step by step: `ingestion.read_next()`."""

    ingestion: Ingestion
    claims: Claims
    files: Files
    metrics: Metrics

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@dataclass
class World:
    """A database with two tenants, and what gateways share in a test."""

    dsn: str
    database: Database
    host: ParserHost
    models: ModelRegistry
    peer: EnginePeer
    one: Principal
    two: Principal
    changes: list[tuple[str, str]] = field(default_factory=list)
    """Stores and files of which gateways said that they were completed."""

    def gateway(
        self, gateway: uuid.UUID | None = None, database: Database | None = None, **how: Any
    ) -> Gateway:
        """Another one; or the one that was called `gateway`, started again."""
        database, metrics = database or self.database, Metrics()
        files = Files(database, TenantKeys(database, "", MasterKey(bytes(32))), FilesConfig())
        claims = Claims(database, gateway or uuid.uuid4(), PEPPER)
        parts = Parts(database, files, self.host, self.models, claims, metrics)
        on_change: OnChange = lambda tenant, store, file: self.changes.append((store, file))  # noqa: E731
        ingestion = Ingestion(parts, self.dsn, how.pop("max_running", 2), on_change)
        return Gateway(ingestion, claims, files, metrics)

    @property
    def files(self) -> Files:
        keys = TenantKeys(self.database, "", MasterKey(bytes(32)))
        return Files(self.database, keys, FilesConfig())

    async def codec(self, principal: Principal, store_id: str) -> ChunkCodec:
        return ChunkCodec(await self.files.keys.cipher(principal.tenant), store_id)

    # --- what requests would do --------------------------------------------------------------

    async def make_store(
        self,
        principal: Principal,
        *,
        model: str = MODEL,
        vector_space: str | None = EMBEDDING_HELLO.vector_space,
    ) -> str:
        store_id = new_id("vs_")
        cipher = await self.files.keys.cipher(principal.tenant)
        details = cipher.seal(orjson.dumps({"name": "s"}), Label("store.details", store_id))
        async with self.database.tenant(principal.tenant) as connection:
            await connection.execute(
                "INSERT INTO anzoth.vector_stores "
                "(tenant_id, id, project_id, details, model, dimensions, analyzer, vector_space) "
                "VALUES ($1, $2, $3, $4, $5, $6, 'english', $7)",
                *(principal.tenant.id, store_id, principal.project_id, details, model, DIMENSIONS),
                vector_space,
            )
        return store_id

    async def upload(self, principal: Principal, name: str, content: bytes) -> str:
        incoming = await self.files.begin(owner_of(principal))
        await incoming.write(content)
        return (await incoming.complete(FileRequest(name, "assistants", None))).id

    async def attach(
        self, principal: Principal, store_id: str, file_id: str, chunking: Any = None
    ) -> None:
        async with self.database.tenant(principal.tenant) as connection:
            number = await connection.fetchval(
                "UPDATE anzoth.vector_stores SET last_file = last_file + 1 WHERE id = $1 "
                "RETURNING last_file",
                store_id,
            )
            await connection.execute(
                "INSERT INTO anzoth.vector_store_files "
                "(tenant_id, store_id, file_id, number, chunking) VALUES ($1, $2, $3, $4, $5)",
                *(principal.tenant.id, store_id, file_id, number),
                orjson.dumps(chunking or AUTO).decode(),
            )
            await store_file_rows.announce_waiting(connection)

    async def add(
        self, principal: Principal, store_id: str, name: str, content: bytes, chunking: Any = None
    ) -> str:
        file_id = await self.upload(principal, name, content)
        await self.attach(principal, store_id, file_id, chunking)
        return file_id

    # --- what is there -----------------------------------------------------------------------

    async def file(self, store_id: str, file_id: str) -> StoredFile:
        async with pool.operator(self.dsn) as connection:
            row = await connection.fetchrow(
                f"SELECT {', '.join(StoredFile.__slots__)} FROM anzoth.vector_store_files "
                "WHERE store_id = $1 AND file_id = $2",
                *(store_id, file_id),
            )
        return StoredFile(**row)

    async def change(self, store_id: str, file_id: str, **columns: Any) -> None:
        """As whoever may: sets columns of a file in a store to SQL expressions."""
        changed = ", ".join(f"{name} = {value}" for name, value in columns.items())
        for principal in (self.one, self.two):
            async with self.database.tenant(principal.tenant) as connection:
                await connection.execute(
                    f"UPDATE anzoth.vector_store_files SET {changed} "
                    "WHERE store_id = $1 AND file_id = $2",
                    *(store_id, file_id),
                )

    async def head(self, store_id: str) -> int:
        async with pool.operator(self.dsn) as connection:
            return await connection.fetchval(
                "SELECT head FROM anzoth.vector_stores WHERE id = $1", store_id
            )

    async def chunks(self, principal: Principal, store_id: str, file_id: str) -> list[OpenedChunk]:
        """In order of position."""
        codec = await self.codec(principal, store_id)
        async with self.database.tenant(principal.tenant) as connection:
            rows = await connection.fetch(
                "SELECT number, position, content, vector FROM anzoth.chunks "
                "WHERE store_id = $1 AND file_id = $2 ORDER BY position",
                *(store_id, file_id),
            )
        return [
            OpenedChunk(
                row["number"],
                row["position"],
                codec.open_content(row["number"], row["content"]),
                codec.open_vector(row["number"], row["vector"]),
            )
            for row in rows
        ]

    async def assert_whole(self, principal: Principal, store_id: str, file_id: str) -> int:
        """A completed file: each chunk once, each with the vector of its own words, and a change in
        the store's log. How many chunks."""
        file = await self.file(store_id, file_id)
        assert file.status == "completed", file
        assert 0 < file.changed_seq <= await self.head(store_id)
        chunks = await self.chunks(principal, store_id, file_id)
        assert [chunk.position for chunk in chunks] == list(range(file.num_chunks))
        assert file.num_chunks > 0
        text = self.models.get(MODEL).embedding
        assert text is not None
        for chunk in chunks:
            (ids,) = tokens_of([chunk.content.indexed], text, EMBEDDING_HELLO.max_model_tokens)
            assert chunk.vector == struct.pack(f"<{DIMENSIONS}f", *vector_of(list(ids)))
        return len(chunks)

    def embedded(self) -> list[str]:
        """The texts that the engine was asked for, all of them in the background."""
        assert all(embed.background for embed, _ in self.peer.embeds)
        tokenizer = self.models.get(MODEL).tokenizer
        return [tokenizer.decode(ids[1:-1]) for _, texts in self.peer.embeds for ids in texts]


Scenario = Callable[[World], Awaitable[None]]


class Killed(BaseException):
    """The process ends here, as after kill -9."""


class Mortal(Database):
    """A database whose user is killed at the `dies_at`th of its transactions: before it begins, or
    `after_commit`. Nothing that the dead one does reaches the database any more."""

    def __init__(
        self,
        alive: Database,
        dies_at: int | None = None,
        *,
        after_commit: bool = False,
        error: type[BaseException] = Killed,
    ) -> None:
        """`error`: what is raised instead, once."""
        self._alive = alive
        self._dies_at = dies_at
        self._after_commit = after_commit
        self._error = error
        self._is_dead = False
        self.num_begun = 0

    @contextlib.asynccontextmanager
    async def _transaction(self, setting: str, value: str) -> AsyncIterator[Connection]:
        number, self.num_begun = self.num_begun, self.num_begun + 1
        if self._is_dead or (number == self._dies_at and not self._after_commit):
            self._die()
        async with self._alive._transaction(setting, value) as connection:
            yield connection
        if number == self._dies_at:
            self._die()

    def _die(self) -> None:
        self._is_dead = self._error is Killed
        raise self._error


@contextlib.asynccontextmanager
async def world(dsn: str, folder: Path, host: ParserHost) -> AsyncIterator[World]:
    checkpoint = write_letters_checkpoint(folder / "checkpoint")
    peer = EnginePeer(folder / "engine.sock", lambda *_: [], EMBEDDING_HELLO)
    engine = EngineClient(MODEL, peer.path, Metrics())
    models = ModelRegistry([load_model(ModelConfig(MODEL, checkpoint), engine)])
    await peer.start()
    database = await Database.open(dsn)
    running = asyncio.create_task(models.run())
    try:
        async with asyncio.timeout(_START_S):
            while not engine.healthy:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.001)
        one, two = await add_tenant(dsn, "one"), await add_tenant(dsn, "two")
        yield World(dsn, database, host, models, peer, one, two)
    finally:
        running.cancel()
        await asyncio.wait({running})
        await database.close()
        await peer.stop()


def sentences(count: int, topic: str = "the lamp", start: int = 0) -> bytes:
    """A text of so many paragraphs, each a chunk or more, no two alike."""
    said: Sequence[str] = [
        f"Paragraph {number} says of {topic} what no other says."
        for number in range(start, start + count)
    ]
    return "\n\n".join(said).encode()


async def read_all(*gateways: Gateway) -> list[str]:
    """How each reading ended, until nobody finds anything to read."""
    outcomes: list[str] = []

    async def work(gateway: Gateway) -> None:
        while (outcome := await gateway.ingestion.read_next()) is not None:
            outcomes.append(outcome)

    await asyncio.gather(*(work(gateway) for gateway in gateways))
    return outcomes


async def until_asked(world: World) -> None:
    """The engine has been asked for vectors."""
    await world.peer.until(lambda: bool(world.peer.embeds))
