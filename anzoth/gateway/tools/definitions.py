"""What is a governed tool, and what comes of a call?

    tool server   registered for one tenant under a label: an MCP server over HTTP, a command that
                  the operator named (MCP over stdio), or a plain HTTP endpoint
    definition    what a server says about one tool: name, description, schema, whether it only
                  reads. It is pinned: a changed one is another definition, and quarantined
    governed tool a pinned definition that was approved, with the rules for calls of it
    outcome       what the model is told of one call, and what is written down about it

Does not know: how a server is spoken to, where anything is stored, or who may call what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import orjson

ServerKind = Literal["mcp", "command", "http"]
Approval = Literal["never", "writes", "always"]
"""Which calls a person must approve: none, those of tools that do not only read, all."""
Taint = Literal["any", "values"]
"""When what a model has read makes a tool that may write need approval: as soon as it has read
anything untrusted, or only when the arguments hold something of it (see `taint`)."""
Decision = Literal["allowed", "denied", "needs_approval", "rejected"]
"""`rejected`: whoever was asked for approval said no."""
FailureKind = Literal[
    "unreachable", "egress_refused", "timeout", "too_large", "protocol", "changed", "cancelled"
]

SEPARATOR = "__"
"""Between the label of a server and the name of its tool, in the name that models call."""


@dataclass(slots=True, frozen=True)
class ToolDefinition:
    """What a tool server says about one of its tools."""

    name: str
    description: str = field(repr=False)
    input_schema: Mapping[str, Any] = field(repr=False)  # JSON schema of an object
    is_read_only: bool = False
    """It says that it changes nothing. What says nothing may write."""

    @property
    def encoded(self) -> bytes:
        """All that a model or a rule reads of it, as JSON that is the same for the same definition.

        Raises TypeError for what cannot be written as JSON: half of a surrogate pair, an integer
        of more than 64 bits, some 250 levels of nesting.
        """
        content = [self.name, self.description, dict(self.input_schema), self.is_read_only]
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decoded(cls, encoded: bytes) -> ToolDefinition:
        """The reverse of `encoded`."""
        return cls(*orjson.loads(encoded))

    @property
    def digest(self) -> bytes:
        """SHA-256 (32 bytes) of `encoded`: two definitions with the same digest are the same.

        Raises as `encoded`.
        """
        return hashlib.sha256(self.encoded).digest()


@dataclass(slots=True, frozen=True)
class CallLimits:
    """Of one tool, for all keys of its tenant together at one gateway."""

    timeout_s: float = 30.0
    max_result_bytes: int = 65_536
    calls_per_minute: int | None = None
    """None: as many as the requests' own limits let through."""


@dataclass(slots=True, frozen=True)
class ToolServer:
    """One registered server."""

    id: UUID
    tenant_id: UUID
    label: str
    """1 to 24 of a-z, 0-9 and single underscores, unique in the tenant; grants name it."""
    kind: ServerKind
    url: str | None = None
    """Of `mcp`: its endpoint. Of `http`: a template such as https://host/v1/orders/{order_id}."""
    command: str | None = None
    """Of `command`: a name in the operator's [tools.commands]; nothing else is ever started."""
    method: str = "GET"
    """Of `http`."""
    approval: Approval = "writes"
    taint: Taint = "any"
    limits: CallLimits = CallLimits()
    has_credentials: bool = False


@dataclass(slots=True, frozen=True)
class Credentials:
    """A tenant's own secrets for one server, opened for the moment of a connection."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each request to it (`mcp`, `http`)."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the process (`command`)."""


NO_CREDENTIALS = Credentials()


@dataclass(slots=True, frozen=True)
class GovernedTool:
    """A tool that may be called, as it was approved."""

    server: ToolServer
    definition: ToolDefinition

    @property
    def name(self) -> str:
        """In which models call it and grants name it: `label__tool`, at most 64 characters."""
        return f"{self.server.label}{SEPARATOR}{self.definition.name}"


@dataclass(slots=True, frozen=True)
class ToolResult:
    """What a tool answered."""

    text: str = field(repr=False)
    is_error: bool = False
    """The tool itself says that it failed."""
    num_bytes: int = 0
    """That came over the wire."""


class ToolFailure(Exception):
    """There is no answer: the call was contained. The message is for the model and the caller; it
    holds no secret, no address that the tenant did not give, and nothing that the server wrote."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind


@dataclass(slots=True, frozen=True)
class ToolOutcome:
    """How one call ended, whatever came of it: nothing about a tool's failure is raised at the
    loop, but for the client's own leaving."""

    call_id: str
    tool_name: str
    decision: Decision
    rule: str
    """Which rule decided, for example `key.tool`, `tool.approval` or `tool.taint`."""
    text: str = field(repr=False)
    """For the model: the result, or why there is none."""
    is_error: bool = False
    failure: FailureKind | None = None
    """Why an allowed call has no answer."""
    latency_ms: int = 0
    num_bytes: int = 0
