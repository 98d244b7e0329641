"""Vector stores over real HTTP and a real database, with an embedding engine that is scripted.

Nothing here reads files: `complete` and `fail` leave behind what a worker would.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from engine_peer import DIMENSIONS, EMBEDDING_HELLO
from files_kit import FileServer, as_owner, serving

from anzoth.db.pool import Connection
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec, ChunkContent
from anzoth.gateway.principal import Principal
from anzoth.gateway.tenant_crypt import TenantCipher
from anzoth.knowledge_config import KnowledgeConfig

Scenario = Callable[[FileServer], Awaitable[None]]
TEXT = "Opening hours\n\nMonday to Friday.\nSaturday from 9:40.\n\nThe fee is 12 EUR."


def run_stores(
    dsn: str, folder: Path, checkpoint: Path, scenario: Scenario, **settings: Any
) -> None:
    """`checkpoint`: of an embedding model; `settings`: of KnowledgeConfig."""

    async def main() -> None:
        config = KnowledgeConfig(**settings)
        async with serving(dsn, folder, checkpoint, EMBEDDING_HELLO, config) as server:
            await scenario(server)

    asyncio.run(main())


def chunks_of(text: str, max_words: int = 3, overlap: int = 1) -> list[ChunkContent]:
    """Windows of words, each a span of `text`, that share `overlap` words."""
    words = [found.span() for found in re.finditer(r"\S+", text)]
    chunks = []
    for first in range(0, max(len(words) - overlap, 1), max_words - overlap):
        start, end = words[first][0], words[min(first + max_words, len(words)) - 1][1]
        chunks.append(ChunkContent(text[start:end], "", start, end, start, end, 3, None, None, ()))
    return chunks


def vector_of(text: str, dimensions: int = DIMENSIONS) -> bytes:
    """Float32, little-endian: different for different texts."""
    return struct.pack(f"<{dimensions}f", len(text), *text.encode().ljust(dimensions)[1:dimensions])


async def insert_chunks(
    connection: Connection,
    cipher: TenantCipher,
    store_id: str,
    file_id: str,
    chunks: Sequence[ChunkContent],
) -> None:
    """As a worker does: numbers of the store, sealed content and vectors."""
    codec, tenant_id = ChunkCodec(cipher, store_id), cipher.tenant.id
    last, dimensions = await connection.fetchrow(
        "UPDATE anzoth.vector_stores SET last_chunk = last_chunk + $3 "
        "WHERE tenant_id = $1 AND id = $2 RETURNING last_chunk, dimensions",
        *(tenant_id, store_id, len(chunks)),
    )
    rows = [
        (
            *(tenant_id, store_id, number, file_id, position),
            codec.digest(chunk.indexed),
            codec.seal_content(number, chunk),
            codec.seal_vector(number, vector_of(chunk.indexed, dimensions)),
        )
        for position, chunk in enumerate(chunks)
        for number in [last - len(chunks) + 1 + position]
    ]
    await connection.executemany(
        "INSERT INTO anzoth.chunks VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", rows
    )


async def insert_whole(
    connection: Connection,
    cipher: TenantCipher,
    store_id: str,
    file_id: str,
    chunks: Sequence[ChunkContent],
) -> None:
    """The file has these chunks and is searched when the transaction ends."""
    await insert_chunks(connection, cipher, store_id, file_id, chunks)
    completed = await connection.fetchval(
        "WITH store AS (UPDATE anzoth.vector_stores SET head = head + 1 "
        "WHERE tenant_id = $1 AND id = $2 RETURNING head) "
        "UPDATE anzoth.vector_store_files SET status = 'completed', usage_bytes = $4, "
        "num_chunks = $5, changed_seq = (SELECT head FROM store) "
        "WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 "
        "AND status = 'in_progress' AND deleted_at IS NULL RETURNING true",
        *(cipher.tenant.id, store_id, file_id, chunks[-1].end, len(chunks)),
    )
    assert completed, "the file does not wait"


async def insert_some(server: FileServer, store_id: str, file_id: str) -> int:
    """A file that is still being read, of the first tenant; how many chunks it has so far."""
    chunks, cipher = chunks_of(TEXT), await server.files.keys.cipher(server.one.tenant)
    async with server.database.tenant(server.one.tenant) as connection:
        await insert_chunks(connection, cipher, store_id, file_id, chunks)
    return len(chunks)


async def complete(
    server: FileServer,
    store_id: str,
    file_id: str,
    says: str | Sequence[ChunkContent] = TEXT,
    *,
    principal: Principal | None = None,
) -> None:
    """The file is searched from now on."""
    tenant = (principal or server.one).tenant
    chunks = chunks_of(says) if isinstance(says, str) else says
    cipher = await server.files.keys.cipher(tenant)
    async with server.database.tenant(tenant) as connection:
        await insert_whole(connection, cipher, store_id, file_id, chunks)


async def complete_waiting(server: FileServer, text: str = TEXT) -> int:
    """All files that wait, of the first tenant; how many it were."""
    async with server.database.tenant(server.one.tenant) as connection:
        waiting = await connection.fetch(
            "SELECT store_id, file_id FROM anzoth.vector_store_files "
            "WHERE status = 'in_progress' AND deleted_at IS NULL"
        )
    for row in waiting:
        await complete(server, row["store_id"], row["file_id"], text)
    return len(waiting)


async def fail(server: FileServer, store_id: str, file_id: str, code: str, message: str) -> None:
    async with server.database.tenant(server.one.tenant) as connection:
        await connection.execute(
            "UPDATE anzoth.vector_store_files SET status = 'failed', error_code = $3, "
            "error_message = $4 WHERE store_id = $1 AND file_id = $2",
            *(store_id, file_id, code, message),
        )


async def expire(server: FileServer, store_id: str) -> None:
    """Its time is over."""
    statement = f"UPDATE anzoth.vector_stores SET expires_at = now() WHERE id = '{store_id}'"
    await as_owner(server.dsn, statement)


async def add_files(server: FileServer, *names: str, key: str = "good") -> list[str]:
    """Files of the project, which are in no store; their ids."""
    ids = []
    for name in names:
        file: Any = (name, f"This is {name}.".encode())
        made = await server.sdk(key).files.create(file=file, purpose="assistants")
        ids.append(made.id)
    return ids
