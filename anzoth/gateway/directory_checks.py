"""What can tenants, projects and keys be, and how is anything else refused?

Does not know: what exists already.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from anzoth.gateway import keys
from anzoth.gateway.scopes import ADMIN_SCOPE, SCOPES

MAX_ADMIN_LIFETIME = timedelta(days=365)
_MAX_NAME_CHARS = 200


class DirectoryError(Exception):
    """The request cannot be met; the message is one sentence for whoever asked."""


def check_name(of: str, name: str) -> None:
    """Raises DirectoryError."""
    if not name.strip() or len(name) > _MAX_NAME_CHARS or not name.isprintable():
        raise DirectoryError(f"a {of}'s name must have 1 to {_MAX_NAME_CHARS} printable characters")
    if keys.holds_key(name):
        raise DirectoryError(f"a {of}'s name must not be an API key: names are shown and logged")


def check_scopes(scopes: Sequence[str]) -> None:
    """Raises DirectoryError."""
    if not scopes:
        raise DirectoryError("a key needs at least one scope")
    for scope in scopes:
        if scope not in SCOPES:
            raise DirectoryError(f"unknown scope {scope!r}; there are: {', '.join(SCOPES)}")


def check_expiry(scopes: Sequence[str], expires_at: datetime | None) -> None:
    """Raises DirectoryError for an admin key that would work for too long."""
    if ADMIN_SCOPE not in scopes:
        return
    if expires_at is None or expires_at > datetime.now(UTC) + MAX_ADMIN_LIFETIME:
        raise DirectoryError(
            f"a key with the scope {ADMIN_SCOPE} must expire, after at most "
            f"{MAX_ADMIN_LIFETIME.days} days"
        )
