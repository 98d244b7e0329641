"""How do commands take what a key may do: `--network 10.0.0.0/8`, `--expires 90d`?

Does not know: keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Annotated

import typer

from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.principal import Network

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)

Key = Annotated[str, typer.Argument(help="Its id or kid, as listed.", show_default=False)]


def words(help: str) -> object:
    """An option that can be repeated."""
    return typer.Option(help=f"{help}; can be repeated.", show_default=False)


def networks(texts: Sequence[str] | None) -> tuple[Network, ...] | None:
    """Raises DirectoryError."""
    if not texts:
        return None
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise DirectoryError(f"{error}; expected an address or a network like 10.0.0.0/8") from None


def duration(option: str, text: str) -> timedelta:
    """Raises DirectoryError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise DirectoryError(f"{option} is {text!r}; expected a duration such as 12h or 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def expiry(text: str) -> datetime:
    """Raises DirectoryError."""
    lasts = duration("--expires", text)
    if not lasts:
        raise DirectoryError(f"--expires is {text!r}; expected a duration such as 12h or 90d")
    return datetime.now(UTC) + lasts
