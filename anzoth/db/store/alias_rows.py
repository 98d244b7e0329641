"""What does Anzoth read and write of the aliases of tenants?

Does not know: what an alias may hold.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class AliasRow:
    """One alias. What is JSON in the database is parsed here."""

    id: uuid.UUID
    name: str
    targets: Sequence[Mapping[str, Any]]
    system_prompt: str | None = field(repr=False)
    defaults: Mapping[str, Any] = field(repr=False)
    forced: Mapping[str, Any] = field(repr=False)
    sticky: bool
    created_at: datetime
    updated_at: datetime
    knowledge_bases: Sequence[str] = ()
    tools: Sequence[str] = ()


@dataclass(slots=True, frozen=True)
class NewAlias:
    """An alias to be stored, in the order of the statements' parameters."""

    id: uuid.UUID
    tenant_id: uuid.UUID
    name: str
    targets: Sequence[Mapping[str, Any]]
    system_prompt: str | None = field(repr=False)
    defaults: Mapping[str, Any] = field(repr=False)
    forced: Mapping[str, Any] = field(repr=False)
    sticky: bool
    knowledge_bases: Sequence[str] = ()
    tools: Sequence[str] = ()


async def list_aliases(connection: Connection, tenant_id: uuid.UUID) -> list[AliasRow]:
    rows = await connection.fetch(statements.load()["list_aliases"], tenant_id)
    return [_parsed(row) for row in rows]


async def try_insert_alias(connection: Connection, alias: NewAlias) -> AliasRow | None:
    """None when the tenant has an alias of this name."""
    row = await connection.fetchrow(statements.load()["insert_alias"], *_parameters(alias))
    return None if row is None else _parsed(row)


async def try_update_alias(connection: Connection, alias: NewAlias) -> AliasRow | None:
    """None when another alias has this name. Raises LookupError when there is none of this id."""
    try:
        async with connection.transaction():
            row = await connection.fetchrow(statements.load()["update_alias"], *_parameters(alias))
    except asyncpg.UniqueViolationError:
        return None
    if row is None:
        raise LookupError(alias.id)
    return _parsed(row)


async def delete_alias(connection: Connection, tenant_id: uuid.UUID, id: uuid.UUID) -> bool:
    """False when there is none of this id."""
    statement = statements.load()["delete_alias"]
    return await connection.fetchval(statement, id, tenant_id) is not None


async def delete_aliases(connection: Connection, tenant_id: uuid.UUID) -> None:
    await connection.execute(statements.load()["delete_aliases"], tenant_id)


_JSON = ("targets", "defaults", "forced")


def _parameters(alias: NewAlias) -> list[object]:
    values = {name: getattr(alias, name) for name in NewAlias.__slots__}
    values |= {name: orjson.dumps(values[name]).decode() for name in _JSON}
    return list(values.values())


def _parsed(row: Mapping[str, Any]) -> AliasRow:
    json = {name: orjson.loads(row[name]) for name in _JSON}
    return AliasRow(**{**row, **json})
