"""Conversations that the server remembers, through OpenAI's SDKs and with the bundled models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai.types.responses import ResponseCompletedEvent, ResponseIncompleteEvent

from client_drivers import command, drive
from installation import Installation

pytestmark = pytest.mark.slow

MODEL = "anzoth-default"
BOAT = "The owner of the boat is Mara Velten."


@pytest.fixture(scope="module")
def key(whole_server: Installation) -> str:
    return whole_server.create_key("responses")


@pytest.fixture(scope="module")
def client(whole_server: Installation, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{whole_server.url}/v1",
        api_key=key,
        max_retries=2,
        _strict_response_validation=True,
    ) as made:
        yield made


def test_the_prompt_of_a_turn_begins_with_that_of_the_turn_before(client: openai.OpenAI) -> None:
    """So the engine computes what is new, and nothing else."""
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": 24}
    first = client.responses.create(input="What is Anzoth? " * 6, **asked)
    assert first.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 0
    last = first
    for question in ("And who may use it?", "And where does it run?"):
        with client.responses.stream(
            input=question, previous_response_id=last.id, **asked
        ) as stream:
            *_, event = stream
        assert isinstance(event, ResponseCompletedEvent | ResponseIncompleteEvent)
        usage = event.response.usage
        assert usage is not None
        assert last.usage is not None
        # Whole blocks of what went in and came out, but for the seams between the turns.
        known = last.usage.total_tokens
        assert known - 32 <= usage.input_tokens_details.cached_tokens <= known
        last = event.response
    items = list(client.responses.input_items.list(last.id, order="asc"))
    assert len(items) == 5
    assert client.responses.retrieve(last.id).usage == last.usage


def test_a_schema_is_kept_and_a_forced_call_goes_its_round(client: openai.OpenAI) -> None:
    class Answer(pydantic.BaseModel):
        name: Literal["Anzoth", "something else"]
        is_open: bool

    parsed = client.responses.parse(
        model=MODEL, input="What is Anzoth?", text_format=Answer, max_output_tokens=200
    )
    assert isinstance(parsed.output_parsed, Answer)
    tool: Any = {
        "type": "function",
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "enum": ["boat", "printer"]}},
            "required": ["word"],
            "additionalProperties": False,
        },
        "strict": True,
    }
    asked = client.responses.create(
        model=MODEL,
        input="What is Anzoth?",
        tools=[tool],
        tool_choice={"type": "function", "name": "look_up"},
    )
    (call,) = (item for item in asked.output if item.type == "function_call")
    assert json.loads(call.arguments)["word"] in {"boat", "printer"}
    answered = client.responses.create(
        model=MODEL,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": BOAT}],
        tools=[tool],
        tool_choice="none",
        previous_response_id=asked.id,
        max_output_tokens=24,
    )
    assert answered.output_text


def test_knowledge_bases_answer_with_verified_citations(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="boats")
    file = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("boat.txt", BOAT.encode())
    )
    assert file.status == "completed"
    response = client.responses.create(
        model=MODEL,
        input="Who is the owner of the boat?",
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
        include=["file_search_call.results"],
        temperature=0,
    )
    search, message = response.output
    assert search.type == "file_search_call"
    assert search.results is not None
    assert [result.text for result in search.results] == [BOAT]
    assert "Mara Velten" in response.output_text
    assert message.type == "message"
    cited = [
        made for part in message.content if part.type == "output_text" for made in part.annotations
    ]
    assert [made.to_dict()["verified"] for made in cited] == [True]
    client.vector_stores.delete(store.id)
    client.files.delete(file.id)


def test_node_sdk(whole_server: Installation, key: str) -> None:
    seen = drive(command("drive_responses.mjs"), whole_server.url, key)
    assert "Anzoth" in seen["text"]
    assert seen["streamed"] == seen["joined"] == seen["text"]
    assert seen["cached"] > 0
    assert seen["items"] == ["message", "message", "message"]
    assert seen["deleted"] == ["NotFoundError", 404]
