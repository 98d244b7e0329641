"""How is one field of a JSON body checked, and what does the caller read when it is wrong?

A resource declares its fields as a table of `Field`; `parse` walks the table. A check takes the
value and its name as the caller knows it (`messages[2].content`), returns the value to use, and
raises an error whose `param` is that name. Errors name types, ranges and counts, never the caller's
text. `null` stands for "not given" in every optional field, because SDKs send it.

Does not know: which fields exist, or what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from anzoth.errors import InvalidValue, MissingParameter, UnsupportedParameter

# Values come from JSON: a check exists to find out what they are.
Check = Callable[[Any, str], Any]

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
_LEVELS_AROUND = 32
"""What an answer, or what is kept of it, may have around a value of the caller's."""


class Policy(Enum):
    """What happens to a valid value."""

    USED = "used"
    IGNORED = "ignored"
    """Accepted because it does no harm here: it asks for something this server has no notion of."""
    REFUSED = "refused"
    """Only a value that asks for nothing is accepted; dropping another would change the answer."""


@dataclass(slots=True, frozen=True)
class Field:
    """One documented field of a request body."""

    name: str
    check: Check
    policy: Policy = Policy.USED
    default: Any = None
    required: bool = False


def parse(fields: Sequence[Field], body: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """Every field's value or default. Fields that no table names are ignored.

    `within` stands before each name: the path of `body` and a dot.
    """
    values: dict[str, Any] = {}
    for field in fields:
        value, param = body.get(field.name), within + field.name
        if value is None and not (field.required and field.name in body):
            if field.required:
                raise MissingParameter(f"Missing required parameter: '{param}'.", param=param)
            values[field.name] = field.default
        else:
            values[field.name] = field.check(value, param)
    return values


# --- errors -----------------------------------------------------------------------------------

_TYPE_NAMES: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def wrong_type(param: str, expected: str, value: object) -> InvalidValue:
    got = _TYPE_NAMES.get(type(value), "something else")
    return InvalidValue(
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param=param,
    )


def wrong_value(param: str, expected: str, got: object = None) -> InvalidValue:
    """`got` is only ever a number or a count: text of the caller's is not repeated."""
    instead = f", but got {got}" if got is not None else ""
    return InvalidValue(f"Invalid value for '{param}': expected {expected}{instead}.", param=param)


def unsupported(param: str, what: str | None = None) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"Unsupported parameter: '{param}' {what or 'is not supported by this server'}.",
        param=param,
    )


# --- checks -----------------------------------------------------------------------------------


def boolean(value: Any, param: str) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(param, "a boolean", value)
    return value


def integer(low: int, high: int) -> Check:
    def check(value: Any, param: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(param, "an integer", value)
        if not low <= value <= high:
            raise wrong_value(param, f"an integer from {low} to {high}", value)
        return value

    return check


def number(low: float, high: float, *, above_low: bool = False) -> Check:
    """`above_low`: `low` itself is not allowed."""

    def check(value: Any, param: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(param, "a number", value)
        if not low <= value <= high or (above_low and value == low):
            span = f"above {low:g} and up to {high:g}" if above_low else f"from {low:g} to {high:g}"
            raise wrong_value(param, f"a number {span}", value)
        return float(value)

    return check


def string(max_characters: int, *, min_characters: int = 0) -> Check:
    def check(value: Any, param: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(param, "a string", value)
        if len(value) > max_characters:
            raise wrong_value(param, f"at most {max_characters} characters", len(value))
        if len(value) < min_characters:
            raise wrong_value(param, f"at least {min_characters} character", len(value))
        return value

    return check


def one_of(*choices: str) -> Check:
    expected = ", ".join(f"'{choice}'" for choice in choices)

    def check(value: Any, param: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(param, f"one of {expected}", value)
        if value not in choices:
            raise wrong_value(param, f"one of {expected}")
        return value

    return check


def array(item: Check, max_items: int, *, min_items: int = 0) -> Check:
    def check(value: Any, param: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise wrong_type(param, "an array", value)
        if not min_items <= len(value) <= max_items:
            raise wrong_value(param, f"{min_items} to {max_items} items", len(value))
        return tuple(item(entry, f"{param}[{index}]") for index, entry in enumerate(value))

    return check


def token_ids(value: Any, param: str) -> Sequence[int]:
    """Checked as a whole: a prompt may have a million ids."""
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        raise wrong_type(param, "a string or an array of integers", value)
    if not value:
        raise wrong_value(param, "at least one token id", 0)
    if min(value) < 0 or max(value) > INT32_MAX:
        raise wrong_value(param, f"token ids from 0 to {INT32_MAX}")
    return value


def texts_or_token_ids(max_items: int, *, min_characters: int = 0) -> Check:
    """One or several, each as text or as token ids: always a tuple."""
    text = string(INT32_MAX, min_characters=min_characters)

    def check(value: Any, param: str) -> tuple[str | Sequence[int], ...]:
        if isinstance(value, str):
            return (text(value, param),)
        if not isinstance(value, list):
            raise wrong_type(param, "a string or an array", value)
        if value and type(value[0]) is int:
            return (token_ids(value, param),)
        item = text if value and isinstance(value[0], str) else token_ids
        return array(item, max_items, min_items=1)(value, param)

    return check


def json_object(value: Any, param: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    return value


def shown_object(value: Any, param: str) -> dict[str, Any]:
    """One of whatever the caller likes, that stands in an answer as it is."""
    require_shallow(json_object(value, param), param)
    return value


def require_shallow(value: Any, param: str) -> None:
    """Raises InvalidValue for what can be read and not be written: better now than at the end."""
    for _ in range(_LEVELS_AROUND):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        raise wrong_value(param, "something that is nested less deeply") from None


def mapping(item: Check, max_items: int, max_key_characters: int) -> Check:
    def check(value: Any, param: str) -> dict[str, Any]:
        json_object(value, param)
        if len(value) > max_items:
            raise wrong_value(param, f"at most {max_items} pairs", len(value))
        for key in value:
            if len(key) > max_key_characters:
                raise wrong_value(
                    param, f"keys of at most {max_key_characters} characters", len(key)
                )
        # Keys are the caller's own text, so an item's error names the whole field.
        return {key: item(entry, param) for key, entry in value.items()}

    return check


def nested(*fields: Field) -> Check:
    """An object with a table of its own."""

    def check(value: Any, param: str) -> dict[str, Any]:
        return parse(fields, json_object(value, param), f"{param}.")

    return check


def harmless(*accepted: object) -> Check:
    """Exactly the values that ask for nothing; any other is an unsupported parameter."""

    def check(value: Any, param: str) -> Any:
        if not _is_in(value, accepted):
            raise unsupported(param)
        return value

    return check


def _is_in(value: object, accepted: Iterable[object]) -> bool:
    # 0 == False and 1 == True in Python, but not in JSON.
    return any(type(value) is type(other) and value == other for other in accepted)
