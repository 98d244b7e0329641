"""Does a day's count survive the gateway that counted it?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import usage_rows
from anzoth.errors import RateLimited
from anzoth.gateway import day_usage, directory
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.day_usage import DayUsage
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.keys import Pepper
from anzoth.gateway.ledger import row_of
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.limits import Limiter
from anzoth.gateway.principal import Principal
from anzoth.gateway.usage import UsageRecord

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")


class Flaky:
    """A real database that is away at first."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.num_failures = 1

    @contextlib.asynccontextmanager
    async def tenant(self, handle: Any) -> AsyncIterator[Any]:
        self.num_failures -= 1
        if self.num_failures >= 0:
            raise DatabaseDown()
        async with self.database.tenant(handle) as connection:
            yield connection


async def write(database: Database, who: Principal, at: datetime, tokens: int) -> None:
    usage = UsageRecord(f"r{at}{tokens}", who, "/v1/x", at, model="m", prompt_tokens=tokens - 1)
    async with database.tenant(who.tenant) as connection:
        row = replace(row_of(usage), completion_tokens=1)
        await usage_rows.insert_usage(connection, [row])


def test_what_the_ledger_has_of_today_counts_in_a_new_gateway(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_usage, "_RETRY_S", 0.01)

    async def main() -> None:
        await directory.create_tenant(dsn, "acme")
        database = await Database.open(dsn)
        principals = []
        for limits in (Limits(tokens_per_day=1000), Limits(), Limits(tokens_per_day=1000)):
            request = KeyRequest("acme", "k", limits=limits)
            created = await directory.create_key(dsn, PEPPER, request)
            authenticator = Authenticator(database, dsn, PEPPER)
            principals.append(await authenticator.authenticate(f"Bearer {created.key.text}"))
        who, other, fresh = principals
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        await write(database, who, midnight, 600)
        await write(database, who, midnight - timedelta(seconds=1), 5000)
        await write(database, other, midnight, 5000)
        limiter = Limiter()
        flaky: Any = Flaky(database)
        days = DayUsage(flaky, limiter)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(days.run())
            limiter.reserve(who, "m", 100, 0).settle(100, 0)
            limiter.reserve(fresh, "m", 1000, 0)

            def left() -> int:
                with pytest.raises(RateLimited) as caught:
                    limiter.reserve(who, "m", 1000, 0)
                return 1000 - int(str(caught.value).partition("used: ")[2].partition(",")[0])

            while left() == 900:  # noqa: ASYNC110  # nothing announces the answer
                await asyncio.sleep(0.005)
            assert left() == 300
            task.cancel()
        await database.close()

    asyncio.run(main())
