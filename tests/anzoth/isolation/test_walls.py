"""Each wall between tenants is taken away in turn: does a probe see it, and do the others hold?

Around files and knowledge bases there are three. Every statement names tenant and project;
row-level security shows a transaction no rows but its tenant's; what is in a row is sealed with the
tenant's key. A probe turns red when both of the first two are gone, wherever a client's id is
looked up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from gateway_kit import config_of, gateway

from anzoth.api import files
from anzoth.api.call import Call
from anzoth.api.routes import ROUTES
from anzoth.db import statements
from anzoth.gateway import keys
from anzoth.gateway.files import FileOwner
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import TenantCipher, TenantKeys
from anzoth.isolation import client, mcp, recipes, showing, tenants
from anzoth.isolation.belongings import Owner, Planter
from anzoth.isolation.client import AsksServer
from anzoth.isolation.probing import Prober
from anzoth.isolation.report import Check
from anzoth.isolation.tenants import Party

pytestmark = pytest.mark.slow

SUBJECTS = (
    *("files", "uploads", "vector_stores", "store_files", "file_batches", "chunks", "ingestion"),
    "conversations",
)
"""Files of `anzoth/db/queries` that this is about."""
BEHIND = frozenset(
    {
        # Of files and uploads: reached with what one of the others has found or made.
        *("delete_pieces", "drop_other_parts", "drop_part", "expire_file", "file_is_empty"),
        *("file_sums", "find_piece", "forget_file", "give_up_file", "insert_piece", "insert_file"),
        *("receive_file", "shrink_file", "begin_upload_part", "end_upload", "insert_upload"),
        *("list_upload_parts", "lock_upload"),
        # Of stores: behind `store_state` or `lock_store`, which say that the store is one's own.
        *("insert_store", "count_stores", "sum_files_of_stores", "update_store", "touch_store"),
        *("take_file_numbers", "next_change", "lock_store_files", "count_store_files"),
        *("left_over_of_store", "delete_chunks_of_files", "restart_store_files"),
        *("move_store_files", "set_file_attributes", "take_out_file", "find_store_file"),
        *("store_file_place", "list_store_files_up", "list_store_files_down", "chunks_of_file"),
        *("cancel_files_of_store", "find_file_batch", "cancel_files_of_batch"),
        *("cancel_file_batch",),
        # Of searches: an index is opened for who asks, and filled by what these find of theirs.
        *("find_indexed_stores", "changed_files", "find_indexed_file", "chunks_to_index"),
        *("found_chunks", "last_position", "chunks_at", "set_generation"),
        # Of what reads files, and of what removes them: no client names anything there.
        *("claim_waiting_file", "drop_claims", "hold_claim", "let_go_of_claim"),
        *("fail_claimed_file", "complete_claimed_file", "chunks_between", "known_vectors"),
        *("take_chunk_numbers", "delete_chunks", "delete_chunks_from"),
        *("sum_chunks", "lock_left_over_file", "delete_chunks_of_file", "file_is_emptied"),
        *("delete_chunks_of_store", "delete_files_of_store", "store_is_empty", "forget_store"),
        "living_stores",
        # Of conversations: behind `find_conversation` or `lock_conversation`.
        *("insert_conversation", "update_conversation", "delete_conversation"),
        *("empty_conversation_item", "forget_empty_items", "present_conversation_items"),
        *("find_conversation_item", "conversation_item_place", "list_conversation_items_up"),
        *("list_conversation_items_down", "forget_conversations"),
        # Of the operator, who deletes a whole tenant.
        "expire_conversations_of_tenant",
        *("delete_files_of_tenant", "delete_stores_of_tenant", "lock_files_of_tenant"),
    }
)
"""Statements without which nothing is looked up by an id that a client sent."""
TOGETHER = (("find_indexed_stores", "changed_files"),)
"""Look-ups that are made twice."""
ROUTES_HERE = tuple(r for r in ROUTES if r.pattern.startswith(recipes.OF_PROJECTS))
_PREDICATE = re.compile(r"(?:\b\w+\.)?(?:tenant_id|project_id) = (\$\d+)")


def without_predicates(statement: str) -> str:
    return _PREDICATE.sub(r"\1::uuid IS NOT NULL", statement)


def with_predicates() -> list[str]:
    """Names of the statements that say whose rows are meant."""
    folder = resources.files("anzoth.db").joinpath("queries")
    texts = [folder.joinpath(f"{subject}.sql").read_text() for subject in SUBJECTS]
    return sorted(name for name, text in statements.parse(texts).items() if _PREDICATE.search(text))


@dataclass
class Walls:
    """A gateway, two tenants with files, and what can be taken away."""

    dsn: str
    server: AsksServer
    parties: Sequence[Party]
    patch: pytest.MonkeyPatch
    planted: list[Owner] = field(default_factory=list)
    """With fresh things after a probe that got through to change some."""

    async def probe(
        self, mutated: Iterable[str] = (), cipher: Callable[..., Any] | None = None
    ) -> list[Check]:
        """What fails, when these statements have no predicates. `cipher`: instead of
        `TenantKeys.cipher`."""
        prober = await self._prober()
        before = await showing.seen_by_owner(self.server, prober.a, ROUTES_HERE)
        with self._without(mutated, cipher):
            checks = await showing.lists(prober, ROUTES_HERE)
            checks += await showing.searches(prober, ROUTES_HERE)
            checks += await mcp.answers(prober, ROUTES_HERE)
            checks += await prober.references(ROUTES_HERE, that_make=False)
            checks += await prober.ids_in_paths(ROUTES_HERE)
        after = await showing.seen_by_owner(self.server, prober.a, ROUTES_HERE)
        if before != after:
            checks += showing.untouched(before, after)
        assert len(checks) > 10
        bad = failures(prober, checks)
        if bad:
            self.planted = []
        return bad

    async def is_seen(self, mutated: Iterable[str]) -> bool:
        """Whether any check fails, when these statements have no predicates."""
        prober = await self._prober()
        reads = [route for route in ROUTES_HERE if route.method == "GET"]
        with self._without(mutated):
            checks = await showing.lists(prober, ROUTES_HERE)
            checks += await showing.searches(prober, ROUTES_HERE)
            checks += await mcp.answers(prober, ROUTES_HERE)
            checks += await prober.ids_in_paths(reads)
            if failures(prober, checks):
                return True
            self.planted = []  # the rest may change it
            for route in ROUTES_HERE:
                if route not in reads and failures(prober, await prober.ids_in_paths([route])):
                    return True
            return bool(failures(prober, await prober.references(ROUTES_HERE, that_make=False)))

    async def _prober(self) -> Prober:
        if not self.planted:
            planter = Planter(self.server, frozenset((r.method, r.pattern) for r in ROUTES_HERE))
            self.planted = list(map(owner_of, self.parties))
            for owner in self.planted:
                await planter.plant(owner)
        a, b = self.planted
        return Prober(self.server, a, b, num_turns=0)

    @contextmanager
    def _without(
        self, mutated: Iterable[str], cipher: Callable[..., Any] | None = None
    ) -> Iterator[None]:
        with self.patch.context() as patched:
            real: Mapping[str, str] = statements.load()
            changed = {**real, **{name: without_predicates(real[name]) for name in mutated}}
            patched.setattr(statements, "load", lambda: changed)
            patched.setattr(TenantKeys, "cipher", cipher or TenantKeys.cipher)
            yield

    async def row_level_security(self, verb: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'anzoth'"
            )
            for (table,) in tables:
                if table != "migrations":
                    await connection.execute(
                        f"ALTER TABLE anzoth.{table} {verb} ROW LEVEL SECURITY"
                    )
        finally:
            await connection.close()


def failures(prober: Prober, checks: Iterable[Check]) -> list[Check]:
    seen = [Check("witness", what, "failed") for what in prober.witness.seen]
    return [check for check in (*checks, *seen) if not check.is_good]


def owner_of(party: Party) -> Owner:
    return Owner(
        party,
        infers=client.with_key(party.infers.key.text),
        manages=client.with_key(party.manages.key.text),
        browser=client.with_session(party, None),
    )


@asynccontextmanager
async def walls(dsn: str, folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Walls]:
    async with gateway(dsn, folder, has_stores=True) as url, AsksServer(url) as server:
        pepper, accounts = keys.load_pepper(folder), config_of(folder).accounts
        parties = [await tenants.make(dsn, pepper, accounts, name) for name in tenants.new_names()]
        yield Walls(dsn, server, parties, patch)


def run(
    dsn: str, folder: Path, patch: pytest.MonkeyPatch, scenario: Any
) -> Any:  # what the scenario returns
    async def main() -> Any:
        async with walls(dsn, folder, patch) as made:
            return await scenario(made)

    return asyncio.run(main())


def test_row_level_security_holds_when_no_statement_names_a_tenant(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for projects, which only statements tell apart: here each tenant has one."""
    bad = run(dsn, tmp_path, monkeypatch, lambda walls: walls.probe(with_predicates()))
    assert bad == []


