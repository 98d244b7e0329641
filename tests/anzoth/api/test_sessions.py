"""Sessions: their cookies, their end, and which tenant each is about."""

from __future__ import annotations

import uuid

import pytest
from accounts_kit import (
    ANOTHER,
    COOKIE,
    DEVICE,
    HOST,
    PASSWORD,
    PEPPER,
    Site,
    owner,
    run_site,
)

from anzoth.account_config import AccountsConfig
from anzoth.db import pool
from anzoth.gateway import directory
from anzoth.gateway.accounts import people
from anzoth.gateway.directory import KeyRequest

pytestmark = pytest.mark.slow


def test_a_cookie_is_http_only_and_kept_as_a_digest(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = site.browser()
        reply = await browser.sign_up("ann@example.com", "acme")
        (_, cookie), (_, device) = reply.set_cookies
        kept = browser.cookies[DEVICE]
        assert device == f"{DEVICE}={kept}; Path=/; Max-Age=34560000; HttpOnly; SameSite=Lax"
        token = browser.cookies[COOKIE]
        assert cookie == (f"{COOKIE}={token}; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax")
        assert reply.headers["cache-control"] == "no-store"
        async with pool.operator(dsn) as connection:
            rows = await connection.fetch("SELECT * FROM anzoth.sessions")
        assert token not in repr(rows)
        assert token.encode() not in repr(rows).encode()

    run_site(dsn, scenario)


def test_over_tls_the_cookie_is_bound_to_its_host(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = site.browser(
            peer="10.0.0.9", origin="https://ai.example.com", headers={"host": "ai.example.com"}
        )
        reply = await browser.sign_up("ann@example.com", "acme")
        (name, cookie), (device, _) = reply.set_cookies
        assert (name, device) == ("__Host-anzoth-session", "__Host-anzoth-device")
        assert cookie.endswith("; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure")
        assert "Domain" not in cookie
        assert (await browser.get("/v1/auth/session")).status == 200
        # The name without the prefix is one that another host could have set.
        plain = site.browser(cookies={COOKIE: browser.cookies[name]})
        assert (await plain.get("/v1/auth/session")).status == 401
        for origin in ("http://ai.example.com", "https://ai.example.com.evil.test", "null"):
            other = site.browser(cookies=browser.cookies, origin=origin, peer="10.0.0.9")
            other.csrf_token = browser.csrf_token
            reply = await other.post("/v1/auth/sign-out")
            assert (reply.status, reply.error["code"]) == (403, "csrf_refused")

    run_site(dsn, scenario, AccountsConfig("open", "https://ai.example.com"))


@pytest.mark.parametrize(
    ("peer", "header"),
    [("10.0.0.9", {}), ("127.0.0.1", {"x-forwarded-for": "10.0.0.9"}), ("::1", {"via": "1.1 p"})],
)
def test_nobody_signs_in_over_a_network_in_the_clear(
    dsn: str, peer: str, header: dict[str, str]
) -> None:
    async def scenario(site: Site) -> None:
        browser = site.browser(peer=peer, origin=None, headers=header)
        reply = await browser.sign_in("ann@example.com")
        assert (reply.status, reply.error["code"]) == (403, "https_required")

    run_site(dsn, scenario)


def test_signing_in_never_keeps_the_session_that_a_browser_came_with(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        mallory = await owner(site, "mallory@example.com", "evil")
        planted = mallory.cookies[COOKIE]
        await owner(site)
        victim = site.browser(cookies={COOKIE: planted})
        assert (await victim.sign_in("ann@example.com")).status == 200
        assert victim.cookies[COOKIE] != planted
        user = (await mallory.get("/v1/auth/session")).json["user"]
        assert user["email"] == "mallory@example.com"

    run_site(dsn, scenario)


def test_a_request_that_changes_something_needs_the_token_and_our_origin(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        body = {"email": "bob@example.com", "role": "member"}
        right = browser.csrf_token
        for token, origin in (
            (None, browser.origin),
            ("", browser.origin),
            ("x" * 43, browser.origin),
            ((await owner(site, "eve@example.com", "eve")).csrf_token, browser.origin),
            (right, "https://evil.test"),
            (right, f"http://evil.test@{HOST}"),
            (right, "null"),
        ):
            browser.csrf_token, browser.origin = token, origin
            reply = await browser.post("/v1/organization/invites", body)
            assert (reply.status, reply.error["code"]) == (403, "csrf_refused"), (token, origin)
        browser.csrf_token, browser.origin = right, None
        reply = await browser.post("/v1/organization/invites", body, sec_fetch_site="cross-site")
        assert reply.status == 403
        assert (await browser.post("/v1/organization/invites", body)).status == 200
        assert len((await browser.get("/v1/organization/invites")).json["data"]) == 1

    run_site(dsn, scenario)


def test_another_sites_page_signs_nobody_in_or_up(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = site.browser(origin="https://evil.test")
        assert (await browser.sign_in("ann@example.com")).error["code"] == "csrf_refused"
        # A name that somebody else points at this machine.
        rebound = site.browser(origin="http://evil.test:8000", headers={"host": "evil.test:8000"})
        body = {"email": "a@example.com", "password": PASSWORD, "organization": "a"}
        reply = await rebound.post("/v1/auth/sign-up", body)
        assert reply.error["code"] == "csrf_refused"
        assert await people.list_users(dsn) == []

    run_site(dsn, scenario)


def test_a_key_needs_no_csrf_token_and_a_session_runs_no_model(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        request = KeyRequest("acme", "k", scopes=("users:read", "invites:write"))
        created = await directory.create_key(dsn, PEPPER, request)
        body = {"email": "bob@example.com", "role": "member"}
        reply = await site.with_key("POST", "/v1/organization/invites", created.key.text, body)
        assert reply.status == 200
        chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"):
            reply = await browser.post(path, chat)
            assert (reply.status, reply.error["code"]) == (401, None)
        assert site.usage.records == []
        assert (await browser.get("/v1/models")).status == 200

    run_site(dsn, scenario)


def test_a_session_ends_when_idle_and_in_the_end_whatever_happens(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        site.clock.pass_(hours=12, seconds=-1)
        assert (await browser.get("/v1/auth/session")).status == 200
        site.clock.pass_(hours=12)
        assert (await browser.get("/v1/auth/session")).error["code"] == "not_signed_in"
        assert (await browser.sign_in("ann@example.com")).status == 200
        for _ in range(15):
            site.clock.pass_(hours=11)
            assert (await browser.get("/v1/auth/session")).status == 200
        site.clock.pass_(hours=11)
        assert (await browser.get("/v1/auth/session")).status == 401

    run_site(dsn, scenario)


def test_sessions_are_listed_and_ended_by_their_user_alone(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        first = await owner(site)
        second, third = site.browser(headers={"user-agent": "phone"}), site.browser()
        for browser in (second, third):
            await browser.sign_in("ann@example.com")
        other = await owner(site, "eve@example.com", "eve")
        listed = (await first.get("/v1/auth/sessions")).json["data"]
        assert sum(entry["is_current"] for entry in listed) == 1
        phone = next(entry["id"] for entry in listed if entry["user_agent"] == "phone")
        for id in (phone, "x", str(uuid.uuid4())):
            assert (await other.call("DELETE", f"/v1/auth/sessions/{id}")).status == 404
        assert (await second.get("/v1/auth/session")).status == 200
        assert (await first.call("DELETE", f"/v1/auth/sessions/{phone}")).status == 200
        assert (await second.get("/v1/auth/session")).status == 401
        assert (await first.call("DELETE", "/v1/auth/sessions")).json["count"] == 1
        assert (await third.get("/v1/auth/session")).status == 401
        assert (await other.get("/v1/auth/session")).status == 200
        old = dict(first.cookies)
        assert (await first.post("/v1/auth/sign-out")).status == 200
        assert list(first.cookies) == ["anzoth-device"]  # it opens nothing
        assert (await site.browser(cookies=old).get("/v1/auth/session")).status == 401

    run_site(dsn, scenario)


def test_a_new_password_ends_every_other_session_and_renews_this_one(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        elsewhere = site.browser()
        await elsewhere.sign_in("ann@example.com")
        old = dict(browser.cookies)
        for body, status in (
            ({"current_password": "wrong password 1", "new_password": ANOTHER}, 401),
            ({"current_password": PASSWORD, "new_password": "short"}, 400),
            ({"current_password": PASSWORD}, 400),
        ):
            assert (await browser.post("/v1/auth/password", body)).status == status
        body = {"current_password": PASSWORD, "new_password": ANOTHER}
        assert (await browser.post("/v1/auth/password", body)).status == 200
        assert (await browser.get("/v1/auth/session")).status == 200
        assert (await elsewhere.get("/v1/auth/session")).status == 401
        assert (await site.browser(cookies=old).get("/v1/auth/session")).status == 401
        assert (await site.browser().sign_in("ann@example.com")).status == 401
        assert (await site.browser().sign_in("ann@example.com", ANOTHER)).status == 200

    run_site(dsn, scenario)


def test_a_reset_link_sets_a_password_once_and_ends_every_session(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        first = await people.reset_password(dsn, site.vault, "ann@example.com")
        made = await people.reset_password(dsn, site.vault, "ann@example.com")
        stranger = site.browser()
        for token in (first.token, made.token + "x", browser.cookies[COOKIE]):
            body = {"token": token, "new_password": ANOTHER}
            assert (await stranger.post("/v1/auth/password/reset", body)).status == 401
        assert (await browser.get("/v1/auth/session")).status == 200
        body = {"token": made.token, "new_password": ANOTHER}
        assert (await stranger.post("/v1/auth/password/reset", body)).status == 200
        assert not stranger.cookies
        assert (await stranger.post("/v1/auth/password/reset", body)).status == 401
        assert (await browser.get("/v1/auth/session")).status == 401
        assert (await browser.sign_in("ann@example.com", ANOTHER)).status == 200

    run_site(dsn, scenario)


def test_a_disabled_user_loses_every_session_at_once(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        assert (await people.set_disabled(dsn, "ann@example.com", True)).num_sessions == 1
        assert (await browser.get("/v1/auth/session")).status == 401
        assert (await browser.get("/v1/organization/users")).status == 401
        await people.set_disabled(dsn, "ann@example.com", False)
        assert (await browser.get("/v1/auth/session")).status == 401
        assert (await browser.sign_in("ann@example.com")).status == 200

    run_site(dsn, scenario)


def test_a_session_is_about_the_tenant_that_was_chosen_or_that_the_header_names(
    dsn: str,
) -> None:
    async def scenario(site: Site) -> None:
        ann, bob = await owner(site), await owner(site, "bob@example.com", "beta")
        token = await ann.invite("bob@example.com", "viewer")
        reply = await bob.post("/v1/auth/invitations/accept", {"token": token})
        assert reply.status == 200
        ids = {o["name"]: o["id"] for o in reply.json["organizations"]}
        assert reply.json["organization_id"] == ids["acme"]

        async def emails(**headers: str) -> list[str]:
            reply = await bob.get("/v1/organization/users", **headers)
            assert reply.status == 200, reply.body
            return [user["email"] for user in reply.json["data"]]

        # A viewer of acme may not see who is there; in beta bob is the owner.
        assert (await bob.get("/v1/organization/users")).error["code"] == "insufficient_scope"
        assert await emails(openai_organization=ids["beta"]) == ["bob@example.com"]
        old = bob.cookies[COOKIE]
        reply = await bob.post("/v1/auth/session", {"organization_id": ids["beta"]})
        assert reply.json["organization_id"] == ids["beta"]
        assert bob.cookies[COOKIE] != old
        assert await emails() == ["bob@example.com"]
        stranger = await owner(site, "eve@example.com", "eve")
        for id in (ids["acme"], str(uuid.uuid4())):
            reply = await stranger.get("/v1/organization/users", openai_organization=id)
            assert (reply.status, reply.error["code"]) == (404, "not_found")
            assert (await stranger.post("/v1/auth/session", {"organization_id": id})).status == 404
        reply = await bob.get("/v1/organization/users", openai_organization="acme")
        assert reply.status == 400

    run_site(dsn, scenario)


def test_an_operator_manages_every_tenant(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        operator, ann = await site.operator(), await owner(site)
        acme = (await ann.get("/v1/auth/session")).json["organization_id"]
        reply = await operator.get("/v1/organization/users", openai_organization=acme)
        assert [user["email"] for user in reply.json["data"]] == ["ann@example.com"]
        await directory.delete_tenant(dsn, "acme")
        reply = await operator.get("/v1/organization/users", openai_organization=acme)
        assert reply.status == 404
        assert (await ann.get("/v1/organization/users")).error["code"] == "insufficient_scope"

    run_site(dsn, scenario)
