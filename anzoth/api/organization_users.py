"""/v1/organization/users and /v1/organization/projects/{id}/users: who belongs to the tenant?

OpenAI's shapes. Its two roles are `owner` and `reader`; here there are owner, admin, member and
viewer, and `reader` is taken for member. Removing a user ends what they are here; the account
stays.

Does not know: who may change whom (see `gateway.accounts.members`).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson

from anzoth.api.auth import NO_STORE, client_of, email, identifier, seconds
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, one_of, parse, string
from anzoth.api.pages import page, page_request
from anzoth.api.query import Query
from anzoth.errors import InvalidValue, MissingParameter, NotFound
from anzoth.gateway import audit
from anzoth.gateway.accounts import members, roles
from anzoth.gateway.accounts.members import MemberRow
from anzoth.gateway.audit import Actor
from anzoth.http.messages import Response

PROJECT_ROLE = one_of(*roles.PROJECT_ROLES)


def role(value: Any, param: str) -> str:
    return members.parse_role(string(20)(value, param), param)


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    asked, wanted = page_request(query), query.texts("emails")
    query.done()
    rows = await call.services.accounts.members.list_members(
        call.principal,
        emails=None if wanted is None else [email(text, "emails") for text in wanted],
        after=asked.after,
        limit=asked.wanted,
    )
    return answer(call, page(asked, rows, _user))


async def retrieve(call: Call) -> Answer:
    found = await call.services.accounts.members.find(call.principal, path_id(call, "user_id"))
    return answer(call, _user(found))


async def modify(call: Call) -> Answer:
    given = parse((Field("role", role, required=True),), call.body)
    changed = await call.services.accounts.members.set_role(
        call.principal, actor(call), path_id(call, "user_id"), given["role"]
    )
    return answer(call, _user(changed))


async def delete(call: Call) -> Answer:
    removed = await call.services.accounts.members.remove(
        call.principal, actor(call), path_id(call, "user_id")
    )
    body = {"object": "organization.user.deleted", "id": str(removed.id), "deleted": True}
    return answer(call, body)


# --- of a project -----------------------------------------------------------------------------


async def list_of_project(call: Call) -> Answer:
    query = Query(call.request.query)
    asked = page_request(query)
    query.done()
    rows = await call.services.accounts.members.list_of_project(
        call.principal, path_id(call, "project_id"), after=asked.after, limit=asked.wanted
    )
    return answer(call, page(asked, rows, _project_user))


async def retrieve_in_project(call: Call) -> Answer:
    found = await call.services.accounts.members.find_in_project(
        call.principal, path_id(call, "project_id"), path_id(call, "user_id")
    )
    return answer(call, _project_user(found))


async def add_to_project(call: Call) -> Answer:
    """By `user_id` or by `email`."""
    given = parse(
        (
            Field("role", PROJECT_ROLE, required=True),
            Field("user_id", identifier),
            Field("email", email),
        ),
        call.body,
    )
    added = await call.services.accounts.members.add_to_project(
        call.principal,
        actor(call),
        path_id(call, "project_id"),
        await _named(call, given),
        given["role"],
    )
    return answer(call, _project_user(added))


async def modify_in_project(call: Call) -> Answer:
    given = parse((Field("role", PROJECT_ROLE, required=True),), call.body)
    changed = await call.services.accounts.members.set_project_role(
        call.principal,
        actor(call),
        path_id(call, "project_id"),
        path_id(call, "user_id"),
        given["role"],
    )
    return answer(call, _project_user(changed))


async def delete_from_project(call: Call) -> Answer:
    user_id = path_id(call, "user_id")
    await call.services.accounts.members.remove_from_project(
        call.principal, actor(call), path_id(call, "project_id"), user_id
    )
    body = {"object": "organization.project.user.deleted", "id": str(user_id), "deleted": True}
    return answer(call, body)


async def _named(call: Call, given: dict[str, Any]) -> UUID:
    """Raises MissingParameter, InvalidValue and NotFound."""
    if given["user_id"] is not None and given["email"] is not None:
        raise InvalidValue("Give 'user_id' or 'email', not both.", param="email")
    if given["user_id"] is not None:
        return given["user_id"]
    if given["email"] is None:
        raise MissingParameter("Missing required parameter: 'user_id'.", param="user_id")
    for member in await call.services.accounts.members.list_members(
        call.principal, emails=[given["email"]], after=None, limit=1
    ):
        return member.id
    raise NotFound("There is no such user.")


# --- answers ----------------------------------------------------------------------------------


def path_id(call: Call, name: str) -> UUID:
    """What is no id names nothing. Raises NotFound."""
    try:
        return UUID(call.request.path_params[name])
    except ValueError:
        raise NotFound(f"There is no such {name.removesuffix('_id')}.") from None


def actor(call: Call) -> Actor:
    return audit.actor_of(call.principal, client_of(call).peer)


def answer(call: Call, body: dict[str, Any]) -> Answer:
    return Response(200, orjson.dumps(body), headers=[*call.headers, NO_STORE])


def _user(member: MemberRow) -> dict[str, Any]:
    return {
        "object": "organization.user",
        "id": str(member.id),
        "name": member.name,
        "email": member.email,
        "role": member.role,
        "added_at": seconds(member.added_at),
        "created": seconds(member.created_at),
        "is_service_account": False,
        "disabled": member.disabled_at is not None,
    }


def _project_user(member: MemberRow) -> dict[str, Any]:
    return {
        "object": "organization.project.user",
        "id": str(member.id),
        "name": member.name,
        "email": member.email,
        "role": member.role,
        "added_at": seconds(member.added_at),
    }
