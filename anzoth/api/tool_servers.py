"""/v1/tool_servers: what a tenant's models can call, and which of it was approved.

A new server is asked at once what it can do; `approve` names what was looked at by its digests, so
that nothing can be approved that was exchanged meanwhile. Credentials can be written, never read.

Does not know: who may do what with which server (see `gateway.tools.registry`).
"""

from __future__ import annotations

from anzoth.api.call import Answer, Call
from anzoth.api.organization_users import actor, answer
from anzoth.api.tool_server_fields import (
    describe,
    parse_approval,
    parse_change,
    parse_server,
    parse_withdrawal,
)
from anzoth.gateway.tools.managing import ServerView, ToolManager
from anzoth.gateway.tools.registry import ToolRegistry


async def list_all(call: Call) -> Answer:
    """All on one page: there is a bound on how many there can be."""
    servers = [describe(view) for view in await _registry(call).list(_manager(call))]
    ids = [server["id"] for server in servers]
    page = {
        "object": "list",
        "data": servers,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": False,
    }
    return answer(call, page)


async def create(call: Call) -> Answer:
    request = parse_server(call.body)
    return _shown(call, await _registry(call).create(_manager(call), request))


async def retrieve(call: Call) -> Answer:
    return _shown(call, await _registry(call).get(_manager(call), _id(call)))


async def modify(call: Call) -> Answer:
    """Fields that are not given stay as they are."""
    change = parse_change(call.body)
    return _shown(call, await _registry(call).update(_manager(call), _id(call), change))


async def delete(call: Call) -> Answer:
    deleted = await _registry(call).delete(_manager(call), _id(call))
    return answer(call, {"id": str(deleted), "object": "tool_server.deleted", "deleted": True})


async def refresh(call: Call) -> Answer:
    """Asks the server again what it can do."""
    return _shown(call, await _registry(call).refresh(_manager(call), _id(call)))


async def approve(call: Call) -> Answer:
    digests = parse_approval(call.body)
    return _shown(call, await _registry(call).approve(_manager(call), _id(call), digests))


async def withdraw(call: Call) -> Answer:
    names = parse_withdrawal(call.body)
    return _shown(call, await _registry(call).withdraw(_manager(call), _id(call), names))


def _registry(call: Call) -> ToolRegistry:
    return call.services.tools.registry


def _manager(call: Call) -> ToolManager:
    return ToolManager(call.principal.tenant, actor(call), call.request.request_id)


def _id(call: Call) -> str:
    return call.request.path_params["tool_server_id"]


def _shown(call: Call, view: ServerView) -> Answer:
    return answer(call, describe(view))
