"""Which other servers may aliases lead to, and how are they asked?

The [[backends]] tables of `anzoth.toml`. An address is named there and nowhere else: no request and
no tenant can make this server connect to anything.

Does not know: the rest of the settings, or how a backend is asked.
"""

from __future__ import annotations

import re
import typing
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.price import Price, PriceError
from anzoth.settings import ConfigError, convert

_BACKEND_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


@dataclass(slots=True, frozen=True)
class BackendConfig:
    """Another server that speaks the OpenAI API: a [[backends]] table.

    Aliases of tenants may lead to its models; nobody but this file can name an address.
    """

    name: str
    base_url: str
    """Up to and with `/v1`. Redirects are never followed."""
    models: tuple[str, ...]
    """Their ids there. An alias can lead to these and to no others."""
    api_key_env: str | None = None
    """The environment variable that holds its key; the key itself is in no file of ours."""
    api_key_file: Path | None = None
    """Or the file that holds nothing but its key. Neither: it needs none."""
    tenants: tuple[str, ...] | None = None
    """By name, whose aliases may lead here. None: all."""
    max_connections: int = 64
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 60.0
    """From the request to the first event of a stream."""
    chunk_timeout_s: float = 60.0
    """Between two events of a stream."""
    answer_timeout_s: float = 600.0
    """For an answer that is not streamed, from the request to its last byte."""
    reserved_output_tokens: int = 1024
    """What is reserved of limits for the output where a request does not say how much there may be.
    What it really used is charged at its end."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By model, of those whose use costs something here, whatever it costs there."""


def _backend(table: Mapping[str, object]) -> BackendConfig:
    """One [[backends]] table. Raises ConfigError; no message repeats an address."""
    values = dict(table)
    name = values.get("name")
    if not (isinstance(name, str) and _BACKEND_NAME.fullmatch(name)):
        raise ConfigError(
            "each [[backends]] table needs a `name` of small letters, digits, '-' and '_'"
        )
    lists: dict[str, tuple[str, ...] | None] = {"models": (), "tenants": None}
    for field_name in lists:
        given = values.pop(field_name, None)
        if given is None:
            continue
        if not isinstance(given, list) or not all(isinstance(item, str) and item for item in given):
            raise ConfigError(f"backend {name}: {field_name} must be a list of names")
        lists[field_name] = tuple(given)
    if not lists["models"]:
        raise ConfigError(f"backend {name}: `models` must list the models that it serves")
    prices = dict(_prices(name, lists["models"], values.pop("prices", {})))
    hints = typing.get_type_hints(BackendConfig)
    if unknown := set(values) - set(hints):
        raise ConfigError(f"backend {name}: unknown setting {sorted(unknown)[0]!r}")
    try:
        converted = {key: convert(key, value, hints[key]) for key, value in values.items()}
    except ConfigError as error:
        raise ConfigError(f"backend {name}: {error}") from None
    if not isinstance(base_url := converted.get("base_url"), str):
        raise ConfigError(f"backend {name}: `base_url` is missing")
    _check_base_url(name, base_url)
    made = BackendConfig(**{**converted, **lists, "prices": prices})  # type: ignore[arg-type]  # converted above
    if made.api_key_env is not None and made.api_key_file is not None:
        raise ConfigError(f"backend {name}: give `api_key_env` or `api_key_file`, not both")
    return made


def _prices(name: str, models: Collection[str], tables: object) -> Iterator[tuple[str, Price]]:
    """Whether a model there writes anything is not known here: one that embeds has the output "0".
    Raises ConfigError.
    """
    if not isinstance(tables, dict):
        raise ConfigError(f"backend {name}: expected a table by model as prices")
    for model, table in tables.items():
        if model not in models:
            raise ConfigError(f"backend {name}: prices names {model!r}, which is not in `models`")
        try:
            yield model, Price.parse(table, has_output=True)
        except PriceError as error:
            raise ConfigError(f"backend {name}: the price of {model}: {error}") from None


def _check_base_url(name: str, base_url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not ("@" in parts.netloc or parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"backend {name}: `base_url` must look like https://host:port/v1, without user, "
            "password, query or fragment"
        )


def backends_of(tables: object) -> tuple[BackendConfig, ...]:
    """All [[backends]] tables of the file. Raises ConfigError."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError("write backends as [[backends]] tables")
    backends = tuple(map(_backend, tables))
    names = [backend.name for backend in backends]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two backends are called {name!r}")
    return backends
