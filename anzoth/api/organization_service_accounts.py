"""/v1/organization/projects/{id}/service_accounts: which programs have keys of a project?

OpenAI's shapes. What the keys of an account may do is said by the keys (fields of `key_fields`, in
the body that makes one), so an account is `member` and nothing else.

Does not know: what a caller may do with keys (see `gateway.key_minting`).
"""

from __future__ import annotations

from typing import Any

from anzoth.api import key_fields
from anzoth.api.auth import seconds
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, Policy, boolean, harmless, string
from anzoth.api.key_fields import parse_exactly
from anzoth.api.organization_users import actor, answer, path_id
from anzoth.api.pages import page, page_request
from anzoth.api.query import Query
from anzoth.errors import InvalidValue
from anzoth.gateway.directory import CreatedKey
from anzoth.gateway.key_minting import INHERITED
from anzoth.gateway.organization.service_accounts import ServiceAccountRow

_ROLE = "member"
_NAME = string(1000)
_NEW = (
    Field("name", _NAME, required=True),
    Field("create_service_account_only", boolean, default=False),
    *key_fields.NEW_KEY,
)
_NEW_KEY = (Field("name", _NAME), *key_fields.NEW_KEY)
_CHANGED = (
    Field("name", _NAME, required=True),
    Field("role", harmless(_ROLE), Policy.REFUSED),
)


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    asked = page_request(query)
    query.done()
    rows = await call.services.organization.service_accounts.list(
        call.principal, path_id(call, "project_id"), after=asked.after, limit=asked.wanted
    )
    return answer(call, page(asked, rows, _account))


async def create(call: Call) -> Answer:
    """With its first key, unless the body asks for the account only."""
    given = parse_exactly(_NEW, call.body)
    request, inherits = key_fields.new_key(given)
    is_alone = given["create_service_account_only"]
    if is_alone and len(inherits) < len(INHERITED):
        raise InvalidValue(
            "Invalid value for 'create_service_account_only': the body describes a key, too.",
            param="create_service_account_only",
        )
    account, key = await call.services.organization.service_accounts.create(
        call.principal,
        actor(call),
        path_id(call, "project_id"),
        given["name"],
        None if is_alone else request,
        inherits,
    )
    return answer(call, {**_account(account), "api_key": None if key is None else _key(key)})


async def create_key(call: Call) -> Answer:
    """By the name of the account, if it has none of its own."""
    given = parse_exactly(_NEW_KEY, call.body)
    accounts, project_id = call.services.organization.service_accounts, path_id(call, "project_id")
    id = path_id(call, "service_account_id")
    if given["name"] is None:
        given["name"] = (await accounts.find(call.principal, project_id, id)).name
    request, inherits = key_fields.new_key(given)
    key = await accounts.create_key(call.principal, actor(call), project_id, id, request, inherits)
    return answer(call, _key(key))


async def retrieve(call: Call) -> Answer:
    found = await call.services.organization.service_accounts.find(
        call.principal, path_id(call, "project_id"), path_id(call, "service_account_id")
    )
    return answer(call, _account(found))


async def modify(call: Call) -> Answer:
    given = parse_exactly(_CHANGED, call.body)
    renamed = await call.services.organization.service_accounts.rename(
        call.principal,
        actor(call),
        path_id(call, "project_id"),
        path_id(call, "service_account_id"),
        given["name"],
    )
    return answer(call, _account(renamed))


async def delete(call: Call) -> Answer:
    id = path_id(call, "service_account_id")
    await call.services.organization.service_accounts.delete(
        call.principal, actor(call), path_id(call, "project_id"), id
    )
    body = {
        "object": "organization.project.service_account.deleted",
        "id": str(id),
        "deleted": True,
    }
    return answer(call, body)


def _account(account: ServiceAccountRow) -> dict[str, Any]:
    return {
        "object": "organization.project.service_account",
        "id": str(account.id),
        "name": account.name,
        "role": _ROLE,
        "created_at": seconds(account.created_at),
    }


def _key(made: CreatedKey) -> dict[str, Any]:
    return {
        "object": "organization.project.service_account.api_key",
        "id": str(made.id),
        "name": made.request.name,
        "value": made.key.text,
        "created_at": seconds(made.created_at),
        "expires_at": seconds(made.request.expires_at),
    }
