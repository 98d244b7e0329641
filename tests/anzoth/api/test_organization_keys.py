"""Keys, service accounts and admin keys over the API: whose are they, and do they end?"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from accounts_kit import PEPPER, Browser, Site, run_site
from api_stand_ins import Reply
from openai.types.admin.organization import AdminAPIKey
from openai.types.admin.organization.admin_api_key_create_response import AdminAPIKeyCreateResponse
from openai.types.admin.organization.projects import (
    ProjectAPIKey,
    ProjectServiceAccount,
    ServiceAccountCreateResponse,
)
from openai.types.admin.organization.projects.service_accounts import APIKeyCreateResponse

from anzoth.db import pool
from anzoth.errors import Unauthorized
from anzoth.gateway import directory
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.ledger import row_of

pytestmark = pytest.mark.slow

PROJECTS, ADMIN = "/v1/organization/projects", "/v1/organization/admin_api_keys"


async def owner(site: Site, name: str = "ann", organization: str = "acme") -> Browser:
    browser = site.browser()
    await browser.sign_up(f"{name}@example.com", organization)
    return browser


async def id_of(browser: Browser) -> str:
    return (await browser.get("/v1/auth/session")).json["user"]["id"]


async def default_project(browser: Browser) -> str:
    (project,) = (await browser.get(PROJECTS)).json["data"]
    return f"{PROJECTS}/{project['id']}"


async def made(browser: Browser, path: str, **body: Any) -> dict[str, Any]:
    reply = await browser.post(path, body)
    assert reply.status == 200, reply.body
    assert reply.headers["cache-control"] == "no-store"
    return reply.json


async def works(site: Site, value: str) -> bool:
    """For a gateway that has not seen the key before: this one's is told of no changes."""
    try:
        await Authenticator(site.database, site.dsn, PEPPER).authenticate(f"Bearer {value}")
    except Unauthorized:
        return False
    return True


async def operators_key(dsn: str, *scopes: str, **more: Any) -> str:
    request = KeyRequest("acme", "k", scopes=scopes, **more)
    return (await directory.create_key(dsn, PEPPER, request)).key.text


async def audited(browser: Browser) -> list[str]:
    """The latest first."""
    return [
        event["type"] for event in (await browser.get("/v1/organization/audit_logs")).json["data"]
    ]


# --- keys of a project ------------------------------------------------------------------------


