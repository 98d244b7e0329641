"""Vector stores over a real database and a real retriever, behind an engine that hashes words.

Stores and their files are written as rows, as whoever reads files leaves them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import files_kit
import numpy as np
import tokenizers
from api_harness import MODEL
from checkpoints import write_embedding_checkpoint
from engine_peer import EMBEDDING_HELLO
from files_kit import FileServer, owner_of
from retriever_kit import Retriever
from tokenizers import models, pre_tokenizers, processors

from anzoth.db.pool import Database
from anzoth.gateway.files import FileRequest, Files
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec, ChunkContent
from anzoth.gateway.knowledge.found import Found, SearchRequest
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway.knowledge.searching import Searcher
from anzoth.gateway.knowledge.store_attributes import AttributeValue, seal_attributes
from anzoth.gateway.knowledge.stores import StoreRequest
from anzoth.gateway.principal import Principal
from anzoth.gateway.tenant_crypt import TenantKeys
from anzoth.telemetry import Metrics
from anzoth.text.embedding_text import EmbeddingText

DIMENSIONS = 16
WORDS = [
    *("the", "a", "of", "in", "is", "red", "green", "blue", "fox", "hen", "wolf", "river", "mill"),
    *("bridge", "stone", "apple", "pear", "plum", "music", "piano", "drum", "engine", "wheel"),
    *("summer", "winter", "rain", "snow", "canary", "one", "two", "three", "four"),
]
HELLO = replace(EMBEDDING_HELLO, dimensions=DIMENSIONS, vocab_size=len(WORDS) + 4)
SEPARATOR = "\n\n"
"""Between the chunks of a file."""


def write_model(directory: Path) -> Path:
    """A checkpoint's half for an embedding model that knows WORDS."""
    write_embedding_checkpoint(directory)
    known = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    backend = tokenizers.Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.save(str(directory / "tokenizer.json"))
    return directory


def vector_of(token_ids: Sequence[int]) -> list[float]:
    """The sum of the words' own directions: texts with the same words are alike."""
    total = np.full(DIMENSIONS, 1e-3)
    for token_id in token_ids:
        if token_id > 3:
            total += np.random.default_rng(token_id).standard_normal(DIMENSIONS)
    return total.tolist()


