"""Does every event stand or fall with its change, in one unbroken chain, and without a secret?"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest
from principals import make_principal

from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.db.store import audit_rows
from anzoth.db.store.audit_rows import INSTALLATION, AuditRow
from anzoth.gateway import audit, audit_chain, directory, keys
from anzoth.gateway.audit import Actor, AuditEvent, InvalidEvent
from anzoth.gateway.audit_chain import Verifier
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.principal import TenantHandle

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")
ACTOR = Actor("user", uuid.UUID(int=7), "192.0.2.1")


def event(tenant_id: uuid.UUID | None = None, **fields: Any) -> AuditEvent:
    return AuditEvent(fields.pop("type", "project.created"), ACTOR, tenant_id, **fields)


async def events_of(dsn: str, chain: uuid.UUID | None = None) -> list[AuditRow]:
    async with pool.operator(dsn) as connection:
        return [row async for row in audit_rows.all_events(connection, chain)]


async def append(dsn: str, *events: AuditEvent) -> None:
    async with pool.operator(dsn) as connection:
        await audit.record(connection, *events)


def faults(rows: list[AuditRow]) -> list[Any]:
    verifier = Verifier([], None)
    for row in rows:
        verifier.add(audit_chain.exported(row))
    return verifier.finish(is_complete=True).problems


async def handle(dsn: str, name: str) -> TenantHandle:
    return TenantHandle((await directory.create_tenant(dsn, name)).id, name, "salt")


def run(main: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main

    asyncio.run(bounded())


def test_an_event_reads_back_as_it_was_hashed(dsn: str) -> None:
    async def main() -> None:
        tenant = await handle(dsn, "acme")
        details = {
            "b": [1, True, None, 'ü \ud800 \0 \u2028 "\\'],
            "a": {"z": -(2**63), "é": 2**63 - 1, "id": uuid.UUID(int=3), "": {}},
            "scopes": frozenset(("y", "x")),
        }
        project = uuid.UUID(int=5)
        await append(
            dsn,
            event(tenant.id, project_id=project, target={"id": project}, details=details),
            event(tenant.id, request_id="req_1"),
        )
        created, first, second = await events_of(dsn, tenant.id)
        assert (created.type, [row.seq for row in (first, second)]) == ("tenant.created", [2, 3])
        assert first.target == {"id": str(project)}
        assert first.details["b"] == [1, True, None, 'ü ? \ufffd \u2028 "\\']
        assert first.details["scopes"] == ["x", "y"]
        assert (first.actor_kind, first.actor_id) == ("user", str(ACTOR.id))
        assert (first.actor_ip, second.request_id) == ("192.0.2.1", "req_1")
        assert faults(await events_of(dsn)) == []

    run(main())


def test_concurrent_appends_leave_one_chain_without_a_gap(dsn: str) -> None:
    async def main() -> None:
        tenants = [await handle(dsn, name) for name in ("one", "two")]

        async def some(number: int) -> None:
            mine = tenants[number % 2].id
            for _ in range(5):
                await append(dsn, event(None), event(mine), event(mine))

        await asyncio.gather(*(some(number) for number in range(20)))
        rows = await events_of(dsn)
        for chain, count in ((INSTALLATION, 102), *((tenant.id, 101) for tenant in tenants)):
            seqs = [row.seq for row in rows if row.chain == chain]
            assert seqs == list(range(1, count + 1))
        assert faults(rows) == []
        for row, after in itertools.pairwise(rows):
            assert row.chain != after.chain or row.at <= after.at

    run(main())


def test_a_change_that_is_rolled_back_leaves_no_event_and_no_gap(dsn: str) -> None:
    async def main() -> None:
        await append(dsn, event(None))

        async def change_and_fail() -> None:
            async with pool.operator(dsn) as connection:
                await audit.record(connection, event(None))
                raise KeyError

        with pytest.raises(KeyError):
            await change_and_fail()
        await append(dsn, event(None))
        assert [row.seq for row in await events_of(dsn)] == [1, 2]

    run(main())


def test_a_failed_event_undoes_its_change(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(audit_rows, "insert_events", fail)

    async def main() -> None:
        with pytest.raises(KeyError):
            await directory.create_tenant(dsn, "acme")
        assert await directory.list_tenants(dsn) == []

    run(main())


def test_what_must_not_be_recorded_is_refused(dsn: str) -> None:
    key = keys.mint().text

    async def main() -> None:
        for bad in (
            event(None, type="project.painted"),
            event(None, details={"note": f"it is {key}."}),
            event(None, details={key: 1}),
            event(None, target={"ids": [{"key": key}]}),
            event(None, request_id=key),
            event(None, details={"share": 0.5}),
            event(None, details={"large": 2**63}),
            event(None, details={"long": "x" * 20_000}),
            event(None, details={"when": object()}),
        ):
            with pytest.raises(InvalidEvent) as caught:
                await append(dsn, bad)
            assert key not in str(caught.value)
        assert await events_of(dsn) == []
        for name in (key, f"my {key}"):
            with pytest.raises(DirectoryError, match="must not be an API key"):
                await directory.create_tenant(dsn, name)

    run(main())


def test_outside_a_transaction_nothing_is_recorded(dsn: str) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            with pytest.raises(AssertionError):
                await audit.record(connection, event(None))
        finally:
            connection.terminate()

    run(main())


def test_tenants_and_keys_leave_their_trail(dsn: str) -> None:
    async def main() -> None:
        await directory.ensure_default_tenant_and_key(dsn, PEPPER)
        acme = await directory.create_tenant(dsn, "acme")
        request = KeyRequest("acme", "ci", scopes=("chat",), limits=Limits(rpm=5))
        created = await directory.create_key(dsn, PEPPER, request)
        await asyncio.gather(*(directory.revoke_key(dsn, str(created.id)) for _ in range(4)))
        await directory.create_key(dsn, PEPPER, request)
        with pytest.raises(DirectoryError):
            await directory.create_tenant(dsn, "acme")
        await directory.delete_tenant(dsn, "acme")
        rows = await events_of(dsn, acme.id)
        assert [row.type for row in rows] == [
            "tenant.created",
            "api_key.created",
            "api_key.deleted",
            "api_key.created",
            "tenant.deleted",
        ]
        assert rows[1].target == rows[2].target == {"id": str(created.id), "kid": created.key.kid}
        assert (rows[1].details["scopes"], rows[1].details["rpm"]) == (["chat"], 5)
        assert rows[1].project_id == rows[2].project_id is not None
        assert rows[4].details == {"name": "acme", "num_revoked_keys": 1, "key_destroyed": False}
        assert {(row.actor_kind, row.actor_id) for row in rows} == {
            ("operator", audit.operator().id)
        }
        everywhere = await events_of(dsn, INSTALLATION)
        assert [(row.type, row.details["name"]) for row in everywhere] == [
            ("tenant.created", "default"),
            ("tenant.created", "acme"),
            ("tenant.deleted", "acme"),
        ]
        assert everywhere[0].actor_kind == "system"
        assert faults(await events_of(dsn)) == []

    run(main())


def test_a_tenant_reads_and_extends_its_own_chain_and_no_other(dsn: str) -> None:
    async def main() -> None:
        one, two = await handle(dsn, "one"), await handle(dsn, "two")
        database = await Database.open(dsn)
        mine = event(one.id), event(None)
        async with database.tenant(one) as connection:
            await audit.record(connection, *mine)
            rows = await connection.fetch("SELECT tenant_id, seq FROM anzoth.audit_log")
            assert [tuple(row) for row in rows] == [(one.id, 1), (one.id, 2)]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.tenant(one) as connection:
                await audit.record(connection, event(two.id))
        async with database.authenticating("nobody") as connection:  # a sign-in names no tenant
            await audit.record(connection, event(two.id), event(None))
            assert await connection.fetchval("SELECT count(*) FROM anzoth.audit_log") == 0
        await database.close()
        assert [row.seq for row in await events_of(dsn, two.id)] == [1, 2]
        assert faults(await events_of(dsn)) == []

    run(main())


@pytest.mark.parametrize("table", ["audit_log", "audit_heads"])
def test_nobody_changes_or_removes_what_was_recorded(dsn: str, table: str) -> None:
    async def main() -> None:
        tenant = await handle(dsn, "acme")
        database = await Database.open(dsn)
        owner = await asyncpg.connect(dsn)
        for statement in (
            f"UPDATE anzoth.{table} SET seq = seq",
            f"DELETE FROM anzoth.{table}",
            f"TRUNCATE anzoth.{table}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                async with database.tenant(tenant) as connection:
                    await connection.execute(statement)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
                async with pool.operator(dsn) as connection:
                    await connection.execute(statement)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await owner.execute(statement)
        owner.terminate()
        await database.close()

    run(main())


def test_a_principal_is_an_actor_by_its_key() -> None:
    principal = make_principal(key_id=uuid.UUID(int=9))
    assert audit.actor_of(principal, "::1") == Actor("api_key", uuid.UUID(int=9), "::1")
