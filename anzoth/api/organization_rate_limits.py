"""/v1/organization/projects/{id}/rate_limits: how much may a project use of each model?

OpenAI's shape and two of its numbers; the others of ours are extensions, and so are `rl-*`, the
limits of all models together, and DELETE. OpenAI has always a limit and promises numbers: where
there is none here, those two are the largest that a limit can be, which stands for "none" when it
is sent, too.

Does not know: how limits are kept (see `gateway.organization.rate_limits`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from anzoth.api.call import Answer, Call
from anzoth.api.fields import INT32_MAX, Field, Policy, harmless
from anzoth.api.key_fields import LIMIT_CHECKS, refuse_unknown
from anzoth.api.organization_users import actor, answer, path_id
from anzoth.api.query import Query
from anzoth.errors import InvalidValue, NotFound
from anzoth.gateway.limit_rules import shown
from anzoth.gateway.organization.rate_limits import NAMES, RateLimit

_DEFAULT_PAGE = 100
_MAX_PAGE = 1000
_NONE = INT32_MAX
_ALWAYS_NUMBERS = ("rpm", "tpm")
_NOT_HERE = (
    *("max_requests_per_1_day", "max_images_per_1_minute", "max_audio_megabytes_per_1_minute"),
    "batch_1_day_max_input_tokens",
)
_FIELDS = (
    *(Field(word, LIMIT_CHECKS[name]) for name, word in NAMES.items()),
    *(Field(name, harmless(), Policy.REFUSED) for name in _NOT_HERE),
)


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    size = query.integer("limit", 1, _MAX_PAGE) or _DEFAULT_PAGE
    after, before = query.text("after"), query.text("before")
    query.done()
    if after is not None and before is not None:
        raise InvalidValue("'after' and 'before' exclude each other.", param="before")
    limits = await call.services.organization.rate_limits.list(
        call.principal, path_id(call, "project_id")
    )
    ids = [limit.id for limit in limits]
    begin = 0 if after is None else _place(ids, "after", after) + 1
    end = len(ids) if before is None else _place(ids, "before", before)
    page = limits[begin : begin + size] if before is None else limits[max(0, end - size) : end]
    has_more = begin + size < len(ids) if before is None else end > size
    body = {
        "object": "list",
        "data": [_rate_limit(limit) for limit in page],
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": has_more,
    }
    return answer(call, body)


async def modify(call: Call) -> Answer:
    """`null` takes a limit away, as _NONE does."""
    refuse_unknown(_FIELDS, call.body)
    given: dict[str, int | None] = {}
    for field in _FIELDS:
        value = call.body.get(field.name)
        if field.name in call.body:
            given[field.name] = None if value is None else field.check(value, field.name)
    changes = {name: given[word] for name, word in NAMES.items() if word in given}
    for name in _ALWAYS_NUMBERS:
        if changes.get(name) == _NONE:
            changes[name] = None
    if not changes:
        raise InvalidValue("There is nothing to change.")
    changed = await call.services.organization.rate_limits.update(
        call.principal, actor(call), path_id(call, "project_id"), _id(call), changes
    )
    return answer(call, _rate_limit(changed))


async def delete(call: Call) -> Answer:
    id = _id(call)
    await call.services.organization.rate_limits.delete(
        call.principal, actor(call), path_id(call, "project_id"), id
    )
    return answer(call, {"object": "project.rate_limit.deleted", "id": id, "deleted": True})


def _id(call: Call) -> str:
    return call.request.path_params["rate_limit_id"]


def _place(ids: list[str], name: str, id: str) -> int:
    """Raises NotFound."""
    try:
        return ids.index(id)
    except ValueError:
        raise NotFound(f"There is no rate limit with this '{name}' id.", param=name) from None


def _rate_limit(limit: RateLimit) -> dict[str, Any]:
    limits = shown(asdict(limit.limits))
    values = {word: limits[name] for name, word in NAMES.items()}
    for name in _ALWAYS_NUMBERS:
        if values[NAMES[name]] is None:
            values[NAMES[name]] = _NONE
    return {"object": "project.rate_limit", "id": limit.id, "model": limit.model, **values}
