"""How does an operator try out a policy before it refuses anyone?

`anzoth shadow` stores patterns of rules for a tenant or one of its keys; what they match is then
watched and not enforced (see `shadow`). Only the operator may: the database grants it to no other.

Does not know: where a rule is checked.
"""

from __future__ import annotations

from collections.abc import Sequence

from anzoth.db import pool
from anzoth.db.store import shadow_rows, tenant_rows
from anzoth.gateway import audit, rules
from anzoth.gateway.audit import AuditEvent
from anzoth.gateway.directory import DirectoryError


async def set_rules(dsn: str, tenant: str, key: str | None, patterns: Sequence[str]) -> None:
    """From now on exactly these are watched. `key`: its id or kid; None: for all of the tenant's.

    Raises DirectoryError and DatabaseError.
    """
    try:
        rules.check_patterns(patterns)
    except ValueError as error:
        raise DirectoryError(str(error)) from None
    async with pool.operator(dsn) as connection:
        found = await tenant_rows.find_tenant(connection, tenant)
        if key is None:
            is_set = await shadow_rows.set_tenant_rules(connection, tenant, patterns)
        else:
            is_set = await shadow_rows.set_key_rules(connection, tenant, key, patterns)
        if is_set and found is not None:
            event = AuditEvent(
                "policy.updated",
                audit.operator(),
                found.id,
                target={"id": found.id, "key": key},
                details={"shadow_rules": list(patterns)},
            )
            await audit.record(connection, event)
    if not is_set:
        what = "tenant named" if key is None else "such key of a tenant named"
        raise DirectoryError(f"there is no {what} {tenant!r}")


async def list_rules(dsn: str, tenant: str | None) -> list[shadow_rows.ShadowListing]:
    """Raises DatabaseError."""
    async with pool.operator(dsn) as connection:
        return await shadow_rows.list_rules(connection, tenant)
