"""What do the endpoints of vector stores share: ids in the path, files to add, their chunking?

Does not know: what any of it is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anzoth.api.call import Call
from anzoth.api.fields import (
    Field,
    integer,
    json_object,
    mapping,
    nested,
    one_of,
    parse,
    string,
    wrong_type,
    wrong_value,
)
from anzoth.gateway.knowledge.adding import AUTO, FileToAdd

POLL_AFTER = ("openai-poll-after-ms", "250")
"""Says to the SDKs' helpers when to look again."""
_MAX_ID = 64
_LEAST_TOKENS, _MOST_TOKENS = 100, 4096

_STATIC = nested(
    Field("max_chunk_size_tokens", integer(_LEAST_TOKENS, _MOST_TOKENS), required=True),
    Field("chunk_overlap_tokens", integer(0, _MOST_TOKENS // 2), required=True),
)
_TYPE = (Field("type", one_of("auto", "static"), required=True),)
_OF_STATIC = (Field("static", _STATIC, required=True),)


def chunking_strategy(value: Any, param: str) -> Mapping[str, Any]:
    """With nothing else in it."""
    body, within = json_object(value, param), f"{param}."
    if parse(_TYPE, body, within)["type"] == "auto":
        return AUTO
    static = parse(_OF_STATIC, body, within)["static"]
    most = static["max_chunk_size_tokens"] // 2
    if static["chunk_overlap_tokens"] > most:
        raise wrong_value(
            f"{within}static.chunk_overlap_tokens",
            f"at most {most}, half of 'max_chunk_size_tokens'",
            static["chunk_overlap_tokens"],
        )
    return {"type": "static", "static": static}


def _attribute(value: Any, param: str) -> str | int | float | bool:
    if isinstance(value, str):
        return string(512)(value, param)
    if not isinstance(value, bool | int | float):
        raise wrong_type(param, "strings, numbers and booleans", value)
    if isinstance(value, int) and not -(2**63) < value < 2**63:
        raise wrong_value(param, "numbers of at most 64 bits")
    return value


ATTRIBUTES = mapping(_attribute, 16, 64)


def file_ref(value: Any, param: str) -> str:
    """The id of a file, which may not exist."""
    id = string(_MAX_ID, min_characters=1)(value, param)
    if "\0" in id:
        raise wrong_value(param, "the id of a file")
    return id


def files_alike(
    ids: Sequence[str],
    attributes: Mapping[str, Any] | None,
    chunking: Mapping[str, Any] | None,
) -> tuple[FileToAdd, ...]:
    """From `file_ids`: each once, however often it is named."""
    places = {id: index for index, id in reversed(list(enumerate(ids)))}
    return tuple(
        FileToAdd(id, attributes, chunking or AUTO, f"file_ids[{places[id]}]")
        for id in dict.fromkeys(ids)
    )


def store_id(call: Call) -> str:
    """The store that a request is about. Raises VectorStoreNotFound unless the key is granted
    it."""
    id = call.request.path_params["vector_store_id"]
    call.principal.require_knowledge_base(id)
    return id


def file_id(call: Call) -> str:
    return call.request.path_params["file_id"]


def batch_id(call: Call) -> str:
    return call.request.path_params["batch_id"]
