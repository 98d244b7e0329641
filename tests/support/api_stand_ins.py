"""What stands for keys, database, ledger and sockets in tests of the whole API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from principals import make_principal

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store.usage_rows import RequestRow
from anzoth.errors import AnzothError, KeyRevoked, Unauthorized
from anzoth.gateway.aliases import Alias, Aliases, Target
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.denials import Denials
from anzoth.gateway.health import Component, Health
from anzoth.gateway.ledger import Ledger, row_of, traced
from anzoth.gateway.past_requests import TENANT_SCOPE, PastRequests
from anzoth.gateway.past_usage import PastUsage
from anzoth.gateway.principal import Address, Principal, TenantHandle
from anzoth.gateway.tools.past_calls import PastCall
from anzoth.gateway.usage import UsageRecord

PRINCIPAL = make_principal()
START = datetime(2026, 1, 1, tzinfo=UTC)


class KnownKeys(Authenticator):
    """Bearer tokens from a dictionary."""

    def __init__(self) -> None:
        self.principals = {"good": PRINCIPAL}

    async def authenticate(
        self, authorization: str | None, address: Address | None = None
    ) -> Principal:
        try:
            return self.principals[(authorization or "").removeprefix("Bearer ")]
        except KeyError:
            raise Unauthorized() from None

    async def of_key(self, tenant: TenantHandle, key_id: UUID) -> Principal:
        for principal in self.principals.values():
            if (principal.tenant.id, principal.key_id) == (tenant.id, key_id):
                return principal
        raise KeyRevoked()


class NoDatabase(Database):
    """Answers nothing, like a database that is away."""

    def __init__(self) -> None:
        pass

    @asynccontextmanager
    async def _transaction(self, setting: str, value: str) -> AsyncIterator[Connection]:
        raise DatabaseDown("there is none here")
        yield


class ListedUsage(Ledger):
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []

    def begin(self, usage: UsageRecord, max_completion_tokens: int) -> None:
        pass

    async def begun(self, usage: UsageRecord) -> None:
        pass

    def record(self, usage: UsageRecord) -> None:
        self.records.append(replace(usage))


class ListedDenials(Denials):
    """Keeps what is noted: the rule, who broke it, and where."""

    def __init__(self) -> None:
        self.noted: list[tuple[str | None, Principal | None, str]] = []

    def note(
        self, error: AnzothError, principal: Principal | None, endpoint: str, ip: str | None
    ) -> None:
        self.noted.append((error.rule, principal, endpoint))


class ListedRequests(PastRequests):
    """Finds requests among what was recorded."""

    def __init__(self, ledger: ListedUsage) -> None:
        self._ledger = ledger
        self.calls: list[PastCall] = []
        """Of tools, for each of them."""

    async def calls_of(self, principal: Principal, request: RequestRow) -> Sequence[PastCall]:
        return self.calls

    async def _find(self, principal: Principal, request_id: str) -> RequestRow | None:
        key_id = None if principal.has_scope(TENANT_SCOPE) else principal.key_id
        for usage in reversed(self._ledger.records):
            row = traced(row_of(usage), usage.retrieval)
            if (row.tenant_id, row.request_id) == (principal.tenant.id, request_id) and (
                key_id in (None, row.key_id)
            ):
                fields: dict[str, Any] = {
                    name: getattr(row, name, None) for name in RequestRow.__slots__
                }
                return RequestRow(**fields)
        return None


class NothingBefore(PastUsage):
    """Whatever is counted has only just begun."""

    def __init__(self) -> None:
        pass

    async def known(self, principal: Principal) -> None:
        pass


class GivenAliases(Aliases):
    """What a test says that names mean, to every tenant but those named `foreign`."""

    def __init__(self) -> None:
        self.given: dict[str, Alias] = {}

    def add(self, name: str, *targets: Target, **more: Any) -> None:
        self.given[name] = Alias(UUID(int=5), name, targets, START, **more)

    async def of(self, tenant: TenantHandle) -> Mapping[str, Alias]:
        return {} if tenant.name == "foreign" else self.given


class AlwaysReady(Health):
    def __init__(self) -> None:
        self.is_draining = False

    async def components(self) -> dict[str, Component]:
        return {"gateway": Component("ready")}


class MemorySink:
    """What a client would have received; `disconnect` is the client leaving."""

    def __init__(self) -> None:
        self.disconnected = False
        self.data = b""
        self.wrote = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        if not self.disconnected:
            self.data += data
            self.wrote.set()

    async def drained(self) -> None: ...

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def disconnect(self) -> None:
        self.disconnected = True
        for callback in self._callbacks:
            callback()

    async def until(self, needle: bytes) -> None:
        async with asyncio.timeout(5):
            while needle not in self.data:
                self.wrote.clear()
                await self.wrote.wait()


@dataclass
class Reply:
    """One answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]

    @property
    def frames(self) -> list[str]:
        """The payloads of a stream's events, checked to be nothing but `data:` events."""
        events = self.body.decode().split("\n\n")
        assert events.pop() == ""
        assert all(event.startswith("data: ") and "\n" not in event for event in events)
        return [event.removeprefix("data: ") for event in events]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """All events but a final [DONE]."""
        return [orjson.loads(frame) for frame in self.frames if frame != "[DONE]"]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Of a stream whose events have names."""
        events = [event.partition("\n") for event in self.body.decode().split("\n\n")]
        assert events.pop() == ("", "", "")
        shown = [orjson.loads(data.removeprefix("data: ")) for _, _, data in events]
        assert [f"event: {event['type']}" for event in shown] == [name for name, _, _ in events]
        assert [event["sequence_number"] for event in shown] == list(range(len(shown)))
        return shown
