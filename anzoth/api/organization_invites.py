"""/v1/organization/invites: who was asked to join the tenant?

OpenAI's shapes, and one thing more: the answer that makes an invitation holds its `token`, this
once, because the server sends no mail. Whoever invites hands it over.

Does not know: who may invite, or how an invitation is accepted (see `gateway.accounts`).
"""

from __future__ import annotations

from typing import Any

from anzoth.api.auth import email, identifier, seconds
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, array, nested, parse
from anzoth.api.organization_users import PROJECT_ROLE, actor, answer, path_id, role
from anzoth.api.pages import page, page_request
from anzoth.api.query import Query
from anzoth.gateway.accounts.members import InvitationRow

_MAX_PROJECTS = 100
_PROJECT = nested(
    Field("id", identifier, required=True), Field("role", PROJECT_ROLE, required=True)
)
_FIELDS = (
    Field("email", email, required=True),
    Field("role", role, required=True),
    Field("projects", array(_PROJECT, _MAX_PROJECTS)),
)


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    asked = page_request(query)
    query.done()
    rows = await call.services.accounts.members.list_invitations(
        call.principal, after=asked.after, limit=asked.wanted
    )
    return answer(call, page(asked, rows, lambda row: _invite(call, row)))


async def create(call: Call) -> Answer:
    """Without `projects`: into the default one, as at OpenAI's."""
    given = parse(_FIELDS, call.body)
    projects = given["projects"]
    made = await call.services.accounts.members.invite(
        call.principal,
        actor(call),
        given["email"],
        given["role"],
        None if projects is None else {item["id"]: item["role"] for item in projects},
    )
    return answer(call, {**_invite(call, made.row), "token": made.token})


async def retrieve(call: Call) -> Answer:
    found = await call.services.accounts.members.find_invitation(
        call.principal, path_id(call, "invite_id")
    )
    return answer(call, _invite(call, found))


async def delete(call: Call) -> Answer:
    invite_id = path_id(call, "invite_id")
    await call.services.accounts.members.delete_invitation(call.principal, actor(call), invite_id)
    body = {"object": "organization.invite.deleted", "id": str(invite_id), "deleted": True}
    return answer(call, body)


def _invite(call: Call, invitation: InvitationRow) -> dict[str, Any]:
    made_at = seconds(invitation.created_at)
    return {
        "object": "organization.invite",
        "id": str(invitation.id),
        "email": invitation.email,
        "role": invitation.role,
        "status": call.services.accounts.members.status(invitation),
        "created_at": made_at,
        "invited_at": made_at,  # its name in the older specification
        "expires_at": seconds(invitation.expires_at),
        "accepted_at": seconds(invitation.accepted_at),
        "projects": [
            {"id": str(project), "role": role} for project, role in invitation.projects.items()
        ],
    }
