"""Which named statements do the files in `queries/` hold?

A file is about one kind of row, and a line `-- name: …` begins a statement in it.

Does not know: what they mean, or who sends them (see `store`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@functools.cache
def load() -> Mapping[str, str]:
    """Name -> statement, with its comment: it then shows in the database's own views and logs."""
    files = resources.files("anzoth.db").joinpath("queries").iterdir()
    return parse(file.read_text() for file in files if file.name.endswith(".sql"))


def parse(texts: Iterable[str]) -> dict[str, str]:
    """Raises ValueError when a name occurs twice or names nothing."""
    statements: dict[str, str] = {}
    for text in texts:
        _, *parts = _NAME.split(text)
        for name, statement in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise ValueError(f"two queries are called {name!r}")
            if not statement.strip():
                raise ValueError(f"the query {name!r} is empty")
            statements[name] = statement.strip()
    return statements
