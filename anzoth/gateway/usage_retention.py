"""For how long is use kept by the minute?

By the hour and the day it is kept for good; minutes are many, and nobody asks for old ones. Each
gateway deletes what is outdated, now and then: that others do the same does no harm.

Does not know: how use is summed.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import usage_rollup_rows

_INTERVAL_S = 6 * 3600.0
_MAX_DELETED = 10_000
"""In one transaction: a few hundred milliseconds."""

_log = logging.getLogger(__name__)


def kept_since(now: datetime, retention_days: int) -> datetime:
    """From when on there are minutes: a whole one."""
    return now.replace(second=0, microsecond=0) - timedelta(days=retention_days)


class UsageRetention:
    """One per gateway. `run` must be running."""

    def __init__(self, database: Database, retention_days: int) -> None:
        self._database = database
        self._retention_days = retention_days

    async def run(self) -> None:
        """Deletes for ever."""
        while True:
            try:
                await self.delete_outdated(datetime.now(UTC))
            except (DatabaseDown, asyncpg.PostgresError) as error:
                _log.warning("outdated sums of usage were not deleted: %s", error)
            await asyncio.sleep(_INTERVAL_S)

    async def delete_outdated(self, now: datetime) -> int:
        """How many were deleted. Raises DatabaseDown."""
        num_deleted = 0
        before = kept_since(now, self._retention_days)
        while True:
            async with self._database.outdated_usage() as connection:
                deleted = await usage_rollup_rows.delete_outdated_buckets(
                    connection, before, _MAX_DELETED
                )
            num_deleted += deleted
            if deleted < _MAX_DELETED:
                return num_deleted
