"""Which named statements does `queries.sql` hold?

Does not know: what they mean, or who sends them (see `store`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@functools.cache
def load() -> Mapping[str, str]:
    """Name -> statement, with its comment: it then shows in the database's own views and logs."""
    return parse(resources.files("anzoth.db").joinpath("queries.sql").read_text())


def parse(text: str) -> dict[str, str]:
    """Raises ValueError when a name occurs twice or names nothing."""
    _, *parts = _NAME.split(text)
    statements: dict[str, str] = {}
    for name, statement in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"two queries are called {name!r}")
        if not statement.strip():
            raise ValueError(f"the query {name!r} is empty")
        statements[name] = statement.strip()
    return statements
