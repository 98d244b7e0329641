"""What tests of the policy of tools share: approved ones, and a tenant to call them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from principals import make_principal

from anzoth.db import pool
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.db.store import audit_rows
from anzoth.db.store.audit_rows import AuditRow
from anzoth.gateway import audit_export, directory
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.tenant_crypt import MasterKey, TenantKeys
from anzoth.gateway.tools.call_rates import CallRates
from anzoth.gateway.tools.calling import ToolCaller, ToolTurn
from anzoth.gateway.tools.definitions import (
    Credentials,
    GovernedTool,
    ToolDefinition,
    ToolResult,
    ToolServer,
)
from anzoth.gateway.tools.grants import GrantedTool, granted
from anzoth.gateway.tools.taint import Untrusted
from anzoth.telemetry import Metrics

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")
ANYTHING: Mapping[str, Any] = {"type": "object"}


def make_tool(
    name: str,
    *,
    is_read_only: bool = False,
    schema: Mapping[str, Any] = ANYTHING,
    **server: Any,
) -> GovernedTool:
    """`name`: `label__tool`. `server`: fields of its server."""
    label, _, tool_name = name.partition("__")
    definition = ToolDefinition(tool_name, f"Does {tool_name}.", schema, is_read_only)
    made = {"id": UUID(int=9), "tenant_id": UUID(int=1), "kind": "mcp", **server}
    return GovernedTool(ToolServer(label=label, **made), definition)


def make_granted(name: str, **fields: Any) -> GrantedTool:
    tool = make_tool(name, **fields)
    return GrantedTool(tool, tool.server.approval)


def catalogue_of(*tools: GovernedTool) -> dict[str, GovernedTool]:
    return {tool.name: tool for tool in tools}


Answer = Callable[[GovernedTool, Mapping[str, Any]], Awaitable[ToolResult]]


async def answer_ok(tool: GovernedTool, arguments: Mapping[str, Any]) -> ToolResult:
    return ToolResult(f"{tool.name} was here", num_bytes=17)


async def _at_once() -> None:
    pass


class UnsteadyDatabase(Database):
    """A real one, which is away or slow whenever a test says so."""

    is_away: Callable[[], bool] = staticmethod(lambda: False)
    wait: Callable[[], Awaitable[None]] = staticmethod(_at_once)

    @contextlib.asynccontextmanager
    async def tenant(self, handle: Any) -> AsyncIterator[Any]:
        if self.is_away():
            raise DatabaseDown("the database is unavailable (as a test wants it)")
        await self.wait()
        async with super().tenant(handle) as connection:
            yield connection


@dataclass
class World:
    """A tenant with a key in a real database, its catalogue, and what stands for its servers."""

    dsn: str
    database: UnsteadyDatabase
    tenant_keys: TenantKeys
    principal: Principal
    tools: dict[str, GovernedTool]
    answer: Answer = answer_ok
    calls: list[tuple[str, Mapping[str, Any], Credentials]] = field(default_factory=list)
    error: Exception | None = None
    """Instead of a catalogue."""
    now_s: float = 0.0
    metrics: Metrics = field(default_factory=Metrics)

    # What a ToolCaller asks of a catalogue and of connections.

    async def of(self, tenant: TenantHandle) -> Mapping[str, GovernedTool]:
        assert tenant == self.principal.tenant
        if self.error is not None:
            raise self.error
        return self.tools

    async def credentials(self, tenant: TenantHandle, server: ToolServer) -> Credentials:
        assert tenant == self.principal.tenant
        return Credentials({"authorization": f"of {server.label}"})

    async def call(
        self, tool: GovernedTool, arguments: Mapping[str, Any], credentials: Credentials
    ) -> ToolResult:
        self.calls.append((tool.name, arguments, credentials))
        return await self.answer(tool, arguments)

    def caller(self, **options: Any) -> ToolCaller:
        return ToolCaller(
            *(self.database, self.tenant_keys, self, self, self.metrics),
            clock=lambda: self.now_s,
            rates=CallRates(clock_ns=lambda: int(self.now_s * 1e9)),
            **options,
        )

    def turn(
        self, *, trusted: Sequence[str] = (), reads: Sequence[str] = (), **more: Any
    ) -> ToolTurn:
        """All tools of the catalogue as it is now are granted."""
        untrusted = Untrusted(trusted)
        for text in reads:
            untrusted.add(text)
        made = {
            "principal": self.principal,
            "request_id": "req_1",
            "ip": "192.0.2.7",
            "end_user": "customer-7",
            "model": "chat",
            "granted": granted(self.tools, self.principal, sorted(self.principal.tools), ()),
            "untrusted": untrusted,
        }
        return ToolTurn(**{**made, **more})

    async def events(self) -> list[AuditRow]:
        """Those of calls, of a chain that verifies."""
        async with pool.operator(self.dsn) as connection:
            report = await audit_export.verify_database(connection, None, None)
            assert report.problems == []
            chain = self.principal.tenant.id
            rows = [row async for row in audit_rows.all_events(connection, chain)]
        return [row for row in rows if row.type.startswith("tool.")]


@contextlib.asynccontextmanager
async def world(
    dsn: str, *tools: GovernedTool, grants: Sequence[str] | None = None
) -> AsyncIterator[World]:
    """`grants` of its key; None: all of the tools."""
    tenant = await directory.create_tenant(dsn, "acme")
    request = KeyRequest("acme", "k", tools=list(grants or [tool.name for tool in tools]))
    created = await directory.create_key(dsn, PEPPER, request)
    database = await UnsteadyDatabase.open(dsn)
    principal = make_principal(
        tenant=TenantHandle(tenant.id, "acme", "5a17"),
        project_id=created.project_id,
        key_id=created.id,
        tools=frozenset(request.tools or ()),
    )
    keys = TenantKeys(database, dsn, MasterKey(bytes(32)))
    try:
        yield World(dsn, cast(UnsteadyDatabase, database), keys, principal, catalogue_of(*tools))
    finally:
        await database.close()
