"""How does a table become CSV that a spreadsheet may open without harm?

RFC 4180: commas, CRLF, quotes doubled. A text that a spreadsheet would take for a formula gets an
apostrophe in front, which shows it as text: a customer's words must not run on an operator's desk.

Does not know: which tables there are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

CONTENT_TYPE = "text/csv; charset=utf-8"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Value = str | int | bool | None


def lines(rows: Iterable[Sequence[Value]]) -> str:
    """None is an empty field; numbers stay as they are."""
    text = io.StringIO()
    csv.writer(text).writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue()


def _harmless(value: Value) -> Value:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return str(value).lower() if isinstance(value, bool) else value
