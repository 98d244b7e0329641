"""What does a caller read when the database is away?

Does not know: who asked it for what.
"""

from __future__ import annotations

from anzoth.db.errors import DatabaseDown
from anzoth.errors import DatabaseUnavailable


def try_translate(error: Exception) -> DatabaseUnavailable | None:
    """None: it is another kind of error."""
    if isinstance(error, DatabaseDown):
        return DatabaseUnavailable("The database is unavailable. Please retry.")
    return None
