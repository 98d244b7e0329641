"""/v1/uploads: files that come in parts.

Does not know: how a part is stored (see `gateway.uploads`).
"""

from __future__ import annotations

import re
from typing import Any

from anzoth.api import forms
from anzoth.api.call import Answer, Call
from anzoth.api.fields import Field, array, integer, parse, string, wrong_value
from anzoth.api.files import answer, describe, file_request, owner_of
from anzoth.gateway.uploads import MAX_PART_BYTES, MAX_PARTS, UploadView

_MAX_ID = 64
_MAX_MIME_TYPE = 256
_MD5 = re.compile("[0-9a-fA-F]{32}", re.ASCII)


def _md5(value: Any, param: str) -> str:
    text = string(32)(value, param)
    if _MD5.fullmatch(text) is None:
        raise wrong_value(param, "32 hexadecimal digits")
    return text


_COMPLETE = (
    Field("part_ids", array(string(_MAX_ID), MAX_PARTS, min_items=1), required=True),
    Field("md5", _md5),
)


async def create(call: Call) -> Answer:
    uploads = call.services.uploads
    request = file_request(call.body)
    # The type is what OpenAI's clients must send. Here content is judged by what it is.
    fields = (
        Field("bytes", integer(1, uploads.max_bytes), required=True),
        Field("mime_type", string(_MAX_MIME_TYPE), required=True),
    )
    num_bytes = parse(fields, call.body)["bytes"]
    return answer(call, _describe(await uploads.create(owner_of(call), request, num_bytes)))


async def add_part(call: Call) -> Answer:
    services, owner = call.services, owner_of(call)
    services.files.transfers.check(owner.tenant)
    with services.files.transfers.one_of(owner.tenant):
        incoming = await services.uploads.begin_part(owner, _id(call))
        try:
            await forms.receive(call.request, "data", (), MAX_PART_BYTES, incoming)
            part = await incoming.complete()
        finally:
            incoming.abandon()
    return answer(
        call,
        {
            "id": part.id,
            "object": "upload.part",
            "created_at": int(part.created_at.timestamp()),
            "upload_id": part.upload_id,
        },
    )


async def complete(call: Call) -> Answer:
    given = parse(_COMPLETE, call.body)
    completed = await call.services.uploads.complete(
        owner_of(call), _id(call), given["part_ids"], given["md5"]
    )
    return answer(call, _describe(completed))


async def cancel(call: Call) -> Answer:
    return answer(call, _describe(await call.services.uploads.cancel(owner_of(call), _id(call))))


def _id(call: Call) -> str:
    return call.request.path_params["upload_id"]


def _describe(upload: UploadView) -> dict[str, Any]:
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": int(upload.created_at.timestamp()),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "expires_at": int(upload.expires_at.timestamp()),
        "file": None if upload.file is None else describe(upload.file),
    }
