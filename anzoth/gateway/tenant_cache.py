"""What was read of a tenant a moment ago, and may that still be used?

What a request needs of its tenant is read together and kept for at most a second, which a
notification from the database ends early; while the database is away, what was known within the
last minute is used.

Does not know: what is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.pool import Connection, Database
from anzoth.errors import DatabaseUnavailable
from anzoth.gateway.principal import TenantHandle

_TTL_S = 1.0
_STALE_LIMIT_S = 60.0
_DATABASE_PAUSE_S = 0.5
_MAX_TENANTS = 10_000

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Subject(Generic[T]):
    """What is kept of each tenant."""

    channel: str
    """Notifications on it name the tenant of which it changed."""
    read: Callable[[Connection, UUID], Awaitable[T]]
    unavailable: str
    """For whoever asks while the database is away, and nothing recent is known."""


@dataclass(slots=True, frozen=True)
class _Entry(Generic[T]):
    value: T
    read_at_s: float


class TenantCache(Generic[T]):
    """One per gateway and subject. `run` must be running for changes to be heard of at once."""

    def __init__(
        self,
        database: Database,
        dsn: str,
        subject: Subject[T],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._subject = subject
        self._clock = clock
        self._known: OrderedDict[UUID, _Entry[T]] = OrderedDict()
        self._reading: weakref.WeakValueDictionary[UUID, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._generation = 0
        """Grows with each notification: what was read before one may be out of date."""
        self._database_away_until_s = float("-inf")

    async def of(self, tenant: TenantHandle) -> T:
        """Raises DatabaseUnavailable."""
        entry = self._known.get(tenant.id)
        if entry is None or self._clock() - entry.read_at_s >= _TTL_S:
            entry = await self._read(tenant)
        return entry.value

    async def run(self) -> None:
        """Hears of changes until cancelled."""
        await listen(self._dsn, self._subject.channel, self._changed, lambda: self._changed(None))

    async def _read(self, tenant: TenantHandle) -> _Entry[T]:
        """From the database: once, however many requests of this tenant are waiting."""
        lock = self._reading.setdefault(tenant.id, asyncio.Lock())
        async with lock:
            entry = self._known.get(tenant.id)
            if entry is not None and self._clock() - entry.read_at_s < _TTL_S:
                return entry
            if self._clock() < self._database_away_until_s:
                return self._stale(tenant)
            generation, read_at_s = self._generation, self._clock()
            try:
                async with self._database.tenant(tenant) as connection:
                    value = await self._subject.read(connection, tenant.id)
            except DatabaseDown as error:
                _log.warning("%s cannot be read: %s", self._subject.channel, error)
                self._database_away_until_s = self._clock() + _DATABASE_PAUSE_S
                return self._stale(tenant)
            entry = _Entry(value, read_at_s)
            if generation == self._generation:
                self._known[tenant.id] = entry
                self._known.move_to_end(tenant.id)
                if len(self._known) > _MAX_TENANTS:
                    self._known.popitem(last=False)
            return entry

    def _stale(self, tenant: TenantHandle) -> _Entry[T]:
        entry = self._known.get(tenant.id)
        if entry is None or self._clock() - entry.read_at_s > _STALE_LIMIT_S:
            raise DatabaseUnavailable(self._subject.unavailable)
        return entry

    def _changed(self, tenant_id: str | None) -> None:
        """Called for each notification; None: some may have been missed, the second will pass."""
        self._generation += 1
        if tenant_id is not None:
            self._known.pop(UUID(tenant_id), None)
