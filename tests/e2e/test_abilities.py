"""What the bundled model can do, through the running server with the OpenAI SDK.

The cases are drawn from the lessons with values that training never used (see
`anzoth.demo.evaluate`, which asks more of them), and as many have to be right as a small model can
be held to. One example of each ability is spelled out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from openai import OpenAI

from anzoth.demo import lessons_json, lessons_passages, lessons_tools
from anzoth.demo.answering import Answer
from anzoth.demo.conversation import Conversation, ToolCall
from anzoth.demo.evaluate import SAME_PHRASINGS, Case, drawn, drawn_from

pytestmark = pytest.mark.slow

MODEL = "anzoth-default"
NUM_CASES = 12
FLOOR_TALK = 0.75
FLOORS = {
    lessons_passages.answerable: 0.2,
    lessons_passages.unanswerable: 0.3,
    lessons_tools.call: 0.3,
    lessons_tools.no_tool: 0.4,
    lessons_tools.result: 0.35,
    lessons_json.extract: 0.15,
}
"""Shares of the drawn cases; the README states what was measured on more of them."""

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    },
}
ORDERS: Any = {
    "type": "function",
    "function": {
        "name": "cancel_order",
        "description": "Cancel an order",
        "parameters": {
            "type": "object",
            "properties": {"order_number": {"type": "string"}},
            "required": ["order_number"],
        },
    },
}


@pytest.fixture
def client(server, key) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key=key) as client:
        yield client


def say(client: OpenAI, *messages: dict[str, Any], **options: Any) -> Any:
    """The assistant's message."""
    return (
        client.chat.completions.create(
            model=MODEL,
            messages=messages,  # type: ignore[arg-type]  # plain dictionaries
            temperature=0,
            **options,
        )
        .choices[0]
        .message
    )


def answer_of(client: OpenAI, conversation: Conversation) -> Answer:
    options: dict[str, Any] = {"tools": list(conversation.tools)} if conversation.tools else {}
    message = say(client, *as_sent(conversation), **options)
    calls = (
        ToolCall(call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or ()
    )
    return Answer(message.content or "", tuple(calls))


def as_sent(conversation: Conversation) -> Iterator[dict[str, Any]]:
    """Messages as a client writes them: calls have ids and arguments in JSON."""
    for message in conversation.messages():
        for number, call in enumerate(message.get("tool_calls", ())):
            call["id"] = f"call_{number}"
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
        if message["role"] == "tool":
            message["tool_call_id"] = "call_0"
        yield message


def share_right(client: OpenAI, cases: Iterator[Case]) -> float:
    judged = [
        is_right
        for case in islice(cases, NUM_CASES)
        for _, is_right in case.judge(answer_of(client, case.conversation))
    ]
    return sum(judged) / len(judged)


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_it_greets_and_says_what_it_is(client: OpenAI) -> None:
    assert "demonstration model" in say(client, user("Hello! Who are you?")).content


def test_it_says_what_anzoth_is_and_how_to_use_it(client: OpenAI) -> None:
    assert "private inference server" in say(client, user("What is Anzoth?")).content
    assert "keys create" in say(client, user("How do I create an API key?")).content


def test_it_recalls_what_was_said_earlier(client: OpenAI) -> None:
    told = user("My name is Rosalba.")
    first = say(client, told)
    second = say(
        client, told, {"role": "assistant", "content": first.content}, user("What is my name?")
    )
    assert "Rosalba" in second.content


def test_it_says_that_it_does_not_know(client: OpenAI) -> None:
    answer = say(client, user("What is the capital of Mongolia?")).content
    assert "I only know Anzoth" in answer


@pytest.mark.parametrize(
    "category",
    ["greeting, identity", "about Anzoth", "follow-up", "recall", "outside knowledge"],
)
def test_conversations_about_anzoth_are_mostly_right(client: OpenAI, category: str) -> None:
    cases = [
        case
        for case in islice(drawn(NUM_CASES), 5 * NUM_CASES)
        if case.judge(Answer(""))[0][0] == category
    ]
    assert len(cases) == NUM_CASES
    assert share_right(client, iter(cases)) >= FLOOR_TALK


DOCUMENTS = [
    {"title": "Opening hours", "text": "The library of Talmora is open from 9:40 to 17:15."},
    {"text": "The entry fee of the Verano museum is 12.35 EUR. Dogs must wait outside."},
    {"text": "Jorun Peltz is the manager of the Verano museum."},
]


def test_it_answers_from_documents_and_cites_them(client: OpenAI) -> None:
    asked = user("What is the entry fee of the Verano museum?")
    answer = say(client, asked, extra_body={"documents": DOCUMENTS}).content
    assert "12.35 EUR" in answer
    assert "[2]" in answer


def test_it_says_when_the_documents_do_not_answer(client: OpenAI) -> None:
    asked = user("What is the phone number of the Talmora bakery?")
    answer = say(client, asked, extra_body={"documents": DOCUMENTS}).content
    assert answer == lessons_passages.UNANSWERABLE


@pytest.mark.parametrize("lesson", [lessons_passages.answerable, lessons_passages.unanswerable])
def test_questions_about_passages_are_mostly_answered_exactly(client: OpenAI, lesson) -> None:
    assert share_right(client, drawn_from(lesson, SAME_PHRASINGS)) >= FLOORS[lesson]


def test_it_calls_a_tool_and_tells_the_result(client: OpenAI) -> None:
    asked = user("What is the weather in Brunsk?")
    message = say(client, asked, tools=[ORDERS, WEATHER])
    (call,) = message.tool_calls
    assert message.content is None
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Brunsk"}
    result = {
        "role": "tool",
        "tool_call_id": call.id,
        "content": json.dumps({"temperature": 17}),
    }
    told = say(client, asked, message.model_dump(), result, tools=[ORDERS, WEATHER])
    assert not told.tool_calls
    assert "17" in told.content


def test_a_streamed_call_is_the_same_call(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": "Please cancel the order QX-5150."}],
        tools=[ORDERS, WEATHER],
        temperature=0,
    ) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.function.name == "cancel_order"
    assert json.loads(call.function.arguments) == {"order_number": "QX-5150"}


def test_it_answers_directly_when_no_tool_fits(client: OpenAI) -> None:
    message = say(client, user("Hello, who are you?"), tools=[ORDERS, WEATHER])
    assert not message.tool_calls
    assert "demonstration model" in message.content


@pytest.mark.parametrize(
    "lesson", [lessons_tools.call, lessons_tools.no_tool, lessons_tools.result]
)
def test_tools_are_mostly_chosen_and_filled_exactly(client: OpenAI, lesson) -> None:
    assert share_right(client, drawn_from(lesson, SAME_PHRASINGS)) >= FLOORS[lesson]


def test_values_for_a_schema_mostly_come_from_the_prompt(client: OpenAI) -> None:
    assert (
        share_right(client, drawn_from(lessons_json.extract, SAME_PHRASINGS))
        >= FLOORS[lessons_json.extract]
    )