@dataclass
class Gateway:
    """One of several on the database: with a retriever of its own."""

    indexes: Indexes
    searcher: Searcher
    retriever: Retriever

    async def until_ready(self) -> None:
        async with asyncio.timeout(60):
            while not self.indexes.client.healthy:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.01)

    async def kill_retriever(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """And start it again."""
        self.retriever.end(signal.SIGKILL)
        async with asyncio.timeout(60):
            while self.indexes.client.healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        meanwhile()
        self.retriever.start()
        await self.until_ready()


@dataclass
class Knowledge:
    """A gateway that serves vector stores, and two tenants: see `FileServer`."""

    server: FileServer
    first: Gateway
    folder: Path

    @property
    def database(self) -> Database:
        return self.server.database

    @property
    def keys(self) -> TenantKeys:
        return self.server.files.keys

    @property
    def one(self) -> Principal:
        return self.server.one

    @property
    def two(self) -> Principal:
        return self.server.two

    @contextlib.asynccontextmanager
    async def second_gateway(self, **settings: Any) -> AsyncIterator[Gateway]:
        """`settings`: of `Retriever`."""
        folder = self.folder / "second"
        folder.mkdir()
        retriever = Retriever(folder, **settings)
        retriever.start()
        services = self.server.api.services
        indexes = Indexes(self.database, self.keys, retriever.socket_path, UUID(int=8))
        searcher = Searcher(self.database, self.keys, services.models, indexes, Metrics())
        running = asyncio.create_task(indexes.run())
        try:
            made = Gateway(indexes, searcher, retriever)
            await made.until_ready()
            yield made
        finally:
            running.cancel()
            await asyncio.wait({running})
            retriever.end(signal.SIGKILL)

    async def search(
        self,
        store_ids: str | Sequence[str],
        *queries: str,
        by: Principal | None = None,
        on: Gateway | None = None,
        **request: Any,
    ) -> Found:
        ids = [store_ids] if isinstance(store_ids, str) else store_ids
        principal = by or self.one
        return await (on or self.first).searcher.search(
            owner_of(principal),
            ids,
            SearchRequest(queries, **request),
            key_id=principal.key_id,
        )

    # --- what is written ------------------------------------------------------------------------

    async def add_store(
        self,
        principal: Principal | None = None,
        *,
        model: str = MODEL,
        expires_after_days: int | None = None,
    ) -> str:
        request = StoreRequest(expires_after_days=expires_after_days)
        owner = owner_of(principal or self.one)
        id = (await self.server.api.services.stores.create(owner, request)).id
        if model != MODEL:  # one that was served once
            await files_kit.as_owner(
                self.server.dsn,
                f"UPDATE anzoth.vector_stores SET model = '{model}' WHERE id = '{id}'",
            )
        return id

    async def add_file(
        self,
        store_id: str,
        *texts: str,
        principal: Principal | None = None,
        filename: str = "a.txt",
        context: str = "",
        **attributes: AttributeValue,
    ) -> str:
        """A file of these chunks, completed. Returns its id."""
        owner = principal or self.one
        file_id = await self._upload(self.server.files, owner, filename)
        cipher = await self.keys.cipher(owner.tenant)
        codec, of = ChunkCodec(cipher, store_id), (owner.tenant.id, store_id)
        embedding = self.server.api.model.embedding
        assert embedding is not None
        async with self.database.tenant(owner.tenant) as connection:
            row = await connection.fetchrow(
                "UPDATE anzoth.vector_stores SET head = head + 1, last_file = last_file + 1, "
                "last_chunk = last_chunk + $3 WHERE tenant_id = $1 AND id = $2 "
                "RETURNING head, last_file, last_chunk",
                *of, len(texts),
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO anzoth.vector_store_files (tenant_id, store_id, file_id, number, "
                "status, attributes, chunking, num_chunks, changed_seq) "
                "VALUES ($1, $2, $3, $4, 'completed', $5, '{}', $6, $7)",
                *of,
                file_id,
                row["last_file"],
                seal_attributes(cipher, store_id, file_id, attributes),
                len(texts),
                row["head"],
            )
            first, start = row["last_chunk"] - len(texts) + 1, 0
            whole = len(SEPARATOR.join(texts))
            for position, text in enumerate(texts):
                end = start + len(text)
                content = ChunkContent(
                    text, context, start, end, 0, whole, len(text.split()), position + 1,
                    position + 1, (),
                )  # fmt: skip
                await connection.execute(
                    "INSERT INTO anzoth.chunks (tenant_id, store_id, number, file_id, position, "
                    "digest, content, vector) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                    *of,
                    first + position,
                    file_id,
                    position,
                    codec.digest(content.indexed),
                    codec.seal_content(first + position, content),
                    codec.seal_vector(first + position, _embedded(embedding, content.indexed)),
                )
                start = end + len(SEPARATOR)
        return file_id

    async def _upload(self, files: Files, owner: Principal, filename: str) -> str:
        incoming = await files.begin(owner_of(owner))
        await incoming.write(b"what it says")
        return (await incoming.complete(FileRequest(filename, "assistants", None))).id

    async def set_attributes(
        self, store_id: str, file_id: str, **attributes: AttributeValue
    ) -> None:
        cipher = await self.keys.cipher(self.one.tenant)
        await self._change(
            store_id,
            "UPDATE anzoth.vector_store_files SET attributes = $4, changed_seq = $5 "
            "WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3",
            file_id,
            seal_attributes(cipher, store_id, file_id, attributes),
        )

    async def take_out(self, store_id: str, file_id: str) -> None:
        await self._change(
            store_id,
            "UPDATE anzoth.vector_store_files SET deleted_at = now(), attributes = $4, "
            "changed_seq = $5 WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3",
            file_id,
            None,
        )

    async def _change(
        self, store_id: str, statement: str, file_id: str, attributes: bytes | None
    ) -> None:
        tenant = self.one.tenant
        async with self.database.tenant(tenant) as connection:
            head = await connection.fetchval(
                "UPDATE anzoth.vector_stores SET head = head + 1 "
                "WHERE tenant_id = $1 AND id = $2 RETURNING head",
                *(tenant.id, store_id),
            )
            await connection.execute(statement, tenant.id, store_id, file_id, attributes, head)

    async def set_store(self, store_id: str, what: str, principal: Principal | None = None) -> None:
        """`what`: an assignment."""
        tenant = (principal or self.one).tenant
        async with self.database.tenant(tenant) as connection:
            changed = await connection.execute(
                f"UPDATE anzoth.vector_stores SET {what} WHERE tenant_id = $1 AND id = $2",
                *(tenant.id, store_id),
            )
        assert changed == "UPDATE 1"

    async def generation(self, store_id: str) -> int | None:
        """What is written down of the first gateway."""
        async with self.database.tenant(self.one.tenant) as connection:
            return await connection.fetchval(
                "SELECT generation FROM anzoth.index_generations WHERE store_id = $1 "
                "AND gateway = $2",
                *(store_id, self.first.indexes.gateway),
            )

    def index_of(self, principal: Principal, store_id: str, on: Gateway | None = None) -> Path:
        return (on or self.first).retriever.index / str(principal.tenant.id) / store_id


def _embedded(text: EmbeddingText, indexed: str) -> bytes:
    (token_ids,) = text.encode([indexed], "document")
    return np.asarray(vector_of(list(token_ids)), "<f4").tobytes()


Scenario = Callable[[Knowledge], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(dsn: str, folder: Path, **settings: Any) -> AsyncIterator[Knowledge]:
    """`settings`: of `Retriever`."""
    (folder / "first").mkdir()
    retriever = Retriever(folder / "first", **settings)
    retriever.start()
    try:
        async with files_kit.serving(
            *(dsn, folder, write_model(folder / "model")),
            hello=HELLO,
            retriever=retriever.socket_path,
        ) as server:
            server.api.peer.vector_of = vector_of
            first = Gateway(server.api.indexes, server.api.services.searcher, retriever)
            await first.until_ready()
            yield Knowledge(server, first, folder)
    finally:
        retriever.end(signal.SIGKILL)


def run_knowledge(dsn: str, folder: Path, scenario: Scenario, **settings: Any) -> None:
    async def main() -> None:
        async with serving(dsn, folder, **settings) as knowledge:
            await scenario(knowledge)

    asyncio.run(main())


def texts(found: Found) -> list[str]:
    return [chunk.content.text for chunk in found.chunks]


def stores_of(found: Found) -> list[str]:
    return [chunk.store_id for chunk in found.chunks]
