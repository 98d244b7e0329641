"""Which audit events do accounts make?

A sign-in is about the tenant that the session is about; what changes an account as a whole is about
the installation too. An event names users by id, and an invited address where nobody has an account
yet.

Does not know: how an event is chained (see `gateway.audit`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from anzoth.db.store.invitation_rows import InvitationRow
from anzoth.gateway.accounts.sessions import Client, Session, StartedSession
from anzoth.gateway.audit import Actor, AuditEvent


def by_user(user_id: uuid.UUID, client: Client) -> Actor:
    return Actor("user", user_id, client.peer)


def nobody(client: Client) -> Actor:
    """Who has not proved who they are."""
    return Actor("user", None, client.peer)


# --- signing in and out -----------------------------------------------------------------------


def login_succeeded(started: StartedSession, method: str, client: Client) -> AuditEvent:
    return AuditEvent(
        "login.succeeded",
        by_user(started.user_id, client),
        started.tenant_id,
        target={"id": started.user_id},
        details={"session_id": started.id, "method": method},
    )


def login_failed(
    user_id: uuid.UUID | None, tenant_id: uuid.UUID | None, reason: str, client: Client
) -> AuditEvent:
    """`user_id`: who was named, if there is such a user."""
    return AuditEvent(
        "login.failed",
        nobody(client),
        tenant_id,
        target={"id": user_id},
        details={"reason": reason},
    )


def logout_succeeded(session: Session, ended: uuid.UUID, client: Client) -> AuditEvent:
    return AuditEvent(
        "logout.succeeded",
        by_user(session.user.id, client),
        session.row.tenant_id,
        target={"id": session.user.id},
        details={"session_id": ended},
    )


def account_changed(type: str, session: Session, client: Client) -> AuditEvent:
    """The user's own doing: password.changed, second_factor.enabled, second_factor.disabled."""
    return AuditEvent(
        type,
        by_user(session.user.id, client),
        session.row.tenant_id,
        target={"id": session.user.id},
    )


# --- members ----------------------------------------------------------------------------------


def user_added(
    actor: Actor, tenant_id: uuid.UUID | None, user_id: uuid.UUID, role: str
) -> AuditEvent:
    return AuditEvent(
        "user.added", actor, tenant_id, target={"id": user_id}, details={"role": role}
    )


def user_updated(
    actor: Actor, tenant_ids: Iterable[uuid.UUID | None], user_id: uuid.UUID, **changes: object
) -> list[AuditEvent]:
    return [
        AuditEvent("user.updated", actor, tenant_id, target={"id": user_id}, details=changes)
        for tenant_id in tenant_ids
    ]


def user_deleted(actor: Actor, tenant_id: uuid.UUID, user_id: uuid.UUID) -> AuditEvent:
    return AuditEvent("user.deleted", actor, tenant_id, target={"id": user_id})


def project_role(
    actor: Actor,
    tenant_id: uuid.UUID,
    project_id: uuid.UUID,
    user_id: uuid.UUID,
    role: str | None,
) -> AuditEvent:
    """None: not in the project any more."""
    type = "role.assignment.deleted" if role is None else "role.assignment.created"
    details = {} if role is None else {"role": role}
    return AuditEvent(type, actor, tenant_id, project_id, {"id": user_id}, details)


# --- invitations ------------------------------------------------------------------------------


def invite_sent(actor: Actor, invitation: InvitationRow) -> AuditEvent:
    return AuditEvent(
        "invite.sent",
        actor,
        invitation.tenant_id,
        target={"id": invitation.id},
        details={"email": invitation.email, "role": invitation.role},
    )


def invite_deleted(actor: Actor, tenant_id: uuid.UUID, id: uuid.UUID) -> AuditEvent:
    return AuditEvent("invite.deleted", actor, tenant_id, target={"id": id})


def joined(user_id: uuid.UUID, invitation: InvitationRow, client: Client) -> list[AuditEvent]:
    actor = by_user(user_id, client)
    return [
        AuditEvent("invite.accepted", actor, invitation.tenant_id, target={"id": invitation.id}),
        user_added(actor, invitation.tenant_id, user_id, invitation.role),
    ]
