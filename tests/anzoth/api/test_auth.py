"""Accounts: the whole application on a real database, as browsers use it."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from datetime import timedelta

import asyncpg
import pytest
from accounts_kit import (
    ANOTHER,
    COOKIE,
    DEVICE,
    PASSWORD,
    PEPPER,
    Browser,
    Site,
    code_of,
    enrolled,
    owner,
    run_site,
    running_site,
)

from anzoth.account_config import AccountsConfig
from anzoth.db import pool
from anzoth.gateway import directory
from anzoth.gateway.accounts import people

pytestmark = pytest.mark.slow


# --- the operator -----------------------------------------------------------------------------


def test_a_bootstrap_token_makes_one_operator_once(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        await directory.ensure_default_tenant_and_key(dsn, PEPPER)
        replaced = await people.ensure_operator_can_be_made(dsn, site.vault)
        made = await people.ensure_operator_can_be_made(dsn, site.vault)
        assert replaced is not None
        assert made is not None
        body = {"email": "Op@Example.com", "name": "Op", "password": PASSWORD}
        for token in ("", "x", replaced.token, made.token[:-1], made.token.upper()):
            reply = await site.browser().post("/v1/auth/bootstrap", {**body, "token": token})
            assert reply.status in (400, 401)
        browser = site.browser()
        reply = await browser.post("/v1/auth/bootstrap", {**body, "token": made.token})
        assert reply.json["user"]["is_operator"] is True
        assert reply.json["user"]["email"] == "op@example.com"
        assert [(o["name"], o["role"]) for o in reply.json["organizations"]] == [
            ("default", "owner")
        ]
        again = {**body, "email": "other@example.com", "token": made.token}
        assert (await site.browser().post("/v1/auth/bootstrap", again)).status == 401
        assert await people.ensure_operator_can_be_made(dsn, site.vault) is None

    run_site(dsn, scenario)


def test_two_at_once_with_one_bootstrap_token_make_one_operator(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        made = await people.ensure_operator_can_be_made(dsn, site.vault)
        assert made is not None
        replies = await asyncio.gather(
            *(
                site.browser().post(
                    "/v1/auth/bootstrap",
                    {"token": made.token, "email": f"op{n}@example.com", "password": PASSWORD},
                )
                for n in range(4)
            )
        )
        assert sorted(reply.status for reply in replies) == [200, 401, 401, 401]
        listed = await people.list_users(dsn)
        assert [user.is_operator for user in listed] == [True]

    run_site(dsn, scenario)


def test_a_bootstrap_token_that_ran_out_makes_nobody(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        made = await people.ensure_operator_can_be_made(dsn, site.vault)
        assert made is not None
        connection = await asyncpg.connect(dsn)
        await connection.execute("ALTER TABLE anzoth.one_time_tokens NO FORCE ROW LEVEL SECURITY")
        await connection.execute(
            "UPDATE anzoth.one_time_tokens SET expires_at = now() - interval '1 second'"
        )
        await connection.execute("ALTER TABLE anzoth.one_time_tokens FORCE ROW LEVEL SECURITY")
        await connection.close()
        body = {"token": made.token, "email": "op@example.com", "password": PASSWORD}
        assert (await site.browser().post("/v1/auth/bootstrap", body)).status == 401

    run_site(dsn, scenario)


def test_the_gateway_makes_nobody_an_operator_without_a_bootstrap_token(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        user_id = uuid.UUID((await browser.get("/v1/auth/session")).json["user"]["id"])

        async def promote(secret: bytes) -> None:
            async with site.database.holding(secret) as connection:
                await pool.act_as_user(connection, user_id)
                await connection.execute(
                    "INSERT INTO anzoth.operators (user_id) VALUES ($1)", user_id
                )

        for secret in (b"\0" * 32, site.vault.digest("session", browser.cookies[COOKIE])):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await promote(secret)

    run_site(dsn, scenario)


# --- signing up -------------------------------------------------------------------------------


def test_open_sign_up_makes_a_user_who_owns_a_tenant(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        session = (await browser.get("/v1/auth/session")).json
        assert [(o["name"], o["role"]) for o in session["organizations"]] == [("acme", "owner")]
        assert session["organization_id"] == session["organizations"][0]["id"]
        assert session["user"]["is_operator"] is False
        users = (await browser.get("/v1/organization/users")).json["data"]
        assert [(user["email"], user["role"]) for user in users] == [("ann@example.com", "owner")]
        for body, status in (
            ({"email": "ANN@example.com ", "organization": "b"}, 409),
            ({"email": "bob@example.com", "organization": "acme"}, 409),
            ({"email": "not an address", "organization": "b"}, 400),
            ({"email": "b\u00f6b@example.com", "organization": "b"}, 400),
            ({"email": "bob@example.com", "organization": ""}, 400),
            ({"email": "bob@example.com", "organization": "a\nb"}, 400),
            ({"email": "bob@example.com", "organization": "b", "password": "short"}, 400),
            ({"email": "bob@example.com", "organization": "b", "password": "x" * 257}, 400),
        ):
            reply = await site.browser().post("/v1/auth/sign-up", {"password": PASSWORD, **body})
            assert reply.status == status, body
        assert len(await people.list_users(dsn)) == 1

    run_site(dsn, scenario)


@pytest.mark.parametrize("policy", ["invite", "closed"])
def test_where_sign_up_is_not_open_nobody_makes_an_account_alone(dsn: str, policy: str) -> None:
    async def scenario(site: Site) -> None:
        operator = await site.operator()
        body = {"email": "bob@example.com", "password": PASSWORD, "organization": "b"}
        reply = await site.browser().post("/v1/auth/sign-up", body)
        assert (reply.status, reply.error["code"]) == (403, "sign_up_closed")
        token = await operator.invite("bob@example.com", "member")
        reply = await site.browser().post(
            "/v1/auth/invitations/accept", {"token": token, "password": PASSWORD}
        )
        assert reply.status == (200 if policy == "invite" else 403)

    run_site(dsn, scenario, AccountsConfig(sign_up=policy))


# --- signing in -------------------------------------------------------------------------------


def test_signing_in_takes_the_right_password_and_is_told_nothing_else(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        await owner(site)
        await (await owner(site, "off@example.com", "off")).post("/v1/auth/sign-out")
        await people.set_disabled(dsn, "off@example.com", True)
        refused = []
        for email, password in (
            ("ann@example.com", "wrong password 1"),
            ("nobody@example.com", PASSWORD),
            ("off@example.com", PASSWORD),
        ):
            browser = site.browser()
            reply = await browser.sign_in(email, password)
            assert reply.status == 401
            assert not browser.cookies
            refused.append(reply.body)
        assert len(set(refused)) == 1
        assert (await site.browser().sign_in(" Ann@Example.COM")).status == 200

    run_site(dsn, scenario)


def test_an_unknown_user_costs_the_same_argon2_work_as_a_known_one(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(site: Site) -> None:
        await owner(site)
        verified: list[str] = []
        hasher = site.accounts.passwords._hasher
        real = type(hasher).verify

        def verify(self: object, hash: str, password: str) -> bool:
            verified.append(hash)
            return real(hasher, hash, password)

        monkeypatch.setattr(type(hasher), "verify", verify)
        for email in ("ann@example.com", "nobody@example.com"):
            await site.browser().sign_in(email, "wrong password 1")
        known, unknown = verified
        assert known.split("$")[:4] == unknown.split("$")[:4]

    run_site(dsn, scenario)


def test_guessing_is_throttled_by_account_and_told_when_to_come_back(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        await owner(site)
        for email in ("ann@example.com", "nobody@example.com"):
            for _ in range(5):
                assert (await site.browser().sign_in(email, "wrong password 1")).status == 401
            # Whoever asks from wherever, and with the right password too.
            reply = await site.browser(peer="::1").sign_in(email)
            assert (reply.status, reply.error["code"]) == (429, "too_many_attempts")
            assert reply.headers["retry-after"] == "1"
        site.clock.pass_(seconds=float(reply.headers["retry-after"]))
        assert (await site.browser().sign_in("ann@example.com")).status == 200

    run_site(dsn, scenario)


def test_a_stranger_who_guesses_does_not_delay_a_browser_that_is_known(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        bob = await owner(site, "bob@example.com", "other")
        await ann.post("/v1/auth/sign-out")
        for _ in range(5):
            await site.browser(peer="::1").sign_in("ann@example.com", "wrong password 1")
        for stranger in (site.browser(), bob):  # whose device is another user's
            assert (await stranger.sign_in("ann@example.com")).status == 429
        assert (await ann.sign_in("ann@example.com")).status == 200
        # Nor what takes the password of who is signed in.
        body = {"current_password": PASSWORD, "new_password": ANOTHER}
        assert (await ann.post("/v1/auth/password", body)).status == 200
        # That a known browser was right buys strangers nothing.
        assert (await site.browser().sign_in("ann@example.com", ANOTHER)).status == 429

    run_site(dsn, scenario)


def test_a_known_browser_has_as_few_guesses_as_all_strangers_together(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        await ann.post("/v1/auth/sign-out")
        for _ in range(5):
            reply = await ann.sign_in("ann@example.com", "wrong password 1")
            assert reply.status == 401
        assert (await ann.sign_in("ann@example.com")).status == 429
        assert (await site.browser().sign_in("ann@example.com")).status == 200

    run_site(dsn, scenario)


def test_a_browser_is_known_only_after_the_second_factor(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        secret, codes = await enrolled(await owner(site))
        browser = site.browser()
        assert (await browser.sign_in("ann@example.com")).status == 200
        assert DEVICE not in browser.cookies
        for code in ("000000", "000001"):
            await browser.post("/v1/auth/second-factor", {"code": code})
        reply = await browser.post("/v1/auth/second-factor", {"code": codes[0]})
        assert reply.status == 200
        kept = browser.cookies[DEVICE]
        await browser.post("/v1/auth/sign-out")
        assert browser.cookies[DEVICE] == kept
        # Somebody who has the password does not keep the user's own browser from the second step.
        thief = site.browser()
        await thief.sign_in("ann@example.com")
        for _ in range(5):
            await thief.post("/v1/auth/second-factor", {"code": "000000"})
        reply = await thief.post("/v1/auth/second-factor", {"code": codes[1]})
        assert reply.status == 429
        assert (await browser.sign_in("ann@example.com")).status == 200
        reply = await browser.post(
            "/v1/auth/second-factor", {"code": await code_of(browser, secret)}
        )
        assert reply.status == 200
        assert browser.cookies[DEVICE] == kept

    run_site(dsn, scenario)


def test_guessing_is_throttled_by_address_whatever_succeeds_between(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        await owner(site)
        for number in range(28):  # and one sign-up
            reply = await site.browser().sign_in(f"user{number}@example.com", "wrong password 1")
            assert reply.status == 401
            assert (await site.browser().sign_in("ann@example.com")).status == 200
        assert (await site.browser().sign_in("x@example.com", "wrong password 1")).status == 401
        assert (await site.browser().sign_in("ann@example.com")).status == 429
        assert (await site.browser(peer="127.0.0.2").sign_in("ann@example.com")).status == 200

    run_site(dsn, scenario)


def test_behind_a_proxy_on_this_machine_an_address_is_the_one_that_the_proxy_saw(
    dsn: str,
) -> None:
    async def scenario(site: Site) -> None:
        def browser(*hops: str, peer: str = "127.0.0.1") -> Browser:
            headers = {"host": "ai.example.com", "x-forwarded-for": ", ".join(hops)}
            return site.browser(peer=peer, origin="https://ai.example.com", headers=headers)

        await browser("192.0.2.1").sign_up("ann@example.com", "acme")
        for number in range(30):
            reply = await browser(f"192.0.2.{number}", "198.51.100.7").sign_in(
                f"user{number}@example.com", "wrong password 1"
            )
            assert reply.status == 401
        # What the client wrote itself buys no further guess; and nobody else pays for it.
        assert (await browser("192.0.2.99", "198.51.100.7").sign_in("x@y.z")).status == 429
        ann = browser("203.0.113.5")
        assert (await ann.sign_in("ann@example.com")).status == 200
        # From elsewhere the header is nobody's word.
        remote = browser("203.0.113.5", peer="10.0.0.9")
        assert (await remote.sign_in("ann@example.com")).status == 200
        listed = (await ann.get("/v1/auth/sessions")).json["data"]
        assert {entry["ip_address"] for entry in listed} == {
            "192.0.2.1",
            "203.0.113.5",
            "10.0.0.9",
        }

    run_site(dsn, scenario, AccountsConfig("open", "https://ai.example.com"))


def test_a_hash_with_old_parameters_is_renewed_at_sign_in(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        await owner(site)

        async def kept() -> str:
            async with site.database.signing_in("ann@example.com") as connection:
                return await connection.fetchval("SELECT password_hash FROM anzoth.users")

        assert "m=8,t=1" in await kept()
        site.accounts.passwords._hasher._parameters = type(site.accounts.passwords._hasher)(
            time_cost=2, memory_cost=16, parallelism=1
        )._parameters
        assert (await site.browser().sign_in("ann@example.com")).status == 200
        assert "m=16,t=2" in await kept()
        assert (await site.browser().sign_in("ann@example.com")).status == 200

    async def main() -> None:
        async with running_site(dsn) as site:
            parameters = site.accounts.passwords._hasher._parameters
            try:
                await scenario(site)
            finally:
                site.accounts.passwords._hasher._parameters = parameters

    asyncio.run(main())


# --- secrets ----------------------------------------------------------------------------------


def test_no_secret_is_in_any_log_error_or_repr(
    dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async def scenario(site: Site) -> list[str]:
        ann = await owner(site)
        secrets = [PASSWORD, ANOTHER, ann.cookies[COOKIE], ann.csrf_token or ""]
        token = await ann.invite("bob@example.com", "member")
        made = await people.reset_password(dsn, site.vault, "ann@example.com")
        secrets += [token, made.token]
        said.append(repr(made))
        said.append(repr(await site.accounts.sessions.find(ann.cookies[COOKIE])))
        for path, body in (
            ("sign-in", {"email": "ann@example.com", "password": ANOTHER}),
            ("sign-in", {"email": ANOTHER, "password": ANOTHER}),
            ("sign-up", {"email": "x@y.z", "password": ANOTHER[:10], "organization": "x"}),
            ("password", {"current_password": ANOTHER, "new_password": ANOTHER}),
            ("password/reset", {"token": made.token + "x", "new_password": ANOTHER}),
            ("invitations/accept", {"token": token + "x", "password": ANOTHER}),
            ("second-factor", {"code": ANOTHER}),
        ):
            reply = await ann.post(f"/v1/auth/{path}", body)
            assert reply.status >= 400
            said.append(reply.body.decode())

        def broken(*_: object) -> None:
            raise RuntimeError(PASSWORD, ann.cookies[COOKIE])

        monkeypatch.setattr(site.accounts.sessions._database, "holding", broken)
        reply = await ann.get("/v1/auth/session")
        assert reply.status == 500
        said.append(reply.body.decode())
        return secrets

    async def main() -> list[str]:
        async with running_site(dsn) as site:
            return await scenario(site)

    secrets = asyncio.run(main())
    everything = "\n".join([*said, caplog.text])
    for secret in secrets:
        assert secret not in everything


def test_whoever_has_the_database_away_is_told_so(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        await site.database.close()
        reply = await browser.get("/v1/auth/session")
        assert (reply.status, reply.error["code"]) == (503, "database_unavailable")

    run_site(dsn, scenario)


def test_a_session_that_ended_does_not_keep_its_browser_from_accepting_an_invitation(
    dsn: str,
) -> None:
    async def scenario(site: Site) -> None:
        ann = await owner(site)
        token = await ann.invite("bob@example.com", "member")
        bob = site.browser(cookies={COOKIE: "x" * 43})
        reply = await bob.post(
            "/v1/auth/invitations/accept", {"token": token, "password": PASSWORD}
        )
        assert reply.json["user"]["email"] == "bob@example.com"

    run_site(dsn, scenario)


def test_a_token_is_long_enough_to_be_guessed_by_nobody(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", browser.cookies[COOKIE])
        for forged in ("", "x", "x" * 43, "x" * 10_000, "\u00ff" * 43):
            other = site.browser(cookies={COOKIE: forged})
            assert (await other.get("/v1/auth/session")).status == 401
        twice = site.browser(headers={"cookie": f"{COOKIE}=x; {COOKIE}={browser.cookies[COOKIE]}"})
        assert (await twice.get("/v1/auth/session")).status == 401

    run_site(dsn, scenario)


def test_last_seen_is_written_coarsely(dsn: str) -> None:
    async def scenario(site: Site) -> None:
        browser = await owner(site)

        async def last_seen() -> int:
            (entry,) = (await browser.get("/v1/auth/sessions")).json["data"]
            return entry["last_seen_at"]

        began = await last_seen()
        site.clock.pass_(seconds=59)
        assert await last_seen() == began
        site.clock.now += timedelta(minutes=5)
        await browser.get("/v1/auth/session")
        assert await last_seen() - began >= 300

    run_site(dsn, scenario)
