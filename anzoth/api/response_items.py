"""What are the items of a conversation in the Responses API?

Items go in and out in one form, OpenAI's `ResponseItem`: what a client sends is checked and brought
into it, what a model wrote is made in it (`response_output`), what is stored has it.

    message of user, system, developer   input_text parts
    message of assistant                 output_text and refusal parts
    reasoning                            reasoning_text parts
    function_call, function_call_output  arguments and output as text
    file_search_call                     what was searched for, once; no model reads it again
    mcp_list_tools                       what of a server the model could call; the same
    mcp_call                             a call of such a tool, and what came of it
    mcp_approval_request, …_response     such a call that a person is asked about, and the answer
    item_reference                       stands for an item that is stored, until it is looked up

Does not know: where items are stored, or what a model reads of them (`response_messages`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from anzoth.api import fields
from anzoth.api.call_ids import is_id, sibling
from anzoth.api.fields import Field, unsupported, wrong_type, wrong_value

MAX_ITEMS = 4096
MAX_ADDED_ITEMS = 20
MAX_PARTS = 1024
MAX_REFERENCES = 256
_MAX_ID = 128

Item = dict[str, Any]  # JSON

REFERENCE = "item_reference"
_ID_PREFIXES: Mapping[str, str] = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "file_search_call": "fs_",
    "mcp_list_tools": "mcpl_",
    "mcp_call": "mcp_",
    "mcp_approval_request": "mcpr_",
    "mcp_approval_response": "mcpa_",
}
_ROLES = ("user", "system", "developer", "assistant")
_REFUSED_PARTS = ("input_image", "input_file", "input_audio")


def new_item(type: str, **content: Any) -> Item:
    """With an id that nobody can guess."""
    return {"id": _ID_PREFIXES[type] + secrets.token_hex(16), "type": type, **content}


# --- what a client sends --------------------------------------------------------------------------


def input_items(value: Any, param: str) -> Sequence[Item]:
    """A check (see `fields`): items under new ids, and references."""
    if isinstance(value, str):
        return (_message_item("user", [_input_text(value)]),)
    if not isinstance(value, list):
        raise wrong_type(param, "a string or an array of items", value)
    items = fields.array(_item, MAX_ITEMS, min_items=1)(value, param)
    if (num_references := sum(item["type"] == REFERENCE for item in items)) > MAX_REFERENCES:
        raise wrong_value(param, f"at most {MAX_REFERENCES} references", num_references)
    return items


def added_items(*, at_least: int) -> fields.Check:
    """For a conversation: at most so many at a time as at OpenAI."""
    return fields.array(_item, MAX_ADDED_ITEMS, min_items=at_least)


def _item(value: Any, param: str) -> Item:
    body = fields.json_object(value, param)
    kind = body.get("type")
    if kind is None:  # messages and references may leave it out
        kind = "message" if "role" in body else REFERENCE
    if not isinstance(kind, str):
        raise wrong_type(f"{param}.type", "a string", kind)
    make = _BY_TYPE.get(kind)
    if make is None:
        known = ", ".join(f"'{name}'" for name in _BY_TYPE)
        raise unsupported(f"{param}.type", f"other than {known} is not supported by this server")
    return make(body, param)


def _message(body: Mapping[str, Any], param: str) -> Item:
    role = _MESSAGE(body, f"{param}.")["role"]
    content = body["content"]
    if isinstance(content, str):
        parts: Sequence[Item] = [_input_text(content)]
    elif isinstance(content, list):
        parts = fields.array(_part, MAX_PARTS, min_items=1)(content, f"{param}.content")
    else:
        raise wrong_type(f"{param}.content", "a string or an array of content parts", content)
    if role == "assistant":
        return _message_item(role, list(map(_as_output, parts)))
    if any(part["type"] == "refusal" for part in parts):
        raise wrong_value(f"{param}.content", "parts of the type 'input_text'")
    return _message_item(role, list(parts))


def _part(value: Any, param: str) -> Item:
    body = fields.json_object(value, param)
    kind = body.get("type")
    if kind in _REFUSED_PARTS:
        raise unsupported(param, f"has the type '{kind}', but this model reads only text")
    if kind not in ("input_text", "output_text", "refusal"):
        raise wrong_value(f"{param}.type", "'input_text', 'output_text' or 'refusal'")
    name = "refusal" if kind == "refusal" else "text"
    text = _TEXT(body.get(name), f"{param}.{name}")
    return {"type": kind, "refusal": text} if kind == "refusal" else _input_text(text)


def _function_call(body: Mapping[str, Any], param: str) -> Item:
    given = _CALL(body, f"{param}.")
    return new_item("function_call", **given, status="completed")


def _call_output(body: Mapping[str, Any], param: str) -> Item:
    call_id = _CALL_OUTPUT(body, f"{param}.")["call_id"]
    output = body["output"]
    if isinstance(output, list):
        output = list(fields.array(_result_part, MAX_PARTS)(output, f"{param}.output"))
    elif not isinstance(output, str):
        raise wrong_type(f"{param}.output", "a string or an array of content parts", output)
    return new_item("function_call_output", call_id=call_id, output=output, status="completed")


def _result_part(value: Any, param: str) -> Item:
    part = _part(value, param)
    if part["type"] == "refusal":
        raise wrong_value(f"{param}.type", "'input_text'")
    return part


def _reasoning(body: Mapping[str, Any], param: str) -> Item:
    given = _REASONING(body, f"{param}.")
    return new_item(
        "reasoning",
        summary=[{"type": "summary_text", "text": text} for text in given["summary"]],
        content=[{"type": "reasoning_text", "text": text} for text in given["content"]],
        status="completed",
    )


def _file_search_call(body: Mapping[str, Any], param: str) -> Item:
    queries = list(_SEARCH(body, f"{param}.")["queries"])
    return new_item("file_search_call", queries=queries, status="completed", results=None)


def _list_tools(body: Mapping[str, Any], param: str) -> Item:
    given = _LIST_TOOLS(body, f"{param}.")
    return new_item("mcp_list_tools", **{**given, "tools": list(given["tools"])})


def _mcp_call(body: Mapping[str, Any], param: str) -> Item:
    made = new_item("mcp_call", **_MCP_CALL(body, f"{param}."), status="completed")
    given = body.get("id")
    return {**made, "id": sibling("mcp", given)} if _is_call_id(given) else made


def _approval_request(body: Mapping[str, Any], param: str) -> Item:
    """Under its own id: that is what answers name."""
    given = _APPROVAL_REQUEST(body, f"{param}.")
    if not _is_call_id(given["id"]):
        raise wrong_value(f"{param}.id", "that of a request for approval in a response")
    return {**new_item("mcp_approval_request"), **given}


def _is_call_id(id: object) -> TypeGuard[str]:
    return isinstance(id, str) and is_id(id)


def _approval_response(body: Mapping[str, Any], param: str) -> Item:
    return new_item("mcp_approval_response", **_APPROVAL_RESPONSE(body, f"{param}."))


def _reference(body: Mapping[str, Any], param: str) -> Item:
    return {"type": REFERENCE, **_REFERENCE(body, f"{param}.")}


_BY_TYPE: Mapping[str, Callable[[Mapping[str, Any], str], Item]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _call_output,
    "reasoning": _reasoning,
    "file_search_call": _file_search_call,
    "mcp_list_tools": _list_tools,
    "mcp_call": _mcp_call,
    "mcp_approval_request": _approval_request,
    "mcp_approval_response": _approval_response,
    REFERENCE: _reference,
}


def _table(*table: Field) -> Callable[[Mapping[str, Any], str], dict[str, Any]]:
    return lambda body, within: fields.parse(table, body, within)


def _present(value: Any, param: str) -> Any:
    return value


def _text_of_part(kind: str) -> fields.Check:
    table = (Field("type", fields.one_of(kind), required=True), Field("text", _TEXT, required=True))

    def check(value: Any, param: str) -> str:
        return fields.parse(table, fields.json_object(value, param), f"{param}.")["text"]

    return check


def _error(value: Any, param: str) -> Item:
    """Of a call. A text stands for what the tool said, as it once did at OpenAI."""
    return call_error(value) if isinstance(value, str) else fields.shown_object(value, param)


_TEXT = fields.string(fields.INT32_MAX)
_CALL_ID = fields.string(_MAX_ID, min_characters=1)
_MESSAGE = _table(
    Field("role", fields.one_of(*_ROLES), required=True),
    Field("content", _present, required=True),
)
_CALL = _table(
    Field("call_id", _CALL_ID, required=True),
    Field("name", fields.string(256, min_characters=1), required=True),
    Field("arguments", _TEXT, required=True),
)
_CALL_OUTPUT = _table(
    Field("call_id", _CALL_ID, required=True),
    Field("output", _present, required=True),
)
_REASONING = _table(
    Field("summary", fields.array(_text_of_part("summary_text"), MAX_PARTS), default=()),
    Field("content", fields.array(_text_of_part("reasoning_text"), MAX_PARTS), default=()),
)
_SEARCH = _table(Field("queries", fields.array(_TEXT, MAX_PARTS), default=()))
_LISTED_TOOL = fields.nested(
    Field("name", fields.string(256, min_characters=1), required=True),
    Field("input_schema", fields.shown_object, required=True),
    Field("description", _TEXT),
    Field("annotations", fields.shown_object),
)
_LIST_TOOLS = _table(
    Field("server_label", _CALL_ID, required=True),
    Field("tools", fields.array(_LISTED_TOOL, MAX_PARTS), required=True),
    Field("error", _TEXT),
)
_SERVER_CALL = (
    Field("server_label", fields.string(64, min_characters=1), required=True),
    Field("name", fields.string(256, min_characters=1), required=True),
    Field("arguments", _TEXT, required=True),
)
_MCP_CALL = _table(
    *_SERVER_CALL,
    Field("approval_request_id", _CALL_ID),
    Field("error", _error),
    Field("output", _TEXT),
)
_APPROVAL_REQUEST = _table(*_SERVER_CALL, Field("id", _CALL_ID, required=True))
_APPROVAL_RESPONSE = _table(
    Field("approval_request_id", _CALL_ID, required=True),
    Field("approve", fields.boolean, required=True),
    Field("reason", _TEXT),
)
_REFERENCE = _table(Field("id", _CALL_ID, required=True))


def _input_text(text: str) -> Item:
    return {"type": "input_text", "text": text}


def _as_output(part: Item) -> Item:
    return part if part["type"] == "refusal" else output_text(part["text"])


def output_text(text: str, annotations: Sequence[Item] = (), logprobs: Sequence[Item] = ()) -> Item:
    """A part of a message of the assistant's."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": list(annotations),
        "logprobs": list(logprobs),
    }


def _message_item(role: str, content: Sequence[Item]) -> Item:
    return new_item("message", role=role, content=list(content), status="completed")


def call_error(text: str) -> Item:
    """Of a call of a server's tool that failed."""
    content = [{"type": "text", "text": text}]
    return {"type": "mcp_tool_execution_error", "content": content}


def text_of_error(error: Item) -> str:
    """For the model."""
    if isinstance(message := error.get("message"), str):
        return message
    content = error.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "\n".join(text for text in texts if isinstance(text, str)) or "The call failed."
