"""What may a user do in a tenant, by role?

The one table. A role holds everything that the roles below it hold. No role holds a scope of
inference: a model is asked with an API key, never with a browser's session, so that a stolen cookie
cannot spend tokens and every usage row names a key.

Does not know: who has which role, or what any scope opens.
"""

from __future__ import annotations

from collections.abc import Collection

VIEWER, MEMBER, ADMIN, OWNER = "viewer", "member", "admin", "owner"
ROLES = (VIEWER, MEMBER, ADMIN, OWNER)
"""From the least to the most."""
OTHER_NAMES = {"reader": MEMBER}
"""OpenAI's admin API knows `owner` and `reader`."""
PROJECT_ROLES = ("member", "owner")

_ADDED = {
    VIEWER: ("models:read", "projects:read", "usage:read"),
    MEMBER: ("keys:read", "tools:read", "users:read"),
    ADMIN: (
        *("audit:read", "invites:write", "keys:write", "models:write", "projects:write"),
        *("tools:write", "users:write"),
    ),
    OWNER: ("admin",),
}
SCOPES_OF_ROLE = {
    role: frozenset(scope for lower in ROLES[: rank + 1] for scope in _ADDED[lower])
    for rank, role in enumerate(ROLES)
}
MANAGEMENT_SCOPES = tuple(sorted(SCOPES_OF_ROLE[OWNER] - {"models:read"}))


def may_assign(scopes: Collection[str], role: str) -> bool:
    """Whether who has `scopes` may give or take `role`: nobody hands out more than they have."""
    return "admin" in scopes or role != OWNER
