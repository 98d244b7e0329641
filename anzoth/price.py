"""What does the use of a model cost?

A price is decimal text in the configuration and whole micro-units of the currency per million
tokens from then on; a cost is whole nano-units. There is no float on the way. A cost is rounded
once per request and part (input, cached input, output), half up to a nano-unit; with prices of at
most three decimals there is nothing to round, and sums of costs never are. (A micro-unit would be
too coarse: an embedding of twenty tokens at 0.02 per million costs 0.4 of one.)

Does not know: which model has which price, or the currency.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

NANOS_PER_UNIT = 1_000_000_000
_NANOS_PER_MICRO = 1000
_MICROS_PER_NANO = 1000  # in tokens × micro-units per million tokens, as in the cost
_DECIMAL = re.compile(r"(\d{1,6})(?:\.(\d{1,6}))?", re.ASCII)
_AMOUNT = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)
_PARTS = ("input", "cached_input", "output")


class PriceError(ValueError):
    """A price or an amount is written in a way that has no meaning; the message says what is
    expected."""


@dataclass(slots=True, frozen=True)
class Cost:
    """Of one request, in nano-units of the currency."""

    input: int = 0
    """Of the prompt tokens that were computed."""
    cached_input: int = 0
    """Of those that were found in the cache."""
    output: int = 0

    @property
    def total(self) -> int:
        return self.input + self.cached_input + self.output


@dataclass(slots=True, frozen=True)
class Price:
    """Of one model, in micro-units of the currency per million tokens."""

    input: int
    cached_input: int
    output: int

    @classmethod
    def parse(cls, table: object, *, has_output: bool) -> Price:
        """From decimal text by part. Without `cached_input`, cached tokens cost what others do;
        `output` is needed by models with `has_output`. Raises PriceError.
        """
        if not isinstance(table, Mapping) or set(table) - set(_PARTS):
            raise PriceError(f"expected a table of {', '.join(_PARTS)}")
        needed = ("input", "output") if has_output else ("input",)
        if missing := [part for part in needed if part not in table]:
            raise PriceError(f"it has no {missing[0]!r}")
        amounts = {part: _micros(part, value) for part, value in table.items()}
        return cls(
            input=amounts["input"],
            cached_input=amounts.get("cached_input", amounts["input"]),
            output=amounts.get("output", 0),
        )

    def shown(self) -> dict[str, str]:
        """Each part as decimal text, in units of the currency per million tokens."""
        parts = {part: getattr(self, part) for part in _PARTS}
        return {part: shortest_decimal(price * _NANOS_PER_MICRO) for part, price in parts.items()}

    def cost(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> Cost:
        """`prompt_tokens` with the cached ones among them."""
        return Cost(
            input=_nanos(prompt_tokens - cached_tokens, self.input),
            cached_input=_nanos(cached_tokens, self.cached_input),
            output=_nanos(completion_tokens, self.output),
        )

    def highest_cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """In nano-units: no such request costs more, however much of its prompt is cached."""
        dearest = prompt_tokens * max(self.input, self.cached_input) // _MICROS_PER_NANO
        if prompt_tokens and (
            self.input % _MICROS_PER_NANO or self.cached_input % _MICROS_PER_NANO
        ):
            dearest += 1  # the prompt's two parts may both be rounded up
        return dearest + _nanos(completion_tokens, self.output)

    def affordable_output(self, nanos: int) -> int | None:
        """The most completion tokens that cost no more than `nanos`. None: any number."""
        if self.output == 0:
            return None
        return (nanos * _MICROS_PER_NANO + (_MICROS_PER_NANO - 1) // 2) // self.output


def decimal(nanos: int) -> str:
    """A cost as exact decimal text, in units of the currency, with all of its digits."""
    whole, fraction = divmod(nanos, NANOS_PER_UNIT)
    return f"{whole}.{fraction:09}"


def shortest_decimal(nanos: int) -> str:
    """The same without zeros at the end, as people write amounts: `25.5`."""
    return decimal(nanos).rstrip("0").rstrip(".")


def parse_amount(text: str) -> int:
    """Nano-units, from decimal text in units of the currency. Raises PriceError."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise PriceError(
            f"{text!r} is no amount; expected a decimal number, such as 25.50, with at most nine "
            "digits on each side of the point"
        )
    whole, fraction = match[1], match[2] or ""
    return int(whole + fraction.ljust(9, "0"))


def _micros(part: str, value: object) -> int:
    match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PriceError(
            f"{part} is {value!r}; expected a decimal number as text, such as '0.15', with at most "
            "six digits on each side of the point"
        )
    whole, fraction = match[1], match[2] or ""
    return int(whole + fraction.ljust(6, "0"))


def _nanos(tokens: int, price: int) -> int:
    return (tokens * price + _MICROS_PER_NANO // 2) // _MICROS_PER_NANO
