"""What do the names mean that a tenant has given to models?

An alias leads to one or more targets, each a served model or a model of a backend, and may bring a
system prompt and parameters. To whoever asks it is a model: listed, granted and counted under its
own name. An alias leads to models only, never to another alias.

A tenant's aliases are read together and kept for a second (see `tenant_cache`).

Does not know: how a target is chosen (see `routes_of_models`), or what a parameter means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from anzoth.db.pool import Connection, Database
from anzoth.db.store import alias_rows
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_cache import Subject, TenantCache

CHANNEL = "anzoth_aliases"


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
    tools: tuple[str, ...] = ()
    """Grants (`label` or `label__tool`): what it offers to every chat, and beyond which none of its
    chats can go. Empty: it says nothing about tools."""


NONE: Mapping[str, Alias] = {}


class Aliases:
    """One per gateway. `run` must be running for changes to be heard of at once."""

    def __init__(
        self, database: Database, dsn: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cache = TenantCache(database, dsn, _ALIASES, clock=clock)

    async def of(self, tenant: TenantHandle) -> Mapping[str, Alias]:
        """By name. Raises DatabaseUnavailable."""
        return await self._cache.of(tenant)

    async def run(self) -> None:
        """Hears of changes until cancelled."""
        await self._cache.run()


async def _read(connection: Connection, tenant_id: UUID) -> Mapping[str, Alias]:
    rows = await alias_rows.list_aliases(connection, tenant_id)
    return {row.name: alias_of(row) for row in rows} or NONE


_ALIASES = Subject(
    CHANNEL,
    _read,
    "What the model's name means cannot be read because the database is unavailable. Please retry.",
)


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
        tools=tuple(row.tools),
    )
