"""Members and invitations of a tenant, in OpenAI's shapes and driven by OpenAI's SDK types."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from accounts_kit import PASSWORD, PEPPER, Browser, Site, run_site
from openai.types.admin.organization import Invite, OrganizationUser
from openai.types.admin.organization.projects import ProjectUser

from anzoth.db import pool
from anzoth.db.store import project_rows, tenant_rows
from anzoth.gateway import directory
from anzoth.gateway.accounts import people, roles
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.scopes import SCOPES

pytestmark = pytest.mark.slow

USERS, INVITES = "/v1/organization/users", "/v1/organization/invites"


async def owner(site: Site, email: str = "ann@example.com", organization: str = "acme") -> Browser:
    browser = site.browser()
    await browser.sign_up(email, organization)
    return browser


async def id_of(browser: Browser) -> str:
    return (await browser.get("/v1/auth/session")).json["user"]["id"]


async def project(dsn: str, tenant: str, name: str | None) -> str:
    async with pool.operator(dsn) as connection:
        found = await tenant_rows.find_tenant(connection, tenant)
        assert found is not None
        if name is not None:
            await project_rows.try_insert_project(
                connection, uuid.uuid4(), found.id, name, is_default=False
            )
        row = await project_rows.find_project(connection, found.id, name)
        assert row is not None
        return str(row.id)


# --- roles ------------------------------------------------------------------------------------


def test_each_role_holds_what_the_ones_below_it_hold_and_none_runs_a_model() -> None:
    held = [roles.SCOPES_OF_ROLE[role] for role in roles.ROLES]
    assert all(lower < higher for lower, higher in itertools.pairwise(held))
    assert set(roles.MANAGEMENT_SCOPES) < set(SCOPES)
    inference = {"chat", "completions", "embeddings", "rerank", "priority", "all"}
    assert not held[-1] & inference
    assert not set(roles.MANAGEMENT_SCOPES) & set(directory.DEFAULT_SCOPES)


@pytest.mark.parametrize(
    ("role", "reads", "invites", "makes_owners"),
    [
        ("viewer", 403, 403, 403),
        ("member", 200, 403, 403),
        ("admin", 200, 200, 403),
        ("owner", 200, 200, 200),
    ],
)
def test_a_role_opens_what_the_table_says(
    dsn: str, role: str, reads: int, invites: int, makes_owners: int
) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        bob = await site.member(ann, "bob@example.com", role)
        assert (await bob.get(USERS)).status == reads
        for invited, expected in (("member", invites), ("owner", makes_owners)):
            body = {"email": "eve@example.com", "role": invited}
            assert (await bob.post(INVITES, body)).status == expected
        # An admin neither makes nor unmakes an owner.
        reply = await bob.post(f"{USERS}/{await id_of(ann)}", {"role": "viewer"})
        assert reply.status == makes_owners

    run_site(dsn, scenario)


def test_a_changed_role_is_in_force_with_the_next_request(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        bob = await site.member(ann, "bob@example.com", "admin")
        bobs_id = await id_of(bob)
        assert (await bob.get(INVITES)).status == 200
        assert (await ann.post(f"{USERS}/{bobs_id}", {"role": "viewer"})).json["role"] == "viewer"
        assert (await bob.get(INVITES)).status == 403
        assert (await ann.post(f"{USERS}/{bobs_id}", {"role": "reader"})).json["role"] == "member"
        assert (await bob.get(USERS)).status == 200
        deleted = await ann.call("DELETE", f"{USERS}/{bobs_id}")
        assert deleted.json == {
            "object": "organization.user.deleted",
            "id": bobs_id,
            "deleted": True,
        }
        assert (await bob.get(USERS)).status == 403
        # The account stays, and belongs to nothing.
        assert (await bob.get("/v1/auth/session")).json["organizations"] == []

    run_site(dsn, scenario)


def test_a_tenant_keeps_an_owner_who_can_sign_in(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        anns_id = await id_of(ann)
        for method, body in (("POST", {"role": "admin"}), ("DELETE", None)):
            reply = await ann.call(method, f"{USERS}/{anns_id}", body)
            assert (reply.status, reply.error["code"]) == (409, "conflict")
        bob = await site.member(ann, "bob@example.com", "owner")
        await people.set_disabled(dsn, "bob@example.com", True)
        assert (await ann.post(f"{USERS}/{anns_id}", {"role": "admin"})).status == 409
        await people.set_disabled(dsn, "bob@example.com", False)
        assert (await ann.post(f"{USERS}/{anns_id}", {"role": "admin"})).status == 200
        await bob.sign_in("bob@example.com")
        assert (await bob.call("DELETE", f"{USERS}/{anns_id}")).status == 200

    run_site(dsn, scenario)


# --- walls ------------------------------------------------------------------------------------


def test_another_tenants_user_or_invitation_is_like_one_that_does_not_exist(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann, eve = await owner(site), await owner(site, "eve@example.com", "eve")
        anns_id, unknown = await id_of(ann), str(uuid.uuid4())
        await ann.invite("bob@example.com", "member")
        (invite,) = (await ann.get(INVITES)).json["data"]
        anns_project = await project(dsn, "acme", None)
        in_project = f"/v1/organization/projects/{anns_project}/users"
        no_project = f"/v1/organization/projects/{unknown}/users"
        for method, foreign, nothing, body in (
            ("GET", f"{USERS}/{anns_id}", f"{USERS}/{unknown}", None),
            ("POST", f"{USERS}/{anns_id}", f"{USERS}/{unknown}", {"role": "viewer"}),
            ("DELETE", f"{USERS}/{anns_id}", f"{USERS}/{unknown}", None),
            ("GET", f"{INVITES}/{invite['id']}", f"{INVITES}/{unknown}", None),
            ("DELETE", f"{INVITES}/{invite['id']}", f"{INVITES}/{unknown}", None),
            ("GET", in_project, no_project, None),
            ("POST", in_project, no_project, {"user_id": anns_id, "role": "member"}),
            ("DELETE", f"{in_project}/{anns_id}", f"{no_project}/{anns_id}", None),
        ):
            replies = [await eve.call(method, path, body) for path in (foreign, nothing)]
            assert [reply.status for reply in replies] == [404, 404], foreign
            assert replies[0].body == replies[1].body
        body = {
            "email": "x@example.com",
            "role": "member",
            "projects": [{"id": anns_project, "role": "member"}],
        }
        assert (await eve.post(INVITES, body)).status == 404
        assert [user["id"] for user in (await eve.get(USERS)).json["data"]] == [await id_of(eve)]
        assert (await eve.get(USERS, query=f"after={anns_id}")).json["data"] == []
        assert (await eve.get(USERS, query="emails=ann@example.com")).json["data"] == []
        assert len((await ann.get(INVITES)).json["data"]) == 1

    run_site(dsn, scenario)


def test_a_key_manages_with_its_scopes_and_makes_no_owner_without_admin(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        await owner(site)

        async def key(*scopes: str) -> str:
            soon = datetime.now(UTC) + timedelta(days=1)
            request = KeyRequest("acme", "k", scopes=scopes, expires_at=soon)
            return (await directory.create_key(dsn, PEPPER, request)).key.text

        reader, inviter = await key("users:read"), await key("invites:write")
        admin, infers = await key("admin"), await key("all")
        assert (await site.with_key("GET", USERS, infers)).status == 403
        assert (await site.with_key("GET", USERS, reader)).status == 200
        assert (await site.with_key("GET", USERS, inviter)).status == 403
        for made_by, role, status in (
            (reader, "viewer", 403),
            (inviter, "admin", 200),
            (inviter, "owner", 403),
            (admin, "owner", 200),
        ):
            body = {"email": "bob@example.com", "role": role}
            assert (await site.with_key("POST", INVITES, made_by, body)).status == status

    run_site(dsn, scenario)


# --- lists ------------------------------------------------------------------------------------


def test_lists_come_in_pages_without_a_gap_or_a_repetition(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        for number in range(5):
            await ann.invite(f"user{number}@example.com", "member")
        seen: list[str] = []
        query = "limit=2"
        while True:
            page = (await ann.get(INVITES, query=query)).json
            assert page["object"] == "list"
            assert page["first_id"] == page["data"][0]["id"]
            assert page["last_id"] == page["data"][-1]["id"]
            seen += [entry["email"] for entry in page["data"]]
            if not page["has_more"]:
                break
            query = f"limit=2&after={page['last_id']}"
        assert seen == [f"user{number}@example.com" for number in range(5)]
        for query in ("limit=0", "limit=101", "limit=x", "limit=-1", "after=x"):
            assert (await ann.get(INVITES, query=query)).status == 400, query
        assert (await ann.get(USERS, query="emails=ANN@example.com&emails=x@y.z")).json["data"]

    run_site(dsn, scenario)


# --- invitations ------------------------------------------------------------------------------


def test_an_invitation_is_accepted_once_by_whoever_holds_it(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        token = await ann.invite("Bob@Example.com", "admin")
        (invite,) = (await ann.get(INVITES)).json["data"]
        assert "token" not in invite
        assert token not in str(invite)
        assert invite["status"] == "pending"
        shown = await site.browser().post("/v1/auth/invitations/show", {"token": token})
        assert (shown.json["email"], shown.json["role"]) == ("bob@example.com", "admin")
        bob = site.browser()
        body = {"token": token, "password": PASSWORD, "name": "Bob"}
        assert (await bob.post("/v1/auth/invitations/accept", body)).status == 200
        assert (await site.browser().post("/v1/auth/invitations/accept", body)).status == 404
        accepted = (await ann.get(f"{INVITES}/{invite['id']}")).json
        assert accepted["status"] == "accepted"
        assert accepted["accepted_at"] is not None
        assert (await ann.call("DELETE", f"{INVITES}/{invite['id']}")).status == 409
        users = (await ann.get(USERS)).json["data"]
        assert [(user["name"], user["role"]) for user in users] == [("", "owner"), ("Bob", "admin")]

    run_site(dsn, scenario)


def test_an_invitation_that_was_deleted_or_ran_out_opens_nothing(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        gone, late = [await ann.invite(f"{n}@example.com", "member") for n in ("gone", "late")]
        first, second = (await ann.get(INVITES)).json["data"]
        assert (await ann.call("DELETE", f"{INVITES}/{first['id']}")).json["deleted"] is True
        async with pool.operator(dsn) as connection:
            # Nobody may change an end; so another one, made in the past, stands for it.
            row = await connection.fetchrow(
                "DELETE FROM anzoth.invitations WHERE id = $1 RETURNING *", uuid.UUID(second["id"])
            )
            await connection.execute(
                "INSERT INTO anzoth.invitations SELECT ($1::anzoth.invitations).*",
                tuple({**row, "expires_at": row["created_at"]}.values()),
            )
        site.clock.pass_(seconds=1)
        assert (await ann.get(f"{INVITES}/{second['id']}")).json["status"] == "expired"
        for token in (gone, late, "x", gone + "x"):
            body = {"token": token, "password": PASSWORD}
            for path in ("show", "accept"):
                reply = await site.browser().post(f"/v1/auth/invitations/{path}", body)
                assert reply.status == 404
        assert len(await people.list_users(dsn)) == 1

    run_site(dsn, scenario)


def test_an_invitation_is_for_one_person(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann, eve = await owner(site), await owner(site, "eve@example.com", "eve")
        bob = await owner(site, "bob@example.com", "bob")
        token = await ann.invite("bob@example.com", "admin")
        reply = await eve.post("/v1/auth/invitations/accept", {"token": token})
        assert (reply.status, reply.error["code"]) == (403, "insufficient_scope")
        # Bob has an account: nobody makes another, or sets its password, with the token alone.
        body = {"token": token, "password": "another long password"}
        assert (await site.browser().post("/v1/auth/invitations/accept", body)).status == 409
        bob.csrf_token, right = None, bob.csrf_token
        reply = await bob.post("/v1/auth/invitations/accept", {"token": token})
        assert reply.error["code"] == "csrf_refused"
        bob.csrf_token, old = right, dict(bob.cookies)
        reply = await bob.post("/v1/auth/invitations/accept", {"token": token})
        assert [o["role"] for o in reply.json["organizations"]] == ["owner", "admin"]
        assert bob.cookies != old

    run_site(dsn, scenario)


# --- projects ---------------------------------------------------------------------------------


def test_members_join_projects_by_invitation_or_later(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        default, lab = await project(dsn, "acme", None), await project(dsn, "acme", "lab")

        async def members(project_id: str) -> dict[str, str]:
            reply = await ann.get(f"/v1/organization/projects/{project_id}/users")
            return {user["email"]: user["role"] for user in reply.json["data"]}

        bob = await site.member(ann, "bob@example.com", "member")
        token = await ann.invite(
            "cy@example.com", "member", projects=[{"id": lab, "role": "owner"}]
        )
        body = {"token": token, "password": PASSWORD}
        await site.browser().post("/v1/auth/invitations/accept", body)
        assert await members(default) == {"bob@example.com": "member"}
        assert await members(lab) == {"cy@example.com": "owner"}
        path, bobs_id = f"/v1/organization/projects/{lab}/users", await id_of(bob)
        for body, status in (
            ({"user_id": bobs_id, "role": "member"}, 200),
            ({"email": "bob@example.com", "role": "member"}, 409),
            ({"email": "nobody@example.com", "role": "member"}, 404),
            ({"user_id": bobs_id, "role": "viewer"}, 400),
            ({"role": "member"}, 400),
        ):
            assert (await ann.post(path, body)).status == status
        assert (await ann.post(f"{path}/{bobs_id}", {"role": "owner"})).json["role"] == "owner"
        assert (await ann.get(f"{path}/{bobs_id}")).json["email"] == "bob@example.com"
        assert (await ann.call("DELETE", f"{path}/{bobs_id}")).json["deleted"] is True
        assert (await ann.call("DELETE", f"{path}/{bobs_id}")).status == 404
        # Who leaves the tenant leaves its projects.
        await ann.call("DELETE", f"{USERS}/{bobs_id}")
        assert await members(default) == {}

    run_site(dsn, scenario)


# --- shapes -----------------------------------------------------------------------------------


def test_answers_are_what_openais_sdk_reads(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        await site.member(ann, "bob@example.com", "member")
        body = {"email": "cy@example.com", "role": "owner"}
        default = await project(dsn, "acme", None)
        in_project = f"/v1/organization/projects/{default}/users"
        answers: list[tuple[type[Any], Any]] = [
            (OrganizationUser, (await ann.get(USERS)).json["data"][0]),
            (Invite, (await ann.post(INVITES, body)).json),
            (Invite, (await ann.get(INVITES)).json["data"][0]),
            (ProjectUser, (await ann.get(in_project)).json["data"][0]),
        ]
        for kind, answer in answers:
            # Strictly: their roles are two, ours are four.
            assert kind.model_validate({**answer, "role": "owner"}).id == answer["id"]

    run_site(dsn, scenario)
