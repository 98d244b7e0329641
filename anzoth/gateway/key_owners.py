"""What becomes of keys when their owner goes?

They end. A person who leaves the tenant, or one of its projects, may have copied every key of
theirs there; and so may whoever used a service account that is deleted. Who loses a role loses the
keys that do what the new role does not allow. What must outlive a person belongs to a service
account.

Whoever calls holds the directory's lock (`tenant_rows.lock_directory`) from before it looked who
the owner is until the transaction ends. Whoever makes keys holds it, too, so none comes into being
meanwhile. Events are returned, to be recorded with that of the cause.

Does not know: who may remove whom.
"""

from __future__ import annotations

import uuid

from anzoth.db.pool import Connection
from anzoth.db.store import key_rows
from anzoth.db.store.key_rows import KeyOwner
from anzoth.gateway import key_events
from anzoth.gateway.accounts import roles
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.scopes import INFERENCE_SCOPES


async def end_keys(
    connection: Connection,
    actor: Actor,
    owner: KeyOwner,
    tenant_id: uuid.UUID | None,
    project_id: uuid.UUID | None = None,
) -> list[AuditEvent]:
    """All keys in a project, or (without one) in a tenant, or (without one) in every tenant that
    the connection sees. Gateways end their running requests."""
    ended = await key_rows.revoke_keys_of(connection, owner, tenant_id, project_id)
    return [key_events.deleted(key, actor) for key in ended]


async def end_keys_beyond(
    connection: Connection, actor: Actor, user_id: uuid.UUID, tenant_id: uuid.UUID, role: str
) -> list[AuditEvent]:
    """The user's keys in the tenant that may do what `role` may not."""
    allowed = {*INFERENCE_SCOPES, *roles.SCOPES_OF_ROLE[role]}
    ended = await key_rows.revoke_keys_of(connection, KeyOwner(user_id), tenant_id, beyond=allowed)
    return [key_events.deleted(key, actor) for key in ended]
