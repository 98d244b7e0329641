"""How do commands take limits: `--rpm 600`, `--tokens-per-day none`, `--for-model llama`?

Does not know: whose limits they are.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.limit_directory import LimitChange
from anzoth.gateway.limit_rules import BUDGET_NAMES, LIMIT_NAMES, Limits, shown
from anzoth.price import PriceError, parse_amount


def _option(help: str, metavar: str = "N") -> object:
    return typer.Option(help=f"{help} `none`: no limit.", metavar=metavar, show_default=False)


Rpm = Annotated[str | None, _option("Requests per minute.")]
Tpm = Annotated[str | None, _option("Tokens per minute, prompt and output.")]
InputTpm = Annotated[str | None, _option("Prompt tokens per minute.")]
OutputTpm = Annotated[str | None, _option("Output tokens per minute.")]
Concurrency = Annotated[str | None, _option("Requests that run at the same time.")]
TokensPerDay = Annotated[str | None, _option("Tokens per day (UTC), prompt and output.")]
_BUDGET = "What may be spent per {} (UTC), in the currency of the prices."
BudgetPerDay = Annotated[str | None, _option(_BUDGET.format("day"), "AMOUNT")]
BudgetPerMonth = Annotated[str | None, _option(_BUDGET.format("calendar month"), "AMOUNT")]
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
    named = fields(limits)
    return ", ".join(f"{name} {limit}" for name, limit in named.items() if limit is not None) or "-"


def fields(limits: Limits) -> dict[str, int | str | None]:
    """As JSON shows them."""
    return shown(asdict(limits))


def listed(row: Any) -> dict[str, Any]:  # a dataclass of the store
    """A row with limits among its fields, as JSON shows it."""
    named = asdict(row)
    return named | shown({name: named[name] for name in LIMIT_NAMES})


def of_row(row: object) -> Limits:
    """Its limits."""
    return Limits(**{name: getattr(row, name) for name in LIMIT_NAMES})


def _number(name: str, text: str) -> int | None:
    if text == "none":
        return None
    option = f"--{name.replace('_', '-')}"
    try:
        return parse_amount(text) if name in BUDGET_NAMES else int(text)
    except PriceError as error:
        raise DirectoryError(f"{option}: {error}") from None
    except ValueError:
        raise DirectoryError(f"{option} is {text!r}; expected a whole number or none") from None
