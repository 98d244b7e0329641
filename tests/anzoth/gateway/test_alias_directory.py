"""Aliases are one tenant's: stored, changed, heard of at once, and nobody else's business."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from principals import make_principal

from anzoth.backend_config import BackendConfig
from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.errors import AnzothError, DatabaseUnavailable, InvalidValue, ModelNotAllowed, NotFound
from anzoth.gateway import alias_directory, directory
from anzoth.gateway.alias_directory import AliasDirectory, AliasRequest, Caller
from anzoth.gateway.aliases import Aliases, Target
from anzoth.gateway.backends import Backend, Backends
from anzoth.gateway.directory import DirectoryError
from anzoth.gateway.principal import Principal
from anzoth.telemetry import Metrics

pytestmark = pytest.mark.slow

WANTED = AliasRequest(
    "smart", (Target("llama", weight=3), Target("big", "far", 0)), "Be brief.", {"top_p": 0.5},
    {"max_tokens": 7}, sticky=True, knowledge_bases=("vs_1", "vs_2"), tools=("crm",),
)  # fmt: skip


def by(principal: Principal) -> Caller:
    return Caller(principal, "192.0.2.1", "req_1")


@dataclass
class Model:
    kind: str = "generation"


class Served:
    """The registry, as far as it is asked."""

    models: ClassVar = {
        "llama": Model(),
        "gpt-4o": Model(),
        "vectors": Model("embedding"),
        "ranker": Model("rerank"),
    }

    def find(self, name: str) -> Model | None:
        return self.models.get(name)


class Severable:
    """A real database behind a switch."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.is_cut = False
        self.num_reads = 0

    @contextlib.asynccontextmanager
    async def tenant(self, handle: Any) -> AsyncIterator[Any]:
        self.num_reads += 1
        if self.is_cut:
            raise DatabaseDown()
        async with self.database.tenant(handle) as connection:
            yield connection


@dataclass
class World:
    dsn: str
    database: Severable
    directory: AliasDirectory
    aliases: Aliases
    acme: Principal
    other: Principal
    now_s: float = 1000.0

    async def known(self, principal: Principal) -> set[str]:
        return set(await self.aliases.of(principal.tenant))


def run(dsn: str, scenario: Callable[[World], Awaitable[None]], *, listening: bool = False) -> None:
    async def main() -> None:
        database = Severable(await Database.open(dsn))
        principals = []
        for name in ("acme", "other"):
            tenant = await directory.create_tenant(dsn, name)
            plain = make_principal()
            principals.append(replace(plain, tenant=replace(plain.tenant, id=tenant.id, name=name)))
        config = BackendConfig("far", "http://127.0.0.1:1/v1", ("big",), tenants=("acme",))
        backends = Backends([Backend(config, Metrics())])
        made: Any = database
        served: Any = Served()
        world = World(
            dsn, database, AliasDirectory(made, served, backends),
            Aliases(made, dsn, clock=lambda: world.now_s), *principals,
        )  # fmt: skip
        listener = asyncio.create_task(world.aliases.run()) if listening else None
        try:
            await scenario(world)
        finally:
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
            await database.database.close()

    asyncio.run(main())


def test_what_was_stored_is_what_requests_find(dsn: str) -> None:
    async def scenario(world: World) -> None:
        created = await world.directory.create(by(world.acme), WANTED)
        found = (await world.aliases.of(world.acme.tenant))["smart"]
        for name in (
            *("targets", "system_prompt", "defaults", "forced", "sticky", "knowledge_bases"),
            "tools",
        ):
            assert getattr(found, name) == getattr(WANTED, name)
        assert found.id == created.id
        changed = replace(WANTED, name="smarter", targets=(Target("llama"),), system_prompt=None)
        updated = await world.directory.update(by(world.acme), str(created.id), changed)
        assert (updated.id, updated.name, updated.system_prompt) == (created.id, "smarter", None)
        assert [row.name for row in await world.directory.list(world.acme)] == ["smarter"]
        await world.directory.delete(by(world.acme), str(created.id))
        assert await world.directory.list(world.acme) == []
        async with world.database.tenant(world.acme.tenant) as connection:
            events = await connection.fetch("SELECT * FROM anzoth.audit_log ORDER BY seq")
        wanted = ["alias.created", "alias.updated", "alias.deleted"]
        assert [row["type"] for row in events][-3:] == wanted
        assert "Be brief." not in str([dict(row) for row in events])

    run(dsn, scenario)


def test_another_tenants_alias_looks_like_one_that_never_was(dsn: str) -> None:
    async def scenario(world: World) -> None:
        id = str((await world.directory.create(by(world.acme), WANTED)).id)
        plain = AliasRequest("mine", (Target("llama"),))
        assert await world.known(world.other) == set()
        for wrong in (id, "00000000-0000-0000-0000-000000000000", "nonsense"):
            for ask in (
                world.directory.get(world.other, wrong),
                world.directory.update(by(world.other), wrong, plain),
                world.directory.delete(by(world.other), wrong),
            ):
                with pytest.raises(NotFound, match=r"^There is no such alias\.$"):
                    await ask
        # The same name may mean something else to somebody else.
        await world.directory.create(by(world.other), replace(plain, name="smart"))
        assert (await world.directory.get(world.acme, id)).system_prompt == "Be brief."

    run(dsn, scenario)


