"""/v1/vector_stores/{id}/files: what is in a knowledge base.

OpenAI's shapes. The chunking strategy of a file is returned as OpenAI's types have it: `static`
with its numbers, and `other` for the automatic one, which has none.

Does not know: how a file is read (see `gateway.knowledge`).
"""

from __future__ import annotations

from typing import Any

import orjson

from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, parse
from anzoth.api.files import answer, owner_of
from anzoth.api.pages import cursor_page, list_request
from anzoth.api.query import Query
from anzoth.api.vector_store_fields import (
    ATTRIBUTES,
    POLL_AFTER,
    chunking_strategy,
    file_id,
    file_ref,
    store_id,
)
from anzoth.errors import MissingParameter
from anzoth.gateway.knowledge.adding import AUTO, FileToAdd
from anzoth.gateway.knowledge.store_files import StoreFileView
from anzoth.http.messages import Sink, StreamingResponse

STATUSES = ("in_progress", "completed", "failed", "cancelled")

_CREATE = (
    Field("file_id", file_ref, required=True),
    Field("attributes", ATTRIBUTES),
    Field("chunking_strategy", chunking_strategy, default=AUTO),
)
_MODIFY = (Field("attributes", ATTRIBUTES, default={}),)
"""Has to be there; null means none."""


async def create(call: Call) -> Answer:
    values = parse(_CREATE, call.body)
    file = FileToAdd(values["file_id"], values["attributes"], values["chunking_strategy"])
    made = await call.services.stores.files.attach(owner_of(call), store_id(call), file)
    return _answer(call, made)


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    asked, status = list_request(query), query.one_of("filter", STATUSES)
    query.done()
    found = await call.services.stores.files.list(owner_of(call), store_id(call), asked, status)
    return answer(call, cursor_page(found, describe))


async def retrieve(call: Call) -> Answer:
    files = call.services.stores.files
    return _answer(call, await files.get(owner_of(call), store_id(call), file_id(call)))


async def modify(call: Call) -> Answer:
    """To these attributes, and no others."""
    if "attributes" not in call.body:
        raise MissingParameter("Missing required parameter: 'attributes'.", param="attributes")
    attributes = parse(_MODIFY, call.body)["attributes"]
    files = call.services.stores.files
    return _answer(
        call,
        await files.set_attributes(owner_of(call), store_id(call), file_id(call), attributes),
    )


async def delete(call: Call) -> Answer:
    id = file_id(call)
    await call.services.stores.files.detach(owner_of(call), store_id(call), id)
    return answer(call, {"id": id, "object": "vector_store.file.deleted", "deleted": True})


async def content(call: Call) -> Answer:
    """One entry with the whole text, written as it is read."""
    services, owner = call.services, owner_of(call)
    pieces = await services.stores.files.content(owner, store_id(call), file_id(call))
    first = await anext(pieces, "")  # what goes wrong before there is a head gets a status
    services.files.transfers.check(owner.tenant)

    async def run(sink: Sink) -> None:
        with services.files.transfers.one_of(owner.tenant):
            sink.write(
                b'{"object":"vector_store.file_content.page","data":[{"type":"text","text":"'
            )
            sink.write(_inside_string(first))
            async for piece in pieces:
                await sink.drained()
                sink.write(_inside_string(piece))
            sink.write(b'"}],"has_more":false,"next_page":null}')

    return StreamingResponse(
        run,
        content_type="application/json",
        headers=[*call.headers, ("cache-control", "no-store")],
        keep_alive_comment=None,
    )


def describe(file: StoreFileView) -> dict[str, Any]:
    error = None
    if file.error_code is not None:
        error = {"code": file.error_code, "message": file.error_message or ""}
    return {
        "id": file.id,
        "object": "vector_store.file",
        "usage_bytes": file.usage_bytes,
        "created_at": int(file.created_at.timestamp()),
        "vector_store_id": file.store_id,
        "status": file.status,
        "last_error": error,
        "chunking_strategy": {"type": "other"} if file.chunking == AUTO else file.chunking,
        "attributes": file.attributes,
    }


def _answer(call: Call, file: StoreFileView) -> Answer:
    if file.status == "in_progress":
        call.headers.append(POLL_AFTER)
    return answer(call, describe(file))


def _inside_string(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]
