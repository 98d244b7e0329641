"""Does a key that manages keys give only what it has, and only where it is at home?"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.db.store import membership_rows, tenant_rows
from anzoth.errors import (
    Forbidden,
    InvalidValue,
    KeyRevoked,
    NotFound,
    NotSignedIn,
    Unauthorized,
)
from anzoth.gateway import directory, key_changes, key_minting, project_directory
from anzoth.gateway.accounts import people
from anzoth.gateway.accounts.roles import SCOPES_OF_ROLE
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.key_changes import KeyChange, RotatedKey
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.principal import Principal

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")
CHAT = KeyRequest("", "made", scopes=("chat",))
SOON = datetime.now(UTC) + timedelta(days=1)


@dataclass
class Gateway:
    dsn: str
    database: Database

    async def key(self, *scopes: str, **more: Any) -> CreatedKey:
        request = KeyRequest("acme", "k", scopes=scopes, **more)
        return await directory.create_key(self.dsn, PEPPER, request)

    async def manager(self, *scopes: str, **more: Any) -> Principal:
        return await self.principal(await self.key("keys:write", *scopes, **more))

    async def principal(self, created: CreatedKey) -> Principal:
        authenticator = Authenticator(self.database, self.dsn, PEPPER)
        return await authenticator.authenticate(f"Bearer {created.key.text}")

    async def mint(
        self, who: Principal, request: KeyRequest = CHAT, project: uuid.UUID | None = None
    ) -> CreatedKey:
        async with self.database.tenant(who.tenant) as connection:
            return await key_minting.create_key_as(connection, PEPPER, who, request, project)

    async def update(self, who: Principal, key: uuid.UUID, **change: Any) -> None:
        async with self.database.tenant(who.tenant) as connection:
            await key_minting.update_key_as(connection, who, key, KeyChange(**change))

    async def rotate(
        self, who: Principal, key: uuid.UUID, grace: timedelta = timedelta(0)
    ) -> RotatedKey:
        async with self.database.tenant(who.tenant) as connection:
            return await key_minting.rotate_key_as(connection, PEPPER, who, key, grace)

    async def session(self, key: Principal, role: str) -> Principal:
        """Of a new member of the key's tenant, as `Sessions` would have made it."""
        email = f"{role}@example.com"
        made = await people.create_user(self.dsn, Vault(PEPPER), email, tenant="acme", role=role)
        return replace(key, key_id=None, user_id=made.user_id, scopes=SCOPES_OF_ROLE[role])

    async def revoke(self, who: Principal, key: uuid.UUID) -> None:
        async with self.database.tenant(who.tenant) as connection:
            await key_minting.revoke_key_as(connection, who, key)


@pytest.fixture
def run(dsn: str) -> Callable[[Callable[[Gateway], Awaitable[None]]], None]:
    def run_scenario(scenario: Callable[[Gateway], Awaitable[None]]) -> None:
        async def main() -> None:
            await directory.create_tenant(dsn, "acme")
            database = await Database.open(dsn)
            try:
                async with asyncio.timeout(30):
                    await scenario(Gateway(dsn, database))
            finally:
                await database.close()

        asyncio.run(main())

    return run_scenario


