"""Are these arguments what the schema of a tool asks for?

Schemas come from tool servers, so all work has a bound and nothing of a schema is trusted to be
well-formed:

- Nothing is fetched, and nothing is checked by other keywords than these: a schema that refers to
  what is not in it, or has parts with an address or a dialect of their own, cannot be used.
- Each keyword costs a step; a schema that takes more than there are is refused. That bounds
  references in circles and branches that double.
- Patterns are matched by llguidance, in a time linear in the text; Python's `re` could take
  forever. It is what constrains the model, so both agree. A pattern that it does not know (one that
  looks around) is left to the server, and so are `format` and the `unevaluated…` keywords.
- Unique items are told apart by their canonical text instead of in pairs.

Takes long to import, so whoever may not need it imports it when it does.

Does not know: what the arguments are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import llguidance
import orjson
from jsonschema import validators
from jsonschema.exceptions import UnknownType, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

MAX_BYTES = 65_536
"""Of the arguments of one call."""
_MAX_STEPS = 5_000
"""A fifth of a second at the worst (branches that double; a slow x86-64 core, 2026-11-27)."""
_PATTERN_STEPS = 100
"""Of one match, and one more for each ten characters."""
_MAX_MESSAGE = 320

_BYTES = llguidance.LLTokenizer("byte")
_LIMITS = llguidance.LLParserLimits(max_lexer_states=20_000, verbose_errors=False)


class BadArguments(ValueError):
    """The message is for the model; it quotes the arguments, and a schema at most."""


class _TooLong(Exception):
    """There are no steps left."""


class _Steps(jsonschema.FormatChecker):
    """What is left of the work that one validation may take. Validators hand on one object of their
    maker's, which is meant for formats; none are checked here."""

    def __init__(self) -> None:
        super().__init__(formats=())
        self.left = _MAX_STEPS

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooLong


def parse(schema: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    """The arguments, checked. Raises BadArguments."""
    if len(arguments) > MAX_BYTES or len(arguments.encode(errors="replace")) > MAX_BYTES:
        raise BadArguments(f"the arguments are more than {MAX_BYTES} bytes")
    try:
        found = orjson.loads(arguments.strip() or "{}")
    except ValueError:
        raise BadArguments("the arguments are not JSON") from None
    if not isinstance(found, dict):
        raise BadArguments("the arguments are not a JSON object")
    if (problem := _problem(schema, found)) is not None:
        raise BadArguments(_shortened(problem))
    return found


def _problem(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """The first thing that is wrong; None: nothing."""
    dialect = schema.get("$schema")  # those before 2019-09 say some things in other words
    validator = _OLD if isinstance(dialect, str) and "draft-0" in dialect else _NEW
    top = {name: value for name, value in schema.items() if name not in ("$schema", "$id")}
    if _leads_out(top):
        return "the tool's schema is not whole in itself and cannot be used"
    try:
        checked = validator(top, registry=Registry(), format_checker=_Steps())
        error = next(checked.iter_errors(arguments), None)
    except _TooLong:
        return "the tool's schema takes too long to check"
    except (
        *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
        *(Unresolvable, UnknownType),
    ):
        return "the tool's schema cannot be used"
    return None if error is None else f"{error.json_path}: {error.message}"


def _shortened(message: str) -> str:
    """jsonschema quotes the value and says what is wrong with it at the end."""
    if len(message) <= _MAX_MESSAGE:
        return message
    return f"{message[: _MAX_MESSAGE // 2]} … {message[-_MAX_MESSAGE // 2 :]}"


def _leads_out(schema: object) -> bool:
    """Whether it refers to another one. jsonschema knows those of the dialects by their addresses,
    and checks them, and parts of another dialect, with its own keywords."""
    left: list[object] = [schema]
    while left:
        match left.pop():
            case dict() as fields:
                for name, value in fields.items():
                    if isinstance(value, str):  # else it is a property of that name
                        if name in ("$schema", "$id"):
                            return True
                        if name in ("$ref", "$dynamicRef") and not value.startswith("#"):
                            return True
                left.extend(fields.values())
            case list() as items:
                left.extend(items)
    return False


# --- keywords --------------------------------------------------------------------------------
# jsonschema calls them with itself, the keyword's value, the instance and the schema around it.

_Errors = Iterator[ValidationError]


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> _Errors:
    if isinstance(instance, str) and not _matches(validator, pattern, instance, if_unknown=True):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> _Errors:
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        for name, value in instance.items():
            if _matches(validator, pattern, name, if_unknown=False):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, additional: Any, instance: Any, schema: Any) -> _Errors:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in known or any(_matches(validator, p, name, if_unknown=True) for p in patterns):
            continue
        if additional is False:
            yield ValidationError(f"there is no property {name!r}")
        else:
            yield from validator.descend(value, additional, path=name)


def _unique_items(validator: Any, is_unique: Any, instance: Any, schema: Any) -> _Errors:
    if is_unique is True and isinstance(instance, list):
        texts = {orjson.dumps(_plain(item), option=orjson.OPT_SORT_KEYS) for item in instance}
        if len(texts) < len(instance):
            yield ValidationError("the items are not unique")


def _plain(value: Any) -> Any:
    """Numbers that are the same look the same."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case _:
            return value


def _matches(validator: Any, pattern: str, text: str, *, if_unknown: bool) -> bool:
    """`if_unknown`: the answer for a pattern that is not known here."""
    validator.format_checker.spend(_PATTERN_STEPS + len(text) // 10)
    grammar = {"grammars": [{"json_schema": {"type": "string", "pattern": pattern}}]}
    matcher = llguidance.LLMatcher(
        _BYTES, orjson.dumps(grammar).decode(), log_level=0, limits=_LIMITS
    )
    if matcher.is_error():
        return if_unknown
    written = list(orjson.dumps(text))
    return matcher.try_consume_tokens(written) == len(written) and matcher.is_accepting()


def _counted(keyword: Any) -> Any:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        validator.format_checker.spend(1)
        return keyword(validator, value, instance, schema)

    return check


def _leave(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """To the server."""


_OURS = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "format": _leave,
    "unevaluatedItems": _leave,
    "unevaluatedProperties": _leave,
}


def _bounded(known: Any) -> Any:
    """`known`, with our keywords, and every one of them counted."""
    keywords = {**known.VALIDATORS, **_OURS}
    return validators.extend(known, {name: _counted(keywords[name]) for name in keywords})


_OLD = _bounded(jsonschema.Draft7Validator)
_NEW = _bounded(jsonschema.Draft202012Validator)
