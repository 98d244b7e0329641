"""Do gateways on one real Postgres share limits, whatever happens to them and to it?"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import asyncpg
import limit_peer
import pytest
from principals import make_principal

from anzoth.db import migrate
from anzoth.db.pool import Database
from anzoth.errors import RateLimited
from anzoth.gateway.buckets import MINUTE_NS, WHOLE
from anzoth.gateway.limit_leases import Leases
from anzoth.gateway.limits import Limiter

pytestmark = pytest.mark.slow

TPM = 6000
WHO = make_principal(tpm=TPM)


def use(limiter: Limiter, tokens: int = 1) -> int:
    """How many requests of so many tokens fit now."""
    count = 0
    with contextlib.suppress(RateLimited):
        while True:
            limiter.reserve(WHO, "m", tokens, 0)
            count += 1
    return count


def share(limiter: Limiter) -> int:
    return limiter.meters(WHO.limits)[0].holding.share


@contextlib.asynccontextmanager
async def gateway(dsn: str, number: int) -> AsyncIterator[tuple[Limiter, Leases]]:
    database = await Database.open(dsn)
    limiter = Limiter()
    leases = Leases(database, dsn, uuid.UUID(int=number), limiter.shares)
    await leases.join()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(leases.run())
        try:
            yield limiter, leases
        finally:
            task.cancel()
            await leases.close()
            await database.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.01)


def test_shares_follow_the_demand_and_what_is_left_behind_is_taken(dsn: str) -> None:
    async def main() -> None:
        async with gateway(dsn, 1) as (one, leases):
            assert one.shares.until_ns is None
            assert use(one, TPM // 2) == 2  # alone: all of it, at once
            async with gateway(dsn, 2) as (two, _):
                await until(lambda: leases.num_gateways == 2)
                assert two.shares.even.share == one.shares.even.share == WHOLE // 2
                assert use(two, 100) == 0  # the burst is used up, and came not with the share
                await until(lambda: use(two) > 0)
                await until(lambda: bool(use(two)) and share(two) > WHOLE * 0.7)
            await until(lambda: leases.num_gateways == 1)
            assert share(one) == WHOLE

    asyncio.run(main())


def test_a_days_tokens_are_counted_over_all_gateways(dsn: str) -> None:
    who = make_principal(tokens_per_day=1000)

    def left(limiter: Limiter) -> int:
        with pytest.raises(RateLimited) as caught:
            limiter.reserve(who, "m", 1000, 0)
        return 1000 - int(str(caught.value).partition("used: ")[2].partition(",")[0])

    async def main() -> None:
        async with gateway(dsn, 1) as (one, leases):
            one.reserve(who, "m", 100, 0)  # before the other is there: the ledger has it
            async with gateway(dsn, 2) as (two, _):
                await until(lambda: leases.num_gateways == 2)
                two.reserve(who, "m", 200, 0)
                await until(lambda: left(one) == 700)
                kept = one.reserve(who, "m", 400, 0)
                await until(lambda: left(two) == 400)
                kept.settle(150, 0)
                await until(lambda: left(two) == 650)
                assert left(one) == 550
            async with gateway(dsn, 2) as (two, _):  # begins again, with the same name
                two.reserve(who, "m", 30, 0)
                await until(lambda: left(one) == 520)

    asyncio.run(main())


def test_no_transaction_but_that_of_sharing_sees_shares_and_it_sees_no_tenant(dsn: str) -> None:
    async def main() -> None:
        async with gateway(dsn, 1):
            database = await Database.open(dsn)
            async with database.ended() as connection:
                for table in ("gateways", "limit_shares", "limit_counts"):
                    assert await connection.fetchval(f"SELECT count(*) FROM anzoth.{table}") == 0
            async with database.sharing() as connection:
                assert await connection.fetchval("SELECT count(*) FROM anzoth.gateways") == 1
                for table in ("tenants", "limits", "api_keys"):
                    assert await connection.fetchval(f"SELECT count(*) FROM anzoth.{table}") == 0
            with pytest.raises(asyncpg.CheckViolationError):
                async with database.sharing() as connection:
                    await connection.execute(
                        "INSERT INTO anzoth.limit_shares VALUES ($1, NULL, 1, 1, $2, $3, $3, $3)",
                        *(uuid.uuid4(), [uuid.uuid4(), uuid.uuid4()], [WHOLE // 2, WHOLE // 2]),
                    )
            await database.close()

    asyncio.run(main())


class Peers:
    """Gateway processes that admit all that they may."""

    def __init__(self, dsn: str, folder: Path, num: int, tokens: int) -> None:
        self.tokens = tokens
        self.logs = [folder / f"log{number}" for number in range(num)]
        source = limit_peer.__file__
        assert source is not None
        path = {"PYTHONPATH": str(Path(source).parent)}
        self.processes = [
            subprocess.Popen(
                [sys.executable, source, dsn, str(uuid.UUID(int=1 + number))]
                + [str(log), str(TPM), str(tokens)],
                env={**os.environ, **path},
            )
            for number, log in enumerate(self.logs)
        ]

    def admitted(self, number: int) -> list[int]:
        """When it admitted requests."""
        lines = self.logs[number].read_bytes().splitlines() if self.logs[number].exists() else []
        return [int(line) for line in lines[1:]]

    def wait(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    def rates(self, *numbers: int, seconds: float = 2.0) -> list[float]:
        """What each admits from now on, as a part of the limit."""
        begin_ns = time.monotonic_ns()
        time.sleep(seconds)
        counts = [sum(at_ns >= begin_ns for at_ns in self.admitted(n)) for n in numbers]
        return [count * self.tokens / (TPM / 60 * seconds) for count in counts]

    def check(self) -> None:
        """All together admitted what one bucket would."""
        debt, before_ns = Fraction(0), 0
        for at_ns in sorted(at for number in range(len(self.logs)) for at in self.admitted(number)):
            drained = Fraction(TPM * (at_ns - before_ns), MINUTE_NS)
            debt, before_ns = max(Fraction(0), debt - drained) + self.tokens, at_ns
            assert debt <= TPM

    def end(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def test_processes_that_are_killed_paused_and_cut_off_never_exceed_the_limit(
    own_postgres: Any, tmp_path: Path
) -> None:
    dsn = own_postgres.dsn()
    asyncio.run(migrate.migrate(dsn))
    peers = Peers(dsn, tmp_path, 3, 20)
    try:
        peers.wait(lambda: all(peers.admitted(number) for number in range(3)))
        peers.wait(lambda: sum(len(peers.admitted(n)) for n in range(3)) * 20 >= TPM // 3)
        peers.processes[2].kill()
        peers.processes[1].send_signal(signal.SIGSTOP)
        time.sleep(5)  # longer than it takes to be forgotten
        peers.wait(lambda: peers.rates(0, seconds=1)[0] > 0.85)  # all of the rate is the survivor's
        peers.processes[1].send_signal(signal.SIGCONT)
        peers.wait(lambda: peers.rates(1, seconds=1)[0] > 0.2)
        own_postgres.stop()
        time.sleep(4)  # longer than the lease
        assert min(peers.rates(0, 1)) > 0.2
        own_postgres.start()
        time.sleep(2)
        assert min(peers.rates(0, 1)) > 0.2
    finally:
        peers.end()
    peers.check()