def test_a_key_is_made_shown_once_changed_rotated_and_ended(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        keys = await default_project(ann) + "/api_keys"
        limits = {"rpm": 60, "tokens_per_day": 10**10}
        key = await made(
            ann,
            keys,
            name="shop",
            scopes=["chat", "models:read"],
            models=["llama*"],
            endpoints=["/v1/*"],
            networks=["127.0.0.0/8"],
            limits=limits,
            limits_by_model={"llama": {"tpm": 5}},
            expires_in_seconds=3600,
        )
        value = key.pop("value")
        assert ProjectAPIKey.model_validate(key).owner.type == "user"
        assert key["owner"]["user"]["id"] == await id_of(ann)
        assert {name: key["limits"][name] for name in limits} == limits
        assert key["limits_by_model"]["llama"]["tpm"] == 5
        assert key["expires_at"] - key["created_at"] in (3600, 3601)
        assert (key["networks"], key["models"]) == (["127.0.0.0/8"], ["llama*"])
        assert (await ann.get(f"{keys}/{key['id']}")).json == key
        (listed,) = (await ann.get(keys)).json["data"]
        assert listed == key
        assert value not in str(listed)
        assert await works(site, value)
        changed = await made(
            ann,
            f"{keys}/{key['id']}",
            scopes=["models:read"],
            models=None,
            limits={"rpm": None, "tpm": 7},
            expires_in_seconds=60,
        )
        assert (changed["scopes"], changed["models"]) == (["models:read"], None)
        assert (changed["limits"]["rpm"], changed["limits"]["tpm"]) == (None, 7)
        assert changed["expires_at"] < key["expires_at"]
        assert changed["endpoints"] == key["endpoints"]
        of_model = {"limits": {"tpm": 9}, "limits_of_model": "llama"}
        changed = await made(ann, f"{keys}/{key['id']}", **of_model)
        assert (changed["limits_by_model"]["llama"]["tpm"], changed["limits"]["tpm"]) == (9, 7)
        changed = await made(ann, f"{keys}/{key['id']}", limits={"budget_per_month": "25.50"})
        assert changed["limits"]["budget_per_month"] == "25.5"
        rotated = await made(ann, f"{keys}/{key['id']}/rotate", grace_seconds=30)
        assert rotated["id"] == key["id"]
        assert rotated["old_value_expires_at"] is not None
        assert await works(site, rotated["value"])
        assert await works(site, value)
        rotated = await made(ann, f"{keys}/{key['id']}/rotate", grace_seconds=0)
        deleted = (await ann.call("DELETE", f"{keys}/{key['id']}")).json
        assert deleted == {
            "object": "organization.project.api_key.deleted",
            "id": key["id"],
            "deleted": True,
        }
        assert not await works(site, rotated["value"])
        assert (await ann.get(keys)).json["data"] == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            body = {} if method == "POST" else None
            assert (await ann.call(method, f"{keys}/{key['id']}{path}", body)).status == 404
        assert (await audited(ann))[:7] == [
            "api_key.deleted",
            *["api_key.updated"] * 5,
            "api_key.created",
        ]

    run_site(dsn, scenario)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "k", "scope": ["chat"]}, None),
        ({"name": "k", "limits": {"rmp": 5}}, "limits"),
        ({"name": "k", "limits": {"rpm": 0}}, "limits.rpm"),
        ({"name": "k", "limits_by_model": {"m": {"rmp": 1}}}, "limits_by_model"),
        ({"name": "k", "networks": ["10.0.0.1/8"]}, "networks[0]"),
        ({"name": "k", "models": ["a\0"]}, "models[0]"),
        ({"name": "k", "scopes": []}, None),
        ({"name": "k", "scopes": ["chatt"]}, None),
        ({"name": "k", "scopes": ["admin"], "expires_in_seconds": 60}, "scopes"),
        ({"name": "k", "expires_at": 5}, "expires_at"),
        ({"name": "k", "expires_at": 253402300799, "expires_in_seconds": 5}, "expires_at"),
        ({"name": "k", "limits": {"rpm": 2**40}}, None),
        ({"name": "k", "limits": {"budget_per_day": 25.5}}, "limits.budget_per_day"),
        ({"name": "k", "limits": {"budget_per_day": "-1"}}, "limits.budget_per_day"),
    ],
)
def test_what_is_wrong_with_a_key_is_said_and_nothing_is_made(
    dsn: str, body: dict[str, Any], param: str | None
) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        keys = await default_project(ann) + "/api_keys"
        reply = await ann.post(keys, body)
        assert (reply.status, reply.error["param"]) == (400, param), reply.body
        assert (await ann.get(keys)).json["data"] == []

    run_site(dsn, scenario)


