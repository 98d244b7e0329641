"""What conversation does the chat template see, given the `messages` of a request?

    role developer             system                    (templates know no other name for it)
    system, anywhere           one message, at the front (many templates raise on any other place)
    role function              tool
    content parts              their text, one part per line
    assistant content absent   ""                        (templates concatenate it)
    reasoning_content          as it is                  (templates decide what they keep of it)
    tool call arguments        an object, when the JSON text is one: what templates expect
    tool result without name   the name in the call that it answers (some templates insist on one)

Parts that are not text are refused by name, not dropped: an answer about an image that nobody
looked at is worse than an error.

Does not know: templates, tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from anzoth.api import fields
from anzoth.api.fields import unsupported, wrong_type, wrong_value
from anzoth.errors import MissingParameter
from anzoth.text.tool_results import UNTRUSTED

MAX_MESSAGES = 2048
MAX_PARTS = 1024
MAX_TOOL_CALLS = 128
_NAME = fields.string(256)
_REASONING = fields.string(fields.INT32_MAX)
_ROLES = ("developer", "system", "user", "assistant", "tool", "function")
_REFUSED_PARTS = ("image_url", "input_image", "input_audio", "audio", "file", "video_url")

Message = dict[str, Any]


def messages(value: Any, param: str) -> list[Message]:
    """A check (see `fields`): the messages as a template takes them."""
    return as_templates_take(fields.array(_message, MAX_MESSAGES, min_items=1)(value, param))


def as_templates_take(conversation: Sequence[Message]) -> list[Message]:
    """One system message, in front; results under the names of the tools that were called."""
    _name_results(conversation)
    instructions = [message["content"] for message in conversation if message["role"] == "system"]
    others = [message for message in conversation if message["role"] != "system"]
    if not instructions:
        return others
    return [{"role": "system", "content": "\n\n".join(instructions)}, *others]


def _name_results(conversation: Sequence[Message]) -> None:
    names: dict[str, str] = {}
    for message in conversation:
        for call in message.get("tool_calls", ()):
            if "id" in call:
                names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool" and (name := names.get(message.get("tool_call_id", ""))):
            message.setdefault("name", name)


def _message(value: Any, param: str) -> Message:
    body = fields.json_object(value, param)
    if body.get("role") is None:
        raise MissingParameter(
            f"Missing required parameter: '{param}.role'.", param=f"{param}.role"
        )
    role = fields.one_of(*_ROLES)(body["role"], f"{param}.role")
    message: Message = _BY_ROLE[role](body, param)
    if body.get("name") is not None:
        message["name"] = _NAME(body["name"], f"{param}.name")
    return message


def _instruction(body: Mapping[str, Any], param: str) -> Message:
    return {"role": "system", "content": _content(body, param)}


def _user(body: Mapping[str, Any], param: str) -> Message:
    return {"role": "user", "content": _content(body, param)}


def _assistant(body: Mapping[str, Any], param: str) -> Message:
    content = "" if body.get("content") is None else _content(body, param)
    message: Message = {"role": "assistant", "content": content}
    if body.get("reasoning_content") is not None:
        message["reasoning_content"] = _REASONING(
            body["reasoning_content"], f"{param}.reasoning_content"
        )
    if body.get("tool_calls"):
        calls = fields.array(_tool_call, MAX_TOOL_CALLS)(body["tool_calls"], f"{param}.tool_calls")
        message["tool_calls"] = list(calls)
    return message


def _tool(body: Mapping[str, Any], param: str) -> Message:
    message: Message = {"role": "tool", "content": _content(body, param)}
    if body.get("tool_call_id") is not None:
        message["tool_call_id"] = _NAME(body["tool_call_id"], f"{param}.tool_call_id")
    return message


_BY_ROLE: Mapping[str, Callable[[Mapping[str, Any], str], Message]] = {
    "developer": _instruction,
    "system": _instruction,
    "user": _user,
    "assistant": _assistant,
    "tool": _tool,
    "function": _tool,
}


def _content(body: Mapping[str, Any], param: str) -> str:
    param = f"{param}.content"
    if "content" not in body:
        raise MissingParameter(f"Missing required parameter: '{param}'.", param=param)
    content = body["content"]
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong_type(param, "a string or an array of content parts", content)
    parts: Sequence[str] = fields.array(_part, MAX_PARTS, min_items=1)(content, param)
    return "\n".join(parts)


def _part(value: Any, param: str) -> str:
    body = fields.json_object(value, param)
    kind = body.get("type")
    if kind in _REFUSED_PARTS:
        raise unsupported(param, f"has the type '{kind}', but this model reads only text")
    if kind not in ("text", "refusal"):
        raise wrong_value(f"{param}.type", "'text'")
    text = body.get(kind)
    if not isinstance(text, str):
        raise wrong_type(f"{param}.{kind}", "a string", text)
    return text


def _tool_call(value: Any, param: str) -> dict[str, Any]:
    body = fields.json_object(value, param)
    function = fields.json_object(body.get("function"), f"{param}.function")
    name = _NAME(function.get("name"), f"{param}.function.name")
    arguments = function.get("arguments")
    if not isinstance(arguments, str | None):
        raise wrong_type(f"{param}.function.arguments", "a string", arguments)
    call: dict[str, Any] = {
        "type": "function",
        "function": {"name": name, "arguments": arguments_of(arguments)},
    }
    if body.get("id") is not None:
        call["id"] = _NAME(body["id"], f"{param}.id")
    return call


def arguments_of(text: str | None) -> Any:
    """Of a call, as templates take them."""
    try:
        parsed = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text  # a model wrote it, and models err: the template shows it as it is
    return parsed if isinstance(parsed, dict) else text


# --- results of tools of servers ------------------------------------------------------------------


def result_of_server(call_id: str, name: str, text: str) -> Message:
    """In which the model reads what a tool of a server answered; `call_id`: as in the prompt."""
    return {"role": "tool", "content": text, "tool_call_id": call_id, "name": name, UNTRUSTED: True}
