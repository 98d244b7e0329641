"""What is asked of a tenant's tool servers, by whom, and how are they shown?

Does not know: what is done with it (see `registry`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from anzoth.db.store.tool_rows import ToolState
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tools.definitions import (
    Approval,
    CallLimits,
    Credentials,
    ServerKind,
    Taint,
    ToolDefinition,
    ToolServer,
)


@dataclass(slots=True, frozen=True)
class ServerRequest:
    """What a tool server should be. Its fields are checked (see `api.tool_server_fields`)."""

    label: str
    kind: ServerKind
    url: str | None = None
    command: str | None = None
    method: str | None = None
    tool: ToolDefinition | None = None
    """Of `http`."""
    approval: Approval = "writes"
    taint: Taint = "any"
    limits: CallLimits = field(default_factory=CallLimits)
    credentials: Credentials | None = None


@dataclass(slots=True, frozen=True)
class ServerChange:
    """What is to be different. None: it stays."""

    approval: Approval | None = None
    taint: Taint | None = None
    timeout_s: float | None = None
    max_result_bytes: int | None = None
    sets_calls_per_minute: bool = False
    calls_per_minute: int | None = None
    """Where `sets_calls_per_minute`; None: as many as the requests' own limits let through."""
    sets_credentials: bool = False
    credentials: Credentials | None = None
    """Where `sets_credentials`; None: none any more."""


@dataclass(slots=True, frozen=True)
class PinnedTool:
    """What is known of one tool of a server."""

    definition: ToolDefinition
    state: ToolState
    changed: ToolDefinition | None
    """Of a quarantined one: what its server says instead of what was approved."""
    first_seen_at: datetime
    approved_at: datetime | None

    @property
    def said(self) -> ToolDefinition:
        """What its server said last, and an approval is about."""
        return self.changed or self.definition


@dataclass(slots=True, frozen=True)
class ServerView:
    """A tool server as its tenant sees it: without its credentials."""

    server: ToolServer
    tools: tuple[PinnedTool, ...]
    created_at: datetime
    updated_at: datetime
    listed_at: datetime | None
    """When it last said what it can do."""
    note: str | None
    """Why it did not, or what of that cannot be used."""

    @property
    def id(self) -> str:
        """As the API has it."""
        return str(self.server.id)


@dataclass(slots=True, frozen=True)
class ToolManager:
    """Who manages whose tool servers."""

    tenant: TenantHandle
    actor: Actor
    request_id: str | None = None
    is_operator: bool = False

    def event(
        self, type: str, id: uuid.UUID, label: str, /, tool: str | None = None, **details: Any
    ) -> AuditEvent:
        target = {"id": id, "label": label, **({} if tool is None else {"tool": tool})}
        return AuditEvent(
            type,
            self.actor,
            self.tenant.id,
            target=target,
            details=details,
            request_id=self.request_id,
        )
