"""/v1/batches: requests in a file, answered in the background.

A batch may ask what its key may ask: the scope and the endpoint are checked when it is made, and
again, as everything else is, for each of its requests.

Does not know: how a batch is worked on (see `gateway.batches`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, integer, mapping, nested, one_of, parse, string
from anzoth.api.files import answer, owner_of
from anzoth.api.pages import DEFAULT_LIMIT, MAX_LIMIT, cursor_page
from anzoth.api.query import Query
from anzoth.api.vector_store_fields import file_ref
from anzoth.gateway.batches.batches import BatchRequest, BatchView

ENDPOINTS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
    "/v1/rerank": "rerank",
}
"""What a batch may ask, and the scope that it needs."""

_HOUR_S, _MONTH_S = 3600, 30 * 24 * 3600
_ENDED = ("failed", "completed", "expired", "cancelled")

_EXPIRY = nested(
    Field("anchor", one_of("created_at"), required=True),
    Field("seconds", integer(_HOUR_S, _MONTH_S), required=True),
)
_CREATE = (
    Field("input_file_id", file_ref, required=True),
    Field("endpoint", one_of(*ENDPOINTS), required=True),
    Field("completion_window", one_of("24h"), required=True),
    Field("metadata", mapping(string(512), 16, 64)),
    Field("output_expires_after", _EXPIRY),
)


async def create(call: Call) -> Answer:
    values = parse(_CREATE, call.body)
    endpoint, expiry = values["endpoint"], values["output_expires_after"]
    call.principal.require_scope(ENDPOINTS[endpoint])
    call.principal.require_endpoint(endpoint)
    asked = BatchRequest(
        endpoint,
        values["input_file_id"],
        values["metadata"],
        None if expiry is None else expiry["seconds"],
    )
    made = await call.services.batches.create(owner_of(call), call.principal, call.address, asked)
    return answer(call, _describe(made))


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    after, limit = query.text("after"), query.integer("limit", 1, MAX_LIMIT)
    query.done()
    found = await call.services.batches.list(owner_of(call), after, limit or DEFAULT_LIMIT)
    return answer(call, cursor_page(found, _describe))


async def retrieve(call: Call) -> Answer:
    return answer(call, _describe(await call.services.batches.get(owner_of(call), _id(call))))


async def cancel(call: Call) -> Answer:
    return answer(call, _describe(await call.services.batches.cancel(owner_of(call), _id(call))))


def _id(call: Call) -> str:
    return call.request.path_params["id"]


def _describe(batch: BatchView) -> dict[str, Any]:
    """What there is not yet, or never, is absent: OpenAI's types have no null there."""
    row = batch.row
    described = {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "errors": None if row.errors is None else {"object": "list", "data": row.errors},
        "input_file_id": row.input_file_id,
        "completion_window": "24h",
        "status": row.status,
        "output_file_id": row.output_file_id,
        "error_file_id": row.error_file_id,
        "created_at": _time(row.created_at),
        "in_progress_at": _time(row.in_progress_at),
        "expires_at": _time(row.expires_at),
        "finalizing_at": _time(row.finalizing_at),
        "cancelling_at": _time(row.cancelling_at),
        **({f"{row.status}_at": _time(row.ended_at)} if row.status in _ENDED else {}),
        "request_counts": {
            "total": row.num_requests,
            "completed": row.num_completed,
            "failed": row.num_failed,
        },
        "usage": {
            "input_tokens": row.input_tokens,
            "input_tokens_details": {"cached_tokens": row.cached_tokens},
            "output_tokens": row.output_tokens,
            "output_tokens_details": {"reasoning_tokens": row.reasoning_tokens},
            "total_tokens": row.input_tokens + row.output_tokens,
        },
    }
    return {
        **{name: value for name, value in described.items() if value is not None},
        "metadata": batch.metadata,
    }


def _time(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
