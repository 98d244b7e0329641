"""Does a provider's word open the right account, and nothing but that?"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from accounts_kit import PASSWORD, PEPPER, Browser, Site, run_site
from api_stand_ins import Reply
from oidc_provider import CLIENT_ID, CLIENT_SECRET, OTHER_KEY, OidcProvider, oidc_provider

from anzoth.account_config import AccountsConfig, OidcConfig
from anzoth.gateway import directory
from anzoth.gateway.accounts import people, totp

pytestmark = pytest.mark.slow

PUBLIC = "https://ai.example.com"
START = "/v1/auth/oidc/corp"
CALLBACK = f"{START}/callback"


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    with oidc_provider() as made:
        yield made


def run(dsn: str, provider: OidcProvider, scenario: Any, **settings: Any) -> None:
    asyncio.run(directory.create_tenant(dsn, "acme"))
    values = {"tenant": "acme", "client_secret": CLIENT_SECRET, **settings}
    corp = OidcConfig("corp", provider.url, CLIENT_ID, ("example.com",), **values)
    run_site(dsn, scenario, AccountsConfig("open", PUBLIC), [corp])


def browser_of(site: Site, **more: Any) -> Browser:
    headers = {"host": "ai.example.com"}
    return site.browser(peer="10.0.0.9", origin=PUBLIC, headers=headers, **more)


async def sign_on(
    browser: Browser, provider: OidcProvider, subject: str = "1", query: str = "", **claims: Any
) -> Reply:
    started = await browser.get(START, query=query)
    assert started.status == 302, started.body
    claims = {"email": "Ann@example.com", "name": "Ann", **claims}
    return await browser.get(
        CALLBACK, query=provider.sign_in(started.headers["location"], subject, **claims)
    )


def test_who_comes_first_becomes_a_member_of_the_providers_tenant(
    dsn: str, provider: OidcProvider
) -> None:
    async def scenario(site: Site) -> None:
        browser = browser_of(site)
        reply = await sign_on(browser, provider)
        assert reply.status == 200
        user, organizations = reply.json["user"], reply.json["organizations"]
        assert (user["email"], user["name"], user["has_password"]) == (
            "ann@example.com",
            "Ann",
            False,
        )
        assert [(o["name"], o["role"]) for o in organizations] == [("acme", "admin")]
        assert list(browser.cookies) == ["__Host-anzoth-session", "__Host-anzoth-device"]
        assert (await browser.get("/v1/organization/users")).status == 200
        # What takes a password says that there is none.
        reply = await browser.post("/v1/auth/totp", {"password": PASSWORD})
        assert (reply.status, reply.error["code"]) == (409, "conflict")
        # The same identity is the same user, also under a new address and name.
        again = browser_of(site)
        reply = await sign_on(again, provider, email="new@example.com", name="X")
        assert reply.json["user"] == user
        assert provider.asked.count("/.well-known/openid-configuration") == 1
        assert provider.asked.count("/keys") == 1
        # Who was removed from the tenant is not put back.
        await people.create_user(dsn, site.vault, "boss@example.com", tenant="acme", role="owner")
        members = (await again.get("/v1/organization/users")).json["data"]
        assert len(members) == 2
        assert (await again.call("DELETE", f"/v1/organization/users/{user['id']}")).status == 200
        assert (await sign_on(browser_of(site), provider)).json["organizations"] == []

    run(dsn, provider, scenario, role="admin")


def test_an_account_is_linked_by_its_address_if_somebody_vouched_for_it(
    dsn: str, provider: OidcProvider
) -> None:
    async def scenario(site: Site) -> None:
        made = await people.create_user(dsn, site.vault, "ann@example.com", name="Ann A.")
        reply = await sign_on(browser_of(site), provider)
        assert reply.json["user"]["id"] == str(made.user_id)
        # One that anybody could have made with this address is not.
        squatter = browser_of(site)
        await squatter.sign_up("bob@example.com", "mine")
        reply = await sign_on(browser_of(site), provider, "2", email="bob@example.com")
        assert (reply.status, reply.error["code"]) == (409, "conflict")
        assert len(await people.list_users(dsn)) == 2

    run(dsn, provider, scenario, tenant=None)


def test_without_a_tenant_only_who_has_an_account_comes_in(
    dsn: str, provider: OidcProvider
) -> None:
    async def scenario(site: Site) -> None:
        reply = await sign_on(browser_of(site), provider)
        assert (reply.status, reply.error["code"]) == (403, "no_account")
        assert await people.list_users(dsn) == []

    run(dsn, provider, scenario, tenant=None)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"email_verified": False}, "email_not_verified"),
        ({"email_verified": None}, "email_not_verified"),
        ({"email_verified": "false"}, "email_not_verified"),
        ({"email": None}, "email_not_verified"),
        ({"email": "ann"}, "email_not_verified"),
        ({"email": ["ann@example.com"]}, "email_not_verified"),
        ({"email": "ann@example.com.evil.test"}, "domain_not_allowed"),
        ({"email": "ann@sub.example.com"}, "domain_not_allowed"),
    ],
)
def test_an_address_counts_if_verified_and_of_the_providers_domains(
    dsn: str, provider: OidcProvider, claims: dict[str, Any], code: str
) -> None:
    async def scenario(site: Site) -> None:
        provider.claims = claims
        browser = browser_of(site)
        reply = await sign_on(browser, provider)
        assert (reply.status, reply.error["code"]) == (403, code)
        assert not browser.cookies
        assert await people.list_users(dsn) == []

    run(dsn, provider, scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        {"claims": {"iss": "https://other.example.com"}},
        {"claims": {"aud": "another client"}},
        {"claims": {"aud": [CLIENT_ID, "another client"]}},
        {"claims": {"exp": 1}},
        {"claims": {"exp": None}},
        {"claims": {"iat": 2**40}},
        {"claims": {"sub": None}},
        {"claims": {"nonce": "another"}},
        {"claims": {"nonce": None}},
        pytest.param({"signing_key": OTHER_KEY}, id="another's key"),
        {"algorithm": "none"},
        {"algorithm": "HS256", "signing_key": CLIENT_SECRET},
    ],
    ids=str,
)
def test_an_id_token_that_is_not_exactly_right_signs_nobody_in(
    dsn: str, provider: OidcProvider, wrong: dict[str, Any]
) -> None:
    async def scenario(site: Site) -> None:
        for name, value in wrong.items():
            setattr(provider, name, value)
        reply = await sign_on(browser_of(site), provider)
        assert (reply.status, reply.error["code"]) == (401, "invalid_credentials")
        assert "/token" in provider.asked
        assert await people.list_users(dsn) == []

    run(dsn, provider, scenario)


def test_a_token_for_several_parties_names_us(dsn: str, provider: OidcProvider) -> None:
    async def scenario(site: Site) -> None:
        provider.claims = {"aud": [CLIENT_ID, "x"], "azp": CLIENT_ID}
        assert (await sign_on(browser_of(site), provider)).status == 200

    run(dsn, provider, scenario)


def test_a_callback_belongs_to_the_browser_that_began_and_works_once(
    dsn: str, provider: OidcProvider
) -> None:
    async def scenario(site: Site) -> None:
        victim, attacker = browser_of(site), browser_of(site)
        begun = (await attacker.get(START)).headers["location"]
        query = provider.sign_in(begun, "2", email="eve@example.com")
        # Neither a browser that began nothing, nor one that began something else.
        assert (await victim.get(CALLBACK, query=query)).status == 401
        await victim.get(START)
        assert (await victim.get(CALLBACK, query=query)).status == 401
        assert not victim.cookies
        cookies = dict(attacker.cookies)
        assert (await attacker.get(CALLBACK, query=query)).status == 200
        replay = browser_of(site, cookies=cookies)
        assert (await replay.get(CALLBACK, query=query)).status == 401
        for broken in ("", "state=x", query.replace("state=", "other="), "error=access_denied"):
            browser = browser_of(site)
            await browser.get(START)
            assert (await browser.get(CALLBACK, query=broken)).status == 401
        # An answer that another provider made (RFC 9207).
        browser = browser_of(site)
        begun = (await browser.get(START)).headers["location"]
        query = provider.sign_in(begun, "1", email="ann@example.com")
        mixed = query.partition("&iss=")[0] + "&iss=https%3A%2F%2Fother.example.com"
        assert (await browser.get(CALLBACK, query=mixed)).status == 401

    run(dsn, provider, scenario)


def test_what_was_begun_runs_out(dsn: str, provider: OidcProvider) -> None:
    async def scenario(site: Site) -> None:
        browser = browser_of(site)
        begun = (await browser.get(START)).headers["location"]
        query = provider.sign_in(begun, "1", email="ann@example.com")
        site.clock.pass_(seconds=600)
        assert (await browser.get(CALLBACK, query=query)).status == 401

    run(dsn, provider, scenario)


def test_a_new_signing_key_is_fetched_once_in_a_while(dsn: str, provider: OidcProvider) -> None:
    async def scenario(site: Site) -> None:
        corp = site.accounts.single_sign_on._providers["corp"]
        now_s = [time.monotonic()]
        corp._clock = lambda: now_s[0]
        assert (await sign_on(browser_of(site), provider)).status == 200
        provider.key_id = "second"
        assert (await sign_on(browser_of(site), provider)).status == 401
        now_s[0] += 61
        assert (await sign_on(browser_of(site), provider)).status == 200
        assert provider.asked.count("/keys") == 2

    run(dsn, provider, scenario)


def test_a_second_factor_of_ours_is_asked_for_here_too(dsn: str, provider: OidcProvider) -> None:
    async def scenario(site: Site) -> None:
        made = await people.create_user(dsn, site.vault, "ann@example.com", tenant="acme")
        browser = browser_of(site)
        body = {"token": made.token, "new_password": PASSWORD}
        await browser.post("/v1/auth/password/reset", body)
        await browser.sign_in("ann@example.com")
        secret = (await browser.post("/v1/auth/totp", {"password": PASSWORD})).json["secret"]
        code = totp.code_at(base64.b32decode(secret), int(site.clock.unix_s() // 30))
        assert (await browser.post("/v1/auth/totp/confirm", {"code": code})).status == 200
        reply = await sign_on(browser_of(site), provider)
        assert reply.json == {"object": "session", "second_factor_required": True}

    run(dsn, provider, scenario)


def test_a_disabled_user_does_not_come_in_by_a_provider(dsn: str, provider: OidcProvider) -> None:
    async def scenario(site: Site) -> None:
        await sign_on(browser_of(site), provider)
        await people.set_disabled(dsn, "ann@example.com", True)
        assert (await sign_on(browser_of(site), provider)).status == 401

    run(dsn, provider, scenario)


@pytest.mark.parametrize(
    ("metadata", "secret"),
    [
        ({"issuer": "https://other.example.com"}, CLIENT_SECRET),
        ({"token_endpoint": "http://10.0.0.1/token"}, CLIENT_SECRET),
        ({"jwks_uri": "file:///etc/passwd"}, CLIENT_SECRET),
        ({"token_endpoint": None}, CLIENT_SECRET),
    ],
)
def test_a_provider_that_is_not_what_was_configured_is_not_used(
    dsn: str, provider: OidcProvider, metadata: dict[str, Any], secret: str
) -> None:
    async def scenario(site: Site) -> None:
        provider.metadata = metadata
        reply = await browser_of(site).get(START)
        assert (reply.status, reply.error["code"]) == (502, "provider_unavailable")
        assert (await browser_of(site).get("/v1/auth/oidc/other")).status == 404

    run(dsn, provider, scenario, client_secret=secret)


def test_a_provider_that_is_away_or_refuses_us_is_told_apart(
    dsn: str, provider: OidcProvider, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(site: Site) -> None:
        reply = await sign_on(browser_of(site), provider)
        assert (reply.status, reply.error["code"]) == (401, "invalid_credentials")
        provider.metadata = {"token_endpoint": "http://127.0.0.1:9/token"}
        site.accounts.single_sign_on._providers["corp"]._metadata = None
        reply = await sign_on(browser_of(site), provider)
        assert (reply.status, reply.error["code"]) == (502, "provider_unavailable")

    run(dsn, provider, scenario, client_secret="wrong secret")
    assert "wrong secret" not in caplog.text


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("/dashboard?x=1", True),
        ("//evil.test", False),
        ("/\\evil.test", False),
        ("https://evil.test", False),
        ("dashboard", False),
        ("/a\r\nset-cookie: x=y", False),
        ("", False),
    ],
)
def test_a_browser_comes_back_to_a_path_of_ours_and_nowhere_else(
    dsn: str, provider: OidcProvider, path: str, is_ours: bool
) -> None:
    async def scenario(site: Site) -> None:
        browser = browser_of(site)
        query = f"return_to={quote(path)}"
        if not is_ours:
            assert (await browser.get(START, query=query)).status == 400
            return
        reply = await sign_on(browser, provider, query=query)
        assert (reply.status, reply.headers["location"]) == (303, path)
        assert (await browser.get("/v1/auth/session")).status == 200

    run(dsn, provider, scenario)


def test_the_browser_is_sent_with_challenge_state_and_nonce_and_keeps_them_sealed(
    dsn: str, provider: OidcProvider
) -> None:
    async def scenario(site: Site) -> None:
        assert (await browser_of(site).get("/v1/auth/oidc")).json["data"] == [
            {"id": "corp", "object": "oidc.provider"}
        ]
        browser = browser_of(site)
        reply = await browser.get(START)
        asked = parse_qs(urlsplit(reply.headers["location"]).query)
        assert asked["redirect_uri"] == [f"{PUBLIC}{CALLBACK}"]
        kept = browser.cookies["__Host-anzoth-sign-on"]
        for name in ("state", "nonce", "code_challenge"):
            assert len(asked[name][0]) == 43
            assert asked[name][0] not in kept
        assert PEPPER.secret.decode() not in kept

    run(dsn, provider, scenario)