def test_what_an_alias_may_not_be_is_said(dsn: str) -> None:
    async def scenario(world: World) -> None:
        await world.directory.create(by(world.acme), WANTED)
        local = replace(world.acme, models=("llama", "smart"))
        cases: list[tuple[Principal, AliasRequest, type[AnzothError], str | None]] = [
            (world.acme, WANTED, InvalidValue, "name"),
            (world.acme, replace(WANTED, name="gpt-4o"), InvalidValue, "name"),
            (local, replace(WANTED, name="x"), ModelNotAllowed, None),
            (world.other, replace(WANTED, name="x"), InvalidValue, "targets[1]"),
            (
                world.acme,
                AliasRequest("x", (Target("http://169.254.169.254/"),)),
                InvalidValue,
                "targets[0]",
            ),
            (world.acme, AliasRequest("x", (Target("small", "far"),)), InvalidValue, "targets[0]"),
            (world.acme, AliasRequest("x", (Target("smart"),)), InvalidValue, "targets[0]"),
        ]
        for principal, request, error, param in cases:
            with pytest.raises(error) as raised:
                await world.directory.create(by(principal), request)
            assert raised.value.param == param

    run(dsn, scenario)


def test_targets_for_different_purposes_are_refused_as_far_as_they_are_known(dsn: str) -> None:
    async def scenario(world: World) -> None:
        llama, vectors, far = Target("llama"), Target("vectors"), Target("big", "far")
        for request, param, said in (
            (AliasRequest("x", (llama, vectors)), "targets[1]", "'vectors' makes embeddings"),
            (AliasRequest("x", (vectors, far, llama)), "targets[2]", "'llama' generates text"),
            (AliasRequest("x", (vectors, Target("ranker"))), "targets[1]", "'ranker' ranks"),
            (AliasRequest("x", (vectors,), "Be brief."), "system_prompt", "takes none"),
            (AliasRequest("x", (vectors,), tools=("crm",)), "tools", "takes none"),
        ):
            with pytest.raises(InvalidValue, match=said) as raised:
                await world.directory.create(by(world.acme), request)
            assert raised.value.param == param
        both = AliasRequest("both", (llama, far), "Be brief.")
        made = await world.directory.create(by(world.acme), both)
        with pytest.raises(InvalidValue, match="'vectors' makes embeddings"):
            await world.directory.update(
                by(world.acme), str(made.id), replace(both, targets=(llama, vectors))
            )
        await world.directory.create(by(world.acme), AliasRequest("v", (vectors, far)))

    run(dsn, scenario)


def test_the_operator_may_and_a_deleted_tenant_keeps_none(dsn: str) -> None:
    async def scenario(world: World) -> None:
        request = replace(WANTED, name="gpt-4o")
        made = await alias_directory.create_for_tenant(dsn, "acme", request)
        # Its owner can change what it leads to, under the name that the operator let it have.
        await world.directory.update(by(world.acme), str(made.id), replace(request, sticky=False))
        with pytest.raises(DirectoryError, match="has an alias named"):
            await alias_directory.create_for_tenant(dsn, "acme", request)
        for wrong in (("nobody", "gpt-4o"), ("other", "gpt-4o")):
            with pytest.raises(DirectoryError):
                await alias_directory.delete_of_tenant(dsn, *wrong)
        await directory.delete_tenant(dsn, "acme")
        assert await world.directory.list(world.acme) == []

    run(dsn, scenario)


def test_what_is_known_is_kept_for_a_second_and_used_through_an_outage(dsn: str) -> None:
    async def scenario(world: World) -> None:
        await world.directory.create(by(world.acme), WANTED)
        world.database.num_reads = 0
        await asyncio.gather(*(world.known(world.acme) for _ in range(20)))
        assert world.database.num_reads == 1
        world.now_s += 1.01
        await world.known(world.acme)
        assert world.database.num_reads == 2
        world.database.is_cut = True
        world.now_s += 59
        assert await world.known(world.acme) == {"smart"}
        world.now_s += 2
        for principal in (world.acme, world.other):
            with pytest.raises(DatabaseUnavailable):
                await world.known(principal)

    run(dsn, scenario)


def test_a_change_is_heard_of_before_the_second_is_over(dsn: str) -> None:
    async def scenario(world: World) -> None:
        async with asyncio.timeout(20):
            number = 0
            while not await world.known(world.acme):  # until it listens
                number += 1
                await world.directory.create(by(world.acme), replace(WANTED, name=f"a{number}"))
                await asyncio.sleep(0.01)
            row = await world.directory.create(by(world.acme), WANTED)
            while "smart" not in await world.known(world.acme):  # noqa: ASYNC110  # nothing says so
                await asyncio.sleep(0.001)
            await world.directory.delete(by(world.acme), str(row.id))
            while "smart" in await world.known(world.acme):  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    run(dsn, scenario, listening=True)  # the clock stands still: only the notification can end it
