"""Answers whose form is promised, through the running server with the OpenAI SDK.

Whether the small model says something sensible is asked elsewhere; the form holds whatever it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Annotated, Any

import pytest
from openai import BadRequestError, OpenAI
from pydantic import BaseModel, Field

pytestmark = pytest.mark.slow

MODEL = "anzoth-default"


class Level(Enum):
    LOW = "low"
    HIGH = "high"


# Bounded, so that an answer ends whatever the model would like to go on with.
Text = Annotated[str, Field(max_length=12)]


class Item(BaseModel):
    name: Text
    count: Annotated[int, Field(ge=0, le=99)]


class Report(BaseModel):
    title: Text
    level: Level
    items: Annotated[list[Item], Field(max_length=2)]
    note: Text | None


QUESTION: Any = [{"role": "user", "content": "Three pumps and two valves were ordered. Report."}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "set_level",
        "parameters": {
            "type": "object",
            "properties": {
                "level": {"enum": ["low", "high"]},
                "until": {"type": "integer", "minimum": 0, "maximum": 24},
            },
            "required": ["level", "until"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


@pytest.fixture
def sdk(server, key) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{server.url}/v1", api_key=key, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def test_the_sdk_parses_an_answer_into_its_type(sdk: OpenAI) -> None:
    # At any temperature: nothing depends on what the model would like to say.
    for temperature, seed in ((0, 1), (1, 2), (2, 3)):
        completion = sdk.chat.completions.parse(
            model=MODEL,
            messages=QUESTION,
            response_format=Report,
            temperature=temperature,
            seed=seed,
        )
        (choice,) = completion.choices
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Report)


def test_a_stream_ends_with_the_same_value(sdk: OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": QUESTION, "seed": 7, "temperature": 1}
    whole = sdk.chat.completions.parse(**fields, response_format=Item)
    with sdk.chat.completions.stream(**fields, response_format=Item) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Item)
    assert final.choices[0].message.parsed == whole.choices[0].message.parsed


@pytest.mark.parametrize(
    ("choice", "ending"),
    [("required", "tool_calls"), ({"type": "function", "function": {"name": "set_level"}}, "stop")],
)
def test_a_forced_call_follows_the_schema_of_its_tool(
    sdk: OpenAI, choice: Any, ending: str
) -> None:
    answer = sdk.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        tools=[TOOL],
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=400,
    ).choices[0]
    assert answer.finish_reason == ending
    assert answer.message.content is None
    (call,) = answer.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "set_level"
    arguments = json.loads(call.function.arguments)
    assert list(arguments) == ["level", "until"]
    assert arguments["level"] in ("low", "high")
    assert type(arguments["until"]) is int


def test_other_forms(sdk: OpenAI) -> None:
    def ask(**form: Any) -> str:
        answer = sdk.chat.completions.create(
            model=MODEL, messages=QUESTION, extra_body={"structured_outputs": form}
        )
        return answer.choices[0].message.content or ""

    assert ask(choice=["pumps", "valves"]) in ("pumps", "valves")
    assert re.fullmatch("[A-F]{3}-[0-9]{2}", ask(regex="[A-F]{3}-[0-9]{2}"))


def test_an_unusable_schema_names_the_keyword_and_holds_nobody_up(sdk: OpenAI) -> None:
    def ask(schema: dict[str, Any]) -> str:
        # Not as `response_format`: it would show the model more than fits in its context.
        answer = sdk.chat.completions.create(
            model=MODEL, messages=QUESTION, extra_body={"structured_outputs": {"json": schema}}
        )
        return answer.choices[0].message.content or ""

    def refused(schema: dict[str, Any]) -> BadRequestError:
        with pytest.raises(BadRequestError) as caught:
            ask(schema)
        return caught.value

    chain = {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(3500)}
    properties = {f"property {i}": {} for i in range(1000)}
    with ThreadPoolExecutor() as threads:
        # This one would overflow an ordinary stack, and with it end the engine.
        deep = threads.submit(
            ask, {"$ref": "#/$defs/0", "$defs": {**chain, "3500": {"type": "null"}}}
        )
        wide = threads.submit(refused, {"type": "object", "properties": properties})
        unsupported = threads.submit(refused, {"type": "array", "uniqueItems": True})
        good = [threads.submit(ask, {"type": "boolean"}) for _ in range(4)]
    assert all(one.result() in ("true", "false") for one in good)
    assert deep.result() == "null"
    for error in (wide.result(), unsupported.result()):
        assert error.param == "structured_outputs"
    assert "uniqueItems" in unsupported.result().message
