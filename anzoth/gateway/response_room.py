"""Which responses and conversations leave, because they have expired or newer ones need the room?

Both share a tenant's room. The oldest leave it: a response by its age, a conversation by when it
was last changed.

Does not know: what is in any of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from anzoth.db.pool import Connection, Database, act_in_tenant
from anzoth.db.store import response_rows
from anzoth.response_config import ResponsesConfig

SWEEP_S = 60.0
_MAX_ROWS = 500
"""Removed in one transaction."""
_ROOM_TO_MAKE = 16
"""One of so many parts of a tenant's room is made free when it is full: not one response's for each
that comes."""


async def make_room(connection: Connection, tenant_id: UUID, config: ResponsesConfig) -> None:
    """After something was added, in its transaction."""
    room = config.tenant_mib << 20
    excess = await response_rows.num_bytes(connection, tenant_id) - room
    if excess > 0:
        excess += room // _ROOM_TO_MAKE
        await response_rows.forget_oldest(connection, tenant_id, excess)


async def remove_outdated(
    database: Database,
    find: Callable[[Connection, int], Awaitable[dict[UUID, list[str]]]],
    forget: Callable[[Connection, UUID, Sequence[str]], Awaitable[None]],
) -> None:
    """All that there are now, of all tenants. `find`: ids of some, by their tenant. Raises
    DatabaseDown."""
    num_found = _MAX_ROWS
    while num_found == _MAX_ROWS:
        async with database.outdated_responses() as connection:
            outdated = await find(connection, _MAX_ROWS)
        num_found = sum(map(len, outdated.values()))
        for tenant_id, ids in outdated.items():
            async with database.outdated_responses() as connection:
                await act_in_tenant(connection, tenant_id)
                await forget(connection, tenant_id, ids)
