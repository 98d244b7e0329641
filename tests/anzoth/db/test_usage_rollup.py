"""Are the roll-ups the sums of the ledger's rows, whatever order these come in, and for ever?"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_kit import START, Customer, add_customer, differences, insert

from anzoth.db import migrate, pool, statements
from anzoth.db.pool import Database
from anzoth.db.store import usage_rollup_rows, usage_rows
from anzoth.db.store.usage_rows import UsageRow
from anzoth.gateway.usage_retention import UsageRetention
from anzoth.price import Price

pytestmark = pytest.mark.slow

COUNTERS = (
    "num_requests", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens",
    "input_cost", "cached_input_cost", "output_cost",
)  # fmt: skip


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Database]:
    database = await Database.open(dsn)
    try:
        yield database
    finally:
        await database.close()


async def cells(dsn: str, width: str) -> list[asyncpg.Record]:
    async with pool.operator(dsn) as connection:
        return await connection.fetch(
            "SELECT * FROM anzoth.usage_rollup WHERE width = $1 ORDER BY bucket_start, model", width
        )


def test_rows_are_summed_by_the_minute_the_hour_and_the_day(dsn: str) -> None:
    async def scenario() -> None:
        async with opened(dsn) as database:
            who = await add_customer(dsn, "one")
            price = Price(150_000, 75_000, 600_000)
            times = (0, 59, 60, 3599, 3600, 86_400)
            rows = [
                who.row(
                    f"r{second}", START + timedelta(seconds=second), price=price,
                    prompt_tokens=100, cached_tokens=40, completion_tokens=20, reasoning_tokens=7,
                )
                for second in times
            ]  # fmt: skip
            await insert(database, who, rows)
            for width, step, expected in (
                ("1m", 60, [2, 1, 1, 1, 1]),
                ("1h", 3600, [4, 1, 1]),
                ("1d", 86_400, [5, 1]),
            ):
                found = await cells(dsn, width)
                assert [cell["num_requests"] for cell in found] == expected
                starts = [(cell["bucket_start"] - START).total_seconds() for cell in found]
                assert starts == sorted({second // step * step for second in times})
            day = {name: found[0][name] for name in COUNTERS}
            assert day == {
                "num_requests": 5, "prompt_tokens": 500, "cached_tokens": 200,
                "completion_tokens": 100, "reasoning_tokens": 35,
                "input_cost": 5 * 60 * 150, "cached_input_cost": 5 * 40 * 75,
                "output_cost": 5 * 20 * 600,
            }  # fmt: skip
            assert await differences(dsn) == []

    asyncio.run(scenario())


def test_everything_that_pages_tell_apart_is_a_cell_of_its_own(dsn: str) -> None:
    async def scenario() -> None:
        async with opened(dsn) as database:
            who = await add_customer(dsn, "one", num_keys=2)
            apart: list[Any] = [
                {}, {"key": 1}, {"project_id": uuid.UUID(int=1)}, {"user_id": uuid.UUID(int=1)},
                {"endpoint": "/v1/embeddings"}, {"model": "n"}, {"service_tier": None},
                {"service_tier": "flex"}, {"batch": True},
            ]  # fmt: skip
            for round in range(2):
                rows = [who.row(f"r{round}.{n}", START, **fields) for n, fields in enumerate(apart)]
                await insert(database, who, rows)
            found = await cells(dsn, "1d")
            assert [cell["num_requests"] for cell in found] == [2] * len(apart)
            assert await differences(dsn) == []

    asyncio.run(scenario())


def test_models_that_were_only_named_make_no_cells(dsn: str) -> None:
    async def scenario() -> None:
        async with opened(dsn) as database:
            who = await add_customer(dsn, "one")
            refused: Any = {"prompt_tokens": 0, "completion_tokens": 0, "status": 404}
            rows = [who.row(f"r{n}", model=f"made up {n}", **refused) for n in range(50)]
            await insert(database, who, [*rows, who.row("real")])
            found = [(cell["model"], cell["num_requests"]) for cell in await cells(dsn, "1d")]
            assert found == [("m", 1), (None, 50)]
            assert await differences(dsn) == []

    asyncio.run(scenario())


counts = st.integers(0, 10**12)
rows_of_one_tenant = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.integers(0, 2),
            "second": st.integers(0, 2 * 86_400),
            "model": st.sampled_from(["m", "n", "ö, %"]),
            "service_tier": st.sampled_from([None, "default", "flex"]),
            "batch": st.booleans(),
            "prompt_tokens": counts,
            "completion_tokens": counts,
        }
    ),
    min_size=1,
    max_size=12,
)


def test_sums_are_the_same_in_any_order_in_any_batches_and_however_often_sent(dsn: str) -> None:
    written: list[UsageRow] = []

    async def example(
        database: Database, who: Customer, described: list[dict[str, Any]], rng: random.Random
    ) -> None:
        for fields in described:
            started_at = START + timedelta(seconds=fields["second"])
            others = {name: value for name, value in fields.items() if name != "second"}
            written.append(who.row(f"r{len(written)}", started_at, **others))
        sent = written[-len(described) :] * 2
        rng.shuffle(sent)
        while sent:
            size = rng.randint(1, len(sent))
            await insert(database, who, sent[:size])
            del sent[:size]
        sums = ", ".join(f"sum({name})::text" for name in COUNTERS)
        statement = f"SELECT {sums} FROM anzoth.usage_rollup WHERE width = $1"
        expected = [
            sum(1 if name == "num_requests" else getattr(row, name) for row in written)
            for name in COUNTERS
        ]
        async with database.tenant(who.handle) as connection:
            for width in ("1m", "1h", "1d"):
                found = await connection.fetchrow(statement, width)
                assert list(map(int, found)) == expected
        assert await differences(dsn) == []

    with asyncio.Runner() as runner:
        who = runner.run(add_customer(dsn, "one", num_keys=3))
        database = runner.run(Database.open(dsn))

        @settings(max_examples=25, deadline=None)
        @given(described=rows_of_one_tenant, seed=st.integers(0, 2**32))
        def check(described: list[dict[str, Any]], seed: int) -> None:
            runner.run(example(database, who, described, random.Random(seed)))

        check()
        runner.run(database.close())


def test_writers_that_meet_in_the_same_cells_neither_block_each_other_for_ever_nor_lose(
    dsn: str,
) -> None:
    async def scenario() -> None:
        who = await add_customer(dsn, "one", num_keys=5)

        async def write(writer: int) -> None:
            rng = random.Random(writer)
            async with opened(dsn) as database:
                for batch in range(8):
                    rows = [
                        who.row(
                            f"{writer}.{batch}.{n}",
                            START + timedelta(minutes=rng.randrange(90)),
                            key=rng.randrange(5),
                            model=rng.choice(("m", "n")),
                        )
                        for n in range(40)
                    ]
                    await insert(database, who, rows)

        async with asyncio.timeout(60):
            await asyncio.gather(*map(write, range(4)))
        assert sum(cell["num_requests"] for cell in await cells(dsn, "1d")) == 4 * 8 * 40
        assert await differences(dsn) == []

    asyncio.run(scenario())


def test_verification_finds_a_changed_a_missing_and_an_invented_cell(dsn: str) -> None:
    async def scenario() -> None:
        async with opened(dsn) as database:
            who = await add_customer(dsn, "one", num_keys=2)
            await insert(database, who, [who.row("a"), who.row("b", key=1)])
            for tampering, width, expected in (
                ("SET prompt_tokens = 11", "1m", {(0, -1), (0, -1)}),
                ("SET num_requests = 0, prompt_tokens = 0, completion_tokens = 0", "1h", {(1, 10)}),
            ):
                async with database.tenant(who.handle) as connection:
                    await connection.execute(
                        f"UPDATE anzoth.usage_rollup {tampering} WHERE width = $1", width
                    )
                found = [d for d in await differences(dsn) if d.width == width]
                assert len(found) == 2
                assert {(d.num_requests, d.prompt_tokens) for d in found} == expected
            invented = dataclasses.replace(who.row("c", model="x"), batch=True)
            async with database.tenant(who.handle) as connection:
                await usage_rows.insert_usage(connection, [invented])
                await connection.execute(
                    "INSERT INTO anzoth.usage_rollup SELECT tenant_id, width, bucket_start + "
                    "interval '1 day', key_id, project_id, user_id, endpoint, model, service_tier, "
                    "batch, 1, 1, 0, 0, 0, 0, 0, 0 FROM anzoth.usage_rollup "
                    "WHERE width = '1d' AND batch"
                )
            (extra,) = [d for d in await differences(dsn) if d.width == "1d"]
            assert (extra.model, extra.num_requests, extra.prompt_tokens) == ("x", -1, -1)

    asyncio.run(scenario())


def test_repairs_beside_writers_and_other_repairs_leave_every_sum_right(dsn: str) -> None:
    async def scenario() -> None:
        async with opened(dsn) as database:
            who = await add_customer(dsn, "one", num_keys=2)
            await insert(database, who, [who.row(f"old{number}") for number in range(50)])

            async def write(writer: int) -> None:
                for number in range(20):
                    row = who.row(f"r{writer} {number}", key=number % 2)
                    await insert(database, who, [row])

            async def damage_and_repair() -> None:
                async with database.tenant(who.handle) as connection:
                    await connection.execute(
                        "UPDATE anzoth.usage_rollup SET prompt_tokens = prompt_tokens + 5"
                    )
                for _ in range(3):
                    async with pool.operator(dsn) as connection:
                        await usage_rollup_rows.repair_usage(connection, who.handle.id, START)

            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(write(number))
                    group.create_task(damage_and_repair())
            assert await differences(dsn) == []

    asyncio.run(scenario())


def test_only_outdated_minutes_are_deleted_and_only_where_it_is_asked_for(dsn: str) -> None:
    now = datetime.now(UTC)  # the policy compares with the database's own clock

    async def scenario() -> None:
        async with opened(dsn) as database:
            customers = [await add_customer(dsn, name) for name in ("one", "two")]
            for who in customers:
                ages = (timedelta(0), timedelta(days=2), timedelta(days=9))
                rows = [who.row(f"r{age.days}", now - age) for age in ages]
                await insert(database, who, rows)
            for statement in (
                "DELETE FROM anzoth.usage_rollup WHERE width <> '1m'",
                "DELETE FROM anzoth.usage_rollup WHERE bucket_start > now() - interval '1 day'",
            ):
                async with database.tenant(customers[0].handle) as connection:
                    assert await connection.execute(statement) == "DELETE 0"
            assert await UsageRetention(database, 7).delete_outdated(now) == 2
            assert len(await cells(dsn, "1m")) == 4
            # What is younger than a day stays, whatever a gateway thinks the time is.
            later = now + timedelta(days=400)
            assert await UsageRetention(database, 7).delete_outdated(later) == 2
            assert len(await cells(dsn, "1m")) == 2
            assert len(await cells(dsn, "1h")) == len(await cells(dsn, "1d")) == 6
            assert await differences(dsn, now.replace(second=0, microsecond=0)) == []

    asyncio.run(scenario())


OLD_ROWS = """
    SET LOCAL ROLE anzoth_operator;
    INSERT INTO anzoth.tenants (id, name) VALUES (gen_random_uuid(), 'one');
    INSERT INTO anzoth.projects (id, tenant_id, name)
        SELECT gen_random_uuid(), id, 'p' FROM anzoth.tenants;
    INSERT INTO anzoth.api_keys (id, tenant_id, project_id, kid, name, digest, hash_alg, pepper_id,
            redacted, scopes)
        SELECT gen_random_uuid(), tenant_id, id, 'k', 'k', '', '', '', '', '{}'
        FROM anzoth.projects;
    SELECT set_config('app.tenant', (SELECT id::text FROM anzoth.tenants), true);
    SET LOCAL ROLE anzoth_app;
    INSERT INTO anzoth.usage (tenant_id, project_id, request_id, started_at, key_id, endpoint,
            model, prompt_tokens, cached_tokens, completion_tokens, streamed, status, duration_ms)
        SELECT tenant_id, project_id, 'r' || n, '2026-01-01Z'::timestamptz + n * '7 min'::interval,
            id, '/v1/x', 'm', n % 5, 0, n, false, 200, 1
        FROM anzoth.api_keys, generate_series(0, 300) AS n;
