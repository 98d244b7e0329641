"""/v1/vector_stores: the knowledge bases of a project.

OpenAI's shapes. `embedding_model` is an extension: which model makes the vectors of a new store.

Does not know: how a store is kept (see `gateway.knowledge.stores`).
"""

from __future__ import annotations

from typing import Any

from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, array, integer, mapping, nested, one_of, parse, string
from anzoth.api.files import answer, owner_of
from anzoth.api.pages import cursor_page, list_request
from anzoth.api.query import Query
from anzoth.api.requests import MAX_MODEL_NAME
from anzoth.api.vector_store_fields import chunking_strategy, file_ref, files_alike, store_id
from anzoth.gateway.knowledge.file_batches import MAX_FILES, FileBatchView
from anzoth.gateway.knowledge.stores import Details, StoreChange, StoreRequest, StoreView

_MAX_NAME, _MAX_DESCRIPTION = 256, 512
_MAX_DAYS = 365

_EXPIRY = nested(
    Field("anchor", one_of("last_active_at"), required=True),
    Field("days", integer(1, _MAX_DAYS), required=True),
)
_SAID = (
    Field("name", string(_MAX_NAME)),
    Field("description", string(_MAX_DESCRIPTION)),
    Field("metadata", mapping(string(512), 16, 64)),
    Field("expires_after", _EXPIRY),
)
_CREATE = (
    *_SAID,
    Field("file_ids", array(file_ref, MAX_FILES), default=()),
    Field("chunking_strategy", chunking_strategy),
    Field("embedding_model", string(MAX_MODEL_NAME, min_characters=1)),
)


async def create(call: Call) -> Answer:
    call.principal.require_every_knowledge_base()
    values = parse(_CREATE, call.body)
    request = StoreRequest(
        Details(values["name"] or "", values["description"], values["metadata"] or {}),
        _days(values),
        values["embedding_model"],
        files_alike(values["file_ids"], None, values["chunking_strategy"]),
    )
    return answer(call, _describe(await call.services.stores.create(owner_of(call), request)))


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    asked = list_request(query)
    query.done()
    found = await call.services.stores.list(
        owner_of(call), asked, call.principal.granted_knowledge_bases
    )
    return answer(call, cursor_page(found, _describe))


async def retrieve(call: Call) -> Answer:
    return answer(call, _describe(await call.services.stores.get(owner_of(call), store_id(call))))


async def modify(call: Call) -> Answer:
    """`expires_after: null` means that it does not expire; any other null that it stays."""
    values = parse(_SAID, call.body)
    change = StoreChange(
        values["name"],
        values["description"],
        values["metadata"],
        "expires_after" in call.body,
        _days(values),
    )
    modified = await call.services.stores.modify(owner_of(call), store_id(call), change)
    return answer(call, _describe(modified))


async def delete(call: Call) -> Answer:
    id = store_id(call)
    await call.services.stores.delete(owner_of(call), id)
    return answer(call, {"id": id, "object": "vector_store.deleted", "deleted": True})


def file_counts(of: StoreView | FileBatchView) -> dict[str, int]:
    sums = of.files
    return {
        "in_progress": sums.in_progress,
        "completed": sums.completed,
        "failed": sums.failed,
        "cancelled": sums.cancelled,
        "total": sums.total,
    }


def _days(values: dict[str, Any]) -> int | None:
    expiry = values["expires_after"]
    return None if expiry is None else expiry["days"]


def _describe(store: StoreView) -> dict[str, Any]:
    days, expires_at = store.expires_after_days, store.expires_at
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": int(store.created_at.timestamp()),
        "name": store.details.name,
        "description": store.details.description,
        "usage_bytes": store.files.usage_bytes,
        "file_counts": file_counts(store),
        "status": store.status,
        **({} if days is None else {"expires_after": {"anchor": "last_active_at", "days": days}}),
        "expires_at": None if expires_at is None else int(expires_at.timestamp()),
        "last_active_at": int(store.last_active_at.timestamp()),
        "metadata": store.details.metadata,
        "embedding_model": store.model,
    }
