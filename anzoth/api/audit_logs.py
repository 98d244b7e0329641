"""GET /v1/organization/audit_logs: what happened in this organization, and who did it?

The shape is OpenAI's. What it has no word for: `actor.kind` tells operators and the system itself
from users, whose place in `session` they take; `seq`, `previous` and `hash` are the event's place
in the chain; and events that OpenAI does not know show their details in the same way.

Does not know: other organizations' events.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from anzoth.api.call import Answer, Call
from anzoth.api.query import Query
from anzoth.errors import InvalidValue, NotFound
from anzoth.gateway.audit_events import EVENTS
from anzoth.gateway.audit_reader import AuditFilter, AuditRow
from anzoth.http.messages import Response

_MAX_LIMIT = 100
_DEFAULT_LIMIT = 20
_LAST_SECOND = 253_402_300_798
"""Of the year 9999, less one for exclusive ends."""


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    limit = query.integer("limit", 1, _MAX_LIMIT) or _DEFAULT_LIMIT
    after, before = query.text("after"), query.text("before")
    if after is not None and before is not None:
        raise InvalidValue("'after' and 'before' exclude each other.", param="before")
    since, until = _range(query)
    project_ids = query.texts("project_ids")
    types = query.texts("event_types")
    actor_ids, resource_ids = query.texts("actor_ids"), query.texts("resource_ids")
    query.done()
    for type in types or ():
        if type not in EVENTS:
            raise InvalidValue("'event_types' has an unknown event type.", param="event_types")
    wanted = AuditFilter(
        since=since,
        until=until,
        project_ids=None if project_ids is None else [*filter(None, map(_uuid, project_ids))],
        types=types,
        actor_ids=actor_ids,
        resource_ids=resource_ids,
    )
    found = await call.services.audit.page(
        call.principal.tenant,
        wanted,
        limit,
        after=_cursor("after", after),
        before=_cursor("before", before),
    )
    data = [_event(row, found.project_names) for row in found.rows]
    page = {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": found.has_more,
    }
    return Response(200, orjson.dumps(page), headers=call.headers)


def _range(query: Query) -> tuple[datetime | None, datetime | None]:
    """Half-open. `effective_at` is in whole seconds, and so are its bounds."""
    bounds = {
        name: query.integer(f"effective_at[{name}]", 0, _LAST_SECOND)
        for name in ("gt", "gte", "lt", "lte")
    }
    starts = [s + (name == "gt") for name, s in bounds.items() if s is not None and name[0] == "g"]
    ends = [s + (name == "lte") for name, s in bounds.items() if s is not None and name[0] == "l"]
    return (
        datetime.fromtimestamp(max(starts), UTC) if starts else None,
        datetime.fromtimestamp(min(ends), UTC) if ends else None,
    )


def _cursor(name: str, text: str | None) -> UUID | None:
    """Raises NotFound: what is no id is the id of nothing."""
    if text is None:
        return None
    if (id := _uuid(text)) is None:
        raise NotFound(f"There is no event with this '{name}' id.", param=name)
    return id


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _event(row: AuditRow, projects: Mapping[UUID, str]) -> dict[str, Any]:
    event: dict[str, Any] = {
        "id": str(row.id),
        "object": "organization.audit_log",
        "type": row.type,
        "effective_at": int(row.at.timestamp()),
        "actor": _actor(row),
        row.type: _payload(row),
        "request_id": row.request_id,
        "seq": row.seq,
        "previous": row.previous.hex(),
        "hash": row.hash.hex(),
    }
    if row.project_id is not None:
        event["project"] = {"id": str(row.project_id), "name": projects.get(row.project_id)}
    return event


def _payload(row: AuditRow) -> dict[str, Any]:
    name = EVENTS.get(row.type, "flat")  # one that a newer version wrote
    return {**row.target, **(row.details if name == "flat" else {name: row.details})}


def _actor(row: AuditRow) -> dict[str, Any]:
    if row.actor_kind == "api_key":
        api_key = {"id": row.actor_id, "type": "user"}
        return {"type": "api_key", "kind": row.actor_kind, "api_key": api_key}
    user = {"id": row.actor_id}
    session = {"user": user, "ip_address": row.actor_ip}
    return {"type": "session", "kind": row.actor_kind, "session": session}