def test_statements_hold_without_row_level_security(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(walls: Walls) -> list[Check]:
        await walls.row_level_security("DISABLE")
        return await walls.probe()

    assert run(dsn, tmp_path, monkeypatch, scenario) == []


def test_without_both_each_look_up_turns_a_probe_red(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(walls: Walls) -> list[tuple[str, ...]]:
        await walls.row_level_security("DISABLE")
        return [names for names in looked_up if not await walls.is_seen(names)]

    looked_up = [*((name,) for name in with_predicates() if name not in BEHIND), *TOGETHER]
    assert len(looked_up) > 10
    assert run(dsn, tmp_path, monkeypatch, scenario) == []


def test_what_stands_behind_a_look_up_is_there() -> None:
    assert set(with_predicates()) >= BEHIND


def test_what_is_found_without_both_cannot_be_read_and_with_the_key_it_is_seen(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TenantKeys.cipher

    async def scenario(walls: Walls) -> tuple[list[Check], list[Check]]:
        async def of_the_first(keys: TenantKeys, tenant: TenantHandle) -> TenantCipher:
            first = walls.parties[0]
            return await real(keys, TenantHandle(first.id, first.name, ""))

        await walls.row_level_security("DISABLE")
        sealed = await walls.probe(with_predicates())
        return sealed, await walls.probe(with_predicates(), of_the_first)

    sealed, opened = run(dsn, tmp_path, monkeypatch, scenario)
    canary = "a document's canary"
    assert sealed
    assert not any(canary in check.name for check in sealed)
    assert any(canary in check.name for check in opened)


def test_tools_that_forget_who_calls_turn_their_probes_red(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.owner_of

    async def scenario(walls: Walls) -> list[Check]:
        prober = await walls._prober()
        callers: list[FileOwner] = []

        def of_the_first(call: Call) -> FileOwner:
            callers.append(real(call))
            return callers[0]

        monkeypatch.setattr(files, "owner_of", of_the_first)
        checks = await mcp.answers(prober, ROUTES_HERE)
        return failures(prober, checks)

    bad = run(dsn, tmp_path, monkeypatch, scenario)
    assert {check.name.split(":")[0] for check in bad} > {
        "the tool 'search' finds nothing of the other's",
        "POST /mcp",
    }