def test_a_key_changes_only_what_is_named_and_to_what_a_key_can_be(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        keys = await default_project(ann) + "/api_keys"
        key = await made(ann, keys, name="k", scopes=["chat"])
        for body in (
            {},
            {"name": None},
            {"scopes": None},
            {"scopes": []},
            {"scopes": ["admin"]},
            {"model": ["x"]},
            {"limits": {"rmp": 1}},
            {"expires_in_seconds": None},
        ):
            assert (await ann.post(f"{keys}/{key['id']}", body)).status == 400, body
        del key["value"]
        assert (await ann.get(f"{keys}/{key['id']}")).json == key

    run_site(dsn, scenario)


def test_what_a_body_does_not_name_is_what_the_maker_has(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        keys = await default_project(ann) + "/api_keys"
        maker = await made(
            ann,
            keys,
            name="maker",
            scopes=["keys:write", "keys:read", "chat"],
            models=["llama*"],
            networks=["127.0.0.1"],
            limits={"rpm": 5},
            limits_by_model={"m": {"tpm": 4}},
            expires_in_seconds=3600,
        )
        reply = await site.with_key("POST", keys, maker["value"], {"name": "child"})
        assert reply.status == 200, reply.body
        child = reply.json
        for name in ("models", "networks", "limits", "limits_by_model", "expires_at", "owner"):
            assert child[name] == maker[name], name
        assert child["scopes"] == ["chat"]
        too_much = {"name": "child", "limits": {"rpm": 6}}
        refused = await site.with_key("POST", keys, maker["value"], too_much)
        assert (refused.status, refused.error["param"]) == (403, "limits")

    run_site(dsn, scenario)


def test_lists_of_keys_come_in_pages_and_hold_no_admin_keys(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        keys = await default_project(ann) + "/api_keys"
        names = [f"key{number}" for number in range(5)]
        for name in names:
            await made(ann, keys, name=name)
            await made(ann, ADMIN, name=name, expires_in_seconds=60)
        for path, order in ((keys, ""), (ADMIN, "&order=asc"), (ADMIN, "&order=desc")):
            seen: list[str] = []
            query = f"limit=2{order}"
            while True:
                page = (await ann.get(path, query=query)).json
                seen += [entry["name"] for entry in page["data"]]
                if not page["has_more"]:
                    break
                query = f"limit=2{order}&after={page['last_id']}"
            assert seen == (names[::-1] if "desc" in order else names)
        assert (await ann.get(keys, query="owner_project_access=inactive")).json["data"] == []
        assert len((await ann.get(keys, query="owner_project_access=any")).json["data"]) == 5
        # An admin key is of no project: nothing there changes or ends it.
        admin = (await ann.get(ADMIN)).json["data"][0]["id"]
        for method, body in (("GET", None), ("DELETE", None), ("POST", {"name": "x"})):
            assert (await ann.call(method, f"{keys}/{admin}", body)).status == 404
        key = (await ann.get(keys)).json["data"][0]["id"]
        for method in ("GET", "DELETE"):
            assert (await ann.call(method, f"{ADMIN}/{key}")).status == 404

    run_site(dsn, scenario)


# --- walls ------------------------------------------------------------------------------------


def test_another_tenants_or_projects_things_are_like_what_does_not_exist(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann, eve = await owner(site), await owner(site, "eve", "eve")
        annes, unknown = await default_project(ann), str(uuid.uuid4())
        nowhere, eves = f"{PROJECTS}/{unknown}", await default_project(eve)
        key = (await made(ann, annes + "/api_keys", name="k"))["id"]
        account = (await made(ann, annes + "/service_accounts", name="a"))["id"]
        admin = (await made(ann, ADMIN, name="x", expires_in_seconds=60))["id"]
        attempts: list[tuple[str, str, str, Any]] = [
            ("GET", f"{ADMIN}/{admin}", f"{ADMIN}/{unknown}", None),
            ("DELETE", f"{ADMIN}/{admin}", f"{ADMIN}/{unknown}", None),
        ]
        for foreign, nothing in ((annes, nowhere), (eves, eves)):
            attempts += [
                (method, f"{foreign}/{kind}/{id}{rest}", f"{nothing}/{kind}/{unknown}{rest}", body)
                for kind, id in (("api_keys", key), ("service_accounts", account))
                for method, rest, body in (
                    ("GET", "", None),
                    ("DELETE", "", None),
                    ("POST", "", {"name": "x"}),
                    ("POST", "/rotate" if kind == "api_keys" else "/api_keys", {}),
                )
            ]
        for kind in ("api_keys", "service_accounts"):
            for method, body in (("GET", None), ("POST", {"name": "x"})):
                attempts.append((method, f"{annes}/{kind}", f"{nowhere}/{kind}", body))
        for method, foreign, nothing, body in attempts:
            replies = [await eve.call(method, path, body) for path in (foreign, nothing)]
            assert [reply.status for reply in replies] == [404, 404], (method, foreign)
            assert replies[0].body == replies[1].body
        assert len((await ann.get(annes + "/api_keys")).json["data"]) == 2
        # A key that is no admin's does not reach another project of its own tenant.
        other = (await made(ann, PROJECTS, name="other"))["id"]
        scopes = ["keys:read", "keys:write", "chat"]
        local = (await made(ann, annes + "/api_keys", name="l", scopes=scopes))["value"]
        for kind in ("api_keys", "service_accounts"):
            for method, body in (("GET", None), ("POST", {"name": "x"})):
                replies = [
                    await site.with_key(method, f"{PROJECTS}/{project}/{kind}", local, body)
                    for project in (other, unknown)
                ]
                assert [reply.status for reply in replies] == [404, 404]
                assert replies[0].body == replies[1].body
                reply = await site.with_key(method, f"{annes}/{kind}", local, body)
                assert reply.status == 200, reply.body

    run_site(dsn, scenario)


@pytest.mark.parametrize(
    ("role", "reads", "writes", "admin"),
    [("viewer", 403, 403, 403), ("member", 200, 403, 403), ("admin", 200, 200, 403)],
)
def test_a_role_opens_what_the_table_says(
    dsn: str, role: str, reads: int, writes: int, admin: int
) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        project = await default_project(ann)
        bob = await site.member(ann, "bob@example.com", role)
        for kind in ("api_keys", "service_accounts"):
            assert (await bob.get(f"{project}/{kind}")).status == reads
            assert (await bob.post(f"{project}/{kind}", {"name": "x"})).status == writes
        assert (await bob.get(ADMIN)).status == admin
        assert (await bob.post(ADMIN, {"name": "x", "expires_in_seconds": 9})).status == admin

    run_site(dsn, scenario)


# --- owners -----------------------------------------------------------------------------------


def test_whoever_leaves_leaves_no_working_key_and_service_accounts_stay(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        project = await default_project(ann)
        lab = f"{PROJECTS}/{(await made(ann, PROJECTS, name='lab'))['id']}"
        bob = await site.member(ann, "bob@example.com", "owner")
        bobs_id = await id_of(bob)
        await made(ann, lab + "/users", user_id=bobs_id, role="member")
        own = (await made(bob, project + "/api_keys", name="own"))["value"]
        there = (await made(bob, lab + "/api_keys", name="there"))["value"]
        admin = (await made(bob, ADMIN, name="a", expires_in_seconds=60))["value"]
        # What an admin key makes is its owner's as well.
        reply = await site.with_key("POST", project + "/api_keys", admin, {"name": "by key"})
        assert reply.json["owner"]["user"]["id"] == bobs_id, reply.body
        by_key = reply.json["value"]
        robot = (await made(bob, project + "/service_accounts", name="r"))["api_key"]["value"]
        anns = (await made(ann, lab + "/api_keys", name="anns"))["value"]
        assert all([await works(site, key) for key in (own, there, admin, by_key, robot)])
        assert (await ann.call("DELETE", f"{lab}/users/{bobs_id}")).status == 200
        assert not await works(site, there)
        assert all([await works(site, key) for key in (own, admin, by_key, anns)])
        await made(ann, f"/v1/organization/users/{bobs_id}", role="member")
        assert not await works(site, admin)  # a member has no admin's scope
        assert all([await works(site, key) for key in (own, by_key)])
        deleted = await ann.call("DELETE", f"/v1/organization/users/{bobs_id}")
        assert deleted.status == 200
        assert not any([await works(site, key) for key in (own, there, admin, by_key)])
        assert all([await works(site, key) for key in (robot, anns)])
        events = await audited(ann)
        assert events[:3] == ["api_key.deleted", "api_key.deleted", "user.deleted"]

    run_site(dsn, scenario)


def test_a_service_account_has_keys_until_it_is_deleted(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        project = await default_project(ann)
        accounts = project + "/service_accounts"
        robot = await made(ann, accounts, name="robot", expires_in_seconds=3600)
        key = robot["api_key"]
        assert ServiceAccountCreateResponse.model_validate(robot).api_key is not None
        assert key["name"] == "robot"
        assert key["expires_at"] - key["created_at"] in (3600, 3601)
        alone = await made(ann, accounts, name="alone", create_service_account_only=True)
        assert alone["api_key"] is None
        body = {"name": "x", "create_service_account_only": True, "scopes": ["chat"]}
        assert (await ann.post(accounts, body)).status == 400
        second = await made(ann, f"{accounts}/{robot['id']}/api_keys", scopes=["models:read"])
        assert APIKeyCreateResponse.model_validate(second).name == "robot"
        renamed = await made(ann, f"{accounts}/{robot['id']}", name="Robot", role="member")
        assert (
            await ann.post(f"{accounts}/{robot['id']}", {"name": "x", "role": "owner"})
        ).status == 400
        shown = (await ann.get(f"{accounts}/{robot['id']}")).json
        assert ProjectServiceAccount.model_validate(shown).name == "Robot"
        assert shown == renamed
        listed = (await ann.get(accounts)).json["data"]
        assert [entry["name"] for entry in listed] == ["Robot", "alone"]
        keys = (await ann.get(project + "/api_keys")).json["data"]
        assert {ProjectAPIKey.model_validate(one).owner.type for one in keys} == {"service_account"}
        assert {one["owner"]["service_account"]["id"] for one in keys} == {robot["id"]}
        assert {one["id"] for one in keys} == {key["id"], second["id"]}
        # What a key of it makes is the account's, too.
        scopes = ["keys:write", "chat"]
        maker = await made(ann, f"{accounts}/{robot['id']}/api_keys", name="m", scopes=scopes)
        child = await site.with_key("POST", project + "/api_keys", maker["value"], {"name": "c"})
        assert child.json["owner"]["service_account"]["id"] == robot["id"], child.body
        values = [one["value"] for one in (key, second, maker, child.json)]
        assert all([await works(site, value) for value in values])
        deleted = (await ann.call("DELETE", f"{accounts}/{robot['id']}")).json
        assert deleted["object"] == "organization.project.service_account.deleted"
        assert not any([await works(site, value) for value in values])
        assert (await ann.get(f"{accounts}/{robot['id']}")).status == 404
        assert (await ann.call("DELETE", f"{accounts}/{robot['id']}")).status == 404
        assert (await ann.post(f"{accounts}/{robot['id']}/api_keys", {})).status == 404
        assert (await audited(ann))[:10] == [
            *["api_key.deleted"] * 4,
            "service_account.deleted",
            *["api_key.created"] * 2,
            "service_account.updated",
            "api_key.created",
            "service_account.created",
        ]

    run_site(dsn, scenario)


def test_a_request_is_counted_under_the_owner_of_its_key(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        project = await default_project(ann)
        own = (await made(ann, project + "/api_keys", name="own"))["value"]
        robot = await made(ann, project + "/service_accounts", name="robot")
        for key in (own, robot["api_key"]["value"], await operators_key(dsn, "chat")):
            await site.with_key("POST", "/v1/chat/completions", key, {})
        owners = [row_of(record).user_id for record in site.usage.records]
        assert owners == [uuid.UUID(await id_of(ann)), uuid.UUID(robot["id"]), None]

    run_site(dsn, scenario)


# --- admin keys -------------------------------------------------------------------------------


def test_an_admin_key_manages_expires_and_does_not_infer(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        for body in ({"name": "x"}, {"name": "x", "expires_in_seconds": 31_536_001}):
            reply = await ann.post(ADMIN, body)
            assert (reply.status, reply.error["param"]) == (400, "expires_in_seconds")
        admin = await made(ann, ADMIN, name="ops", expires_in_seconds=31_536_000)
        assert AdminAPIKeyCreateResponse.model_validate(admin).owner.type == "user"
        value = admin.pop("value")
        assert value.startswith("anz-adm")
        assert admin["redacted_value"].startswith("anz-adm")
        assert AdminAPIKey.model_validate(admin).owner.id == await id_of(ann)
        assert (await ann.get(f"{ADMIN}/{admin['id']}")).json == admin

        async def call(method: str, path: str, body: object = None) -> Reply:
            return await site.with_key(method, path, value, body)

        assert (await call("POST", "/v1/chat/completions", {})).error[
            "code"
        ] == "insufficient_scope"
        project = (await call("POST", PROJECTS, {"name": "made"})).json["id"]
        # What it makes can infer, for as long as the admin key could have.
        reply = await call("POST", f"{PROJECTS}/{project}/service_accounts", {"name": "robot"})
        assert reply.json["api_key"]["expires_at"] == admin["expires_at"], reply.body
        assert await works(site, reply.json["api_key"]["value"])
        longer = {"name": "x", "expires_in_seconds": 31_536_000}
        assert (await call("POST", ADMIN, longer)).status == 403
        assert (await call("POST", ADMIN, {"name": "x", "expires_in_seconds": 60})).status == 200
        assert (await call("DELETE", f"{ADMIN}/{admin['id']}")).json == {
            "object": "organization.admin_api_key.deleted",
            "id": admin["id"],
            "deleted": True,
        }
        assert not await works(site, value)

    run_site(dsn, scenario)


def test_keys_of_the_tenant_itself_have_no_owner(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        await operators_key(dsn, "chat")
        (key,) = (await ann.get(await default_project(ann) + "/api_keys")).json["data"]
        assert ProjectAPIKey.model_validate(key).owner.type is None
        # An operator who does not belong to the tenant makes such keys, too.
        operator = await site.operator()
        async with pool.operator(dsn) as connection:
            tenant = await connection.fetchval("SELECT id FROM anzoth.tenants WHERE name = 'acme'")
        operator.headers["openai-organization"] = str(tenant)
        admin = await made(operator, ADMIN, name="x", expires_in_seconds=60)
        assert AdminAPIKeyCreateResponse.model_validate(admin).owner.type is None

    run_site(dsn, scenario)
