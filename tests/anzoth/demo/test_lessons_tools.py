"""Every call can be found in its question, and no question fits two tools."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anzoth.demo import lessons_tools, tool_synthetic
from anzoth.demo.conversation import Conversation, Json, ToolCall
from anzoth.demo.draw import Draw, is_held_out
from anzoth.demo.lessons_tools import FAMILIES, NO_TOOL, call, no_tool, requests, result
from anzoth.demo.tool_family import Family
from anzoth.demo.tool_family import offer as offer_of
from anzoth.demo.tool_results import sentence
from anzoth.demo.vocabulary import CHAT_TEMPLATE
from anzoth.text.chat_template import ChatTemplate

LESSONS: tuple[Callable[[Draw], Conversation], ...] = (call, no_tool, result)
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def draw(seed: int, held_out: bool = False, level: float = 1.0) -> Draw:
    return Draw(random.Random(seed), held_out, held_out, level)


def examples(
    lessons: tuple[Callable[[Draw], Conversation], ...] = LESSONS,
    count: int = 150,
    held_out: bool = False,
) -> Iterator[Conversation]:
    """Of all levels."""
    for seed, lesson in itertools.product(range(count), lessons):
        yield lesson(draw(seed, held_out, level=seed % 11 / 10))


def calls(conversation: Conversation) -> list[tuple[str, ToolCall]]:
    """Each call, with all that the user had said until then."""
    said, found = "", []
    for turn in conversation.turns:
        if turn.role == "user":
            said += f"{turn.content}\n"
        found += [(said, one) for one in turn.calls]
    return found


def functions(conversation: Conversation) -> dict[str, Json]:
    return {tool["function"]["name"]: tool["function"] for tool in conversation.tools}


def arguments(conversation: Conversation) -> Iterator[tuple[str, Json, Any]]:  # Any: JSON
    """What was said, the parameter's schema and its value."""
    for said, one in calls(conversation):
        properties = functions(conversation)[one.name]["parameters"]["properties"]
        for name, value in one.arguments.items():
            yield said, properties[name], value


def is_on_side(value: str, held_out: bool) -> bool:
    """A value is split as a whole or by its words."""
    words = [word.strip(",") for word in value.split()]
    return is_held_out(value) is held_out or all(is_held_out(word) is held_out for word in words)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_same_seed_makes_the_same_example(lesson: Callable[[Draw], Conversation]) -> None:
    for seed in range(20):
        assert lesson(draw(seed)) == lesson(draw(seed))
    assert lesson(draw(1)) != lesson(draw(2))


def test_every_argument_stands_in_the_question() -> None:
    for conversation in examples((call, result)):
        for said, schema, value in arguments(conversation):
            if "enum" not in schema and schema["type"] != "boolean":
                assert str(value) in said


def test_arguments_are_those_of_the_schema_in_its_order() -> None:
    for conversation in examples((call, result)):
        for _, one in calls(conversation):
            parameters = functions(conversation)[one.name]["parameters"]
            order = [name for name in parameters["properties"] if name in one.arguments]
            assert list(one.arguments) == order
            assert set(parameters["required"]) <= set(order)


def test_arguments_have_the_type_of_the_schema() -> None:
    for conversation in examples((call, result)):
        for _, schema, value in arguments(conversation):
            assert isinstance(value, TYPES[schema["type"]])
            assert isinstance(value, bool) is (schema["type"] == "boolean")
            assert value in schema.get("enum", [value])


def test_the_names_of_tools_are_unique() -> None:
    for conversation in examples():
        assert len(functions(conversation)) == len(conversation.tools) >= 1


def test_the_level_bounds_the_number_of_tools() -> None:
    for level, most in ((0.0, 1), (0.3, 2), (0.7, 3), (1.0, 4)):
        counts = {
            len(lesson(draw(seed, level=level)).tools) for seed in range(60) for lesson in LESSONS
        }
        assert counts == set(range(1, most + 1))


def test_at_level_0_parameters_are_one_or_two_strings() -> None:
    for seed in range(150):
        (tool,) = call(draw(seed, level=0.0)).tools
        properties = tool["function"]["parameters"]["properties"]
        assert 1 <= len(properties) <= 2
        assert all(schema["type"] == "string" for schema in properties.values())
        assert not any("enum" in schema for schema in properties.values())


@pytest.mark.parametrize("held_out", [False, True])
def test_values_are_of_one_side_of_the_split(held_out: bool) -> None:
    for conversation in examples((call, result), count=80, held_out=held_out):
        for _, schema, value in arguments(conversation):
            if "enum" not in schema and schema["type"] != "boolean":
                assert is_on_side(str(value), held_out), value


def test_held_out_phrasings_are_never_trained() -> None:
    for family in FAMILIES:
        for phrasings in (family.names, family.about, family.asks):
            assert phrasings.held_out
            assert not set(phrasings.train) & set(phrasings.held_out)
        assert len(family.asks.train) >= 6
        assert len(family.asks.held_out) >= 2


def test_there_are_many_families() -> None:
    assert len(FAMILIES) >= 60


def test_every_question_of_a_family_gives_what_is_required() -> None:
    for family in FAMILIES:
        required = {one.slot for one in family.parameters if not one.tail}
        for pattern in (*family.asks.train, *family.asks.held_out):
            assert all(f"{{{slot}}}" in pattern for slot in required), pattern


