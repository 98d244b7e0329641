"""Which tools may a tenant's requests call at all, and with which credentials?

A tool is in the catalogue if its definition was approved and its server says the same still, as far
as any gateway has heard (see `pins`). What is read is kept for a second (see `tenant_cache`);
credentials are not: they are opened for the moment in which a server is spoken to.

Does not know: which of these tools a key, an alias or a request is granted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from uuid import UUID

import orjson

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store import tool_rows
from anzoth.db.store.tool_rows import ServerRow
from anzoth.errors import DatabaseUnavailable
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_cache import Subject, TenantCache
from anzoth.gateway.tenant_crypt import Label, TenantCipher, TenantKeys
from anzoth.gateway.tools.definitions import (
    NO_CREDENTIALS,
    Approval,
    CallLimits,
    Credentials,
    GovernedTool,
    ServerKind,
    Taint,
    ToolDefinition,
    ToolServer,
)

CHANNEL = "anzoth_tools"
_UNAVAILABLE = "Tools cannot be looked up because the database is unavailable. Please retry."
_CREDENTIALS = "tool.credentials"


class ToolCatalogue:
    """One per gateway. `run` must be running for changes to be heard of at once."""

    def __init__(
        self,
        database: Database,
        dsn: str,
        keys: TenantKeys,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._keys = keys
        self._cache = TenantCache(database, dsn, _TOOLS, clock=clock)

    async def of(self, tenant: TenantHandle) -> Mapping[str, GovernedTool]:
        """What was approved, by `GovernedTool.name`. Raises DatabaseUnavailable."""
        return await self._cache.of(tenant)

    async def credentials(self, tenant: TenantHandle, server: ToolServer) -> Credentials:
        """Raises DatabaseUnavailable, KeyRevoked for a tenant that was deleted, and CannotOpen."""
        if not server.has_credentials:
            return NO_CREDENTIALS
        try:
            cipher = await self._keys.cipher(tenant)
            async with self._database.tenant(tenant) as connection:
                sealed = await tool_rows.find_credentials(connection, tenant.id, server.id)
        except DatabaseDown:
            raise DatabaseUnavailable(_UNAVAILABLE) from None
        return NO_CREDENTIALS if sealed is None else opened(cipher, server.id, sealed)

    async def run(self) -> None:
        """Hears of changes until cancelled."""
        await self._cache.run()


async def _read(connection: Connection, tenant_id: UUID) -> Mapping[str, GovernedTool]:
    rows = await tool_rows.list_servers(connection, tenant_id)
    if not rows:
        return {}
    servers = {row.id: server_of(row) for row in rows}
    approved = await tool_rows.list_approved(connection, tenant_id)
    # One whose server came between the two statements is there the next time.
    tools = [
        GovernedTool(servers[server_id], ToolDefinition.decoded(definition))
        for server_id, definition in approved
        if server_id in servers
    ]
    return {tool.name: tool for tool in tools}


_TOOLS = Subject(CHANNEL, _read, _UNAVAILABLE)


def server_of(row: ServerRow) -> ToolServer:
    # Each of these words is one that the database's own checks let in.
    return ToolServer(
        id=row.id,
        tenant_id=row.tenant_id,
        label=row.label,
        kind=cast(ServerKind, row.kind),
        url=row.url,
        command=row.command,
        method=row.method or "GET",
        approval=cast(Approval, row.approval),
        taint=cast(Taint, row.taint),
        limits=CallLimits(row.timeout_ms / 1000, row.max_result_bytes, row.calls_per_minute),
        has_credentials=row.has_credentials,
    )


def sealed(cipher: TenantCipher, server_id: UUID, credentials: Credentials) -> bytes:
    return cipher.seal(orjson.dumps(credentials), Label(_CREDENTIALS, str(server_id)))


def opened(cipher: TenantCipher, server_id: UUID, credentials: bytes) -> Credentials:
    """Raises CannotOpen."""
    plain = cipher.open(credentials, Label(_CREDENTIALS, str(server_id)))
    said: dict[str, Any] = orjson.loads(plain)
    return Credentials(**said)
