"""Responses as a client takes them: checked, put together, compared."""

from __future__ import annotations

from typing import Any

from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

EVENT = TypeAdapter[Any](ResponseStreamEvent)

# As Qwen 3 has it, with calls in the Hermes form.
TEMPLATE = (
    "{{ bos_token }}{% for t in tools or [] %}({{ t.function.name }}){% endfor %}"
    "{% for m in messages %}[{{ m.role }}]"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% for call in m.tool_calls or [] %}"
    '<tool_call>{"name": {{ call.function.name | tojson }}, '
    '"arguments": {{ call.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}{% endfor %}[assistant]"
)
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}


def checked(response: dict[str, Any]) -> dict[str, Any]:
    """As strictly as the SDK can be told to check it."""
    Response.model_validate(response, strict=True)
    return response


def without_ids(value: Any) -> Any:
    """What differs between two answers to the same request."""
    if isinstance(value, dict):
        return {
            name: without_ids(item)
            for name, item in value.items()
            if name not in ("id", "call_id", "created_at", "completed_at")
        }
    return list(map(without_ids, value)) if isinstance(value, list) else value


def put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The last response of a stream whose every event is valid, follows from those before it, and
    is understood by the SDK."""
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    items: dict[Any, dict[str, Any]] = {}  # by index
    texts: dict[Any, str] = {}
    for event in events:
        EVENT.validate_python(event, strict=True)
        kind = event["type"]
        index = event.get("output_index")
        if kind == "response.output_item.added":
            assert index == len(items)
            assert event["item"].get("status", "in_progress") == "in_progress"
            items[index] = event["item"]
            texts[index] = ""
        elif index is not None and "item_id" in event:
            assert event["item_id"] == items[index]["id"]
        if kind.endswith(".delta"):
            texts[index] += event["delta"]
        for name in ("text", "arguments", "refusal"):
            if kind.endswith(".done") and name in event:
                assert event[name] == texts[index]
        if kind == "response.output_item.done":
            assert event["item"]["id"] == items[index]["id"]
            items[index] = event["item"]
    first, second, *_, last = events
    assert [first["type"], second["type"]] == ["response.created", "response.in_progress"]
    assert first["response"] == second["response"]
    assert first["response"]["status"] == "in_progress"
    response = checked(last["response"])
    assert last["type"] == f"response.{response['status']}"
    if response["status"] != "failed":
        assert response["output"] == [items[index] for index in sorted(items)]
    for event in events:
        state.handle_event(EVENT.validate_python(event))
    return response
