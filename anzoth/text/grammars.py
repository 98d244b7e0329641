"""In which grammar must an answer be written so that its form is sure?

Grammars are llguidance's, as text: a list of named parts, each a JSON Schema or rules in its own
dialect of Lark, of which the first is the whole answer. They are compiled by the engine; here they
are only put together, so a client's schema is never part of the text of a rule.

JSON is written in one line with `, ` and `: ` between (as Python's `json.dumps` does, and most
training texts do), properties in the order of the schema. A choice of white space would only be one
more thing for a model to get lost in.

    calls      hermes         <tool_call>{"name": "f", "arguments": {…}}</tool_call>, any number
               mistral        [TOOL_CALLS]f[ARGS]{…}, any number
               mistral_array  [TOOL_CALLS] [{"name": "f", "arguments": {…}}, …]
               llama3_json    {"name": "f", "parameters": {…}}
    optional   hermes         text may stand around calls; after an opening tag, only a call
               mistral        the same, of [TOOL_CALLS]
               llama3_json    a text that begins with { is a call

A model that reasons first may do so before either, in any text.

Does not know: which keywords of JSON Schema can be followed, or when an answer needs a grammar.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anzoth.text.reasoning import CLOSE, OPEN, Beginning
from anzoth.text.tool_calls import ToolCallFormat

Part = Mapping[str, Any]  # JSON
"""A grammar without its name."""


@dataclass(slots=True, frozen=True)
class Signature:
    """A tool that may be called, and what its arguments are."""

    name: str
    parameters: Mapping[str, Any] | None = field(repr=False)  # JSON Schema
    """None: it takes no arguments."""
    is_strict: bool


# --- parts ----------------------------------------------------------------------------------------

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_NO_ARGUMENTS: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}

_OPENING = frozenset(
    (
        *("additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames"),
        *("minProperties", "allOf", "anyOf", "oneOf", "not", "if", "$ref", "dependentSchemas"),
    )
)
"""Where a schema has one of these, other properties may be meant to be there."""


def json_part(schema: Mapping[str, Any], *, is_strict: bool) -> Part:
    """JSON that follows a schema. What of it cannot be guaranteed makes the grammar invalid when
    strict; otherwise it is left out where that is possible.
    """
    options = {
        "whitespace_flexible": False,
        "item_separator": ", ",
        "key_separator": ": ",
        "lenient": not is_strict,
        "coerce_one_of": not is_strict,
    }
    # In the place of a client's own: these options are not part of JSON Schema.
    return {"json_schema": {**schema, "x-guidance": options}}


def regex_part(regex: str) -> Part:
    """A text that matches from its beginning to its end."""
    inside = regex.replace("/", "\\/").replace("\n", "\\n").replace("\r", "\\r")
    return lark_part(f"start: /{inside}/")


def choice_part(texts: Sequence[str]) -> Part:
    """One of some texts."""
    return lark_part("start: " + " | ".join(map(_literal, texts)))


def lark_part(rules: str) -> Part:
    """Rules of the caller's own; the one named `start` is the whole text."""
    return {"lark_grammar": rules}


def grammar(part: Part) -> str:
    """An answer that is this part."""
    return _text([part])


def _text(parts: Sequence[Part]) -> str:
    return json.dumps({"grammars": parts}, ensure_ascii=False)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# --- calls ----------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Calls:
    """What an answer with tool calls may be."""

    signatures: Sequence[Signature]
    must_call: bool
    is_parallel: bool
    """False: one call at most where the answer is nothing but calls."""
    otherwise: Part | None = None
    """What an answer without a call must be. None: any text."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """The marks that are one token each, which ordinary text has no part in."""


def call_grammar(written: ToolCallFormat, calls: Calls) -> str:
    """An answer in which every call is one of these, written as the model writes calls."""
    rules = _RULES[written.name](calls)
    parts: list[Part] = [{"name": "answer", "lark_grammar": "\n".join(rules)}]
    for number, signature in enumerate(calls.signatures):
        schema = _NO_ARGUMENTS if signature.parameters is None else signature.parameters
        # Whatever the schema says besides: a call's arguments are an object.
        if not signature.is_strict:
            schema = _closed(schema)
        part = json_part({**schema, "type": "object"}, is_strict=signature.is_strict)
        parts.append({"name": f"arguments_{number}", **part})
    if calls.otherwise is not None:
        parts.append({"name": "otherwise", **calls.otherwise})
    return _text(parts)


def _closed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call has the arguments that its tool declares and no others, also where the schema leaves
    that open: what a model invents besides means nothing to the tool, and may have no end."""
    if not schema.get("properties") or _OPENING & schema.keys():
        return schema
    return {**schema, "additionalProperties": False}


