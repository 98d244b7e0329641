"""How does a setting become the type of its field?

A section is a frozen dataclass; its fields are the settings. An invalid value stops the start and
names the field, the value and what was expected.

Does not know: which settings exist (see `config`), or where they come from.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping

T = typing.TypeVar("T")


class ConfigError(Exception):
    """A setting is missing, unknown or has an impossible value."""


def section(
    cls: type[T],
    from_file: Mapping[str, object],
    from_command_line: Mapping[str, object],
    environ: Mapping[str, str],
    prefix: str,
) -> T:
    hints = typing.get_type_hints(cls)
    if unknown := set(from_file) - set(hints):
        raise ConfigError(f"unknown setting {sorted(unknown)[0]!r} in the configuration file")
    values: dict[str, object] = {}
    for name, hint in hints.items():
        variable = prefix + name.upper()
        if name in from_command_line:
            values[name] = convert(f"--{name.replace('_', '-')}", from_command_line[name], hint)
        elif variable in environ:
            values[name] = convert(variable, environ[variable], hint)
        elif name in from_file:
            values[name] = convert(name, from_file[name], hint)
    return cls(**values)


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_EXPECTED: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def convert(name: str, value: object, hint: object) -> object:
    """`value` as the type of its field. Text is parsed, because the environment has only text."""
    if typing.get_origin(hint) is tuple:  # of texts: a list in the file, else words
        texts = value.split() if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(i, str) for i in texts):
            raise ConfigError(f"{name} is {value!r}; expected a list of texts")
        return tuple(texts)
    if typing.get_origin(hint) is Mapping:  # as `to_json` wrote it: by name
        _, of = typing.get_args(hint)
        items: Mapping[str, typing.Any] = dict(value)  # type: ignore[call-overload]
        if typing.get_origin(of) is tuple:
            return {key: convert(key, item, of) for key, item in items.items()}
        return {key: of(**fields) for key, fields in items.items()}
    options = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    if value is None or (value == "" and type(None) in options):
        if type(None) in options:
            return None
        raise ConfigError(f"{name} must not be empty")
    wanted = next(option for option in options if option is not type(None))
    try:
        if wanted is int and isinstance(value, float | bool):
            raise ValueError
        if wanted is bool:
            return _BOOLEANS[str(value).lower()]
        converted = wanted(value)  # type: ignore[operator]  # int, float, str or Path
    except (TypeError, ValueError, KeyError):
        expected = _EXPECTED.get(wanted, "text")
        raise ConfigError(f"{name} is {value!r}; expected {expected}") from None
    if isinstance(converted, int | float) and converted < 0:
        raise ConfigError(f"{name} is {value!r}; it must not be negative")
    return converted
