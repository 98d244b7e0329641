"""Is this a vector store of the project, and may it be used?

Does not know: what is done with it.
"""

from __future__ import annotations

from uuid import UUID

from anzoth.db.pool import Connection
from anzoth.db.store import vector_store_rows
from anzoth.errors import InvalidValue, VectorStoreNotFound
from anzoth.gateway.files import FileOwner


async def require_store(
    connection: Connection,
    owner: FileOwner,
    id: str,
    *,
    will_change: bool = False,
    may_be_expired: bool = False,
) -> None:
    """`will_change`: until the end of the transaction nobody else changes the store or what is in
    it. Raises VectorStoreNotFound, and InvalidValue for one that has expired."""
    is_expired = await vector_store_rows.is_expired(
        connection, owner.tenant.id, owner.project_id, id, will_change=will_change
    )
    if is_expired is None:
        raise VectorStoreNotFound()
    if is_expired and not may_be_expired:
        raise expired_store()


async def touch(connection: Connection, tenant_id: UUID, id: str) -> None:
    """Says that the store is used: one that expires does so later. Never waits for anybody; writes
    once a minute at most."""
    await vector_store_rows.touch_store(connection, tenant_id, id)


def expired_store() -> InvalidValue:
    return InvalidValue(
        "This vector store has expired: what was in it is deleted. Create another one.",
        param="vector_store_id",
    )
