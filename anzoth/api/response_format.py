"""Which form must an answer have, given `response_format`, `structured_outputs` and the tools?

    response_format      json_object: any JSON object; json_schema: what follows the schema. The
                         model is also shown the schema, because only the form can be forced on it
    structured_outputs   an extension that vLLM made customary: regex, choice, json or grammar; the
                         model is not told
    tools                see `tools`; an answer that may be a call or not has either form

A model that reasons does so first, in any text: the form is that of the answer behind it.

`strict` decides about keywords of a schema that cannot be guaranteed: with it they are an error
that names them, without it they are only shown to the model.

Does not know: how grammars are written (`anzoth.text.grammars`), or whether one can be used: the
engine says that, and names what it cannot follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from anzoth.api.fields import (
    INT32_MAX,
    Check,
    Field,
    Policy,
    array,
    boolean,
    json_object,
    nested,
    string,
    wrong_type,
    wrong_value,
)
from anzoth.api.tools import ToolUse
from anzoth.errors import InvalidValue
from anzoth.frames import MAX_GRAMMAR_BYTES
from anzoth.gateway.models import ServedModel
from anzoth.text.grammars import (
    ANY_OBJECT,
    Calls,
    Part,
    after_reasoning,
    call_grammar,
    choice_part,
    grammar,
    json_part,
    lark_part,
    regex_part,
)
from anzoth.text.reasoning import MARKERS, Beginning

MAX_CHOICE_TEXTS = 1024
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(slots=True, frozen=True)
class AnswerForm:
    """What an answer has to be."""

    param: str
    """The field that asks for it, which errors about it name."""
    part: Part = field(repr=False)
    shown_schema: Mapping[str, Any] | None = field(default=None, repr=False)  # JSON Schema


@dataclass(slots=True, frozen=True)
class Constraint:
    """A grammar for the engine, and the field to name if it cannot be used."""

    grammar: str = field(repr=False)
    param: str


def constraint(
    model: ServedModel,
    form: AnswerForm | None,
    tools: ToolUse | None,
    reasoning: Beginning | None = None,
) -> Constraint | None:
    """None: the answer may be any text. Raises InvalidValue for what is too large.

    The model can write calls if there are `tools`. `reasoning`: it may reason before its answer.
    """
    made = _of_answer(model, form, tools)
    if made is None or reasoning is None:
        return made
    tokens = model.tokenizer.added_tokens(MARKERS)
    return _checked(replace(made, grammar=after_reasoning(made.grammar, reasoning, tokens)))


def _of_answer(
    model: ServedModel, form: AnswerForm | None, tools: ToolUse | None
) -> Constraint | None:
    if tools is not None and model.tool_calls is not None and (form or tools.needs_grammar):
        calls = Calls(
            tools.signatures,
            tools.must_call,
            tools.is_parallel,
            None if form is None else form.part,
            model.tokenizer.added_tokens(model.tool_calls.markers),
        )
        param = "tools" if form is None else form.param
        return _checked(Constraint(call_grammar(model.tool_calls, calls), param))
    return None if form is None else form_constraint(form)


def form_constraint(form: AnswerForm) -> Constraint:
    """Of an answer in which there can be no calls."""
    return _checked(Constraint(grammar(form.part), form.param))


def _checked(made: Constraint) -> Constraint:
    num_bytes = len(made.grammar.encode())
    if num_bytes > MAX_GRAMMAR_BYTES:
        raise wrong_value(made.param, f"schemas of at most {MAX_GRAMMAR_BYTES} bytes", num_bytes)
    return made


def answer_form(values: Mapping[str, Any]) -> AnswerForm | None:
    """Of a body whose fields were checked."""
    asked = values["response_format"], values["structured_outputs"]
    if None not in asked:
        raise InvalidValue(
            "'structured_outputs' and 'response_format' exclude each other.",
            param="structured_outputs",
        )
    return asked[0] or asked[1]


# --- response_format ------------------------------------------------------------------------------


def _schema_name(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if not _NAME.fullmatch(value):
        raise wrong_value(param, "1 to 64 letters, digits, underscores or hyphens (ASCII)")
    return value


_SCHEMA = nested(
    Field("name", _schema_name, required=True),
    Field("schema", json_object, default=ANY_OBJECT),
    Field("strict", boolean, default=False),
    Field("description", string(INT32_MAX), Policy.IGNORED),
)
_JSON_SCHEMA = nested(Field("json_schema", _SCHEMA, required=True))


def response_format(value: Any, param: str) -> AnswerForm | None:
    """A check (see `fields`)."""
    return _format(value, param, lambda value, param: _JSON_SCHEMA(value, param)["json_schema"])


def text_format(value: Any, param: str) -> AnswerForm | None:
    """A check of `text.format` of the Responses API, where the schema stands beside the type."""
    return _format(value, param, _SCHEMA)


def _format(value: Any, param: str, schema_of: Check) -> AnswerForm | None:
    kind = json_object(value, param).get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return AnswerForm(param, json_part(ANY_OBJECT, is_strict=True))
    if kind != "json_schema":
        raise wrong_value(f"{param}.type", "'text', 'json_object' or 'json_schema'")
    asked = schema_of(value, param)
    schema = asked["schema"]
    return AnswerForm(param, json_part(schema, is_strict=asked["strict"]), schema)


# --- structured_outputs ---------------------------------------------------------------------------

_TEXT = string(MAX_GRAMMAR_BYTES, min_characters=1)
# One line per kind: how its value is checked, and what it becomes.
_KINDS: Mapping[str, tuple[Check, Callable[[Any], Part]]] = {
    "json": (json_object, lambda schema: json_part(schema, is_strict=True)),
    "regex": (_TEXT, regex_part),
    "choice": (array(_TEXT, MAX_CHOICE_TEXTS, min_items=1), choice_part),
    "grammar": (_TEXT, lark_part),
}


def structured_outputs(value: Any, param: str) -> AnswerForm:
    """A check (see `fields`)."""
    body = json_object(value, param)
    given = [kind for kind in _KINDS if body.get(kind) is not None]
    if len(given) != 1:
        raise wrong_value(param, f"exactly one of {', '.join(map(repr, _KINDS))}", len(given))
    check, make = _KINDS[given[0]]
    return AnswerForm(param, make(check(body[given[0]], f"{param}.{given[0]}")))
