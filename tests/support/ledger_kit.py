"""Customers with several keys, and rows of their usage."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from anzoth.db import pool
from anzoth.db.store import usage_rollup_rows, usage_rows
from anzoth.db.store.usage_rollup_rows import UsageDifference
from anzoth.db.store.usage_rows import UsageRow
from anzoth.gateway import directory
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle
from anzoth.price import Price

PEPPER = Pepper("p", bytes(32))
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Customer:
    """A tenant with its default project and some keys in it."""

    handle: TenantHandle
    project_id: uuid.UUID
    key_ids: tuple[uuid.UUID, ...] = field(default=())

    def row(
        self,
        request_id: str,
        started_at: datetime = START,
        *,
        key: int = 0,
        price: Price | None = None,
        **fields: Any,
    ) -> UsageRow:
        """A chat of 10 + 5 tokens by the model `m`, but for what is said otherwise."""
        fields = {
            "endpoint": "/v1/chat/completions", "model": "m", "prompt_tokens": 10,
            "cached_tokens": 0, "completion_tokens": 5, "finish_reason": "stop",
            "streamed": False, "status": 200, "error_code": None, "ttft_ms": 1, "duration_ms": 2,
            "end_user": None, "metadata": None, "service_tier": "default", **fields,
        }  # fmt: skip
        if price is not None:
            counts = (fields[f"{kind}_tokens"] for kind in ("prompt", "cached", "completion"))
            cost = price.cost(*counts)
            for part in ("input", "cached_input", "output"):
                fields[f"{part}_price"] = getattr(price, part)
                fields[f"{part}_cost"] = getattr(cost, part)
        return UsageRow(
            tenant_id=self.handle.id,
            project_id=fields.pop("project_id", self.project_id),
            request_id=request_id,
            started_at=started_at,
            key_id=self.key_ids[key],
            **fields,
        )


async def add_customer(dsn: str, name: str, num_keys: int = 1) -> Customer:
    tenant = await directory.create_tenant(dsn, name)
    keys = [
        await directory.create_key(dsn, PEPPER, KeyRequest(name, f"key {number}"))
        for number in range(num_keys)
    ]
    async with pool.operator(dsn) as connection:
        project_id = await connection.fetchval(
            "SELECT id FROM anzoth.projects WHERE tenant_id = $1", tenant.id
        )
    handle = TenantHandle(tenant.id, name, "salt")
    return Customer(handle, project_id, tuple(key.id for key in keys))


async def insert(database: pool.Database, customer: Customer, rows: list[UsageRow]) -> None:
    async with database.tenant(customer.handle) as connection:
        await usage_rows.insert_usage(connection, rows)


async def differences(dsn: str, minutes_since: datetime = START) -> list[UsageDifference]:
    """Between the rows and the roll-ups; also checks that no row contradicts itself."""
    async with pool.operator(dsn) as connection:
        counts, found = await usage_rollup_rows.verify_usage(connection, minutes_since, 100)
    assert counts.num_wrong_rows == 0
    return found
