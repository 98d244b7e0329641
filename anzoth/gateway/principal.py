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
from anzoth.gateway.accounts.roles import MANAGEMENT_SCOPES


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
    """Who asks, by an API key or by a user's session, and the grants at the moment of the request.

    A session has no scope of inference, so what runs a model always has a key.
    """

    tenant: TenantHandle
    project_id: UUID
    key_id: UUID | None
    """None: a session."""
    scopes: frozenset[str]
    models: tuple[str, ...] | None
    """Patterns (`fnmatch`) of the model ids it may use; None: all."""
    rpm: int | None
    """Requests per minute; None: unlimited."""
    tpm: int | None
    """Tokens per minute, prompt and output; None: unlimited."""
    expires_at: datetime | None
    user_id: UUID | None = None
    """Whose session it is."""

    def has_scope(self, scope: str) -> bool:
        """Whether it has `scope`, or its verb-less parent, or the one that stands for its kind:
        `admin` for what manages, `all` for the rest."""
        whole = "admin" if scope in MANAGEMENT_SCOPES else "all"
        return bool(self.scopes & {scope, scope.partition(":")[0], whole})

    def require_scope(self, scope: str) -> None:
        """Raises Forbidden unless it has the scope."""
        if not self.has_scope(scope):
            who = "This API key lacks" if self.user_id is None else "Your role lacks"
            raise Forbidden(f"{who} the scope {scope!r} that this endpoint needs.")

    def may_use_model(self, model: str) -> bool:
        return self.models is None or any(fnmatchcase(model, pattern) for pattern in self.models)

    def require_model(self, model: str) -> None:
        """Raises ModelNotAllowed unless the key is granted `model`."""
        if not self.may_use_model(model):
            raise ModelNotAllowed(f"This API key has no access to the model {model!r}.")
