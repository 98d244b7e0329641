"""What can go wrong with the database, in the words of this package?

Two kinds are kept apart: it cannot be reached now (a retry may help), and it is not usable as it is
(an operator must act). Neither is an HTTP error: the gateway translates.

Does not know: asyncpg's own errors; `pool` translates them.
"""

from __future__ import annotations


class DatabaseError(Exception):
    """The message is one sentence for an operator; it never carries a DSN or a value of a row."""


class DatabaseDown(DatabaseError):
    """The database cannot be reached, or did not answer in time."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class DatabaseUnusable(DatabaseError):
    """The database, or the place where it should live, needs an operator's hand."""
