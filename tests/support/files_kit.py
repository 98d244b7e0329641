"""Files over real HTTP: the whole application on a real socket and a real database.

Each principal is a key of the dictionary that `api_harness` authenticates with.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import openai
from api_harness import Api, running_api
from engine_peer import HELLO
from principals import make_principal

from anzoth.batch_config import BatchesConfig
from anzoth.config import HttpConfig
from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.db.store import project_rows
from anzoth.file_config import FilesConfig
from anzoth.frames import Hello
from anzoth.gateway import directory, project_directory
from anzoth.gateway.files import FileOwner, Files
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.tools.service import ToolService
from anzoth.http.server import HttpServer
from anzoth.knowledge_config import KnowledgeConfig

SCOPES = (
    "files:read",
    "files:write",
    "vector_stores:read",
    "vector_stores:write",
    "vector_stores:search",
)

NOTES: Any = ("notes.txt", b"hello there")


async def add_tenant(dsn: str, name: str) -> Principal:
    """A tenant with its default project, and somebody of it who may do everything with files and
    vector stores."""
    tenant = await directory.create_tenant(dsn, name)
    async with pool.operator(dsn) as connection:
        project = await project_rows.find_project(connection, tenant.id, None)
    assert project is not None
    return make_principal(
        tenant=TenantHandle(tenant.id, name, "salt"),
        project_id=project.id,
        key_id=uuid.uuid4(),
        scopes=frozenset(SCOPES),
    )


def owner_of(principal: Principal) -> FileOwner:
    return FileOwner.of(principal, "192.0.2.1", "req_1")


@dataclass
class FileServer:
    """A gateway that serves files, and two tenants: `good` and `foreign` are their keys."""

    api: Api
    http: HttpServer
    dsn: str
    database: Database
    port: int
    one: Principal
    two: Principal
    sdks: dict[str, openai.AsyncOpenAI] = field(default_factory=dict)

    @property
    def files(self) -> Files:
        return self.api.services.files

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def sdk(self, key: str = "good") -> openai.AsyncOpenAI:
        """The same one each time; closed with the server."""
        if key not in self.sdks:
            self.sdks[key] = openai.AsyncOpenAI(base_url=self.url, api_key=key, max_retries=0)
        return self.sdks[key]

    def client(self, key: str = "good") -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {key}"}
        return httpx2.AsyncClient(
            base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=False
        )

    async def add_project(self) -> str:
        """The key of somebody in another project of the first tenant."""
        made = await project_directory.create_project(
            self.dsn, "one", "second", project_directory.Limits()
        )
        principal = replace(self.one, project_id=made.id)
        self.api.keys.principals["other project"] = principal
        return "other project"

    async def count(self, table: str, where: str = "true") -> int:
        async with pool.operator(self.dsn) as connection:
            await connection.execute("RESET ROLE; SET LOCAL ROLE anzoth_operator")
            return await connection.fetchval(f"SELECT count(*) FROM anzoth.{table} WHERE {where}")

    async def stored(self, principal: Principal | None = None) -> tuple[int, int]:
        """Bytes and files as the tenant's sums have them; they must be the sums of its rows."""
        principal = principal or self.one
        async with self.database.tenant(principal.tenant) as connection:
            summed = await connection.fetchrow(
                "SELECT coalesce(sum(bytes), 0)::bigint AS num_bytes, count(*) AS num_files "
                "FROM anzoth.files WHERE deleted_at IS NULL"
            )
            kept = await connection.fetchrow("SELECT num_bytes, num_files FROM anzoth.file_sums")
        assert tuple(kept or (0, 0)) == tuple(summed)
        return tuple(summed)

    async def num_pieces(self) -> int:
        total = 0
        for principal in (self.one, self.two):
            async with self.database.tenant(principal.tenant) as connection:
                total += await connection.fetchval("SELECT count(*) FROM anzoth.file_parts")
        return total


Scenario = Callable[[FileServer], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(
    dsn: str,
    folder: Path,
    checkpoint: Path,
    hello: Hello = HELLO,
    knowledge_config: KnowledgeConfig | None = None,
    retriever: Path | None = None,
    batch_config: BatchesConfig | None = None,
    tools: Callable[[ToolService], ToolService] = lambda made: made,
    **settings: Any,
) -> AsyncIterator[FileServer]:
    """`hello`: of the checkpoint's engine; `retriever`: the socket of one; `tools`: that models may
    call; `settings`: of FilesConfig."""
    database = await Database.open(dsn)
    one, two = await add_tenant(dsn, "one"), await add_tenant(dsn, "two")
    try:
        async with running_api(
            checkpoint,
            folder / "engine.sock",
            hello=hello,
            retriever=retriever,
            database=database,
            file_config=FilesConfig(**settings),
            knowledge_config=knowledge_config,
            batch_config=batch_config,
            tools=tools,
        ) as api:
            api.keys.principals = {"good": one, "foreign": two}
            http = HttpServer(api.app, HttpConfig())
            sock = socket.create_server(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            await http.start(sock)
            server = FileServer(api, http, dsn, database, port, one, two)
            try:
                yield server
            finally:
                for client in server.sdks.values():
                    await client.close()
                await http.drain(1)
    finally:
        await database.close()


def run_files(
    dsn: str, folder: Path, checkpoint: Path, scenario: Scenario, **settings: Any
) -> None:
    async def main() -> None:
        async with serving(dsn, folder, checkpoint, **settings) as server:
            await scenario(server)

    asyncio.run(main())


def random_bytes(num_bytes: int) -> bytes:
    return random.Random(5).randbytes(num_bytes)


async def read(server: FileServer, id: str) -> bytes:
    _, pieces = await server.files.content(owner_of(server.one), id)
    return b"".join([piece async for piece in pieces])


async def as_owner(dsn: str, statement: str) -> None:
    """What only somebody with the database in his hands can do."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        tables = (
            *("files", "file_parts", "file_sums", "uploads"),
            *("vector_stores", "vector_store_files", "file_batches", "chunks", "gone_files"),
            *("batches", "batch_answers"),
        )
        for table in tables:
            await connection.execute(f"ALTER TABLE anzoth.{table} NO FORCE ROW LEVEL SECURITY")
        await connection.execute(statement)
        for table in tables:
            await connection.execute(f"ALTER TABLE anzoth.{table} FORCE ROW LEVEL SECURITY")
    finally:
        await connection.close()
