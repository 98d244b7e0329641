"""Who is asking, and what may they do?

A `Principal` is made by authentication and by nothing else; every tenant-scoped call takes one (or
its `TenantHandle`), so that code which forgot to authenticate has nothing to pass.

Does not know: how a key is checked or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from uuid import UUID

from anzoth.errors import Forbidden, ModelNotAllowed


@dataclass(slots=True, frozen=True)
class TenantHandle:
    """Proof that this tenant was authenticated. `cache_salt` roots its prefix cache (secret)."""

    id: UUID
    name: str
    cache_salt: str

    def __repr__(self) -> str:
        return f"TenantHandle({self.name!r})"


@dataclass(slots=True, frozen=True)
class Principal:
    """One API key's identity and grants at the moment of the request."""

    tenant: TenantHandle
    project_id: UUID
    key_id: UUID
    scopes: frozenset[str]
    models: tuple[str, ...] | None
    """Patterns (`fnmatch`) of the model ids it may use; None: all."""
    rpm: int | None
    """Requests per minute; None: unlimited."""
    tpm: int | None
    """Tokens per minute, prompt and output; None: unlimited."""
    expires_at: datetime | None

    def has_scope(self, scope: str) -> bool:
        """Whether the key has `scope`, or its verb-less parent, or `all`."""
        return bool(self.scopes & {scope, scope.partition(":")[0], "all"})

    def require_scope(self, scope: str) -> None:
        """Raises Forbidden unless the key has the scope."""
        if not self.has_scope(scope):
            raise Forbidden(f"This API key lacks the scope {scope!r} that this endpoint needs.")

    def may_use_model(self, model: str) -> bool:
        return self.models is None or any(fnmatchcase(model, pattern) for pattern in self.models)

    def require_model(self, model: str) -> None:
        """Raises ModelNotAllowed unless the key is granted `model`."""
        if not self.may_use_model(model):
            raise ModelNotAllowed(f"This API key has no access to the model {model!r}.")
