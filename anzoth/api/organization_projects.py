"""/v1/organization/projects: which parts does the tenant have?

OpenAI's shapes. What it lets a project choose beside its name (a region, a key of the customer's
own) this server has no notion of. `is_default` is an extension.

Does not know: how a project is stored, or what is in it.
"""

from __future__ import annotations

from typing import Any

from anzoth.api.auth import seconds
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, Policy, harmless, parse, string
from anzoth.api.organization_users import actor, answer, path_id
from anzoth.api.pages import page, page_request
from anzoth.api.query import Query
from anzoth.gateway.organization.projects import ProjectRow

_OTHERS = tuple(
    Field(name, harmless(), Policy.REFUSED)
    for name in ("geography", "residency", "external_key_id")
)
_FIELDS = (Field("name", string(1000), required=True), *_OTHERS)


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    asked, include_archived = page_request(query), query.boolean("include_archived")
    query.done()
    rows = await call.services.organization.projects.list(
        call.principal,
        include_archived=include_archived or False,
        after=asked.after,
        limit=asked.wanted,
    )
    return answer(call, page(asked, rows, _project))


async def create(call: Call) -> Answer:
    given = parse(_FIELDS, call.body)
    projects = call.services.organization.projects
    return answer(call, _project(await projects.create(call.principal, actor(call), given["name"])))


async def retrieve(call: Call) -> Answer:
    projects = call.services.organization.projects
    return answer(call, _project(await projects.find(call.principal, path_id(call, "project_id"))))


async def modify(call: Call) -> Answer:
    given = parse(_FIELDS, call.body)
    renamed = await call.services.organization.projects.rename(
        call.principal, actor(call), path_id(call, "project_id"), given["name"]
    )
    return answer(call, _project(renamed))


async def archive(call: Call) -> Answer:
    archived = await call.services.organization.projects.archive(
        call.principal, actor(call), path_id(call, "project_id")
    )
    return answer(call, _project(archived))


def _project(project: ProjectRow) -> dict[str, Any]:
    return {
        "object": "organization.project",
        "id": str(project.id),
        "name": project.name,
        "created_at": seconds(project.created_at),
        "archived_at": seconds(project.archived_at),
        "status": "active" if project.archived_at is None else "archived",
        "is_default": project.is_default,
    }