def _objects(signatures: Sequence[Signature], arguments: str) -> list[str]:
    """The rule `call`: the JSON object of any of the calls."""
    rules = ["call: " + " | ".join(f"call_{number}" for number in range(len(signatures)))]
    for number, signature in enumerate(signatures):
        # Cut where the grammar of any JSON cuts: where both may come, the longer piece would win.
        pieces = ("{", '"name"', ": ", f'"{signature.name}"', ", ", f'"{arguments}"', ": ")
        begin = " ".join(map(_literal, pieces))
        rules.append(f'call_{number}: {begin} @arguments_{number} "}}"')
    return rules


def _mark(text: str, tokens: Mapping[str, int]) -> str:
    """As the model writes it: its token, if it has one, or letter by letter."""
    return f"<[{tokens[text]}]>" if text in tokens else _literal(text)


def _up_to(rule: str, mark: str, tokens: Mapping[str, int]) -> list[str]:
    """The rule: any text and then `mark`, which is not in it."""
    # A mark that is spelled in ordinary tokens looks the same to whoever reads the text.
    either = f"TEXT {_mark(mark, tokens)} | spelled" if mark in tokens else "spelled"
    return [
        f"{rule}: {either}",
        f"spelled[lazy]: TEXT {_literal(mark)}",
        r"TEXT: /(.|\n)*/",
    ]


def _hermes(calls: Calls) -> list[str]:
    opening, closing = (_mark(tag, calls.tokens) for tag in ("<tool_call>", "</tool_call>"))
    # Some templates put line breaks between a tag and its call, others do not.
    rules = [
        *_objects(calls.signatures, "arguments"),
        f'rest: "\\n"? call "\\n"? {closing}',
        f"tagged: {opening} rest",
        'only_calls: tagged ("\\n"? tagged)*' if calls.is_parallel else "only_calls: tagged",
    ]
    if calls.must_call:
        return ["start: only_calls", *rules]
    if calls.otherwise is not None:
        return ["start: only_calls | @otherwise", *rules]
    return ["start: (opened rest)* TEXT", *_up_to("opened", "<tool_call>", calls.tokens), *rules]


def _mistral(calls: Calls) -> list[str]:
    arguments = _mark("[ARGS]", calls.tokens)
    rules = [
        "rest: " + " | ".join(f"call_{number}" for number in range(len(calls.signatures))),
        *(
            f"call_{number}: {_literal(signature.name)} {arguments} @arguments_{number}"
            for number, signature in enumerate(calls.signatures)
        ),
    ]
    return [*_behind_mark(calls, "tagged+" if calls.is_parallel else "tagged"), *rules]


def _mistral_array(calls: Calls) -> list[str]:
    more = ' (", " call)*' if calls.is_parallel else ""
    rules = [*_objects(calls.signatures, "arguments"), f'rest: " "? "[" call{more} "]"']
    return [*_behind_mark(calls, "tagged"), *rules]


def _behind_mark(calls: Calls, only_calls: str) -> list[str]:
    """What stands around the rule `rest`, which is what follows the mark."""
    mark = "[TOOL_CALLS]"
    tagged = f"tagged: {_mark(mark, calls.tokens)} rest"
    if calls.must_call:
        return [f"start: {only_calls}", tagged]
    if calls.otherwise is not None:
        return [f"start: {only_calls} | @otherwise", tagged]
    return ["start: (opened rest)* TEXT", *_up_to("opened", mark, calls.tokens)]


def _llama3_json(calls: Calls) -> list[str]:
    rules = _objects(calls.signatures, "parameters")
    if calls.must_call:
        return ["start: call", *rules]
    if calls.otherwise is not None:
        return ["start: call | @otherwise", *rules]
    return ["start: call | TEXT?", r"TEXT: /[ \t\r\n]*[^{ \t\r\n](.|\n)*/", *rules]


# By the name of the format (anzoth.text.tool_calls.FORMATS).
_RULES: Mapping[str, Callable[[Calls], list[str]]] = {
    "hermes": _hermes,
    "mistral": _mistral,
    "mistral_array": _mistral_array,
    "llama3_json": _llama3_json,
}


# --- reasoning ------------------------------------------------------------------------------------


def after_reasoning(answer: str, beginning: Beginning, tokens: Mapping[str, int]) -> str:
    """A text that may reason as it likes before what the grammar `answer` describes.

    `tokens`: the marks of `anzoth.text.reasoning` that are one token each. Other such tokens, a
    model's mark of tool calls for one, have no place in the reasoning: they are not text.
    """
    first, *others = json.loads(answer)["grammars"]
    # Behind the mark most models leave a line free.
    reasoning = r"closed /\n{0,2}/"
    if beginning is Beginning.POSSIBLE:
        reasoning = f"({_mark(OPEN, tokens)} {reasoning})?"
    rules = [f"start: {reasoning} @answer", *_up_to("closed", CLOSE, tokens)]
    reasoned: Part = {"name": "reasoned", "lark_grammar": "\n".join(rules)}
    return _text([reasoned, {**first, "name": "answer"}, *others])
