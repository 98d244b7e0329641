"""Do files get into vector stores whole and once, whatever is killed and when?

    python bench/kill_ingest.py --files 1000 --kills 100     half an hour on two cores
    python bench/kill_ingest.py --files 40 --kills 10 --seed 7

A whole installation (`anzoth serve` with the bundled models) reads documents of every kind, some of
which cannot be read, into several stores of two tenants. At random moments the gateway, the engine
of embeddings, the retriever, the process that parsers are forked from or Postgres is killed with
SIGKILL, also while it is starting again. At the end, for every file:

    can be read               completed; its words are in its chunks, and a search finds them there
    cannot be read            failed, for a reason that is told
    completed                 each of its chunks once, with a vector; one change in the store's log
    was ever seen completed   completed still, by the same change and with the same chunks

The last line is one JSON object; the exit status is 1 if anything was violated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx2

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "support"), str(ROOT / "bench")]

from anzoth.db import cluster, pool  # noqa: E402
from anzoth.db.errors import DatabaseDown  # noqa: E402
from anzoth.db.pool import Database  # noqa: E402
from anzoth.db.store import tenant_rows  # noqa: E402
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec, ChunkContent  # noqa: E402
from anzoth.gateway.principal import TenantHandle  # noqa: E402
from anzoth.gateway.tenant_crypt import TenantKeys, load_master_key  # noqa: E402
from anzoth.model_config import DEFAULT_EMBEDDING_MODEL  # noqa: E402
from installation import Installation, installation  # noqa: E402
from kill_documents import Made, make  # noqa: E402

TENANTS = ("default", "second")
STORES_PER_TENANT = 2
DIMENSIONS = 384
_TIMEOUT_S = 600.0
"""For what is left when the last kill is over, without any progress."""
_IDLE_S = 10.0
_RETRY_S = 0.2
_WEIGHTS = {"gateway": 35, "engine": 10, "zygote": 30, "postgres": 15, "retriever": 10}
"""The engine takes longest to come back, and nothing happens meanwhile."""
_MODULES = {
    "gateway": "anzoth.server",
    "engine": "anzoth.scheduler.process",
    "zygote": "anzoth.ingest.zygote",
    "retriever": "anzoth.index.process",
}
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Store:
    """Where files go, whose it is, and a key for it."""

    tenant: TenantHandle
    secret: str
    id: str


@dataclass(slots=True, frozen=True)
class Added:
    """A file that is in a store."""

    store: Store
    id: str
    made: Made


@dataclass(slots=True, frozen=True)
class Chunk:
    """What is stored of a file."""

    number: int
    content: ChunkContent
    vector: bytes


@dataclass
class World:
    """The installation, and this process's own way into its database."""

    server: Installation
    chosen: random.Random
    dsn: str
    database: Database
    keys: TenantKeys
    stores: list[Store] = field(default_factory=list)
    added: list[Added] = field(default_factory=list)
    completed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The files that were seen to be completed: by which change, with how many chunks."""
    violations: list[str] = field(default_factory=list)

    async def ask(self, secret: str, path: str, **content: Any) -> Any:
        """POST, again and again until it is answered. Doing any of this twice does no harm."""
        headers = {"authorization": f"Bearer {secret}"}
        # No certificates are needed here, and reading them takes longer than most answers.
        options: dict[str, Any] = {"trust_env": False, "verify": False}
        options |= {"headers": headers, "timeout": 30}
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                async with httpx2.AsyncClient(base_url=self.server.url, **options) as client:
                    answer = await client.post(f"/v1/{path}", **content)
                if answer.status_code < 500:
                    assert answer.status_code == 200, answer.text
                    return answer.json()
            await asyncio.sleep(_RETRY_S)

    async def stored(self, added: Added) -> list[Chunk]:
        """What the database holds of a file."""
        store = added.store
        codec = ChunkCodec(await self.keys.cipher(store.tenant), store.id)
        async with self.database.tenant(store.tenant) as connection:
            rows = await connection.fetch(
                "SELECT number, content, vector FROM anzoth.chunks "
                "WHERE store_id = $1 AND file_id = $2 ORDER BY position",
                *(store.id, added.id),
            )
        return [
            Chunk(
                row["number"],
                codec.open_content(row["number"], row["content"]),
                codec.open_vector(row["number"], row["vector"]),
            )
            for row in rows
        ]

    # --- the load ------------------------------------------------------------------------------

    async def add(self, number: int) -> None:
        made, store = make(number, self.chosen), self.chosen.choice(self.stores)
        form = {"files": {"file": (made.name, made.content)}, "data": {"purpose": "assistants"}}
        file_id = (await self.ask(store.secret, "files", **form))["id"]
        await self.ask(store.secret, f"vector_stores/{store.id}/files", json={"file_id": file_id})
        self.added.append(Added(store, file_id, made))

    # --- what became of it ---------------------------------------------------------------------

    async def look(self) -> Counter[str]:
        """How many files have which status. What was completed must still be."""
        rows = await insist(self.files)
        now = {row["file_id"]: row for row in rows}
        for file_id, before in self.completed.items():
            row = now.get(file_id)
            if row is None or row["status"] != "completed":
                self.violations.append(f"{file_id}: was completed, and is not any more")
            elif (row["changed_seq"], row["num_chunks"]) != before:
                self.violations.append(f"{file_id}: was completed a second time")
        self.completed |= {
            file_id: (row["changed_seq"], row["num_chunks"])
            for file_id, row in now.items()
            if row["status"] == "completed"
        }
        return Counter(row["status"] for row in rows)

    async def files(self) -> list[Any]:
        async with pool.operator(self.dsn) as connection:
            return await connection.fetch("SELECT * FROM anzoth.vector_store_files")

    async def check(self) -> None:
        """Adds what is not as it must be to `violations`."""
        rows = {row["file_id"]: row for row in await self.files()}
        for added in self.added:
            row, chunks = rows[added.id], await self.stored(added)
            where = f"{added.id} ({added.made.name})"
            if not added.made.marks:
                if row["status"] != "failed" or not row["error_message"] or chunks:
                    self.violations.append(f"{where}: cannot be read, and is {row['status']}")
            elif row["status"] != "completed":
                told = row["error_message"]
                self.violations.append(f"{where}: is {row['status']}, {told}")
            else:
                wrong = [*_wrong(added, row, chunks), *await self._not_found(added, chunks)]
                self.violations += [f"{where}: {what}" for what in wrong]
        async with pool.operator(self.dsn) as connection:
            for store in self.stores:
                head = await connection.fetchval(
                    "SELECT head FROM anzoth.vector_stores WHERE id = $1", store.id
                )
                changes = sorted(
                    row["changed_seq"]
                    for row in rows.values()
                    if row["store_id"] == store.id and row["status"] == "completed"
                )
                if changes != list(range(1, head + 1)):
                    self.violations.append(f"{store.id}: {head} changes, files have {changes}")

    async def _not_found(self, added: Added, chunks: list[Chunk]) -> list[str]:
        """A search for words of a completed file finds the chunks that hold them, each once."""
        mark = self.chosen.choice(added.made.marks)
        store = added.store
        query = {"query": mark, "max_num_results": 50}
        page = await self.ask(store.secret, f"vector_stores/{store.id}/search", json=query)
        found = Counter(
            hit["chunk"]["id"] for hit in page["data"] if mark in hit["content"][0]["text"]
        )
        expected = {f"chunk_{chunk.number}": 1 for chunk in chunks if mark in chunk.content.text}
        return [] if found == expected else [f"{mark} is in {expected}, and {found} were found"]


def _wrong(added: Added, row: Any, chunks: list[Chunk]) -> list[str]:
    wrong = []
    spans = [(chunk.content.start, chunk.content.end) for chunk in chunks]
    if len(chunks) != row["num_chunks"] or len(set(spans)) != len(spans):
        wrong.append(f"{row['num_chunks']} chunks, and there are {len(chunks)} with {spans}")
    text = " ".join(chunk.content.text for chunk in chunks)
    if missing := [mark for mark in added.made.marks if mark not in text]:
        wrong.append(f"{missing} are in none of its chunks")
    for chunk in chunks:
        vector = array("f", chunk.vector)
        if len(vector) != DIMENSIONS or abs(sum(x * x for x in vector) - 1) > 1e-3:
            wrong.append(f"chunk {chunk.number} has no vector")
    return wrong


async def insist(do: Callable[[], Awaitable[T]]) -> T:
    """Until the database is there."""
    while True:
        try:
            return await do()
        except DatabaseDown:
            await asyncio.sleep(_RETRY_S)


def victims(server: Installation) -> dict[str, int]:
    """Those that run: their process ids."""
    found: dict[str, int] = {}
    for pid in sorted(server.pids()):
        with contextlib.suppress(OSError):
            said = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            for name, module in _MODULES.items():
                # The engine of embeddings is the one that steps back; the first zygote is no fork.
                is_right = name != "engine" or os.getpriority(os.PRIO_PROCESS, pid) > _niceness()
                if module in said and is_right:
                    found.setdefault(name, pid)
    with contextlib.suppress(OSError, IndexError):
        folder = cluster.folder_of(server.data_dir.absolute())
        found["postgres"] = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    return found


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


async def kill(world: World, num_kills: int, num_files: int) -> Counter[str]:
    """Adds files and kills in between; how often what was killed."""
    killed: Counter[str] = Counter()
    number = 0
    while killed.total() < num_kills:
        while number < num_files * (killed.total() + 1) / num_kills:
            await world.add(number)
            number += 1
        # Some when files are read again, others while what was killed is still starting.
        if world.chosen.random() < 0.75:
            await until_busy(world)
        await asyncio.sleep(world.chosen.uniform(0, 1))
        await world.look()
        running = victims(world.server)
        if not running:
            continue
        names = sorted(running)
        (name,) = world.chosen.choices(names, [_WEIGHTS[name] for name in names])
        with contextlib.suppress(ProcessLookupError):
            os.kill(running[name], signal.SIGKILL)
            killed[name] += 1
    return killed


async def until_busy(world: World) -> None:
    """Something was written since now, or nothing for a while."""
    before = _progress(await insist(world.files))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_IDLE_S):
            while _progress(await insist(world.files)) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def _progress(rows: list[Any]) -> list[Any]:
    return [(row["file_id"], row["num_tokens"], row["status"]) for row in rows]


async def until_quiet(world: World) -> Counter[str]:
    """Every file is completed or failed, or nothing has moved for long."""
    before, moved_at_s = None, time.monotonic()
    while True:
        counts = await world.look()
        if not counts["in_progress"]:
            return counts
        progress = _progress(await insist(world.files))
        if progress != before:
            before, moved_at_s = progress, time.monotonic()
        if time.monotonic() - moved_at_s > _TIMEOUT_S:
            world.violations.append(f"{counts['in_progress']} files are still waiting")
            return counts
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def opened(server: Installation, seed: int) -> AsyncIterator[World]:
    """Two tenants with stores."""
    dsn = cluster.dsn_of(server.data_dir)
    database = await Database.open(dsn)
    keys = TenantKeys(database, dsn, load_master_key(server.data_dir))
    world = World(server, random.Random(seed), dsn, database, keys)
    await asyncio.to_thread(server.cli, "tenants", "create", TENANTS[1])
    try:
        for name in TENANTS:
            scopes = ("--scope", "files:write", "--scope", "vector_stores:write")
            scopes += ("--scope", "vector_stores:search")
            created = await asyncio.to_thread(
                server.cli, "keys", "create", "--tenant", name, "--name", "kill", *scopes
            )
            tenant = TenantHandle(await _tenant_id(dsn, name), name, "")
            for _ in range(STORES_PER_TENANT):
                store = {"name": "kill", "embedding_model": DEFAULT_EMBEDDING_MODEL}
                made = await world.ask(created["key"], "vector_stores", json=store)
                world.stores.append(Store(tenant, created["key"], made["id"]))
        yield world
    finally:
        await database.close()


async def _tenant_id(dsn: str, name: str) -> UUID:
    async with pool.operator(dsn) as connection:
        tenant = await tenant_rows.find_tenant(connection, name)
    assert tenant is not None
    return tenant.id


async def run(arguments: argparse.Namespace, server: Installation) -> dict[str, Any]:
    async with opened(server, arguments.seed) as world:
        began_s = time.monotonic()
        killed = await kill(world, arguments.kills, arguments.files)
        counts = await until_quiet(world)
        took_s = time.monotonic() - began_s
        await insist(world.check)
        rows = await world.files()
    for violation in world.violations[:20]:
        print(violation, file=sys.stderr)
    return {
        "kills": killed.total(),
        **{f"kills_{name}": number for name, number in sorted(killed.items())},
        "seconds": round(took_s, 1),
        "files": len(world.added),
        **dict(sorted(counts.items())),
        "chunks": sum(row["num_chunks"] for row in rows),
        "tokens_embedded": sum(row["num_tokens"] for row in rows),
        "attempts_lost": sum(row["attempts"] for row in rows),
        "violations": len(world.violations),
        "seed": arguments.seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-log", type=Path, help="where the server's log is copied to")
    arguments = parser.parse_args()
    with installation(ANZOTH_EMBEDDINGS="true") as server:
        server.start()
        result = asyncio.run(run(arguments, server))
        if arguments.keep_log is not None:
            arguments.keep_log.write_text(server.log())
    print(json.dumps(result))
    raise SystemExit(bool(result["violations"]))


if __name__ == "__main__":
    main()
