"""What do the names mean that a tenant has given to models?

An alias leads to one or more targets, each a served model or a model of a backend, and may bring a
system prompt and parameters. To whoever asks it is a model: listed, granted and counted under its
own name. An alias leads to models only, never to another alias.

A tenant's aliases are read together and kept for at most a second, which a notification from the
database ends early; while the database is away, what was known within the last minute is used.

Does not know: how a target is chosen (see `routes_of_models`), or what a parameter means.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.pool import Database
from anzoth.db.store import alias_rows
from anzoth.errors import DatabaseUnavailable
from anzoth.gateway.principal import TenantHandle

CHANNEL = "anzoth_aliases"
_TTL_S = 1.0
_STALE_LIMIT_S = 60.0
_DATABASE_PAUSE_S = 0.5
_MAX_TENANTS = 10_000

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Target:
    """A model that an alias may lead to."""

    model: str
    backend: str | None = None
    """None: it is served here."""
    weight: int = 1
    """Its share of the requests among the others'. 0: only if those with a weight fail."""

    @property
    def name(self) -> str:
        """How usage rows, metrics and grants name it."""
        return self.model if self.backend is None else f"{self.backend}:{self.model}"


@dataclass(slots=True, frozen=True)
class Alias:
    """One name of one tenant."""

    id: UUID
    name: str
    targets: tuple[Target, ...]
    created_at: datetime
    system_prompt: str | None = field(default=None, repr=False)
    defaults: Mapping[str, Any] = field(default_factory=dict, repr=False)  # JSON, checked
    """Parameters where a request says nothing."""
    forced: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Parameters whatever a request says."""
    sticky: bool = False
    """Requests that begin alike go to the same target, whose prefix cache knows them."""
    knowledge_bases: tuple[str, ...] = ()
    """Vector stores that its chats are answered from."""


NONE: Mapping[str, Alias] = {}


@dataclass(slots=True, frozen=True)
class _Entry:
    aliases: Mapping[str, Alias]
    read_at_s: float


class Aliases:
    """One per gateway. `run` must be running for changes to be heard of at once."""

    def __init__(
        self, database: Database, dsn: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._clock = clock
        self._known: OrderedDict[UUID, _Entry] = OrderedDict()
        self._reading: weakref.WeakValueDictionary[UUID, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._generation = 0
        """Grows with each notification: what was read before one may be out of date."""
        self._database_away_until_s = float("-inf")

    async def of(self, tenant: TenantHandle) -> Mapping[str, Alias]:
        """By name. Raises DatabaseUnavailable."""
        entry = self._known.get(tenant.id)
        if entry is None or self._clock() - entry.read_at_s >= _TTL_S:
            entry = await self._read(tenant)
        return entry.aliases

    async def run(self) -> None:
        """Hears of changes until cancelled."""
        await listen(self._dsn, CHANNEL, self._changed, lambda: self._changed(None))

    async def _read(self, tenant: TenantHandle) -> _Entry:
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
                    rows = await alias_rows.list_aliases(connection, tenant.id)
            except DatabaseDown as error:
                _log.warning("aliases cannot be read: %s", error)
                self._database_away_until_s = self._clock() + _DATABASE_PAUSE_S
                return self._stale(tenant)
            entry = _Entry({row.name: alias_of(row) for row in rows} or NONE, read_at_s)
            if generation == self._generation:
                self._known[tenant.id] = entry
                self._known.move_to_end(tenant.id)
                if len(self._known) > _MAX_TENANTS:
                    self._known.popitem(last=False)
            return entry

    def _stale(self, tenant: TenantHandle) -> _Entry:
        entry = self._known.get(tenant.id)
        if entry is None or self._clock() - entry.read_at_s > _STALE_LIMIT_S:
            raise DatabaseUnavailable(
                "What the model's name means cannot be read because the database is unavailable. "
                "Please retry."
            )
        return entry

    def _changed(self, tenant_id: str | None) -> None:
        """Called for each notification; None: some may have been missed, the second will pass."""
        self._generation += 1
        if tenant_id is not None:
            self._known.pop(UUID(tenant_id), None)


def alias_of(row: alias_rows.AliasRow) -> Alias:
    return Alias(
        id=row.id,
        name=row.name,
        targets=tuple(Target(**target) for target in row.targets),
        created_at=row.created_at,
        system_prompt=row.system_prompt,
        defaults=row.defaults,
        forced=row.forced,
        sticky=row.sticky,
        knowledge_bases=tuple(row.knowledge_bases),
    )
