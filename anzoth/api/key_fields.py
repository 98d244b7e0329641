"""What does a body say about a key that is to be made, or changed?

The fields are ours, but for `name`, `scopes` and `expires_in_seconds`. A field that is not given to
a new key is what its maker has (of the scopes, those that new keys have by default), and stays as
it is when a key changes. A field that is misspelt is an error: a key must not be more than was
meant.

Does not know: who may give what (see `gateway.key_minting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

from anzoth.api.fields import (
    INT64_MAX,
    Check,
    Field,
    array,
    integer,
    json_object,
    parse,
    string,
    wrong_value,
)
from anzoth.errors import InvalidValue, UnsupportedParameter
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.key_changes import KeyChange
from anzoth.gateway.key_minting import INHERITED
from anzoth.gateway.limit_rules import BUDGET_NAMES, LIMIT_NAMES, Limits
from anzoth.gateway.principal import Network
from anzoth.price import PriceError, parse_amount

_MAX_ITEMS = 100
_MAX_WORD = 200
_LAST_SECOND = 253_402_300_799
"""Of the year 9999."""
_MAX_LIFETIME_S = 100 * 365 * 86_400
_NULL_IS_ALL = ("models", "endpoints", "networks", "knowledge_bases", "expires_at")
"""`null` takes the restriction away."""


def _word(value: Any, param: str) -> str:
    text = string(_MAX_WORD, min_characters=1)(value, param)
    if not text.isprintable():
        raise wrong_value(param, "printable characters")
    return text


def _network(value: Any, param: str) -> Network:
    try:
        return ip_network(string(_MAX_WORD)(value, param))
    except ValueError:
        raise wrong_value(param, "an address or a network like 10.0.0.0/8") from None


def _or_null(check: Check) -> Check:
    return lambda value, param: None if value is None else check(value, param)


def _budget(value: Any, param: str) -> int:
    """Decimal text, as it is shown: a JSON number is not exact."""
    try:
        return parse_amount(string(_MAX_WORD)(value, param))
    except PriceError:
        raise wrong_value(param, "a decimal number as text, such as '25.50'", value) from None


LIMIT_CHECKS: Mapping[str, Check] = {
    name: _budget if name in BUDGET_NAMES else integer(1, INT64_MAX) for name in LIMIT_NAMES
}
_WORDS = array(_word, _MAX_ITEMS)
_LIFETIME = Field("expires_in_seconds", integer(1, _MAX_LIFETIME_S))
_CHECKS: Mapping[str, Check] = {
    "scopes": _WORDS,
    "models": _WORDS,
    "endpoints": _WORDS,
    "networks": array(_network, _MAX_ITEMS),
    "knowledge_bases": _WORDS,
    "default_knowledge_bases": _WORDS,
    "tools": _WORDS,
}


def _limits(value: Any, param: str) -> Limits:
    return Limits(**parse_exactly(_LIMITS, json_object(value, param), f"{param}."))


def _limits_by_model(value: Any, param: str) -> dict[str, Limits]:
    given = json_object(value, param)
    if len(given) > _MAX_ITEMS:
        raise wrong_value(param, f"at most {_MAX_ITEMS} models", len(given))
    # Models are the caller's own text, so an item's error names the whole field.
    return {_word(model, param): _limits(limits, param) for model, limits in given.items()}


def _changed_limits(value: Any, param: str) -> dict[str, int | None]:
    """`null` takes a limit away."""
    given = json_object(value, param)
    refuse_unknown(_LIMITS, given, f"{param}.")
    return {
        name: _or_null(LIMIT_CHECKS[name])(value, f"{param}.{name}")
        for name, value in given.items()
    }


_LIMITS = tuple(Field(name, check) for name, check in LIMIT_CHECKS.items())
_EXPIRES_AT = Field("expires_at", integer(0, _LAST_SECOND))
NEW_KEY = (
    *(Field(name, check) for name, check in _CHECKS.items()),
    Field("limits", _limits),
    Field("limits_by_model", _limits_by_model),
    _EXPIRES_AT,
    _LIFETIME,
)
"""All but its name."""
_CHANGED_KEY = (
    Field("name", _word),
    *(Field(name, check) for name, check in _CHECKS.items()),
    Field("limits", _changed_limits),
    Field("limits_of_model", _word),
    _EXPIRES_AT,
    _LIFETIME,
)


def new_key(given: Mapping[str, Any]) -> tuple[KeyRequest, set[str]]:
    """What NEW_KEY and a `name` found, and which of `key_minting.INHERITED` were not given.

    Raises InvalidValue.
    """
    expires_at = expiry(given)
    found = {**given, "expires_at": expires_at}
    values = {name: found[name] for name in INHERITED if found[name] is not None}
    defaults = given["default_knowledge_bases"] or ()
    request = KeyRequest("", given["name"], default_knowledge_bases=defaults, **values)
    return request, {*INHERITED} - {*values}


def changed_key(body: Mapping[str, Any]) -> KeyChange:
    """Raises InvalidValue or UnsupportedParameter."""
    refuse_unknown(_CHANGED_KEY, body)
    given: dict[str, Any] = {
        field.name: None
        if body[field.name] is None and field.name in _NULL_IS_ALL
        else field.check(body[field.name], field.name)
        for field in _CHANGED_KEY
        if field.name in body
    }
    if not given:
        raise InvalidValue("There is nothing to change.")
    limits, of_model = given.pop("limits", {}), given.pop("limits_of_model", None)
    if "expires_in_seconds" in given or given.get("expires_at") is not None:
        given["expires_at"] = expiry(given)
        given.pop("expires_in_seconds", None)
    for name in _CHECKS:
        if given.get(name) is not None:
            given[name] = [*given[name]]
    if "scopes" in given:
        given["scopes"] = sorted(set(given["scopes"]))
    return KeyChange(values=given, limits=limits, limits_of_model=of_model)


def expiry(given: Mapping[str, Any]) -> datetime | None:
    """By `expires_at` or `expires_in_seconds`; None: neither was given. Raises InvalidValue."""
    at, lifetime_s = given.get("expires_at"), given.get("expires_in_seconds")
    now = datetime.now(UTC)
    if lifetime_s is not None:
        if at is not None:
            raise InvalidValue(
                "Give 'expires_at' or 'expires_in_seconds', not both.", param="expires_at"
            )
        return now + timedelta(seconds=lifetime_s)
    if at is None:
        return None
    expires_at = datetime.fromtimestamp(at, UTC)
    if expires_at <= now:
        raise wrong_value("expires_at", "a moment to come, in seconds since 1970")
    return expires_at


def parse_exactly(
    fields: tuple[Field, ...], body: Mapping[str, Any], within: str = ""
) -> dict[str, Any]:
    """As `parse`, but for a field that no table names. Raises UnsupportedParameter."""
    refuse_unknown(fields, body, within)
    return parse(fields, body, within)


def refuse_unknown(fields: tuple[Field, ...], body: Mapping[str, Any], within: str = "") -> None:
    """Raises UnsupportedParameter."""
    names = [field.name for field in fields]
    if any(name not in names for name in body):
        where = f"'{within.removesuffix('.')}' has" if within else "There are"
        raise UnsupportedParameter(
            f"{where} only these fields: {', '.join(names)}.",
            param=within.removesuffix(".") or None,
        )
