"""What did a day or a month see before this gateway began to count it?

Limits are counted in memory. For a minute that is enough; the count of a quota must survive a
restart. So when a period is counted for the first time, the ledger is asked what it has of that
period already, up to that moment: whole days from its sums, the last one from its rows. What begins
later is counted here. The rows that an earlier gateway left in the journal are waited for, so those
of requests that it was killed with are in the answer too.

A request waits for the answer (`known`), once per rule and gateway, but not for long: while the
database is away the count is what this process saw. Other gateways on the same database are in the
answer with what they used before it; what they count from then on is added by `shared_counts`.

Does not know: what is done with a count (see `limits`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import limit_rows
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.gateway.limit_rules import QUOTAS, LimitRule
from anzoth.gateway.limits import Limiter
from anzoth.gateway.principal import Principal, TenantHandle

_RETRY_S = 1.0
_POLL_S = 0.02
_PATIENCE_S = 1.0
"""For which a request waits: an answer takes milliseconds where the database is well."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Count = tuple[UUID, str | None, str]
"""Whose it is, of which model, and which quota."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class _Question:
    rule: LimitRule
    tenant: TenantHandle
    quota: str
    begin_ns: int
    before: datetime
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def count(self) -> _Count:
        return self.rule.subject, self.rule.model, self.quota


class PastUsage:
    """One per gateway. `run` must be running for counts to be completed."""

    def __init__(
        self, database: Database, limiter: Limiter, is_caught_up: Callable[[], bool] = lambda: True
    ) -> None:
        """`is_caught_up`: whether what earlier gateways left in the journal is in the ledger."""
        self._database = database
        self._limiter = limiter
        self._is_caught_up = is_caught_up
        self._questions: asyncio.Queue[_Question] = asyncio.Queue()
        self._open: dict[_Count, _Question] = {}
        limiter.on_new_count = self._ask

    async def known(self, principal: Principal) -> None:
        """Returns when its quotas are counted, which is at once but for the first time; after
        `_PATIENCE_S` all the same."""
        self._limiter.ask_past(principal)
        if not self._open:
            return
        counts = [(rule.subject, rule.model, q) for rule in principal.limits for q in QUOTAS]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                for question in [self._open[count] for count in counts if count in self._open]:
                    await question.answered.wait()
        except TimeoutError:
            _log.warning("a request did not wait for what was used before")

    async def run(self) -> None:
        """Answers for ever, one question after the other."""
        while not self._is_caught_up():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(_POLL_S)
        while True:
            question = await self._questions.get()
            while True:
                try:
                    used = await self._read(question)
                    break
                except DatabaseDown as error:
                    _log.warning("what was used before cannot be read: %s", error)
                    await asyncio.sleep(_RETRY_S)
            self._limiter.add_past(question.rule, question.quota, question.begin_ns, used)
            del self._open[question.count]
            question.answered.set()

    def _ask(self, rule: LimitRule, tenant: TenantHandle, quota: str, begin_ns: int) -> None:
        """Bounded by the quotas that there are: each is asked for once."""
        question = _Question(rule, tenant, quota, begin_ns, datetime.now(UTC))
        if question.count not in self._open:
            self._open[question.count] = question
            self._questions.put_nowait(question)

    async def _read(self, question: _Question) -> int:
        rule = question.rule
        subject = LimitSubject(
            question.tenant.id,
            rule.subject if rule.level == "project" else None,
            rule.subject if rule.level == "key" else None,
        )
        begin = _EPOCH + timedelta(microseconds=question.begin_ns // 1000)
        async with self._database.tenant(question.tenant) as connection:
            used = await limit_rows.read_used(
                connection, subject, rule.model, begin, question.before
            )
        return used.tokens if QUOTAS[question.quota].of == "tokens" else used.cost
