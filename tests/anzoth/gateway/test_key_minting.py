"""Does a key that manages keys give only what it has, and only where it is at home?"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anzoth.db.pool import Database
from anzoth.errors import Forbidden, InvalidValue, KeyRevoked, NotFound
from anzoth.gateway import directory, key_changes, key_minting, project_directory
from anzoth.gateway.accounts.roles import SCOPES_OF_ROLE
from anzoth.gateway.auth import Authenticator
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.key_changes import KeyChange
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.principal import Principal

pytestmark = pytest.mark.slow

PEPPER = Pepper("pepper-1", b"0123456789abcdef0123456789abcdef")
CHAT = KeyRequest("", "made", scopes=("chat",))


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
        soon = datetime.now(UTC) + timedelta(days=1)
        maker = await gateway.manager(
            "chat", models=("llama*",), expires_at=soon, limits=Limits(rpm=10)
        )
        good = replace(CHAT, models=("llama-3",), expires_at=soon, limits=Limits(rpm=10))
        for field, value in (
            ("scopes", ("embeddings",)),
            ("scopes", ("all",)),
            ("scopes", ("admin",)),
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
        maker, admin = await gateway.manager("chat"), await gateway.manager("chat", "admin")
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
        made = await gateway.mint(admin, project=project.id)
        assert (await gateway.principal(made)).project_id == project.id
        await gateway.revoke(admin, there.id)
        await project_directory.archive_project(gateway.dsn, "acme", "p")
        with pytest.raises(NotFound):
            await gateway.mint(admin, project=project.id)

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


def test_a_session_gives_what_its_role_has_and_inference_in_every_project(run) -> None:
    async def scenario(gateway: Gateway) -> None:
        key = await gateway.principal(await gateway.key("chat"))
        project = await project_directory.create_project(gateway.dsn, "acme", "p", Limits())
        admin, viewer = (
            replace(key, key_id=None, user_id=uuid.uuid4(), scopes=SCOPES_OF_ROLE[role])
            for role in ("admin", "viewer")
        )
        made = await gateway.mint(admin, project=project.id)
        assert (await gateway.principal(made)).project_id == project.id
        await gateway.mint(admin, replace(CHAT, scopes=("chat", "keys:write")))
        with pytest.raises(Forbidden, match="scopes"):
            await gateway.mint(admin, replace(CHAT, scopes=("admin",)))
        with pytest.raises(Forbidden, match="Your role lacks"):
            await gateway.mint(viewer)
        assert not admin.has_scope("chat")
        assert admin.has_scope("models:read")

    run(scenario)
