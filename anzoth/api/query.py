"""Which parameters came behind the question mark?

Lists come as OpenAI's SDKs send them (`name[]=a&name[]=b`), ranges as `name[gte]=1`. A parameter
that nobody asked for is refused by name, so that a filter which is not understood hides nothing.

Does not know: what any parameter means.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl
from uuid import UUID

from anzoth.errors import BadRequest, InvalidValue, UnsupportedParameter

_MAX_FIELDS = 1000


class Query:
    """The parameters of one request; each is taken once, and `done` refuses what is left."""

    def __init__(self, query: str) -> None:
        """Raises BadRequest."""
        self._left: dict[str, list[str]] = {}
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise BadRequest("The query of the URL has too many parameters.") from None
        for name, value in pairs:
            self._left.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """Raises InvalidValue when it comes more than once."""
        values = self._left.pop(name, [])
        if len(values) > 1:
            raise InvalidValue(f"'{name}' must be given once.", param=name)
        return values[0] if values else None

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Raises InvalidValue unless it is a whole number from `low` to `high`."""
        text = self.text(name)
        if text is None:
            return None
        is_number = len(text) <= 20 and text.isascii() and text.removeprefix("-").isdigit()
        if not is_number or not low <= int(text) <= high:
            raise InvalidValue(f"'{name}' must be a whole number from {low} to {high}.", param=name)
        return int(text)

    def boolean(self, name: str) -> bool | None:
        """Raises InvalidValue unless it is `true` or `false`."""
        text = self.one_of(name, ("true", "false"))
        return None if text is None else text == "true"

    def one_of(self, name: str, choices: Sequence[str]) -> str | None:
        """Raises InvalidValue for anything else."""
        text = self.text(name)
        if text is not None and text not in choices:
            raise InvalidValue(f"'{name}' must be {_listed(choices, 'or')}.", param=name)
        return text

    def several_of(self, name: str, choices: Sequence[str]) -> tuple[str, ...]:
        """All values, in the order of `choices`. Raises InvalidValue for anything else."""
        values = self.texts(name) or []
        if not set(values) <= set(choices):
            raise InvalidValue(f"'{name}' can be {_listed(choices, 'and')}.", param=name)
        return tuple(choice for choice in choices if choice in values)

    def texts(self, name: str) -> list[str] | None:
        """All values of `name[]` (or `name`); None: there is none. Raises InvalidValue for what no
        database can hold."""
        values = self._left.pop(f"{name}[]", []) + self._left.pop(name, [])
        if any("\0" in value for value in values):
            raise InvalidValue(f"'{name}' must be without NUL characters.", param=name)
        return values or None

    def ids(self, name: str) -> list[UUID] | None:
        """The same for ids. Raises InvalidValue for what cannot be one."""
        values = self.texts(name)
        try:
            return None if values is None else [UUID(value) for value in values]
        except ValueError:
            raise InvalidValue(f"'{name}' must be ids from this API.", param=name) from None

    def done(self) -> None:
        """Raises UnsupportedParameter for the first that was not taken."""
        for name in self._left:
            raise UnsupportedParameter(
                f"This server does not support the parameter '{name}' here.", param=name
            )


def _listed(choices: Sequence[str], word: str) -> str:
    *others, last = (f"'{choice}'" for choice in choices)
    return f"{', '.join(others)} {word} {last}" if others else last