"""


def test_rows_of_the_version_before_are_summed_by_the_migration(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrate.available()
    first = next(n for n, migration in enumerate(every) if "usage_rollups" in migration.name)

    async def scenario() -> None:
        monkeypatch.setattr(migrate, "available", lambda: every[:first])
        await migrate.migrate(empty_dsn)
        connection = await asyncpg.connect(empty_dsn)
        async with connection.transaction():
            await connection.execute(OLD_ROWS)
        await connection.close()
        monkeypatch.setattr(migrate, "available", lambda: every)
        await migrate.migrate(empty_dsn)
        assert await differences(empty_dsn) == []
        assert sum(cell["num_requests"] for cell in await cells(empty_dsn, "1d")) == 301

    asyncio.run(scenario())


def test_a_page_reads_its_own_cells_however_many_requests_they_hold(dsn: str) -> None:
    async def read(database: Database, who: Customer) -> tuple[set[str], str, int]:
        """Which tables, by which condition, and how many rows, a page of ten hours reads."""
        statement = "EXPLAIN (ANALYZE, FORMAT JSON) " + statements.load()["usage_buckets"]
        until = START + timedelta(hours=10)
        endpoints = ["/v1/chat/completions"]
        async with database.tenant(who.handle) as connection:
            await connection.execute("SET LOCAL enable_seqscan = off")  # tests have few rows
            plan = await connection.fetchval(
                statement, who.handle.id, "1h", START, until, ["model"], endpoints, *[None] * 5
            )
        nodes, scans = [orjson.loads(plan)[0]["Plan"]], []
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            if "Relation Name" in node:
                scans.append(node)
        (scan,) = scans
        condition = scan.get("Index Cond") or scan["Recheck Cond"]
        num_rows = scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)
        return {scan["Relation Name"]}, condition, num_rows * scan["Actual Loops"]

    async def scenario() -> None:
        async with opened(dsn) as database:
            who, other = await add_customer(dsn, "one"), await add_customer(dsn, "two")
            for per_hour in (1, 20):  # a day's, of both
                for tenant in (who, other):
                    rows = [
                        tenant.row(f"{per_hour}.{n}", START + timedelta(hours=n % 24))
                        for n in range(24 * per_hour)
                    ]
                    await insert(database, tenant, rows)
                tables, condition, num_rows = await read(database, who)
                assert tables == {"usage_rollup"}
                assert {"tenant_id", "width", "bucket_start"} <= set(
                    re.findall("[a-z_]+", condition)
                )
                assert num_rows == 10

    asyncio.run(scenario())


def test_a_tenant_sees_and_adds_to_its_own_cells_only(dsn: str) -> None:
    async def scenario() -> None:
        async with opened(dsn) as database:
            one, two = await add_customer(dsn, "one"), await add_customer(dsn, "two")
            for who in (one, two):
                await insert(database, who, [who.row("r")])
            async with database.tenant(one.handle) as connection:
                seen = await connection.fetch("SELECT tenant_id FROM anzoth.usage_rollup")
            assert {row["tenant_id"] for row in seen} == {one.handle.id}
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.tenant(one.handle) as connection:
                    await connection.execute(
                        "UPDATE anzoth.usage_rollup SET tenant_id = $1", two.handle.id
                    )

    asyncio.run(scenario())
