"""The questions have the expected answers, and the judge knows a right one from a wrong one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from anzoth.demo.conversation import Conversation, Json, ToolCall, Turn
from anzoth.demo.examination_tasks import Case, cases, occurs
from anzoth.text import answer_format, passages

CASES = tuple(cases())


def of(*starts: str) -> list[Case]:
    return [case for case in CASES if case.category.startswith(starts)]


def asked(case: Case) -> str:
    """The last thing that the user said, without the passages."""
    said = next(turn for turn in reversed(case.conversation.turns) if turn.role == "user")
    return said.content.rpartition("Question: ")[2]


def passages_of(case: Case) -> dict[int, str]:
    found = re.findall(r"^\[(\d+)] (.+)$", case.conversation.turns[-1].content, re.MULTILINE)
    return {int(number): text for number, text in found}


def words(text: str) -> set[str]:
    """Those that carry meaning, roughly: of four letters or more, without endings."""
    common = {"what", "which", "does", "have", "with", "this", "that", "when", "where", "from"}
    found = {word for word in re.findall(r"[a-zà-ÿ]{4,}", text.lower()) if word not in common}
    return {re.sub(r"(es|s|ed|ing)$", "", word) for word in found}


def spelled_out(expected: Any) -> Iterator[Any]:  # Any: JSON
    """Every answer that the tuples of spellings allow, one spelling at a time."""
    if isinstance(expected, tuple):
        yield from expected
    elif isinstance(expected, dict):
        first = {key: next(spelled_out(value)) for key, value in expected.items()}
        for key, value in expected.items():
            yield from ({**first, key: spelling} for spelling in spelled_out(value))
        if not expected:
            yield {}
    elif isinstance(expected, list):
        yield [next(spelled_out(item)) for item in expected]
    else:
        yield expected


def violations(schema: Json, value: Any, path: str = "$") -> list[str]:  # Any: JSON
    """Where `value` is not what `schema` asks for; every object is taken to be closed."""
    types = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
    kind = schema["type"]
    if kind == "object":
        properties = schema["properties"]
        missing = [f"{path}.{key} is missing" for key in schema.get("required", ())]
        wrong = [text for text in missing if text.split()[0][len(path) + 1 :] not in value]
        for key, item in value.items():
            if key not in properties:
                wrong.append(f"{path}.{key} is unknown")
            else:
                wrong += violations(properties[key], item, f"{path}.{key}")
        return wrong
    if kind == "array":
        return [text for item in value for text in violations(schema["items"], item, f"{path}[]")]
    is_type = isinstance(value, types[kind]) and (kind == "boolean") == isinstance(value, bool)
    if not is_type or value not in schema.get("enum", (value,)):
        return [f"{path} is {value!r}"]
    return []


def perfect(case: Case) -> tuple[str, list[ToolCall]]:
    """An answer that nobody could object to."""
    if case.call is not None:
        return "", [ToolCall(case.call.name, next(spelled_out(case.call.arguments)))]
    if case.json is not None:
        return json.dumps(next(spelled_out(case.json))), []
    cited = "".join(f" [{number}]" for number in case.cites or ())
    return f"Well: {' and '.join(phrases[0] for phrases in case.says)}{cited}.", []


def test_the_examination_is_as_long_as_intended() -> None:
    assert Counter(case.category for case in CASES) == {
        "grounded, close": 15,
        "grounded, rephrased": 15,
        "grounded, hard": 10,
        "unanswerable, obvious": 10,
        "unanswerable, near": 10,
        "tool call": 40,
        "no tool": 15,
        "tool result": 10,
        "json answer": 15,
        "recall": 15,
        "greeting": 15,
    }


def test_no_question_is_asked_twice_and_every_table_was_read_whole() -> None:
    seen = Counter((case.category, asked(case)) for case in CASES)
    assert [question for question, count in seen.items() if count > 1] == []
    for case in CASES:
        said = " ".join(turn.content for turn in case.conversation.turns if turn.role == "user")
        assert not re.search(r"=>|\n  |^(> |@ |near:|close:)|\s$", said), said


def test_every_conversation_ends_where_the_assistant_speaks() -> None:
    for case in CASES:
        roles = [turn.role for turn in case.conversation.turns]
        dialogue = roles[1:] if roles[0] == "system" else roles
        expected = "tool" if case.category == "tool result" else "user"
        assert dialogue[-1] == expected
        assert dialogue[0::2] == ["user"] * len(dialogue[0::2]) or expected == "tool"
        assert all(turn.content.strip() or turn.calls for turn in case.conversation.turns)


@pytest.mark.parametrize("case", of("grounded"), ids=asked)
def test_the_value_is_in_the_passage_to_cite_and_in_no_other(case: Case) -> None:
    found = passages_of(case)
    assert case.cites is not None
    (number,) = case.cites
    for phrases in case.says:
        assert any(occurs(phrase, found[number]) for phrase in phrases)
        others = [text for n, text in found.items() if n != number]
        assert not any(occurs(phrase, text) for phrase in phrases for text in others)
        assert not any(occurs(phrase, asked(case)) for phrase in phrases)


def test_passages_are_laid_out_as_the_server_lays_them_out() -> None:
    for case in of("grounded", "unanswerable"):
        content = case.conversation.turns[-1].content
        head, _, rest = content.partition("\n\n")
        assert head == passages.INSTRUCTION
        texts = [passages.Passage(line.partition("] ")[2]) for line in rest.split("\n")[:-2]]
        assert 1 <= len(texts) <= 5
        assert passages.question_with_passages(asked(case), texts) == content


def test_questions_called_harder_share_fewer_words_with_their_passage() -> None:
    shared: dict[str, list[float]] = {}
    for case in of("grounded"):
        passage = passages_of(case)[min(case.cites or ())]
        in_question = words(asked(case))
        common = len(in_question & words(passage)) / max(len(in_question), 1)
        shared.setdefault(case.category.removeprefix("grounded, "), []).append(common)
    means = {kind: fmean(shares) for kind, shares in shared.items()}
    assert means["close"] > means["rephrased"] + 0.2 > means["hard"] + 0.2, means


def test_near_misses_share_words_with_the_passages_and_obvious_ones_hardly_any() -> None:
    for case in of("unanswerable"):
        common = words(asked(case)) & words(" ".join(passages_of(case).values()))
        assert bool(common) == (case.category == "unanswerable, near"), (asked(case), common)


def test_tools_are_in_the_form_of_the_api_and_are_one_to_four() -> None:
    for case in of("tool", "no tool"):
        assert 1 <= len(case.conversation.tools) <= 4
        for tool in case.conversation.tools:
            assert tool["type"] == "function"
            parameters = tool["function"]["parameters"]
            assert re.fullmatch(r"[a-z_]+", tool["function"]["name"])
            assert tool["function"]["description"]
            assert set(parameters.get("required", ())) <= set(parameters["properties"])
            for schema in parameters["properties"].values():
                assert schema["type"] in {"string", "integer", "number", "boolean", "array"}


def schema_for(call: ToolCall, conversation: Conversation) -> Json:
    functions = {tool["function"]["name"]: tool["function"] for tool in conversation.tools}
    return functions[call.name]["parameters"]


@pytest.mark.parametrize("case", of("tool call"), ids=asked)
def test_every_accepted_call_satisfies_the_schema_of_its_tool(case: Case) -> None:
    assert case.call is not None
    schema = schema_for(case.call, case.conversation)
    for arguments in spelled_out(case.call.arguments):
        given = {key: value for key, value in arguments.items() if value != ""}
        assert violations(schema, given) == []


@pytest.mark.parametrize("case", of("tool call"), ids=asked)
def test_the_message_says_what_the_arguments_need(case: Case) -> None:
    assert case.call is not None
    said = " ".join(turn.content for turn in case.conversation.turns)
    properties = schema_for(case.call, case.conversation)["properties"]
    for name, value in case.call.arguments.items():
        is_code = "ISO" in properties[name].get("description", "")
        if not isinstance(value, str | tuple) or "enum" in properties[name] or is_code:
            continue
        spellings = value if isinstance(value, tuple) else (value,)
        assert any(occurs(spelling, said) for spelling in spellings), (name, value)


@pytest.mark.parametrize("case", of("tool result"), ids=asked)
def test_a_result_belongs_to_a_valid_call_and_holds_the_values(case: Case) -> None:
    called, result = case.conversation.turns[-2:]
    (call,) = called.calls
    assert violations(schema_for(call, case.conversation), call.arguments) == []
    json.loads(result.content)
    for phrases in case.says:
        assert any(occurs(phrase, result.content) for phrase in phrases)
        assert not any(occurs(phrase, asked(case)) for phrase in phrases)


@pytest.mark.parametrize("case", of("json"), ids=asked)
def test_every_accepted_json_satisfies_its_schema(case: Case) -> None:
    system = case.conversation.turns[0]
    assert system.role == "system"
    schema = json.loads(system.content.partition(answer_format.INSTRUCTION)[2])
    again = answer_format.with_schema([{"role": "user", "content": asked(case)}], schema)
    assert system.content.endswith(again[0]["content"])
    for answer in spelled_out(case.json):
        assert violations(schema, answer) == []


@pytest.mark.parametrize("case", of("recall"), ids=asked)
def test_what_is_to_be_recalled_was_said_by_the_user_before(case: Case) -> None:
    users = [turn.content for turn in case.conversation.turns if turn.role == "user"]
    for phrases in case.says:
        earlier = users[:-1] or users
        assert any(occurs(phrase, text) for phrase in phrases for text in earlier)
        if len(users) > 1:
            assert not any(occurs(phrase, users[-1]) for phrase in phrases)
    assert all(any(occurs(word, text) for text in users) for word in case.never_says)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.category}: {asked(case)}")
def test_the_judge_accepts_a_perfect_answer_and_no_wrong_one(case: Case) -> None:
    text, calls = perfect(case)
    assert case.is_right(text, calls)
    assert not case.is_right("", [])
    assert not case.is_right(text, [*calls, ToolCall("delete_everything", {})])
    if case.category != "no tool":
        assert not case.is_right("The moon is made of green cheese [9].", [])
    if case.cites is not None:
        assert not case.is_right(f"{text} [5] [6]", [])
    if case.cites:
        assert not case.is_right(text.replace("[", "("), [])
    if case.call is not None:
        arguments = calls[0].arguments
        assert not case.is_right(text, [ToolCall("other", arguments)])
        assert not case.is_right(text, [replace(calls[0], arguments={**arguments, "extra": 1})])
        for name in schema_for(case.call, case.conversation).get("required", ()):
            fewer = {key: value for key, value in arguments.items() if key != name}
            assert not case.is_right(text, [replace(calls[0], arguments=fewer)])
    if case.json is not None:
        assert not case.is_right(f"Sure: {text}", [])
        assert not case.is_right(json.dumps({**json.loads(text), "extra": 1}), [])
    for phrase in case.never_says:
        assert not case.is_right(f"{text} {phrase}", [])


@pytest.mark.parametrize("case", of("unanswerable"), ids=asked)
def test_an_unanswerable_question_is_declined_in_various_words_without_citing(case: Case) -> None:
    assert case.is_right("The passages do not contain the answer.", [])
    assert case.is_right("I could not find that in the documents.", [])
    assert case.is_right("Your passages don't say.", [])
    assert not case.is_right("The passages do not say [1].", [])
    assert not case.is_right(f"It is {passages_of(case)[1]}", [])


def test_a_phrase_occurs_only_as_whole_words_and_numbers() -> None:
    assert occurs("30", "within 30 days.")
    assert occurs("16.5", "It costs 16.5.")
    assert occurs("front DESK", "at the Front desk")
    assert occurs("/v2/records", "call `/v2/records` now")
    assert not occurs("30", "at 19:30")
    assert not occurs("30", "30.5 degrees")
    assert not occurs("30", "130 and 300")
    assert not occurs("400", "11,400")
    assert not occurs("Ana", "Anatol")


def test_expected_values_are_compared_by_type_and_spellings_without_case() -> None:
    expected = ToolCall(
        "f", {"flag": True, "count": 1, "title": "Exact", "note": ("one", "two", "")}
    )
    case = Case("x", Conversation((Turn("user", "go"),)), call=expected)

    def is_right(**changes: Any) -> bool:  # Any: JSON
        arguments = {"flag": True, "count": 1, "title": "Exact", "note": "one", **changes}
        return case.is_right("", [ToolCall("f", arguments)])

    assert is_right()
    assert is_right(note="TWO")
    assert is_right(note=None)
    assert is_right(count=1.0)
    assert not is_right(flag=1)
    assert not is_right(count=True)
    assert not is_right(count="1")
    assert not is_right(title="exact")
    assert not is_right(note="three")
