"""Does a tenant see its own events, in OpenAI's shape, page by page, and nobody else's?"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import Api, running_api
from openai.types.admin.organization import AuditLogListResponse
from principals import make_principal

from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.gateway import audit, directory
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle

pytestmark = pytest.mark.slow

URL = "/v1/organization/audit_logs"
PEPPER = Pepper("pepper-1", bytes(32))
KEY = Actor("api_key", uuid.UUID(int=8), "192.0.2.1")
USER = Actor("user", "user-1", "192.0.2.2")


def run(
    checkpoint: Path, path: Path, dsn: str, scenario: Callable[[Api, uuid.UUID], Awaitable[None]]
) -> None:
    """With two tenants, of which the caller is the first."""

    async def main() -> None:
        tenants = [await directory.create_tenant(dsn, name) for name in ("acme", "other")]
        database = await Database.open(dsn)
        async with running_api(checkpoint, path / "socket", database=database) as api:
            for tenant in tenants:
                handle = TenantHandle(tenant.id, tenant.name, "salt")
                scopes = frozenset({"audit:read"})
                api.keys.principals[tenant.name] = make_principal(tenant=handle, scopes=scopes)
            await scenario(api, tenants[0].id)
        await database.close()

    asyncio.run(main())


async def get(api: Api, query: str = "", key: str = "acme") -> dict[str, Any]:
    reply = await api.call("GET", f"{URL}?{query}", key=key)
    assert reply.status == 200, reply.body
    return reply.json


def seqs(page: dict[str, Any]) -> list[int]:
    return [event["seq"] for event in page["data"]]


def test_events_have_the_shape_that_the_sdk_reads(
    checkpoint: Path, tmp_path: Path, dsn: str
) -> None:
    async def scenario(api: Api, tenant: uuid.UUID) -> None:
        async with pool.operator(dsn) as connection:
            project = await connection.fetchval(
                "SELECT id FROM anzoth.projects WHERE tenant_id = $1", tenant
            )
            created = {"id": "k1", "kid": "x"}, {"scopes": ["chat"]}
            await audit.record(
                connection,
                AuditEvent("api_key.created", KEY, tenant, project, *created),
                AuditEvent("api_key.updated", USER, tenant, project, *created, request_id="r"),
                AuditEvent("login.failed", USER, tenant, details={"error_code": "bad_password"}),
            )
        page = await get(api)
        login, updated, key, first = (AuditLogListResponse.construct(**e) for e in page["data"])
        assert (page["first_id"], page["last_id"], page["has_more"]) == (login.id, first.id, False)
        assert page["data"][3]["actor"]["kind"] == "operator"
        assert page["data"][2]["api_key.created"] == {**created[0], "data": created[1]}
        assert page["data"][1]["api_key.updated"] == {**created[0], "changes_requested": created[1]}
        assert page["data"][0]["login.failed"] == {"error_code": "bad_password"}
        assert key.actor is not None
        assert key.actor.api_key is not None
        assert (key.actor.type, key.actor.api_key.id) == ("api_key", str(KEY.id))
        assert updated.actor is not None
        assert updated.actor.session is not None
        assert updated.actor.session.ip_address == "192.0.2.2"
        assert updated.project is not None
        assert (updated.project.id, updated.project.name) == (str(project), "default")
        assert isinstance(login.effective_at, int)
        assert "project" not in page["data"][0]

    run(checkpoint, tmp_path, dsn, scenario)


def test_pages_and_filters_choose_what_they_say(checkpoint: Path, tmp_path: Path, dsn: str) -> None:
    async def scenario(api: Api, tenant: uuid.UUID) -> None:
        project = uuid.UUID(int=77)
        async with pool.operator(dsn) as connection:
            for number in range(2, 8):
                await audit.record(
                    connection,
                    AuditEvent(
                        "project.updated" if number % 2 else "project.created",
                        KEY if number % 2 else USER,
                        tenant,
                        project if number < 4 else None,
                        target={"id": f"p{number}"},
                    ),
                )
        everything = await get(api)
        assert seqs(everything) == [7, 6, 5, 4, 3, 2, 1]
        ids = {event["seq"]: event["id"] for event in everything["data"]}
        first = await get(api, "limit=3")
        assert (seqs(first), first["has_more"]) == ([7, 6, 5], True)
        second = await get(api, f"limit=3&after={first['last_id']}")
        assert (seqs(second), second["has_more"]) == ([4, 3, 2], True)
        assert seqs(await get(api, f"limit=3&after={second['last_id']}")) == [1]
        back = await get(api, f"limit=3&before={ids[1]}")
        assert (seqs(back), back["has_more"]) == ([4, 3, 2], True)
        for query, expected in (
            ("event_types[]=project.updated", [7, 5, 3]),
            ("event_types[]=project.updated&event_types[]=tenant.created", [7, 5, 3, 1]),
            (f"actor_ids[]={KEY.id}&limit=1", [7]),
            ("actor_ids[]=user-1", [6, 4, 2]),
            ("resource_ids[]=p3&resource_ids[]=p6", [6, 3]),
            (f"project_ids[]={project}", [3, 2]),
            ("project_ids[]=nonsense", []),
        ):
            assert seqs(await get(api, query)) == expected, query
        at = everything["data"][0]["effective_at"]
        assert len((await get(api, f"effective_at[gte]={at - 60}"))["data"]) == 7
        for query in (f"effective_at[gt]={at}", f"effective_at[lt]={at - 60}"):
            assert seqs(await get(api, query)) == [], query
        assert 7 in seqs(await get(api, f"effective_at[gte]={at}&effective_at[lte]={at}"))

    run(checkpoint, tmp_path, dsn, scenario)


def test_what_is_not_the_caller_s_or_not_understood_is_refused(
    checkpoint: Path, tmp_path: Path, dsn: str
) -> None:
    async def scenario(api: Api, tenant: uuid.UUID) -> None:
        foreign = (await get(api, key="other"))["data"][0]["id"]
        replies = [
            await api.call("GET", f"{URL}?after={id}", key="acme")
            for id in (foreign, uuid.UUID(int=5), "nonsense")
        ]
        assert {reply.status for reply in replies} == {404}
        assert len({reply.body for reply in replies}) == 1
        for query, param in (
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("limit=1&limit=2", "limit"),
            ("actor_emails[]=a@b", "actor_emails[]"),
            ("effective_at[gt]=-1", "effective_at[gt]"),
            ("event_types[]=nonsense", "event_types"),
            (f"after={foreign}&before={foreign}", "before"),
        ):
            reply = await api.call("GET", f"{URL}?{query}", key="acme")
            assert (reply.status, reply.error["param"]) == (400, param), query
        api.keys.principals["chat"] = make_principal(scopes=frozenset({"chat"}))
        assert (await api.call("GET", URL, key="chat")).status == 403
        assert api.denials.noted[-1][::2] == ("key.scope", URL)

    run(checkpoint, tmp_path, dsn, scenario)
