"""How are the limits of tenants, projects and keys changed?

A change names single limits; the others stay. Gateways see it within a second.

Does not know: how limits are enforced (see `limits`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from anzoth.db.pool import Connection
from anzoth.db.store import limit_rows
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.limit_rules import BUDGET_NAMES, LIMIT_NAMES, QUOTAS, Limits, shown

LimitChange = Mapping[str, int | None]
"""Some fields of Limits; None: no limit from now on."""
_LARGEST = dict.fromkeys(LIMIT_NAMES, 2**31 - 1) | dict.fromkeys(QUOTAS, 2**63 - 1)


def check(limits: Limits) -> None:
    """Raises DirectoryError for a number that cannot be a limit."""
    for name in LIMIT_NAMES:
        limit = getattr(limits, name)
        if limit is not None and not 1 <= limit <= _LARGEST[name]:
            expected = "more than 0" if name in BUDGET_NAMES else "a whole number from 1"
            raise DirectoryError(f"{name} is {shown({name: limit})[name]}; expected {expected}")


async def replace(
    connection: Connection, subject: LimitSubject, model: str | None, limits: Limits
) -> None:
    """`model` None: the limits for all models together. Whoever calls has checked them."""
    values = [getattr(limits, name) for name in LIMIT_NAMES]
    await limit_rows.replace_limits(connection, subject, model, values)


async def change(
    connection: Connection, subject: LimitSubject, model: str | None, changes: LimitChange
) -> Limits:
    """The limits as they are then. Raises DirectoryError."""
    before = Limits()
    for row in await limit_rows.find_limits(connection, subject):
        if row.model == model:
            before = Limits(**{name: getattr(row, name) for name in LIMIT_NAMES})
    after = dataclasses.replace(before, **changes)
    check(after)
    if changes:
        await replace(connection, subject, model, after)
    return after
