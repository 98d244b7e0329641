"""What did a day see before this gateway began to count it?

Limits are counted in memory. For a minute that is enough; a day's count must survive a restart. So
when a day is counted for the first time, the ledger is asked what it has of that day already, and
the answer is added when it comes. Until then (milliseconds, or as long as the database is away) the
count is what this process saw. Requests that were still running when their gateway was killed, and
other gateways on the same database, are not in it.

Does not know: what is done with a count (see `limits`).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import limit_rows
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.gateway.limit_rules import LimitRule
from anzoth.gateway.limits import Limiter
from anzoth.gateway.principal import TenantHandle

_RETRY_S = 1.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class _Question:
    rule: LimitRule
    tenant: TenantHandle
    day: int
    before: datetime


class DayUsage:
    """One per gateway. `run` must be running for counts to be completed."""

    def __init__(self, database: Database, limiter: Limiter) -> None:
        self._database = database
        self._limiter = limiter
        self._questions: asyncio.Queue[_Question] = asyncio.Queue()
        limiter.on_new_day_count = self._ask

    async def run(self) -> None:
        """Answers for ever, one question after the other."""
        while True:
            question = await self._questions.get()
            while True:
                try:
                    tokens = await self._read(question)
                    break
                except DatabaseDown as error:
                    _log.warning("a day's earlier usage cannot be read: %s", error)
                    await asyncio.sleep(_RETRY_S)
            self._limiter.add_to_day(question.rule, question.day, tokens)

    def _ask(self, rule: LimitRule, tenant: TenantHandle, day: int) -> None:
        """Bounded by the rules that there are: each is asked for once."""
        self._questions.put_nowait(_Question(rule, tenant, day, datetime.now(UTC)))

    async def _read(self, question: _Question) -> int:
        rule = question.rule
        subject = LimitSubject(
            question.tenant.id,
            rule.subject if rule.level == "project" else None,
            rule.subject if rule.level == "key" else None,
        )
        midnight = _EPOCH + timedelta(days=question.day)
        async with self._database.tenant(question.tenant) as connection:
            return await limit_rows.count_tokens(
                connection, subject, rule.model, midnight, question.before
            )
