"""Second factors: codes, recovery codes, and what a password alone opens."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from accounts_kit import (
    PASSWORD,
    Site,
    code_of,
    enrolled,
    owner,
    run_site,
)

from anzoth.db import pool

pytestmark = pytest.mark.slow


def test_with_a_second_factor_a_password_alone_opens_nothing(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        secret, _ = await enrolled(browser)
        await browser.post("/v1/auth/sign-out")
        reply = await browser.sign_in("ann@example.com")
        assert reply.json == {"object": "session", "second_factor_required": True}
        waiting = dict(browser.cookies)
        for method, path in (
            ("GET", "/v1/auth/session"),
            ("GET", "/v1/auth/sessions"),
            ("GET", "/v1/organization/users"),
            ("POST", "/v1/auth/totp/disable"),
            ("POST", "/v1/auth/sign-out"),
        ):
            reply = await browser.call(method, path, {})
            assert (reply.status, reply.error["code"]) == (401, "second_factor_required"), path
        code = await code_of(browser, secret)
        wrong = str((int(code) + 1) % 10**6).zfill(6)
        reply = await browser.post("/v1/auth/second-factor", {"code": wrong})
        assert (reply.status, reply.error["code"]) == (401, "invalid_code")
        reply = await browser.post("/v1/auth/second-factor", {"code": code})
        assert reply.json["user"]["has_second_factor"] is True
        assert browser.cookies != waiting
        assert (await browser.get("/v1/organization/users")).status == 200
        # What awaited the code is spent.
        stale = site.browser(cookies=waiting)
        assert (await stale.post("/v1/auth/second-factor", {"code": code})).status == 401
        assert (await browser.post("/v1/auth/second-factor", {"code": code})).status == 401

    run_site(dsn, scenario)


def test_a_code_that_was_used_works_no_more(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        secret, _ = await enrolled(browser)
        code = await code_of(browser, secret)
        first, second = site.browser(), site.browser()
        await first.sign_in("ann@example.com")
        assert (await first.post("/v1/auth/second-factor", {"code": code})).status == 200
        await second.sign_in("ann@example.com")
        reply = await second.post("/v1/auth/second-factor", {"code": code})
        assert (reply.status, reply.error["code"]) == (401, "invalid_code")
        site.clock.pass_(seconds=30)
        reply = await second.post("/v1/auth/second-factor", {"code": await code_of(second, secret)})
        assert reply.status == 200
        # Nor one of a step before: it may have been read over a shoulder.
        third = site.browser()
        await third.sign_in("ann@example.com")
        assert (await third.post("/v1/auth/second-factor", {"code": code})).status == 401

    run_site(dsn, scenario)


def test_guessing_codes_is_throttled_across_sign_ins(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        await enrolled(browser)
        guesser = site.browser()
        statuses = []
        for _ in range(6):
            await guesser.sign_in("ann@example.com")
            reply = await guesser.post("/v1/auth/second-factor", {"code": "000000"})
            statuses.append(reply.status)
        assert statuses == [401, 401, 401, 401, 401, 429]

    run_site(dsn, scenario)


def test_a_recovery_code_replaces_a_lost_authenticator_once(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        _, codes = await enrolled(browser)
        other = await owner(site, "eve@example.com", "eve")
        _, codes_of_other = await enrolled(other)
        for code, status in (
            (codes_of_other[0], 401),
            (codes[0].upper(), 200),
            (codes[0], 401),
            (codes[1].replace("-", " "), 200),
        ):
            lost = site.browser()
            await lost.sign_in("ann@example.com")
            reply = await lost.post("/v1/auth/second-factor", {"code": code})
            assert reply.status == status
        renewed = await lost.post("/v1/auth/recovery-codes", {"password": PASSWORD})
        assert len(renewed.json["recovery_codes"]) == 10
        await lost.sign_in("ann@example.com")
        assert (await lost.post("/v1/auth/second-factor", {"code": codes[2]})).status == 401

    run_site(dsn, scenario)


def test_a_second_factor_is_in_force_once_confirmed_and_goes_with_the_password(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        elsewhere = site.browser()
        await elsewhere.sign_in("ann@example.com")
        assert (await browser.post("/v1/auth/totp", {"password": "wrong pass 1"})).status == 401
        made = (await browser.post("/v1/auth/totp", {"password": PASSWORD})).json
        assert parse_qs(urlsplit(made["uri"]).query)["secret"] == [made["secret"]]
        assert (await site.browser().sign_in("ann@example.com")).json["user"]  # not in force
        assert (await browser.post("/v1/auth/totp/confirm", {"code": "000000"})).status == 401
        old = dict(browser.cookies)
        reply = await browser.post(
            "/v1/auth/totp/confirm", {"code": await code_of(browser, made["secret"])}
        )
        assert reply.status == 200
        assert browser.cookies != old
        assert (await elsewhere.get("/v1/auth/session")).status == 401
        assert (await browser.post("/v1/auth/totp", {"password": PASSWORD})).status == 409
        async with pool.operator(dsn) as connection:
            kept = repr(await connection.fetch("SELECT * FROM anzoth.users"))
        assert made["secret"] not in kept
        assert repr(base64.b32decode(made["secret"]))[2:-1] not in kept
        assert (await browser.post("/v1/auth/totp/disable", {"password": "x"})).status == 401
        assert (await browser.post("/v1/auth/totp/disable", {"password": PASSWORD})).status == 200
        assert (await site.browser().sign_in("ann@example.com")).json["user"]

    run_site(dsn, scenario)
