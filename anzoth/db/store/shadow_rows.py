"""What does Anzoth read and write of the rules that are only watched?

Does not know: what a rule is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anzoth.db import statements
from anzoth.db.pool import Connection


@dataclass(slots=True, frozen=True)
class ShadowListing:
    """Rules that are watched for a tenant, or for one of its keys."""

    tenant: str
    kid: str | None
    """None: for the whole tenant."""
    key_name: str | None
    rules: list[str]


async def set_tenant_rules(connection: Connection, tenant: str, rules: Sequence[str]) -> bool:
    """False when there is no living tenant of this name."""
    statement = statements.load()["set_tenant_shadow_rules"]
    return await connection.fetchval(statement, tenant, rules) is not None


async def set_key_rules(
    connection: Connection, tenant: str, key: str, rules: Sequence[str]
) -> bool:
    """`key`: its id or kid. False when the tenant has no such key."""
    statement = statements.load()["set_key_shadow_rules"]
    return await connection.fetchval(statement, tenant, key, rules) is not None


async def list_rules(connection: Connection, tenant: str | None) -> list[ShadowListing]:
    rows = await connection.fetch(statements.load()["list_shadow_rules"], tenant)
    return [ShadowListing(**row) for row in rows]
