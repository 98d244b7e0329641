"""A principal as authentication would have made it, with what a test says about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from anzoth.gateway.limit_rules import LIMIT_NAMES, LimitRule, Limits
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.scopes import SCOPES

_PLAIN = Principal(
    tenant=TenantHandle(UUID(int=1), "acme", "5a17"),
    project_id=UUID(int=3),
    key_id=UUID(int=2),
    scopes=frozenset({"all", *(scope for scope in SCOPES if scope.endswith(":read"))}),
    models=None,
    expires_at=None,
)


def make_principal(**fields: Any) -> Principal:
    """May infer and read everything without limit, but for `fields`: those of a principal, and the
    names of limits (`rpm=5`), which are the key's own."""
    limits = {name: fields.pop(name) for name in LIMIT_NAMES if name in fields}
    made = replace(_PLAIN, **fields)
    if not Limits(**limits):
        return made
    assert made.key_id is not None
    rule = LimitRule("key", made.key_id, Limits(**limits))
    return replace(made, limits=(*made.limits, rule))