def test_a_follow_up_gives_a_parameter_of_its_family() -> None:
    for family in FAMILIES:
        slots = {one.slot for one in family.parameters}
        for pattern in family.follows:
            assert any(f"{{{slot}}}" in pattern for slot in slots), pattern


def test_made_up_tools_are_about_nothing_that_a_family_is_about() -> None:
    groups = {group for family in FAMILIES for group in family.groups.split()}
    assert not groups & set(tool_synthetic._OBJECTS)


def test_no_tool_is_offered_that_could_answer_when_none_shall_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names tell the families here, as they are on no schema."""

    def marked(family: Family, source: Draw) -> Any:  # Any: an Offer, as in offer_of
        offered = offer_of(family, source)
        offered.schema["groups"] = offered.groups
        offered.schema["is_general"] = family.is_general
        return offered

    monkeypatch.setattr(lessons_tools, "offer_of", marked)
    original = lessons_tools._question
    absent: list[Any] = []

    def question(offer: Any, pattern: str, source: Draw) -> tuple[str, Json]:
        absent.append(offer)
        return original(offer, pattern, source)

    monkeypatch.setattr(lessons_tools, "_question", question)
    seen = 0
    for seed in range(600):
        absent.clear()
        conversation = no_tool(draw(seed))
        if conversation.turns[-1].content != NO_TOOL:
            continue
        assert not any(tool.get("is_general") for tool in conversation.tools)
        for offer in absent:
            assert offer.name not in functions(conversation)
            for tool in conversation.tools:
                assert not offer.groups & tool.get("groups", frozenset())
                seen += 1
    assert seen > 50


def test_no_other_tool_shares_a_group_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    original = lessons_tools._others
    seen = 0

    def others(source: Draw, target: Any, count: int) -> Any:  # Any: Offers
        nonlocal seen
        found = original(source, target, count)
        for other in found:
            assert not other.groups & target.groups
            seen += 1
        return found

    monkeypatch.setattr(lessons_tools, "_others", others)
    for seed in range(300):
        call(draw(seed))
    assert seen > 200


def test_without_a_fitting_tool_nothing_is_called() -> None:
    contents = set()
    for conversation in examples((no_tool,), count=300):
        last = conversation.turns[-1]
        assert last.topic == "no-tool"
        assert not last.calls
        assert last.key.lower() in last.content.lower()
        contents.add(last.content == NO_TOOL)
    assert contents == {True, False}


def test_every_lesson_ends_with_its_topic() -> None:
    for conversation in examples((call,)):
        assert conversation.turns[-1].topic == "tool-call"
        assert conversation.turns[-1].calls
    for conversation in examples((result,)):
        assert [turn.role for turn in conversation.turns[-4:]] == [
            *("user", "assistant", "tool", "assistant")
        ]
        last = conversation.turns[-1]
        assert last.topic == "tool-result"
        assert last.key in last.content


def test_a_follow_up_calls_again_with_another_value() -> None:
    seen = 0
    for seed in range(1500):
        conversation = call(draw(seed))
        turns = conversation.turns
        if sum(turn.role == "user" for turn in turns) == 2:
            (_, first), (_, second) = calls(conversation)
            assert first.name == second.name
            assert first.arguments != second.arguments
            seen += 1
    assert 10 < seen < 150


def test_a_result_is_said_by_its_shape() -> None:
    for value, said in (
        ({"temperature": 21.5}, "The temperature is 21.5."),
        ({"a_b": "x", "cD": True}, "The a b is x and the c d is yes."),
        ({"a": 1, "b": None, "c": -2}, "The a is 1, the b is unknown and the c is -2."),
        ({"error": "not found"}, "That did not work: not found."),
        ("It is done!", "The tool says: It is done!"),
        ("It is done", "The tool says: It is done."),
        (7, "The result is 7."),
        (False, "The answer is no."),
        ([], "I found nothing."),
        (["a"], "I found 1: a."),
        (["a", "b", "c"], "I found 3: a, b and c."),
        ([{"n": "a", "m": 1}, {"n": "b", "m": 2}], "I found 2: a and b."),
    ):
        assert sentence(value) == said


def test_the_sentence_follows_from_what_the_tool_returned() -> None:
    for conversation in examples((result,), count=300):
        tool, said = conversation.turns[-2:]
        try:
            value = json.loads(tool.content)
        except json.JSONDecodeError:
            value = tool.content
        assert said.content == sentence(value), tool.content


def test_examples_are_short_once_the_template_has_rendered_them() -> None:
    template = ChatTemplate(CHAT_TEMPLATE, {})
    sizes = [
        len(template.render(conversation.messages(), {"tools": list(conversation.tools)}))
        for conversation in examples(count=60)
    ]
    assert max(sizes) < 2500
    assert sum(sizes) / len(sizes) < 700


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_different_things_are_asked_of_the_same_tools(level: float) -> None:
    num_calls = num_refusals = 0
    for seed in range(100):
        asked = requests(draw(seed, level=level))
        assert len({json.dumps(one.tools) for one in asked}) == 1
        says = [one.turns[-2].content for one in asked]
        assert len(set(says)) == len(says) > 0
        for one in asked:
            answer = one.turns[-1]
            num_refusals += answer.content == NO_TOOL
            num_calls += len(answer.calls)
            for said, calling in calls(one):
                assert calling.name in functions(one)
                for value in calling.arguments.values():
                    if isinstance(value, str) and "enum" not in str(functions(one)[calling.name]):
                        assert value.lower() in said.lower()
    assert 0.1 < num_refusals / num_calls < 1
