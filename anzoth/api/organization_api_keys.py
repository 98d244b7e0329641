"""/v1/organization/projects/{id}/api_keys and /v1/organization/admin_api_keys.

OpenAI's shapes, with what a key may do here beside them. Extensions: `POST` makes a key of a
project and shows its `value` this once; so does `…/rotate`, under the same id. Admin keys expire,
whoever makes them.

Does not know: what a caller may do with keys (see `gateway.key_minting`).
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from anzoth.api import key_fields
from anzoth.api.auth import seconds
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, integer, parse, string
from anzoth.api.key_fields import parse_exactly
from anzoth.api.organization_users import actor, answer, path_id
from anzoth.api.pages import page, page_request
from anzoth.api.query import Query
from anzoth.gateway.directory_checks import MAX_ADMIN_LIFETIME
from anzoth.gateway.key_changes import DEFAULT_GRACE, MAX_GRACE
from anzoth.gateway.limit_rules import Limits, shown
from anzoth.gateway.organization.api_keys import KeyView, ListedKey

_NAME = Field("name", string(1000), required=True)
_NEW = (_NAME, *key_fields.NEW_KEY)
_NEW_ADMIN = (
    _NAME,
    Field("expires_in_seconds", integer(1, int(MAX_ADMIN_LIFETIME.total_seconds())), required=True),
)
_ROTATION = (
    Field(
        "grace_seconds",
        integer(0, int(MAX_GRACE.total_seconds())),
        default=int(DEFAULT_GRACE.total_seconds()),
    ),
)


async def list_all(call: Call) -> Answer:
    """`owner_project_access`: whoever loses access to a project loses the keys there, so there are
    none without."""
    query = Query(call.request.query)
    asked = page_request(query)
    access = query.one_of("owner_project_access", ("active", "inactive", "any"))
    query.done()
    rows = await call.services.organization.keys.list(
        call.principal, path_id(call, "project_id"), after=asked.after, limit=asked.wanted
    )
    return answer(call, page(asked, [] if access == "inactive" else rows, _key))


async def create(call: Call) -> Answer:
    request, inherits = key_fields.new_key(parse_exactly(_NEW, call.body))
    made, listed = await call.services.organization.keys.create(
        call.principal, actor(call).ip, path_id(call, "project_id"), request, inherits
    )
    return answer(call, {**_key(listed), "value": made.key.text})


async def retrieve(call: Call) -> Answer:
    found = await call.services.organization.keys.find(
        call.principal, path_id(call, "project_id"), path_id(call, "api_key_id")
    )
    return answer(call, _key(found))


async def modify(call: Call) -> Answer:
    changed = await call.services.organization.keys.update(
        call.principal,
        actor(call).ip,
        path_id(call, "project_id"),
        path_id(call, "api_key_id"),
        key_fields.changed_key(call.body),
    )
    return answer(call, _key(changed))


async def rotate(call: Call) -> Answer:
    given = parse_exactly(_ROTATION, call.body)
    rotated, listed = await call.services.organization.keys.rotate(
        call.principal,
        actor(call).ip,
        path_id(call, "project_id"),
        path_id(call, "api_key_id"),
        timedelta(seconds=given["grace_seconds"]),
    )
    return answer(call, {**_key(listed), "value": rotated.key.text})


async def delete(call: Call) -> Answer:
    id = path_id(call, "api_key_id")
    await call.services.organization.keys.delete(
        call.principal, actor(call).ip, path_id(call, "project_id"), id
    )
    body = {"object": "organization.project.api_key.deleted", "id": str(id), "deleted": True}
    return answer(call, body)


# --- admin keys -------------------------------------------------------------------------------


async def list_admin(call: Call) -> Answer:
    query = Query(call.request.query)
    asked, order = page_request(query), query.one_of("order", ("asc", "desc"))
    query.done()
    rows = await call.services.organization.keys.list_admin(
        call.principal, after=asked.after, limit=asked.wanted, is_descending=order == "desc"
    )
    return answer(call, page(asked, rows, _admin_key))


async def create_admin(call: Call) -> Answer:
    given = parse(_NEW_ADMIN, call.body)
    expires_at = key_fields.expiry(given)
    assert expires_at is not None, "it is required"
    made, view = await call.services.organization.keys.create_admin(
        call.principal, actor(call).ip, given["name"], expires_at
    )
    return answer(call, {**_admin_key(view), "value": made.key.text})


async def retrieve_admin(call: Call) -> Answer:
    found = await call.services.organization.keys.find_admin(
        call.principal, path_id(call, "key_id")
    )
    return answer(call, _admin_key(found))


async def delete_admin(call: Call) -> Answer:
    id = path_id(call, "key_id")
    await call.services.organization.keys.delete_admin(call.principal, actor(call).ip, id)
    body = {"object": "organization.admin_api_key.deleted", "id": str(id), "deleted": True}
    return answer(call, body)


# --- answers ----------------------------------------------------------------------------------


def _key(listed: ListedKey) -> dict[str, Any]:
    view, limits = listed.view, dict(listed.limits)
    together = limits.pop(None, Limits())
    return {
        "object": "organization.project.api_key",
        **_common(view),
        "owner": _owner(view),
        "owner_project_access": "active",
        "kid": view.kid,
        "scopes": view.scopes,
        "models": view.models,
        "endpoints": view.endpoints,
        "networks": None if view.networks is None else [str(network) for network in view.networks],
        "knowledge_bases": view.knowledge_bases,
        "default_knowledge_bases": view.default_knowledge_bases,
        "tools": view.tools or [],
        "limits": shown(dataclasses.asdict(together)),
        "limits_by_model": {
            model: shown(dataclasses.asdict(some)) for model, some in limits.items()
        },
        "old_value_expires_at": seconds(view.predecessor_expires_at),
    }


def _admin_key(view: KeyView) -> dict[str, Any]:
    return {"object": "organization.admin_api_key", **_common(view), "owner": _admin_owner(view)}


def _common(view: KeyView) -> dict[str, Any]:
    return {
        "id": str(view.id),
        "name": view.name,
        "redacted_value": view.redacted,
        "created_at": seconds(view.created_at),
        "last_used_at": seconds(view.last_used_at),
        "expires_at": seconds(view.expires_at),
    }


def _owner(view: KeyView) -> dict[str, Any]:
    """Without a `type`: it is the tenant's own, as OpenAI's are not."""
    owner: dict[str, Any] = {"type": None, "user": None, "service_account": None}
    if view.user_id is not None:
        owner["type"], owner["user"] = "user", _user(view)
    elif view.service_account_id is not None:
        owner["type"] = "service_account"
        owner["service_account"] = {
            "id": str(view.service_account_id),
            "name": view.service_account_name,
            "created_at": seconds(view.service_account_created_at),
            "role": "member",
        }
    return owner


def _admin_owner(view: KeyView) -> dict[str, Any]:
    if view.user_id is None:
        return {"type": None}
    return {"type": "user", "object": "organization.user", **_user(view)}


def _user(view: KeyView) -> dict[str, Any]:
    return {
        "id": str(view.user_id),
        "email": view.user_email,
        "name": view.user_name,
        "created_at": seconds(view.user_created_at),
        "role": view.user_role,
    }
