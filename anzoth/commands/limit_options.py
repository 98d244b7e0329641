"""How do commands take limits: `--rpm 600`, `--tokens-per-day none`, `--for-model llama`?

Does not know: whose limits they are.
"""

from __future__ import annotations

from typing import Annotated

import typer

from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.limit_directory import LimitChange
from anzoth.gateway.limit_rules import LIMIT_NAMES, Limits


def _option(help: str) -> object:
    return typer.Option(help=f"{help} `none`: no limit.", metavar="N", show_default=False)


Rpm = Annotated[str | None, _option("Requests per minute.")]
Tpm = Annotated[str | None, _option("Tokens per minute, prompt and output.")]
InputTpm = Annotated[str | None, _option("Prompt tokens per minute.")]
OutputTpm = Annotated[str | None, _option("Output tokens per minute.")]
Concurrency = Annotated[str | None, _option("Requests that run at the same time.")]
TokensPerDay = Annotated[str | None, _option("Tokens per day (UTC), prompt and output.")]
ForModel = Annotated[
    str | None,
    typer.Option(
        help="The limits given here hold for this model alone, beside those for all together.",
        show_default=False,
    ),
]


def changes(**given: str | None) -> LimitChange:
    """The limits that were named, `none` as None. Raises DirectoryError."""
    return {name: _number(name, text) for name, text in given.items() if text is not None}


def limits(**given: str | None) -> Limits:
    """The same for something new. Raises DirectoryError."""
    return Limits(**changes(**given))


def describe(limits: Limits) -> str:
    """As tables show them."""
    named = {name: getattr(limits, name) for name in LIMIT_NAMES}
    return ", ".join(f"{name} {limit}" for name, limit in named.items() if limit is not None) or "-"


def _number(name: str, text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        option = f"--{name.replace('_', '-')}"
        raise DirectoryError(f"{option} is {text!r}; expected a whole number or none") from None
