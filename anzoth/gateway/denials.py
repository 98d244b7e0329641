"""Which requests were refused, and by which rule?

`note` counts and returns at once; a writer takes the counts to the audit log about once a second,
as one `denial` event for each who, what and why. What goes on being refused is written at once and
then summed up a minute at a time, so that a client which tries again in a loop fills no log. Counts
are bounded: what finds them full is counted as `overflow`.

What it does not survive is the death of this process: a second of denials, or the minute that was
being summed up.

Does not know: the rules.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.errors import AnzothError
from anzoth.gateway import audit
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.principal import Principal, TenantHandle

DENIALS = frozenset((401, 403, 429))
"""Status codes of requests that a rule refused."""
_FLUSH_INTERVAL_S = 1.0
_SUM_UP_S = 60.0
_CLOSE_TIMEOUT_S = 2.0
_OVERFLOW = "overflow"

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class _Group:
    """What is counted together."""

    tenant: TenantHandle | None
    """None: nobody was authenticated."""
    project_id: uuid.UUID | None
    key_id: uuid.UUID | None
    rule: str
    status: int | None
    endpoint: str | None
    user_id: uuid.UUID | None = None


@dataclass(slots=True)
class _Count:
    """How often, and from where the last time."""

    count: int = 0
    ip: str | None = None


class Denials:
    """One per gateway. `run` must be running; after it, `close`."""

    def __init__(
        self,
        database: Database,
        *,
        max_groups: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._max_groups = max_groups
        self._clock = clock
        self._counts: dict[_Group, _Count] = {}
        self._written_at_s: dict[_Group, float] = {}
        """Of the last minute."""
        self._arrived = asyncio.Event()

    def note(
        self, error: AnzothError, principal: Principal | None, endpoint: str, ip: str | None
    ) -> None:
        """Counts a refusal. Never blocks and never raises."""
        rule = error.rule
        if principal is None:
            group = _Group(None, None, None, rule, error.status, endpoint)
        else:
            group = _Group(
                principal.tenant,
                principal.project_id,
                principal.key_id,
                rule,
                error.status,
                endpoint,
                principal.user_id,
            )
        if group not in self._counts and len(self._counts) >= self._max_groups:
            # As many of these as there are tenants with working keys, and no more.
            group = _Group(group.tenant, None, None, _OVERFLOW, None, None)
        count = self._counts.setdefault(group, _Count())
        count.count += 1
        count.ip = ip
        self._arrived.set()

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            await self.flush()
            if not self._counts:
                self._arrived.clear()

    async def close(self) -> None:
        """Writes what is left, if the database takes it quickly. What is lost is logged."""
        self._written_at_s.clear()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self.flush()
        except TimeoutError:
            pass
        if lost := sum(count.count for count in self._counts.values()):
            _log.error("%d denials are not in the audit log", lost)

    async def flush(self) -> None:
        """Writes what is due. What cannot be written stays, and is tried again."""
        now_s = self._clock()
        recent = {g: at_s for g, at_s in self._written_at_s.items() if now_s - at_s < _SUM_UP_S}
        self._written_at_s = recent
        by_tenant: dict[TenantHandle | None, list[_Group]] = {}
        for group in self._counts:
            if group not in recent:
                by_tenant.setdefault(group.tenant, []).append(group)
        for tenant, groups in by_tenant.items():
            taken = {group: self._counts.pop(group) for group in groups}
            try:
                async with self._database.tenant_or_nobody(tenant) as connection:
                    await audit.record(connection, *(_event(g, c) for g, c in taken.items()))
            except (DatabaseDown, asyncpg.PostgresError) as error:
                _log.warning("denials wait for the database: %s", error)
                self._put_back(taken)
                return
            except BaseException:
                self._put_back(taken)
                raise
            recent.update(dict.fromkeys(groups, now_s))

    def _put_back(self, taken: dict[_Group, _Count]) -> None:
        for group, count in taken.items():
            newer = self._counts.get(group)
            if newer is not None:
                count = _Count(count.count + newer.count, newer.ip)
            self._counts[group] = count


def _event(group: _Group, count: _Count) -> AuditEvent:
    actor = audit.SYSTEM if group.key_id is None else Actor("api_key", group.key_id, count.ip)
    if group.user_id is not None:
        actor = Actor("user", group.user_id, count.ip)
    if group.tenant is None:
        actor = Actor("system", None, count.ip)
    return AuditEvent(
        "denial",
        actor,
        None if group.tenant is None else group.tenant.id,
        group.project_id,
        target={} if group.endpoint is None else {"endpoint": group.endpoint},
        details={"rule": group.rule, "status": group.status, "count": count.count},
    )
