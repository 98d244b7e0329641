"""A principal as authentication would have made it, with what a test says about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from anzoth.gateway.principal import Principal, TenantHandle

_PLAIN = Principal(
    tenant=TenantHandle(UUID(int=1), "acme", "5a17"),
    project_id=UUID(int=3),
    key_id=UUID(int=2),
    scopes=frozenset({"all"}),
    models=None,
    rpm=None,
    tpm=None,
    expires_at=None,
)


def make_principal(**fields: Any) -> Principal:
    """May do everything without limit, but for `fields`."""
    return replace(_PLAIN, **fields)
