"""/v1/files: what a project has stored.

OpenAI's shapes. A download is never anything but bytes to a browser: always an attachment, never
sniffed, in a sandbox.

Does not know: how a file is stored (see `gateway.files`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from anzoth.api import forms
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, integer, nested, one_of, parse
from anzoth.api.forms import Form
from anzoth.api.pages import PageRequest, page
from anzoth.api.query import Query
from anzoth.errors import InvalidValue
from anzoth.file_config import MIB
from anzoth.gateway.files import FileOwner, FileRequest, FileView
from anzoth.http.messages import Response, Sink, StreamingResponse

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
"""What a client can say that a file is for."""
_ALL_PURPOSES = (*PURPOSES, "assistants_output", "batch_output", "fine-tune-results")
_HOUR_S, _MONTH_S = 3600, 30 * 86400
_MAX_LIMIT = 10_000
_INLINE_FILES = 100
_WRITE_BYTES = 64 * 1024

_EXPIRY = nested(
    Field("anchor", one_of("created_at"), required=True),
    Field("seconds", integer(_HOUR_S, _MONTH_S), required=True),
)
FIELDS = (
    Field("filename", forms.base_name, required=True),
    Field("purpose", one_of(*PURPOSES), required=True),
    Field("expires_after", _EXPIRY),
)
_FORM_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


async def create(call: Call) -> Answer:
    files, owner = call.services.files, owner_of(call)
    files.transfers.check(owner.tenant)
    with files.transfers.one_of(owner.tenant):
        incoming = await files.begin(owner, forms.announced_bytes(call.request))
        try:
            form = await forms.receive(
                call.request, "file", _FORM_FIELDS, files.config.max_file_mib * MIB, incoming
            )
            made = await incoming.complete(file_request(_body(form)))
        finally:
            incoming.abandon()
    return answer(call, describe(made))


async def list_all(call: Call) -> Answer:
    query = Query(call.request.query)
    asked = PageRequest(None, query.integer("limit", 1, _MAX_LIMIT) or _MAX_LIMIT)
    files = await call.services.files.list(
        owner_of(call),
        asked.wanted,
        purpose=query.one_of("purpose", _ALL_PURPOSES),
        is_ascending=query.one_of("order", ("asc", "desc")) == "asc",
        after=_after(query),
    )
    if len(files) <= _INLINE_FILES:
        return answer(call, page(asked, files, describe))
    content = await asyncio.to_thread(lambda: orjson.dumps(page(asked, files, describe)))
    return _answer_bytes(call, content)


async def retrieve(call: Call) -> Answer:
    return answer(call, describe(await call.services.files.get(owner_of(call), file_id(call))))


async def delete(call: Call) -> Answer:
    id = file_id(call)
    await call.services.files.delete(owner_of(call), id)
    return answer(call, {"id": id, "object": "file", "deleted": True})


async def content(call: Call) -> Answer:
    files, owner = call.services.files, owner_of(call)
    file, pieces = await files.content(owner, file_id(call))
    first = await anext(pieces)  # what goes wrong before there is a head gets a status
    files.transfers.check(owner.tenant)

    async def run(sink: Sink) -> None:
        with files.transfers.one_of(owner.tenant):
            await _write(sink, first)
            async for piece in pieces:
                await _write(sink, piece)

    return StreamingResponse(
        run,
        content_type="application/octet-stream",
        headers=[
            *call.headers,
            ("content-disposition", _disposition(file.filename)),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox; default-src 'none'"),
            ("cache-control", "no-store"),
        ],
        keep_alive_comment=None,
    )


async def _write(sink: Sink, piece: bytes) -> None:
    for start in range(0, len(piece), _WRITE_BYTES):
        sink.write(piece[start : start + _WRITE_BYTES])
        await sink.drained()


def _disposition(filename: str) -> str:
    """RFC 6266: a name for old clients, and the name."""
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


# --- what files and uploads share ----------------------------------------------------------------


def owner_of(call: Call) -> FileOwner:
    ip = call.request.peer if call.address is None else str(call.address)
    return FileOwner.of(call.principal, ip, call.request.request_id)


def file_id(call: Call) -> str:
    return call.request.path_params["file_id"]


def file_request(body: Mapping[str, Any]) -> FileRequest:
    """Raises MissingParameter or InvalidValue. A batch's input does not stay for ever (OpenAI)."""
    values = parse(FIELDS, body)
    expiry, purpose = values["expires_after"], values["purpose"]
    expires_after_s = _MONTH_S if purpose == "batch" else None
    if expiry is not None:
        expires_after_s = expiry["seconds"]
    return FileRequest(values["filename"], purpose, expires_after_s)


def describe(file: FileView) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at.timestamp()),
        **({} if file.expires_at is None else {"expires_at": int(file.expires_at.timestamp())}),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


def answer(call: Call, body: dict[str, Any]) -> Response:
    return _answer_bytes(call, orjson.dumps(body))


def _answer_bytes(call: Call, content: bytes) -> Response:
    return Response(200, content, headers=[*call.headers, ("cache-control", "no-store")])


def _body(form: Form) -> dict[str, Any]:
    """The form's fields as they would stand in a JSON body."""
    body: dict[str, Any] = {"filename": form.filename, "purpose": form.texts.get("purpose")}
    expiry: dict[str, Any] = {}
    for name in ("anchor", "seconds"):
        if (text := form.texts.get(f"expires_after[{name}]")) is not None:
            expiry[name] = int(text) if text.isascii() and text.isdigit() else text
    if expiry:
        body["expires_after"] = expiry
    return body


def _after(query: Query) -> str | None:
    after = query.text("after")
    query.done()
    if after is not None and "\0" in after:
        raise InvalidValue("'after' must be the id of a file.", param="after")
    return after
