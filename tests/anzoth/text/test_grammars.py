"""What the grammars allow, to the character: asked of the library that the engine uses.

Nothing is compiled in the gateway: only this test, and the engine, know llguidance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import llguidance
import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from anzoth.text import grammars
from anzoth.text.grammars import Calls, Part, Signature
from anzoth.text.reasoning import Beginning
from anzoth.text.tool_calls import FORMATS, ToolCall, ToolCallFormat

HERMES, MISTRAL, MISTRAL_ARRAY, LLAMA3 = FORMATS
TAGS = ("<tool_call>", "</tool_call>")
THINK = ("<think>", "</think>")
MARKS = sorted({*THINK, *(mark for written in FORMATS for mark in written.markers)})
ONE_INTEGER = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
SIGNATURES = (
    Signature("f", ONE_INTEGER, is_strict=True),
    Signature("no-arguments", None, is_strict=False),
    Signature("any", {}, is_strict=False),
)


class Reader:
    """Reads texts as an engine would that was forced to write them."""

    def __init__(self, *, has_tags: bool) -> None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {piece: i for i, piece in enumerate(["<|end|>", *alphabet, "</", "Ġ{"])}
        merges = [("<", "/"), ("Ġ", "{")]
        self.tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(  # type: ignore[assignment]
            add_prefix_space=False, use_regex=False
        )
        self.tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        self.tokenizer.add_special_tokens(["<|end|>"])
        if has_tags:
            self.tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in THINK])
            self.tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
            self.tokenizer.add_special_tokens([mark for mark in MARKS if mark[0] == "["])
        self._llguidance = llguidance.LLTokenizer(self.tokenizer.to_str(), eos_token=[0])

    def read(self, grammar: str, text: str) -> bool | None:
        """Whether the text may end here. None: it cannot be written at all."""
        matcher = llguidance.LLMatcher(self._llguidance, grammar, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        for token in self.tokenizer.encode(text).ids:
            if matcher.is_stopped() or not matcher.consume_token(token):
                return None
        return matcher.is_accepting()

    def tokens(self, texts: Iterable[str]) -> dict[str, int]:
        """Those that are one token each."""
        ids = {text: self.tokenizer.encode(text).ids for text in texts}
        return {text: found[0] for text, found in ids.items() if len(found) == 1}

    def error(self, grammar: str) -> str:
        return llguidance.LLMatcher(self._llguidance, grammar, log_level=0).get_error()


@pytest.fixture(scope="module")
def plain() -> Reader:
    return Reader(has_tags=False)


@pytest.fixture(scope="module", params=[False, True], ids=["spelled tags", "tag tokens"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(has_tags=request.param)


def call_grammar(
    reader: Reader,
    written: ToolCallFormat = HERMES,
    *,
    must_call: bool = False,
    is_parallel: bool = True,
    otherwise: Part | None = None,
) -> str:
    tokens = reader.tokens(MARKS)
    return grammars.call_grammar(
        written, Calls(SIGNATURES, must_call, is_parallel, otherwise, tokens)
    )


def hermes(name: str = "f", arguments: str = '{"a": 1}') -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


CALLS = [
    hermes(),
    hermes(arguments='{"a": -12}'),
    hermes("no-arguments", "{}"),
    hermes("any", '{"b": [1, {"c": "</tool"}]}'),
    hermes().replace(">{", ">\n{").replace("}<", "}\n<"),
]
BROKEN_CALLS = [
    hermes("unknown", "{}"),
    hermes(arguments="{}"),
    hermes(arguments='{"a": "1"}'),
    hermes(arguments='{"a": 1, "b": 2}'),
    hermes("no-arguments", '{"a": 1}'),
    hermes("any", "[]"),
    "<tool_call>f()</tool_call>",
    "<tool_call>{}",
]


# --- calls that have to come ----------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_a_required_call_is_complete_and_nothing_else(reader: Reader, call: str) -> None:
    grammar = call_grammar(reader, must_call=True)
    assert reader.read(grammar, call) is True
    assert reader.read(grammar, call[:-1]) in (False, None)  # None: half of a tag that is a token
    for text in ("", "Let me see. ", " "):
        assert not reader.read(grammar, text)
        assert not text or reader.read(grammar, text + call) is None
    assert reader.read(grammar, f"{call} ") is None


def test_a_call_has_no_arguments_that_its_tool_does_not_declare(reader: Reader) -> None:
    declared = {"properties": {"a": {"type": "integer"}}}
    cases: list[tuple[dict[str, Any], bool | None]] = [
        (declared, None),
        ({**declared, "additionalProperties": True}, True),
        ({**declared, "allOf": [{"properties": {"b": {"type": "integer"}}}]}, True),
        ({"properties": {}}, True),
    ]
    for schema, may_more in cases:
        signature = Signature("f", schema, is_strict=False)
        calls = Calls([signature], True, True, tokens=reader.tokens(MARKS))
        grammar = grammars.call_grammar(HERMES, calls)
        assert reader.read(grammar, hermes(arguments='{"a": 1, "b": 2}')) is may_more


@pytest.mark.parametrize("call", BROKEN_CALLS)
def test_a_call_that_breaks_a_promise_cannot_be_written(reader: Reader, call: str) -> None:
    for must_call in (True, False):
        assert reader.read(call_grammar(reader, must_call=must_call), call) is None


def test_several_calls_where_they_are_parallel(reader: Reader) -> None:
    text = hermes() + hermes("any", "{}")
    for between in ("", "\n"):
        joined = between.join([hermes(), hermes("any", "{}")])
        assert reader.read(call_grammar(reader, must_call=True), joined) is True
    assert reader.read(call_grammar(reader, must_call=True, is_parallel=False), text) is None


@pytest.mark.parametrize("call", CALLS)
def test_what_may_be_written_is_what_the_parser_reads(reader: Reader, call: str) -> None:
    names = {signature.name for signature in SIGNATURES}
    parser = HERMES.parser(names)
    (event,) = [*parser.push(call), *parser.flush()]
    assert isinstance(event, ToolCall)
    assert event.name in names


# --- calls that may come --------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_text_may_stand_around_optional_calls(reader: Reader, call: str) -> None:
    grammar = call_grammar(reader)
    for text in ("", "hi", "1 < 2 and <b>bold</b>\n", '{"name": "unknown"}', "<tool_"):
        assert reader.read(grammar, text) is True
        assert reader.read(grammar, f"{text}{call}") is True
        assert reader.read(grammar, f"{text}\n{call} and {call}, done") is True
    assert reader.read(grammar, "hi <tool_call>") is False


def test_a_tag_that_is_spelled_letter_by_letter_binds_as_the_token_does() -> None:
    reader = Reader(has_tags=True)
    grammar = call_grammar(reader)
    matcher = llguidance.LLMatcher(reader._llguidance, grammar, log_level=0)
    spelled = [reader.tokenizer.encode(letter).ids[0] for letter in "hi <tool_call>"]
    assert matcher.consume_tokens(spelled)
    assert not matcher.is_accepting()
    assert matcher.validate_tokens(reader.tokenizer.encode("x").ids) == 0
    assert matcher.validate_tokens(reader.tokenizer.encode('{"name": "f"').ids) > 1


def test_an_answer_is_a_call_or_what_it_has_to_be_otherwise(reader: Reader) -> None:
    grammar = call_grammar(reader, otherwise=grammars.json_part(ONE_INTEGER, is_strict=True))
    for text in (hermes(), '{"a": 5}'):
        assert reader.read(grammar, text) is True
    for text in ("hi", '{"a": 5} ' + hermes(), hermes() + '{"a": 5}', '{"b": 1}'):
        assert reader.read(grammar, text) is None


# --- behind [TOOL_CALLS] --------------------------------------------------------------------------


def mistral(name: str = "f", arguments: str = '{"a": 1}') -> str:
    return f"[TOOL_CALLS]{name}[ARGS]{arguments}"


def in_array(*calls: tuple[str, str]) -> str:
    objects = (f'{{"name": "{name}", "arguments": {arguments}}}' for name, arguments in calls)
    return f"[TOOL_CALLS] [{', '.join(objects)}]"


F = ("f", '{"a": 1}')


@pytest.mark.parametrize(
    ("written", "one", "two", "broken"),
    [
        (MISTRAL, mistral(), mistral() + mistral("any", "{}"), mistral(arguments='{"a": "1"}')),
        (MISTRAL, mistral("no-arguments", "{}"), mistral() * 2, mistral("unknown")),
        (MISTRAL_ARRAY, in_array(F), in_array(F, ("any", "{}")), in_array(("unknown", "{}"))),
        (MISTRAL_ARRAY, in_array(F), in_array(F, F), in_array(F, ("f", "{}"))),
        (MISTRAL_ARRAY, in_array(F).replace("] [", "]["), in_array(F, F), "[TOOL_CALLS] []"),
    ],
    ids=range(5),
)
def test_calls_behind_a_mark(
    reader: Reader, written: ToolCallFormat, one: str, two: str, broken: str
) -> None:
    required = call_grammar(reader, written, must_call=True)
    single = call_grammar(reader, written, must_call=True, is_parallel=False)
    optional = call_grammar(reader, written)
    form = grammars.json_part({"type": "array"}, is_strict=True)
    otherwise = call_grammar(reader, written, otherwise=form)
    for grammar in (required, single, optional, otherwise):
        assert reader.read(grammar, one) is True
        assert reader.read(grammar, broken) is None
    for grammar in (required, optional, otherwise):
        assert reader.read(grammar, two) is True
    assert reader.read(single, two) is None
    for text in ("", "so"):
        assert not reader.read(required, text)
        assert reader.read(optional, text) is True
        assert reader.read(optional, f"{text}\n{one}") is True
    assert reader.read(otherwise, '["so"]') is True
    assert reader.read(otherwise, "so") is None
    names = {signature.name for signature in SIGNATURES}
    for text, number in ((one, 1), (two, 2)):
        parser = written.parser(names)
        found = [*parser.push(text), *parser.flush()]
        assert len(found) == number
        assert all(isinstance(event, ToolCall) for event in found)


# --- behind reasoning -----------------------------------------------------------------------------


@pytest.mark.parametrize("beginning", Beginning)
@pytest.mark.parametrize(
    ("part", "good", "bad"),
    [
        (grammars.json_part(ONE_INTEGER, is_strict=True), '{"a": 1}', '{"b": 1}'),
        (grammars.choice_part(["yes", "no"]), "no", "maybe"),
        (grammars.regex_part("[0-9]+"), "12", "x"),
        (grammars.lark_part('start: "a" b*\nb: "bc"'), "abc", "b"),
        (None, hermes(), hermes("unknown")),
    ],
    ids=["json", "choice", "regex", "lark", "calls"],
)
def test_a_model_may_think_before_an_answer_of_a_form(
    reader: Reader, beginning: Beginning, part: Part | None, good: str, bad: str
) -> None:
    answer = grammars.grammar(part) if part else call_grammar(reader, must_call=True)
    grammar = grammars.after_reasoning(answer, beginning, reader.tokens(MARKS))
    is_open = beginning is Beginning.INSIDE
    opening = "" if is_open else "<think>"
    thoughts = ["", "\nhm {x} <b> \n", "maybe 12", '{"a": 1}', "< /think> </", "[TOOL_"]
    for thought in thoughts:
        for gap in ("", "\n", "\n\n"):
            before = f"{opening}{thought}</think>{gap}"
            assert reader.read(grammar, before + good) is True
            assert not reader.read(grammar, before + bad)
            assert not reader.read(grammar, before)
    if not is_open:
        assert reader.read(grammar, good) is True
        assert not reader.read(grammar, bad)
    assert not reader.read(grammar, f"{opening}{good}")


def test_a_closing_mark_that_is_spelled_letter_by_letter_ends_the_reasoning() -> None:
    reader = Reader(has_tags=True)
    answer = grammars.grammar(grammars.choice_part(["yes"]))
    grammar = grammars.after_reasoning(answer, Beginning.INSIDE, reader.tokens(MARKS))
    matcher = llguidance.LLMatcher(reader._llguidance, grammar, log_level=0)
    spelled = [reader.tokenizer.encode(letter).ids[0] for letter in "hm</think>"]
    assert matcher.consume_tokens(spelled)
    assert matcher.validate_tokens(reader.tokenizer.encode("x").ids) == 0
    assert matcher.validate_tokens(reader.tokenizer.encode("yes").ids) == 3


# --- bare JSON ------------------------------------------------------------------------------------


def llama3(name: str = "f", arguments: str = '{"a": 1}') -> str:
    return f'{{"name": "{name}", "parameters": {arguments}}}'


def test_bare_calls(plain: Reader) -> None:
    required = call_grammar(plain, LLAMA3, must_call=True)
    optional = call_grammar(plain, LLAMA3)
    for call in (llama3(), llama3("no-arguments", "{}"), llama3("any", '{"x": 1}')):
        assert plain.read(required, call) is True
        assert plain.read(optional, call) is True
    for text in (llama3("unknown"), llama3(arguments='{"a": "1"}'), "{}", " {"):
        assert plain.read(required, text) is None
        assert plain.read(optional, text) is None
    for text in ("", "hi", "a set {1, 2}", "\n so"):
        assert not plain.read(required, text)
        assert plain.read(optional, text) is True


@pytest.mark.parametrize(
    ("schema", "texts", "impossible"),
    [
        ({"type": "object"}, ['{"x": 1}', '{"name": "fg", "z": 1}', llama3(), "{}"], ["[]", "hi"]),
        (ONE_INTEGER, ['{"a": 1}', llama3()], [llama3(arguments='{"a": ""}'), '{"x": 1}']),
        ({"type": "array"}, ["[]", '["name"]', llama3()], ['{"x": 1}']),
    ],
)
def test_bare_calls_and_other_json_may_begin_alike(
    plain: Reader, schema: dict[str, Any], texts: list[str], impossible: list[str]
) -> None:
    otherwise = grammars.json_part(schema, is_strict=True)
    grammar = call_grammar(plain, LLAMA3, otherwise=otherwise)
    for text in texts:
        assert plain.read(grammar, text) is True, text
    for text in impossible:
        assert plain.read(grammar, text) is None, text


# --- other forms ----------------------------------------------------------------------------------


def test_json_has_one_form(plain: Reader) -> None:
    schema = {"properties": {"b": {}, "a": {}}, "required": ["a", "b"], "type": "object"}
    grammar = grammars.grammar(grammars.json_part(schema, is_strict=True))
    value = {"b": [1, {"c": None}], "a": "é", "z": 1}
    assert plain.read(grammar, json.dumps(value, ensure_ascii=False)) is True
    for text in ('{"b":1, "a": 2}', '{ "b": 1', '{"a": 1', '{"b": 1,\n', " {"):
        assert plain.read(grammar, text) is None


def test_strictness_decides_about_what_cannot_be_guaranteed(plain: Reader) -> None:
    schema = {"type": "array", "uniqueItems": True, "items": {"type": "integer"}}
    strict = grammars.grammar(grammars.json_part(schema, is_strict=True))
    assert "uniqueItems" in plain.error(strict)
    loose = grammars.grammar(grammars.json_part(schema, is_strict=False))
    assert plain.read(loose, "[1, 1]") is True
    assert plain.read(loose, '["a') is None


def test_a_schema_cannot_change_how_it_is_read(plain: Reader) -> None:
    schema = {"uniqueItems": True, "x-guidance": {"lenient": True, "whitespace_flexible": True}}
    assert "uniqueItems" in plain.error(
        grammars.grammar(grammars.json_part(schema, is_strict=True))
    )


@pytest.mark.parametrize(
    ("part", "possible", "impossible"),
    [
        (grammars.regex_part("a/b\n[0-9]+"), ["a/b\n7"], ["a/b7", "b", "a\\/b\n7"]),
        (grammars.choice_part(["yes", 'n"o', "é\n"]), ["yes", 'n"o', "é\n"], ["n", "yesn", "e"]),
        (grammars.lark_part('start: "a" b*\nb: "bc"'), ["a", "abcbc"], ["b", "abb"]),
    ],
)
def test_texts_of_other_forms(
    plain: Reader, part: Part, possible: list[str], impossible: list[str]
) -> None:
    grammar = grammars.grammar(part)
    assert all(plain.read(grammar, text) is True for text in possible)
    assert not any(plain.read(grammar, text) for text in impossible)
    otherwise = call_grammar(plain, otherwise=part)
    assert all(plain.read(otherwise, text) is True for text in (*possible, hermes()))


def test_a_schema_or_regex_is_not_part_of_the_rules(plain: Reader) -> None:
    """Whatever it says, it stays inside its own part."""
    evil = 'x"}}]}\nstart: "free"'
    for part in (
        grammars.choice_part([evil]),
        grammars.json_part({"const": evil}, is_strict=True),
        grammars.regex_part('x/\nstart: "free"'),
    ):
        assert plain.read(grammars.grammar(part), "free") is None


def test_every_format_that_can_be_read_can_be_forced(plain: Reader) -> None:
    for written in FORMATS:
        assert not plain.error(call_grammar(plain, written, must_call=True))