def test_a_made_key_works_with_what_it_was_given_in_its_makers_project(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        maker = await gateway.manager("chat", limits=Limits(rpm=10))
        made = await gateway.mint(maker, replace(CHAT, limits=Limits(rpm=3, tpm=5)))
        principal = await gateway.principal(made)
        assert principal.project_id == maker.project_id
        assert principal.has_scope("chat")
        (rule,) = principal.limits
        assert rule.limits == Limits(rpm=3, tpm=5)

    run(scenario)


def test_no_key_gives_more_than_it_has_and_a_refused_one_leaves_nothing(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        maker = await gateway.manager(
            "chat", models=("llama*",), expires_at=SOON, limits=Limits(rpm=10)
        )
        good = replace(CHAT, models=("llama-3",), expires_at=SOON, limits=Limits(rpm=10))
        for field, value in (
            ("scopes", ("embeddings",)),
            ("scopes", ("all",)),
            ("scopes", ("users:write",)),
            ("models", None),
            ("expires_at", None),
            ("limits", Limits()),
            ("limits", Limits(rpm=11)),
        ):
            with pytest.raises(Forbidden, match=field) as caught:
                await gateway.mint(maker, replace(good, **{field: value}))
            assert (caught.value.param, caught.value.rule) == (field, "key.mint")
        assert len(await directory.list_keys(gateway.dsn)) == 1
        made = await gateway.mint(maker, good)
        # What may not be made may not be made of something smaller, either.
        for change in (
            {"added": {"scopes": ["embeddings"]}},
            {"values": {"models": None}},
            {"values": {"expires_at": None}},
            {"limits": {"rpm": 11}},
            {"limits": {"rpm": None}},
        ):
            with pytest.raises(Forbidden):
                await gateway.update(maker, made.id, **change)
        principal = await gateway.principal(made)
        assert principal.models == ("llama-3",)
        assert principal.limits[0].limits == Limits(rpm=10)
        await gateway.update(maker, made.id, limits={"rpm": 2})
        assert (await gateway.principal(made)).limits[0].limits == Limits(rpm=2)

    run(scenario)


def test_only_management_keys_manage_and_they_do_not_infer(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        for scopes in (("all",), ("chat", "keys:read"), ("chat",)):
            who = await gateway.principal(await gateway.key(*scopes))
            with pytest.raises(Forbidden, match="keys:write"):
                await gateway.mint(who)
            assert who.has_scope("chat")
        maker = await gateway.manager("chat")
        assert not maker.has_scope("chat")
        with pytest.raises(Forbidden, match="manages keys") as caught:
            maker.require_scope("chat")
        assert caught.value.rule == "key.management"

    run(scenario)


def test_another_project_is_out_of_reach_but_for_admins_and_another_tenant_for_all(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        await directory.create_tenant(gateway.dsn, "other")
        foreign = await directory.create_key(
            gateway.dsn, PEPPER, KeyRequest("other", "k", scopes=("chat",))
        )
        project = await project_directory.create_project(gateway.dsn, "acme", "p", Limits())
        there = await gateway.key("chat", project="p")
        maker = await gateway.manager("chat")
        admin = await gateway.manager("chat", "admin", expires_at=SOON)
        for attempt in (
            lambda: gateway.mint(maker, project=project.id),
            lambda: gateway.update(maker, there.id, values={"name": "x"}),
            lambda: gateway.revoke(maker, there.id),
            lambda: gateway.mint(maker, project=uuid.uuid4()),
            lambda: gateway.revoke(admin, foreign.id),
            lambda: gateway.mint(admin, project=uuid.uuid4()),
        ):
            with pytest.raises(NotFound):
                await attempt()
        made = await gateway.mint(admin, replace(CHAT, expires_at=SOON), project.id)
        assert (await gateway.principal(made)).project_id == project.id
        await gateway.revoke(admin, there.id)
        await project_directory.archive_project(gateway.dsn, "acme", "p")
        with pytest.raises(NotFound):
            await gateway.mint(admin, replace(CHAT, expires_at=SOON), project.id)

    run(scenario)


def test_a_key_that_was_just_revoked_or_restricted_passes_nothing_on(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        restricted, revoked = await gateway.manager("chat"), await gateway.manager("chat")
        change = KeyChange(removed={"scopes": ["chat"]})
        await key_changes.update_key(gateway.dsn, str(restricted.key_id), change)
        await directory.revoke_key(gateway.dsn, str(revoked.key_id))
        with pytest.raises(Forbidden):
            await gateway.mint(restricted)
        with pytest.raises(KeyRevoked):
            await gateway.mint(revoked)

    run(scenario)


def test_impossible_requests_are_the_callers_fault(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        maker = await gateway.manager("chat")
        for request in (replace(CHAT, name=""), replace(CHAT, scopes=("chatt",))):
            with pytest.raises(InvalidValue):
                await gateway.mint(maker, request)

    run(scenario)


def test_what_a_key_does_with_keys_is_in_the_audit_log_under_its_name(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        maker = await gateway.manager("chat", "rerank")
        made = await gateway.mint(maker)
        await gateway.update(maker, made.id, added={"scopes": ["rerank"]})
        with pytest.raises(Forbidden):
            await gateway.update(maker, made.id, added={"scopes": ["embeddings"]})
        await gateway.revoke(maker, made.id)
        async with gateway.database.tenant(maker.tenant) as connection:
            rows = await connection.fetch(
                "SELECT type FROM anzoth.audit_log WHERE actor_kind = 'api_key' "
                "AND actor_id = $1 ORDER BY seq",
                str(maker.key_id),
            )
        assert [row["type"] for row in rows] == [
            "api_key.created",
            "api_key.updated",
            "api_key.deleted",
        ]

    run(scenario)


def test_a_session_gives_what_its_role_has_now_and_inference_in_every_project(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        key = await gateway.principal(await gateway.key("chat"))
        project = await project_directory.create_project(gateway.dsn, "acme", "p", Limits())
        admin, viewer = [await gateway.session(key, role) for role in ("admin", "viewer")]
        made = await gateway.mint(admin, project=project.id)
        principal = await gateway.principal(made)
        assert (principal.project_id, principal.owner_id) == (project.id, admin.user_id)
        await gateway.mint(admin, replace(CHAT, scopes=("chat", "keys:write")))
        with_tools = await gateway.mint(admin, replace(CHAT, tools=("crm",)))
        assert (await gateway.principal(with_tools)).tools == {"crm"}
        with pytest.raises(Forbidden, match="scopes"):
            await gateway.mint(admin, replace(CHAT, scopes=("admin",), expires_at=SOON))
        with pytest.raises(Forbidden, match="Your role lacks"):
            await gateway.mint(viewer)
        assert not admin.has_scope("chat")
        assert admin.has_scope("models:read")
        # What the session was found to be does not count, if it is not any more.
        await people.set_role(gateway.dsn, "admin@example.com", "acme", "viewer")
        with pytest.raises(Forbidden, match="Your role lacks"):
            await gateway.mint(admin)
        await people.set_disabled(gateway.dsn, "admin@example.com", True)
        with pytest.raises(NotSignedIn):
            await gateway.mint(admin)
        with pytest.raises(NotSignedIn):
            await gateway.mint(replace(admin, user_id=uuid.uuid4()))

    run(scenario)


def test_what_a_key_makes_is_its_owners_and_ends_with_it(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        key = await gateway.principal(await gateway.key("chat"))
        assert key.owner_id is None
        admin = await gateway.session(key, "admin")
        manages = replace(CHAT, scopes=("chat", "keys:write"))
        first = await gateway.mint(admin, manages)
        second = await gateway.mint(await gateway.principal(first))
        assert second.owner == first.owner
        await people.set_role(gateway.dsn, "admin@example.com", "acme", "viewer")
        with pytest.raises(Unauthorized):
            await gateway.principal(first)  # a viewer manages no keys
        assert (await gateway.principal(second)).owner_id == admin.user_id
        await people.set_disabled(gateway.dsn, "admin@example.com", True)
        with pytest.raises(Unauthorized):
            await gateway.principal(second)
        await gateway.principal(await gateway.key("chat"))  # the tenant's own

    run(scenario)


def test_no_key_comes_into_being_while_its_maker_is_removed(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        key = await gateway.principal(await gateway.key("chat"))
        admin = await gateway.session(key, "admin")
        async with pool.operator(gateway.dsn) as connection:
            await tenant_rows.lock_directory(connection)
            minting = asyncio.create_task(gateway.mint(admin))
            query = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            while not await connection.fetchval(query):  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(0.001)
            assert admin.user_id is not None
            assert await membership_rows.try_delete_membership(
                connection, admin.tenant.id, admin.user_id
            )
        with pytest.raises(Forbidden, match="do not belong"):
            await minting

    run(scenario)


def test_a_new_secret_is_given_only_to_who_has_what_the_key_has(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        maker, stronger = await gateway.manager("chat"), await gateway.key("chat", "rerank")
        weaker = await gateway.key("chat", expires_at=SOON)
        with pytest.raises(Forbidden, match="scopes"):
            await gateway.rotate(maker, stronger.id)
        rotated = await gateway.rotate(maker, weaker.id, timedelta(hours=1))
        assert rotated.old_until is not None
        for text in (weaker.key.text, rotated.key.text):
            authenticator = Authenticator(gateway.database, gateway.dsn, PEPPER)
            principal = await authenticator.authenticate(f"Bearer {text}")
            assert principal.key_id == weaker.id
        for grace in (timedelta(days=8), timedelta(seconds=-1)):
            with pytest.raises(InvalidValue, match="grace"):
                await gateway.rotate(maker, weaker.id, grace)
        await gateway.revoke(maker, weaker.id)
        with pytest.raises(NotFound):
            await gateway.rotate(maker, weaker.id)
        ann, bob = [await gateway.session(maker, role) for role in ("owner", "admin")]
        bobs = await gateway.mint(bob)
        with pytest.raises(Forbidden, match="whose it is"):
            await gateway.rotate(ann, bobs.id)
        await gateway.rotate(bob, bobs.id)
        await gateway.rotate(ann, (await gateway.key("chat")).id)

    run(scenario)


def test_an_admin_key_expires_shows_what_it_is_and_stays_it(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        for expires_at in (None, SOON + timedelta(days=365)):
            with pytest.raises(DirectoryError, match="must expire"):
                await gateway.key("admin", expires_at=expires_at)
        made = await gateway.key("admin", expires_at=SOON)
        other = await gateway.key("chat")
        assert made.key.text.startswith("anz-adm")
        rotated = await key_changes.rotate_key(gateway.dsn, PEPPER, str(made.id))
        assert rotated.key.text.startswith("anz-adm")
        for which, change in (
            (made, KeyChange(values={"expires_at": None})),
            (made, KeyChange(values={"scopes": ["keys:write"]})),
            (other, KeyChange(values={"scopes": ["admin"], "expires_at": SOON})),
        ):
            with pytest.raises(DirectoryError):
                await key_changes.update_key(gateway.dsn, str(which.id), change)

    run(scenario)
