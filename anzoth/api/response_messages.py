"""Which messages are the items of a conversation?

One turn of the assistant is several items and one message: templates, and so the beginnings of
prompts that the prefix cache knows, are made of messages. See `messages` for those.

    what was searched, which tools a server has      no model reads them
    a call of a server's tool                        a call in the assistant's turn, and its result
    a request to approve one, and the answer         the same, that says it was not made; unless it
                                                     was then made, or is about to be

Does not know: where items come from, or templates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from anzoth.api.call_ids import prompt_id, turn_of
from anzoth.api.messages import (
    Message,
    arguments_of,
    as_templates_take,
    result_of_server,
)
from anzoth.api.response_items import Item, text_of_error
from anzoth.gateway.tools.definitions import SEPARATOR

NOT_APPROVED = "This call was not made: it was not approved."
_UNREAD = ("file_search_call", "mcp_list_tools", "mcp_approval_response")


def messages_of(
    items: Sequence[Item],
    instructions: Iterable[str | None] = (),
    pending: Collection[str] = (),
) -> list[Message]:
    """The whole conversation; `instructions` stand before it, where there are any. `pending`: ids
    of the requests for approval whose calls are about to be made."""
    made: list[Message] = [
        {"role": "system", "content": text} for text in instructions if text is not None
    ]
    settled = {item.get("approval_request_id") for item in items if item["type"] == "mcp_call"}
    settled.update(pending)
    reasons = {
        item["approval_request_id"]: item.get("reason")
        for item in items
        if item["type"] == "mcp_approval_response"
    }
    turn: Message | None = None  # of the assistant's, as long as it goes on
    calls_of: str | None = None  # which turn it is, once it has calls of servers' tools: then
    # nothing follows in it but more of those
    for item in items:
        match item["type"]:
            case kind if kind in _UNREAD:
                continue
            case "mcp_approval_request" if item["id"] in settled:
                continue
            case "function_call_output":
                turn = None
                result = {"role": "tool", "content": _joined(item["output"])}
                made.append({**result, "tool_call_id": item["call_id"]})
            case "message" if item["role"] != "assistant":
                turn = None
                role = "user" if item["role"] == "user" else "system"
                made.append({"role": role, "content": _joined(item["content"])})
            case "mcp_call" | "mcp_approval_request":
                if turn is None or calls_of not in (None, turn_of(item["id"])):
                    turn = _begin_turn(made)
                calls_of = turn_of(item["id"])
                made.append(_add_server_call(turn, item, reasons.get(item["id"])))
            case _:
                if turn is None or calls_of is not None or _begins_turn(item, turn):
                    turn, calls_of = _begin_turn(made), None
                _add_to_turn(turn, item)
        if turn is None:
            calls_of = None
    return as_templates_take(made)


def _begin_turn(made: list[Message]) -> Message:
    made.append({"role": "assistant", "content": ""})
    return made[-1]


def _begins_turn(item: Item, turn: Message) -> bool:
    """Whether it cannot belong to a turn that says so much already: reasoning comes first, and a
    turn has one text."""
    has_answer = bool(turn["content"]) or "tool_calls" in turn
    return (
        has_answer
        if item["type"] == "reasoning"
        else item["type"] == "message" and bool(turn["content"])
    )


def _add_to_turn(turn: Message, item: Item) -> None:
    match item["type"]:
        case "reasoning":
            text = "".join(part["text"] for part in item["content"])
            if text:
                turn["reasoning_content"] = turn.get("reasoning_content", "") + text
        case "message":
            turn["content"] = _joined(item["content"])
        case "function_call":
            _add_call(turn, item["call_id"], item["name"], item["arguments"])


def _add_server_call(turn: Message, item: Item, reason: str | None) -> Message:
    """The result."""
    name, call_id = f"{item['server_label']}{SEPARATOR}{item['name']}", prompt_id(item["id"])
    _add_call(turn, call_id, name, item["arguments"])
    if item["type"] == "mcp_approval_request":
        text = f"{NOT_APPROVED} {reason}" if reason else NOT_APPROVED
    elif item.get("error") is not None:
        text = text_of_error(item["error"])
    else:
        text = item.get("output") or ""
    return result_of_server(call_id, name, text)


def _add_call(turn: Message, call_id: str, name: str, arguments: str) -> None:
    function: dict[str, Any] = {"name": name, "arguments": arguments_of(arguments)}
    call = {"type": "function", "function": function, "id": call_id}
    turn.setdefault("tool_calls", []).append(call)


def _joined(content: str | Sequence[Item]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", part.get("refusal", "")) for part in content)
