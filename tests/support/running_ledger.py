"""A ledger over a real database that is lost when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from principals import make_principal

from anzoth.config import JournalConfig
from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import project_rows
from anzoth.gateway import directory
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.keys import Pepper
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.usage import UsageRecord
from anzoth.telemetry import Metrics

PEPPER = Pepper("p", bytes(32))
START = datetime(2026, 1, 1, tzinfo=UTC)


class Flaky:
    """A real database that is lost when the test says so: before a write, or after its commit."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.fail_before = 0
        self.fail_after = 0
        self.num_transactions = 0

    @contextlib.asynccontextmanager
    async def journal(self, writer: uuid.UUID) -> AsyncIterator[Any]:
        self.num_transactions += 1
        if self.fail_before:
            self.fail_before -= 1
            raise DatabaseDown()
        async with self.database.journal(writer) as connection:
            yield connection
        if self.fail_after:
            self.fail_after -= 1
            raise DatabaseDown()


async def principal_of(dsn: str, tenant: str) -> Principal:
    created = await directory.create_tenant(dsn, tenant)
    key = await directory.create_key(dsn, PEPPER, KeyRequest(tenant, "k"))
    handle = TenantHandle(created.id, tenant, "salt")
    async with pool.operator(dsn) as connection:
        project = await project_rows.find_project(connection, created.id, None)
    assert project is not None
    return make_principal(tenant=handle, project_id=project.id, key_id=key.id)


def record(principal: Principal, request_id: str, **fields: Any) -> UsageRecord:
    return UsageRecord(request_id, principal, "/v1/chat/completions", START, **fields)


async def rows(dsn: str) -> list[Any]:
    async with pool.operator(dsn) as connection:
        return await connection.fetch("SELECT * FROM anzoth.usage ORDER BY request_id")


async def ids(dsn: str) -> list[str]:
    return [row["request_id"] for row in await rows(dsn)]


async def cursor(dsn: str) -> tuple[int, int]:
    async with pool.operator(dsn) as connection:
        return tuple(
            await connection.fetchrow('SELECT segment, "offset" FROM anzoth.journal_cursors')
        )


def run(dsn: str, scenario: Callable[[Flaky], Awaitable[None]]) -> None:
    async def main() -> None:
        database = await Database.open(dsn)
        try:
            async with asyncio.timeout(30):
                await scenario(Flaky(database))
        finally:
            await database.close()

    asyncio.run(main())


def killed(ledger: Ledger) -> None:
    """What a killed process leaves: its files, and the lock that the kernel takes back."""
    ledger.abandon()


async def opened(database: Any, data_dir: Path, **config: Any) -> Ledger:
    options = {"max_segment_bytes": config.pop("max_segment_bytes", 1 << 20)}
    return await Ledger.open(database, data_dir, JournalConfig(**config), Metrics(), **options)


@contextlib.asynccontextmanager
async def running(database: Any, data_dir: Path, **config: Any) -> AsyncIterator[Ledger]:
    ledger = await opened(database, data_dir, **config)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ledger.run())
        yield ledger
        task.cancel()
    await ledger.close()
