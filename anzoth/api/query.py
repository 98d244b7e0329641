"""Which parameters came behind the question mark?

Lists come as OpenAI's SDKs send them (`name[]=a&name[]=b`), ranges as `name[gte]=1`. A parameter
that nobody asked for is refused by name, so that a filter which is not understood hides nothing.

Does not know: what any parameter means.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

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

    def texts(self, name: str) -> list[str] | None:
        """All values of `name[]` (or `name`); None: there is none."""
        return self._left.pop(f"{name}[]", []) + self._left.pop(name, []) or None

    def done(self) -> None:
        """Raises UnsupportedParameter for the first that was not taken."""
        for name in self._left:
            raise UnsupportedParameter(
                f"This server does not support the parameter '{name}' here.", param=name
            )
