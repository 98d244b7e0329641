"""Which calls has a person decided about, in the input of this request?

    mcp_approval_request (an earlier response) + mcp_approval_response (this input) ─▶ a call

A client that keeps its conversation itself sends all of it each time: a decision that the assistant
has said or done something after is an old one.

Whoever may go on from a conversation may approve its calls: it is the caller's to ask a person. An
approval is of the call as it was shown, and of that alone; that its tool is granted is checked
again when the call is made.

Does not know: what is then called, or what becomes of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from anzoth.api.call_ids import new_ids
from anzoth.api.fields import wrong_value
from anzoth.api.response_items import Item
from anzoth.api.server_calls import ServerCall

_SAID = ("reasoning", "function_call", "file_search_call", "mcp_call")


def answered_calls(context: Sequence[Item], input: Sequence[Item]) -> list[ServerCall]:
    """In the order of the answers. Raises InvalidValue for one that nothing asked for, or to what
    was answered already."""
    requests = {
        item["id"]: item for item in (*context, *input) if item["type"] == "mcp_approval_request"
    }
    settled = {item.get("approval_request_id") for item in context}
    said = [index for index, item in enumerate(input) if _is_said(item)]
    answers: dict[str, Item] = {}
    for index, item in enumerate(input):
        if item["type"] != "mcp_approval_response" or (said and index < said[-1]):
            continue
        about, param = item["approval_request_id"], f"input[{index}].approval_request_id"
        if about not in requests:
            raise wrong_value(param, "the id of a request for approval in the conversation")
        if about in settled or about in answers:
            raise wrong_value(param, "a request for approval that was not answered yet")
        answers[about] = item
    ids = new_ids(len(answers))
    return [
        _call(id, requests[about], answer)
        for id, (about, answer) in zip(ids, answers.items(), strict=True)
    ]


def _call(id: str, request: Item, answer: Item) -> ServerCall:
    return ServerCall(
        id,
        request["server_label"],
        request["name"],
        request["arguments"],
        request["id"],
        answer["approve"],
        answer.get("reason") or "",
    )


def _is_said(item: Item) -> bool:
    """Whether it is the assistant's; requests for approval aside, which stand together or each with
    its answer."""
    return item["type"] in _SAID or (item["type"] == "message" and item["role"] == "assistant")
