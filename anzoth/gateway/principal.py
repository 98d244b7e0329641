"""Who is asking, and what may they do?

A `Principal` is made by authentication and by nothing else; every tenant-scoped call takes one (or
its `TenantHandle`), so that code which forgot to authenticate has nothing to pass.

Does not know: how a key is checked or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from uuid import UUID

from anzoth.errors import (
    AddressNotAllowed,
    AnzothError,
    EndpointNotAllowed,
    Forbidden,
    KnowledgeBaseNotAllowed,
    ModelNotAllowed,
    VectorStoreNotFound,
)
from anzoth.gateway import scopes, shadow
from anzoth.gateway.limit_rules import LimitRule

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


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
    expires_at: datetime | None
    limits: tuple[LimitRule, ...] = ()
    """Of its tenant, its project and itself; only rules that limit something."""
    endpoints: tuple[str, ...] | None = None
    """Patterns of the routes it may use, for example `/v1/chat/*`; None: all."""
    networks: tuple[Network, ...] | None = None
    """Where its requests may come from; None: anywhere."""
    knowledge_bases: frozenset[str] | None = None
    """Ids of the vector stores that it may use; None: all of its project."""
    default_knowledge_bases: tuple[str, ...] = ()
    """What its chats are answered from where neither they nor their alias name any."""
    tools: frozenset[str] = frozenset()
    rotating_until: datetime | None = None
    """It was presented by its old secret, which works until then."""
    user_id: UUID | None = None
    """Whose session it is."""
    shadow_rules: tuple[str, ...] = ()
    """Patterns (`fnmatch`) of the rules that are only watched: see `shadow`."""
    owner_id: UUID | None = None
    """Whose the key is: a user's or a service account's id. None: the tenant's own, or no key."""

    def watches(self, rule: str) -> bool:
        """Whether `rule` does not refuse this principal, but is noted."""
        return _matches(rule, self.shadow_rules)

    def deny(self, error: AnzothError) -> None:
        """Raises `error`, a policy's refusal; or notes it, where its rule is only watched."""
        if not self.watches(error.rule):
            raise error
        shadow.note(error.rule)

    @property
    def manages(self) -> bool:
        """A management key: its inference scopes are what it may hand on, not what it may do."""
        return scopes.manages(self.scopes)

    def has_scope(self, scope: str) -> bool:
        """Whether it may do what `scope` stands for."""
        if scopes.spends(scope) and self.manages:
            return False
        return scopes.covers(self.scopes, scope)

    def require_scope(self, scope: str) -> None:
        """Raises Forbidden unless it has the scope."""
        if self.has_scope(scope):
            return
        if scopes.spends(scope) and self.manages and self.user_id is None:
            raise Forbidden(
                "This API key manages keys, and such a key is not used for inference. Make another "
                "one for that.",
                rule="key.management",
            )
        who = "This API key lacks" if self.user_id is None else "Your role lacks"
        error = Forbidden(f"{who} the scope {scope!r} that this endpoint needs.")
        if not scopes.is_inference(scope):
            raise error  # nobody manages anything because a rule is tried out
        self.deny(error)

    def require_address(self, address: Address | None) -> None:
        """Raises AddressNotAllowed unless the key may be used from there; None: unknown."""
        if self.networks is None:
            return
        if address is None or not any(address in network for network in self.networks):
            self.deny(AddressNotAllowed())

    def require_endpoint(self, endpoint: str) -> None:
        """Raises EndpointNotAllowed unless the key may use this route (its pattern)."""
        if self.endpoints is not None and not _matches(endpoint, self.endpoints):
            self.deny(EndpointNotAllowed())

    def may_use_model(self, model: str) -> bool:
        return self.models is None or _matches(model, self.models)

    def require_model(self, model: str) -> None:
        """Raises ModelNotAllowed unless the key is granted `model`."""
        if not self.may_use_model(model):
            self.deny(ModelNotAllowed(f"This API key has no access to the model {model!r}."))

    def require_knowledge_base(self, store_id: str) -> None:
        """Raises VectorStoreNotFound unless the key is granted this vector store: for one that is
        there and one that is not alike, so to be called before it is looked for."""
        if self.knowledge_bases is not None and store_id not in self.knowledge_bases:
            self.deny(VectorStoreNotFound(rule="key.knowledge_base"))

    def require_every_knowledge_base(self) -> None:
        """Raises KnowledgeBaseNotAllowed for a key that is granted certain stores only: of what it
        made it could use nothing."""
        if self.knowledge_bases is not None:
            self.deny(KnowledgeBaseNotAllowed())

    @property
    def granted_knowledge_bases(self) -> frozenset[str] | None:
        """Which vector stores it is shown. None: all of its project."""
        return None if self.watches("key.knowledge_base") else self.knowledge_bases


def _matches(text: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)
