"""Projects of a tenant and their limits, over the API and in the words of OpenAI's SDK."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from accounts_kit import PEPPER, Browser, Site, run_site
from api_harness import MODEL, Api, running_api
from openai.types.admin.organization import Project
from openai.types.admin.organization.projects import ProjectRateLimit
from principals import make_principal

from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.db.store import project_rows
from anzoth.errors import Unauthorized
from anzoth.gateway import alias_directory, directory, project_directory
from anzoth.gateway.alias_directory import AliasRequest
from anzoth.gateway.aliases import Target
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.principal import TenantHandle

pytestmark = pytest.mark.slow

PROJECTS = "/v1/organization/projects"
NO_LIMIT = 2**31 - 1


async def owner(site: Site, name: str = "ann", organization: str = "acme") -> Browser:
    browser = site.browser()
    await browser.sign_up(f"{name}@example.com", organization)
    return browser


async def create(browser: Browser, name: str) -> dict[str, Any]:
    reply = await browser.post(PROJECTS, {"name": name})
    assert reply.status == 200, reply.body
    return reply.json


async def names(browser: Browser, query: str = "") -> list[str]:
    return [project["name"] for project in (await browser.get(PROJECTS, query=query)).json["data"]]


# --- projects ---------------------------------------------------------------------------------


def test_a_project_is_made_renamed_and_archived_with_its_keys(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        made = await create(ann, "web")
        assert Project.model_validate(made).status == "active"
        path = f"{PROJECTS}/{made['id']}"
        assert (await ann.get(path)).json == made
        assert (await ann.post(path, {"name": "shop"})).json == {**made, "name": "shop"}
        key = await directory.create_key(dsn, PEPPER, KeyRequest("acme", "k", project="shop"))
        archived = (await ann.call("POST", path + "/archive")).json
        assert (archived["status"], archived["archived_at"] is None) == ("archived", False)
        assert (await ann.call("POST", path + "/archive")).json == archived
        assert (await ann.get(path)).json == archived
        with pytest.raises(Unauthorized):
            await Authenticator(site.database, dsn, PEPPER).authenticate(f"Bearer {key.key.text}")
        assert (await ann.post(path, {"name": "again"})).status == 409
        for part in ("api_keys", "service_accounts", "rate_limits"):
            assert (await ann.get(f"{path}/{part}")).status == 404
        await create(ann, "shop")
        assert await names(ann) == ["default", "shop"]
        assert await names(ann, "include_archived=true") == ["default", "shop", "shop"]
        events = (await ann.get("/v1/organization/audit_logs")).json["data"]
        assert [event["type"] for event in events[:5]] == [
            "project.created",
            "project.archived",
            "api_key.created",
            "project.updated",
            "project.created",
        ]
        assert events[1]["id"] != made["id"]
        assert events[1]["actor"]["session"]["user"]["id"]

    run_site(dsn, scenario)


def test_a_project_that_cannot_be_is_refused(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        await create(ann, "web")
        (default, _) = (await ann.get(PROJECTS)).json["data"]
        assert default["is_default"] is True
        path = f"{PROJECTS}/{default['id']}"
        assert (await ann.call("POST", path + "/archive")).status == 409
        for body, status, param in (
            ({}, 400, "name"),
            ({"name": ""}, 400, "name"),
            ({"name": "a\nb"}, 400, "name"),
            ({"name": "x", "geography": "eu"}, 400, "geography"),
            ({"name": "web"}, 409, "name"),
        ):
            for target in (PROJECTS, path):
                reply = await ann.post(target, body)
                assert (reply.status, reply.error["param"]) == (status, param), body
        assert (await ann.post(PROJECTS, {"name": "y", "external_key_id": None})).status == 200

    run_site(dsn, scenario)


def test_projects_come_in_pages_to_their_own_tenant_alone(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann, eve = await owner(site), await owner(site, "eve", "eve")
        *_, web = [await create(ann, f"p{number}") for number in range(4)]
        seen: list[str] = []
        query = "limit=2"
        while True:
            page = (await ann.get(PROJECTS, query=query)).json
            seen += [project["name"] for project in page["data"]]
            if not page["has_more"]:
                break
            query = f"limit=2&after={page['last_id']}"
        assert seen == ["default", "p0", "p1", "p2", "p3"]
        assert await names(eve) == ["default"]
        assert await names(eve, f"after={web['id']}") == []
        unknown = uuid.uuid4()
        for method, rest, body in (
            ("GET", "", None),
            ("POST", "", {"name": "mine"}),
            ("POST", "/archive", None),
            ("GET", "/rate_limits", None),
            ("POST", "/rate_limits/rl-*", {"max_requests_per_1_minute": 5}),
            ("DELETE", "/rate_limits/rl-*", None),
        ):
            replies = [
                await eve.call(method, f"{PROJECTS}/{id}{rest}", body)
                for id in (web["id"], unknown, "no-id")
            ]
            assert [reply.status for reply in replies] == [404, 404, 404], (method, rest)
            assert len({reply.body for reply in replies}) == 1
        assert await names(ann) == ["default", "p0", "p1", "p2", "p3"]

    run_site(dsn, scenario)


def test_a_viewer_sees_projects_and_changes_none(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        bob = await site.member(ann, "bob@example.com", "viewer")
        project = (await bob.get(PROJECTS)).json["data"][0]["id"]
        assert (await bob.get(f"{PROJECTS}/{project}/rate_limits")).status == 200
        for path, body in (
            ("", {"name": "x"}),
            (f"/{project}", {"name": "x"}),
            (f"/{project}/archive", {}),
            (f"/{project}/rate_limits/rl-*", {"max_requests_per_1_minute": 1}),
        ):
            assert (await bob.post(PROJECTS + path, body)).status == 403

    run_site(dsn, scenario)


# --- rate limits ------------------------------------------------------------------------------


class Limited:
    """A server with one model and one alias, before a project `web`."""

    def __init__(self, api: Api, project_id: uuid.UUID) -> None:
        self.api = api
        self.path = f"{PROJECTS}/{project_id}/rate_limits"

    async def call(self, method: str, rest: str = "", body: Any = None, key: str = "k") -> Any:
        reply = await self.api.call(method, self.path + rest, body, key=key)
        assert reply.status == 200, reply.body
        return reply.json

    async def all(self, query: str = "") -> dict[str, dict[str, Any]]:
        return {limit["id"]: limit for limit in (await self.call("GET", query))["data"]}


@pytest.fixture
def limited(
    checkpoint: Path, tmp_path: Path, dsn: str
) -> Callable[[Callable[[Limited], Awaitable[None]]], None]:
    def run(scenario: Callable[[Limited], Awaitable[None]]) -> None:
        async def main() -> None:
            tenant = await directory.create_tenant(dsn, "acme")
            project = await project_directory.create_project(dsn, "acme", "web", Limits())
            alias = AliasRequest("our/model", (Target(MODEL),))
            await alias_directory.create_for_tenant(dsn, "acme", alias)
            database = await Database.open(dsn)
            async with running_api(checkpoint, tmp_path / "socket", database=database) as api:
                api.keys.principals["k"] = make_principal(
                    tenant=TenantHandle(tenant.id, "acme", "salt"),
                    scopes=frozenset({"projects:read", "projects:write"}),
                )
                await scenario(Limited(api, project.id))
            await database.close()

        asyncio.run(main())

    return run


def test_there_is_a_rate_limit_for_each_name_that_can_be_asked_for(limited, dsn: str) -> None:
    async def scenario(it: Limited) -> None:
        await project_directory.update_project(
            dsn, "acme", "web", limits={"concurrency": 2}, model="gone"
        )
        limits = await it.all()
        assert list(limits) == ["rl-*", *sorted(["rl-gone", f"rl-{MODEL}", "rl-our/model"])]
        for limit in limits.values():
            assert ProjectRateLimit.model_validate(limit).max_requests_per_1_minute == NO_LIMIT
        assert limits["rl-gone"]["max_concurrent_requests"] == 2
        page = await it.call("GET", "?limit=2")
        rest = await it.call("GET", f"?limit=2&after={page['last_id']}")
        assert [page["has_more"], rest["has_more"]] == [True, False]
        ids = [limit["id"] for limit in page["data"] + rest["data"]]
        assert ids == list(limits)
        back = await it.call("GET", f"?limit=2&before={ids[3]}")
        assert [limit["id"] for limit in back["data"]] == ids[1:3]
        assert back["has_more"] is True
        for query, status in (("after=rl-x", 404), ("after=rl-*&before=rl-*", 400), ("x=1", 400)):
            assert (await it.api.call("GET", f"{it.path}?{query}", key="k")).status == status

    limited(scenario)


def test_a_rate_limit_changes_and_goes_in_the_words_of_the_api(limited, dsn: str) -> None:
    async def scenario(it: Limited) -> None:
        set_ = {"max_requests_per_1_minute": 60, "max_tokens_per_1_minute": 900}
        changed = await it.call("POST", "/rl-our/model", set_)
        assert {name: changed[name] for name in set_} == set_
        more = {"max_requests_per_1_minute": NO_LIMIT, "max_tokens_per_1_day": 10**10}
        changed = await it.call("POST", "/rl-our/model", more)
        assert changed["max_requests_per_1_minute"] == NO_LIMIT
        assert (changed["max_tokens_per_1_minute"], changed["max_tokens_per_1_day"]) == (
            900,
            10**10,
        )
        await it.call("POST", "/rl-*", {"max_concurrent_requests": 3})
        listed = await project_directory.list_limits(dsn, "acme")
        assert [(limit.model, limit.tpm, limit.rpm, limit.concurrency) for limit in listed] == [
            (None, None, None, 3),
            ("our/model", 900, None, None),
        ]
        changed = await it.call("POST", "/rl-*", {"max_cost_per_1_month": "0.125"})
        assert changed["max_cost_per_1_month"] == "0.125"
        nothing = {"max_concurrent_requests": None, "max_cost_per_1_month": None}
        await it.call("POST", "/rl-*", nothing)
        deleted = await it.call("DELETE", "/rl-our/model")
        assert deleted["deleted"] is True
        await it.call("DELETE", "/rl-our/model")
        assert await project_directory.list_limits(dsn, "acme") == []
        async with pool.operator(dsn) as connection:
            rows = await connection.fetch(
                "SELECT type, target, details FROM anzoth.audit_log WHERE type LIKE 'rate_%' "
                "ORDER BY seq"
            )
        types = ["rate_limit.updated"] * 5 + ["rate_limit.deleted"]
        assert [row["type"] for row in rows] == types
        assert '"max_tokens_per_1_minute": 900' in str(rows[0]["details"])

    limited(scenario)


def test_what_cannot_be_a_rate_limit_is_refused(limited) -> None:
    async def scenario(it: Limited) -> None:
        for id, body, status in (
            ("rl-nothing", {"max_requests_per_1_minute": 5}, 404),
            (MODEL, {"max_requests_per_1_minute": 5}, 404),
            ("rl-*", {}, 400),
            ("rl-*", {"max_request_per_1_minute": 5}, 400),
            ("rl-*", {"max_requests_per_1_minute": 0}, 400),
            ("rl-*", {"max_concurrent_requests": 2**40}, 400),
            ("rl-*", {"max_images_per_1_minute": 5}, 400),
        ):
            reply = await it.api.call("POST", f"{it.path}/{id}", body, key="k")
            assert reply.status == status, body

    limited(scenario)


def test_a_project_by_its_id_is_found_in_its_tenant_only(dsn: str) -> None:
    async def scenario() -> None:
        tenants = [await directory.create_tenant(dsn, name) for name in ("acme", "other")]
        project = await project_directory.create_project(dsn, "acme", "web", Limits())
        database = await Database.open(dsn)
        for tenant, is_seen in zip(tenants, (True, False), strict=True):
            async with database.tenant(TenantHandle(tenant.id, tenant.name, "")) as connection:
                found = [
                    await project_rows.find_project_by_id(connection, id, project.id)
                    for id in (tenants[0].id, tenant.id)
                ]
                assert [row is not None for row in found] == [is_seen, is_seen]
        await database.close()

    asyncio.run(scenario())
