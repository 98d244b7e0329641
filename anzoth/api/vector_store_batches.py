"""/v1/vector_stores/{id}/file_batches: many files into a knowledge base at once.

Does not know: how a file is read (see `gateway.knowledge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, array, nested, parse, wrong_value
from anzoth.api.files import answer, owner_of
from anzoth.api.pages import cursor_page, list_request
from anzoth.api.query import Query
from anzoth.api.vector_store_fields import (
    ATTRIBUTES,
    POLL_AFTER,
    batch_id,
    chunking_strategy,
    file_ref,
    files_alike,
    store_id,
)
from anzoth.api.vector_store_files import STATUSES, describe
from anzoth.api.vector_stores import file_counts
from anzoth.errors import InvalidValue
from anzoth.gateway.knowledge.adding import AUTO, FileToAdd
from anzoth.gateway.knowledge.file_batches import MAX_FILES, FileBatchView

_FILE = nested(
    Field("file_id", file_ref, required=True),
    Field("attributes", ATTRIBUTES),
    Field("chunking_strategy", chunking_strategy, default=AUTO),
)
_CREATE = (
    Field("file_ids", array(file_ref, MAX_FILES, min_items=1)),
    Field("files", array(_FILE, MAX_FILES, min_items=1)),
    Field("attributes", ATTRIBUTES),
    Field("chunking_strategy", chunking_strategy),
)


async def create(call: Call) -> Answer:
    to_add = _to_add(parse(_CREATE, call.body))
    batches = call.services.stores.batches
    return _answer(call, await batches.create(owner_of(call), store_id(call), to_add))


async def retrieve(call: Call) -> Answer:
    batches = call.services.stores.batches
    return _answer(call, await batches.get(owner_of(call), store_id(call), batch_id(call)))


async def list_files(call: Call) -> Answer:
    query = Query(call.request.query)
    asked, status = list_request(query), query.one_of("filter", STATUSES)
    query.done()
    found = await call.services.stores.batches.list_files(
        owner_of(call), store_id(call), batch_id(call), asked, status
    )
    return answer(call, cursor_page(found, describe))


async def cancel(call: Call) -> Answer:
    batches = call.services.stores.batches
    return _answer(call, await batches.cancel(owner_of(call), store_id(call), batch_id(call)))


def _to_add(values: Mapping[str, Any]) -> tuple[FileToAdd, ...]:
    """Raises InvalidValue. What is said of all files does not count for those in `files`
    (OpenAI)."""
    ids, listed = values["file_ids"], values["files"]
    if (ids is None) == (listed is None):
        raise InvalidValue("Give either 'file_ids' or 'files'.", param="file_ids")
    if ids is not None:
        return files_alike(ids, values["attributes"], values["chunking_strategy"])
    files: dict[str, FileToAdd] = {}
    for index, file in enumerate(listed):
        id, param = file["file_id"], f"files[{index}].file_id"
        if id in files:
            raise wrong_value(param, "each file once")
        files[id] = FileToAdd(id, file["attributes"], file["chunking_strategy"], param)
    return tuple(files.values())


def _answer(call: Call, batch: FileBatchView) -> Answer:
    if batch.status == "in_progress":
        call.headers.append(POLL_AFTER)
    return answer(
        call,
        {
            "id": batch.id,
            "object": "vector_store.files_batch",
            "created_at": int(batch.created_at.timestamp()),
            "vector_store_id": batch.store_id,
            "status": batch.status,
            "file_counts": file_counts(batch),
        },
    )
