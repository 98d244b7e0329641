"""Is everything that people do to accounts in the audit log, under the right tenant and actor?"""

from __future__ import annotations

import base64
import uuid

import pytest
from accounts_kit import PASSWORD, Browser, Site, run_site

from anzoth.db import pool
from anzoth.db.store import audit_rows
from anzoth.db.store.audit_rows import AuditRow
from anzoth.gateway.accounts import people, totp

pytestmark = pytest.mark.slow


async def logged(dsn: str) -> list[AuditRow]:
    async with pool.operator(dsn) as connection:
        rows = [row async for row in audit_rows.all_events(connection, None)]
    return sorted(rows, key=lambda row: row.at)


class Log:
    """What is new since the last time somebody asked."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.seen: set[uuid.UUID] = set()

    async def new(self) -> list[tuple[str, uuid.UUID | None, str | None]]:
        """Type, tenant and actor."""
        rows = [row for row in await logged(self.dsn) if row.id not in self.seen]
        self.seen |= {row.id for row in rows}
        return [(row.type, row.tenant_id, row.actor_id) for row in rows]


async def ids_of(browser: Browser) -> tuple[str, uuid.UUID]:
    """The user, and the organization that the session is about."""
    session = (await browser.get("/v1/auth/session")).json
    return session["user"]["id"], uuid.UUID(session["organization_id"])


def test_signing_in_and_out_is_logged_with_its_failures(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        log, browser = Log(dsn), site.browser()
        await browser.sign_up("ann@example.com", "acme")
        ann, acme = await ids_of(browser)
        assert sorted(await log.new(), key=str) == sorted(
            [
                ("tenant.created", acme, ann),
                ("tenant.created", None, ann),
                ("user.added", acme, ann),
                ("login.succeeded", acme, ann),
            ],
            key=str,
        )
        await browser.sign_in("ann@example.com", "wrong password 1")
        await browser.sign_in("nobody@example.com", "wrong password 1")
        assert await log.new() == [("login.failed", acme, None), ("login.failed", None, None)]
        failed = [row for row in await logged(dsn) if row.type == "login.failed"]
        assert [row.target for row in failed] == [{"id": ann}, {"id": None}]
        assert all(row.actor_ip == "127.0.0.1" for row in failed)
        for _ in range(10):
            await site.browser().sign_in("ann@example.com", "wrong password 1")
        # Then it is throttled. The first failure, of a browser that is known, counted apart.
        assert await log.new() == [("login.failed", acme, None)] * 5
        site.clock.pass_(hours=1)
        await browser.sign_in("ann@example.com")
        await browser.post("/v1/auth/sign-out")
        assert await log.new() == [
            ("login.succeeded", acme, ann),
            ("logout.succeeded", acme, ann),
        ]

    run_site(dsn, scenario)


def test_what_guards_an_account_is_logged(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = site.browser()
        await browser.sign_up("ann@example.com", "acme")
        log, (ann, acme) = Log(dsn), await ids_of(browser)
        await log.new()
        made = (await browser.post("/v1/auth/totp", {"password": PASSWORD})).json
        secret = base64.b32decode(made["secret"])
        step = int(site.clock.unix_s() // 30)
        await browser.post("/v1/auth/totp/confirm", {"code": totp.code_at(secret, step)})
        assert await log.new() == [("second_factor.enabled", acme, ann)]
        other = site.browser()
        await other.sign_in("ann@example.com")
        assert await log.new() == []  # half of a sign-in is none
        await other.post("/v1/auth/second-factor", {"code": "000000"})
        await other.post("/v1/auth/second-factor", {"code": totp.code_at(secret, step + 1)})
        assert await log.new() == [("login.failed", acme, None), ("login.succeeded", acme, ann)]
        await browser.post("/v1/auth/totp/disable", {"password": PASSWORD})
        body = {"current_password": PASSWORD, "new_password": "another long password"}
        await browser.post("/v1/auth/password", body)
        assert await log.new() == [
            ("second_factor.disabled", acme, ann),
            ("password.changed", acme, ann),
        ]
        reset = await people.reset_password(dsn, site.vault, "ann@example.com")
        await people.set_disabled(dsn, "ann@example.com", True)
        assert [type for type, *_ in await log.new()] == ["user.updated"] * 4
        for row in await logged(dsn):
            for secret in (PASSWORD, made["secret"], reset.token, "another long password"):
                assert secret not in repr(row)

    run_site(dsn, scenario)


def test_members_and_invitations_are_logged(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann, bob = site.browser(), site.browser()
        await ann.sign_up("ann@example.com", "acme")
        log, (anns_id, acme) = Log(dsn), await ids_of(ann)
        await log.new()
        token = await ann.invite("bob@example.com", "member")
        gone = await ann.invite("cy@example.com", "member")
        _, second = (await ann.get("/v1/organization/invites")).json["data"]
        await ann.call("DELETE", f"/v1/organization/invites/{second['id']}")
        assert await log.new() == [
            ("invite.sent", acme, anns_id),
            ("invite.sent", acme, anns_id),
            ("invite.deleted", acme, anns_id),
        ]
        body = {"token": token, "password": PASSWORD}
        await bob.post("/v1/auth/invitations/accept", body)
        bobs_id, _ = await ids_of(bob)
        assert await log.new() == [
            ("invite.accepted", acme, bobs_id),
            ("user.added", acme, bobs_id),
            ("login.succeeded", acme, bobs_id),
        ]
        path = f"/v1/organization/users/{bobs_id}"
        assert (await bob.post(path, {"role": "owner"})).status == 403
        await ann.post(path, {"role": "admin"})
        await ann.call("DELETE", path)
        assert await log.new() == [
            ("user.updated", acme, anns_id),
            ("user.deleted", acme, anns_id),
        ]
        assert all(gone not in repr(row) and token not in repr(row) for row in await logged(dsn))

    run_site(dsn, scenario)


def test_a_change_that_fails_is_not_logged(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = site.browser()
        await ann.sign_up("ann@example.com", "acme")
        log, (anns_id, _) = Log(dsn), await ids_of(ann)
        await log.new()
        path = f"/v1/organization/users/{anns_id}"
        assert (await ann.post(path, {"role": "viewer"})).status == 409
        assert (await ann.call("DELETE", path)).status == 409
        body = {"email": "ann@example.com", "password": PASSWORD, "organization": "other"}
        assert (await site.browser().post("/v1/auth/sign-up", body)).status == 409
        assert await log.new() == []

    run_site(dsn, scenario)
