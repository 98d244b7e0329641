"""Does the usage ledger survive kill -9, whatever is killed and when?

    python bench/kill_ledger.py --kills 1000          a quarter of an hour or more
    python bench/kill_ledger.py --kills 20 --seed 7   another course of events

A real gateway and a real Postgres run under the load of many clients; at random moments one of
them or both are killed with SIGKILL, also in the middle of the start and of the recovery that
follow. The engine is a stub that is never killed: it knows how many tokens it sampled for each
request. At the end, and after parts of the journal were shipped again in random order, for every
request:

    the engine was asked, or a client saw a 200     exactly one row
    client received <= row's completion tokens <= engine sampled
    answer received to its end                      the row has all of its tokens
    sums by tenant, and every roll-up               unchanged by any replay, and those of the rows

The last line is one JSON object; the exit status is 1 if anything was violated. The gateway is the
product's own `anzoth.server`, forked from a process that has imported it, so that a thousand starts
do not take a thousand imports.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "support"), str(ROOT / "bench")]

from api_harness import MODEL  # noqa: E402
from checkpoints import write_checkpoint  # noqa: E402
from engine_peer import Said  # noqa: E402

from anzoth.account_config import AccountsConfig  # noqa: E402
from anzoth.config import Config, JournalConfig, ServerConfig  # noqa: E402
from anzoth.db import migrate, pool  # noqa: E402
from anzoth.db.pool import Database  # noqa: E402
from anzoth.db.store.usage_rollup_rows import verify_usage  # noqa: E402
from anzoth.gateway import directory, keys  # noqa: E402
from anzoth.gateway.journal import segment_numbers, segment_path  # noqa: E402
from anzoth.gateway.ledger import Ledger  # noqa: E402
from anzoth.gateway_settings import gateway_settings, offered_model  # noqa: E402
from anzoth.model_config import ModelConfig  # noqa: E402
from anzoth.telemetry import Metrics  # noqa: E402
from kill_clients import Load, Seen  # noqa: E402
from kill_parts import Nursery, Witness  # noqa: E402
from own_postgres import Postgres  # noqa: E402

NUM_TENANTS = 3
NUM_REPLAYS = 10
_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Killer:
    """Kills at random moments, and starts what it killed again."""

    nursery: Nursery
    settings: dict[str, Any]
    postgres: Postgres
    witness: Witness
    random: random.Random
    journal: Path
    archive: Path
    num_killed: Counter[str] = field(default_factory=Counter)
    pid: int = 0

    def start_gateway(self) -> None:
        self.pid = self.nursery.start(self.settings)

    async def run(self, num_kills: int) -> None:
        async with asyncio.TaskGroup() as group:
            while self.num_killed.total() < num_kills:
                # Some within the start, others when requests run again.
                if self.random.random() < 0.75:
                    await self.witness.busy()
                await asyncio.sleep(self.random.uniform(0, 0.3))
                self.keep_segments()
                victims = self.random.choices(["gateway", "postgres", "both"], [75, 15, 10])[0]
                if not self.postgres.is_up:
                    victims = "gateway"
                if victims != "gateway":
                    self.postgres.kill()
                    group.create_task(self.postgres.restart())
                if victims != "postgres":
                    os.kill(self.pid, signal.SIGKILL)
                    self.keep_segments()
                    self.start_gateway()
                self.num_killed[victims] += 1

    def keep_segments(self) -> None:
        """Before they are shipped and deleted: to ship them again later."""
        for number in segment_numbers(self.journal):
            kept = segment_path(self.archive, number)
            if not kept.exists():
                with contextlib.suppress(FileNotFoundError):
                    os.link(segment_path(self.journal, number), kept)


async def _until_quiet(address: tuple[str, int]) -> None:
    """Everything is written down, and shipped."""
    said = "nothing"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            while (said := await _readiness(address)) != "quiet":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"the gateway does not come to rest; it last said: {said}") from None


async def _readiness(address: tuple[str, int]) -> str:
    """`quiet`, or what stands in its way."""
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        components = json.loads(body)["components"]
    except (OSError, ValueError, KeyError) as error:
        return type(error).__name__
    del components["retriever"]  # there is none here
    is_quiet = {component["state"] for component in components.values()} == {"ready"}
    is_quiet &= not components["journal"].get("unshipped_rows")
    return "quiet" if is_quiet else json.dumps(components)


async def _sums(dsn: str) -> list[tuple[Any, ...]]:
    async with pool.operator(dsn) as connection:
        rows = await connection.fetch(
            "SELECT tenant_id, count(*), sum(prompt_tokens), sum(cached_tokens), "
            "sum(completion_tokens) FROM anzoth.usage GROUP BY 1 ORDER BY 1"
        )
    return [tuple(row) for row in rows]


async def _replay(killer: Killer, dsn: str, folder: Path) -> int:
    """Ships random parts of what the journal ever held, in random order; how many segments."""
    numbers = segment_numbers(killer.archive)
    num_shipped = 0
    database = await Database.open(dsn)
    for replay in range(NUM_REPLAYS):
        data_dir = folder / f"replay-{replay}"
        (data_dir / "journal").mkdir(parents=True)
        chosen = killer.random.sample(numbers, max(1, len(numbers) // killer.random.randint(1, 9)))
        writer = killer.journal / "writer"
        if replay % 2:  # as another gateway's: no cursor stands in the way
            writer = data_dir / "other"
            writer.write_text(str(uuid.uuid4()))
        shutil.copy(writer, data_dir / "journal" / "writer")
        for place, number in enumerate(chosen, 1):
            # Under another number: the order in which they are read is random too.
            shutil.copy(
                segment_path(killer.archive, number), segment_path(data_dir / "journal", place)
            )
        logging.disable(logging.WARNING)
        ledger = await Ledger.open(database, data_dir, JournalConfig(), Metrics())
        assert await ledger.close(_TIMEOUT_S) == 0
        logging.disable(logging.NOTSET)
        num_shipped += len(chosen)
    await database.close()
    return num_shipped


async def _violations(dsn: str, witness: Witness, seen: Sequence[Seen]) -> tuple[list[str], int]:
    async with pool.operator(dsn) as connection:
        rows = await connection.fetch(
            "SELECT end_user, completion_tokens, prompt_tokens, finish_reason, status "
            "FROM anzoth.usage"
        )
    # The database was away before the model's name was looked up: nobody was asked anything.
    nameless = [row for row in rows if row["end_user"] is None]
    rows = [row for row in rows if row["end_user"] is not None]
    num_rows = Counter(int(row["end_user"]) for row in rows)
    tokens = {int(row["end_user"]): row["completion_tokens"] for row in rows}
    found = [f"request {n}: {count} rows" for n, count in num_rows.items() if count != 1]
    found += [
        f"a row without a request: {dict(row)}"
        for row in nameless
        if row["status"] != 503 or row["prompt_tokens"] or row["completion_tokens"]
    ]
    for one in seen:
        number, counted = one.number, tokens.get(one.number)
        if number not in num_rows:
            if number in witness.asked or one.status == 200:
                found.append(f"request {number}: no row (status {one.status})")
            continue
        sampled = witness.sampled[number]
        if not one.received <= (counted or 0) <= sampled:
            found.append(
                f"request {number}: received {one.received}, row {counted}, sampled {sampled}"
            )
        if one.is_whole and not one.received == counted == one.max_tokens:
            found.append(f"request {number}: whole, but row {counted} of {one.max_tokens}")
    async with pool.operator(dsn) as connection:
        _, wrong_sums = await verify_usage(connection, datetime.fromtimestamp(0, UTC), 20)
    found += [f"a roll-up is not the sum of its rows: {difference}" for difference in wrong_sums]
    return found, len(rows)


@contextlib.contextmanager
def _folder(in_memory: bool) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="anzoth-kill-", dir="/dev/shm" if in_memory else None))
    made.chmod(0o711)  # the embedded database may run as another user
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


async def _run(
    arguments: argparse.Namespace, folder: Path, nursery: Nursery, listening: socket.socket
) -> dict[str, Any]:
    chosen = random.Random(arguments.seed)
    data_dir, archive = folder / "data", folder / "archive"
    data_dir.mkdir(mode=0o711)
    archive.mkdir()
    postgres = Postgres(data_dir)
    await postgres.start()
    try:
        pepper = keys.load_pepper(data_dir)
        await migrate.migrate(postgres.dsn)
        secrets = []
        for name in [f"tenant{number}" for number in range(NUM_TENANTS)]:
            await directory.create_tenant(postgres.dsn, name)
            created = await directory.create_key(
                postgres.dsn, pepper, directory.KeyRequest(name, "k")
            )
            secrets.append(created.key.text)
        checkpoint = write_checkpoint(folder / "checkpoint")
        witness = Witness(
            folder / "engine.sock",
            lambda submit, prompt, choice: (
                [Said(_letter_id(checkpoint))] * (submit.max_tokens - 1)
                + [Said(_letter_id(checkpoint), "length")]
            ),
        )
        await witness.start()
        model = ModelConfig(MODEL, checkpoint)
        config = Config(
            ServerConfig(data_dir=data_dir, drain_s=5.0, log_level="critical"),
            accounts=AccountsConfig("closed"),
        )
        settings = gateway_settings(
            config,
            listen_fd=listening.fileno(),
            control_socket=folder / "gateway.sock",
            dsn=postgres.dsn,
            models=[offered_model(model, witness.path)],
            models_must_load=True,
        )
        killer = Killer(nursery, settings, postgres, witness, chosen, data_dir / "journal", archive)
        killer.start_gateway()
        address = listening.getsockname()[:2]
        await _until_quiet(address)
        load = Load(address, secrets, chosen)
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(arguments.clients))
            await killer.run(arguments.kills)
            load.is_over = True
        took_s = time.monotonic() - began_s
        await _until_quiet(address)
        killer.keep_segments()
        violations, num_rows = await _violations(postgres.dsn, witness, load.seen)
        sums = await _sums(postgres.dsn)
        os.kill(killer.pid, signal.SIGTERM)
        num_replayed = await _replay(killer, postgres.dsn, folder)
        if await _sums(postgres.dsn) != sums:
            violations.append("a replay changed the sums")
        await witness.stop()
        async with pool.operator(postgres.dsn) as connection:
            num_crashed = await connection.fetchval(
                "SELECT count(*) FROM anzoth.usage WHERE finish_reason = 'crashed'"
            )
    finally:
        postgres.stop()
    for violation in violations[:20]:
        print(violation, file=sys.stderr)
    return {
        "kills": killer.num_killed.total(),
        **{f"kills_{victim}": number for victim, number in sorted(killer.num_killed.items())},
        "seconds": round(took_s, 1),
        "requests": len(load.seen),
        "accepted": sum(one.status == 200 for one in load.seen),
        "asked_of_engine": len(witness.asked),
        "rows": num_rows,
        "rows_crashed": num_crashed,
        "tokens_received": sum(one.received for one in load.seen),
        "tokens_in_ledger": int(sum(row[4] for row in sums)),
        "tokens_sampled": witness.sampled.total(),
        "segments_replayed": num_replayed,
        "violations": len(violations),
        "seed": arguments.seed,
    }


def _letter_id(checkpoint: Path) -> int:
    """A token that is one letter, so that a client can count tokens by their text."""
    return json.loads((checkpoint / "tokenizer.json").read_text())["model"]["vocab"]["x"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-memory", action="store_true", help="the data directory in /dev/shm")
    arguments = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what is written to the dead
    with _folder(arguments.in_memory) as folder, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        listening.setblocking(False)
        nursery = Nursery()
        try:
            result = asyncio.run(_run(arguments, folder, nursery, listening))
        finally:
            nursery.close()
    print(json.dumps(result))
    raise SystemExit(bool(result["violations"]))


if __name__ == "__main__":
    main()
