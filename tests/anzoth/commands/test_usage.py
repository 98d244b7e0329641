"""Does an operator see what was used, and learn when a sum is wrong?"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from ledger_kit import add_customer, insert
from typer.testing import CliRunner, Result

from anzoth.cli import build
from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.price import Price

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)


def anzoth(dsn: str, *arguments: str) -> Result:
    return CliRunner().invoke(build(), ["usage", *arguments, "--database-url", dsn])


async def _use(dsn: str) -> None:
    database = await Database.open(dsn)
    price = Price(1_000_000, 500_000, 2_000_000)
    one, two = await add_customer(dsn, "acme"), await add_customer(dsn, "=bad()", num_keys=2)
    await insert(database, one, [one.row("a", NOW, price=price), one.row("b", NOW, model="n")])
    refused = two.row("c", NOW, key=1, prompt_tokens=0, completion_tokens=0)
    await insert(database, two, [refused, two.row("d", NOW - timedelta(days=40))])
    await database.close()


def test_use_is_summed_by_what_is_asked_for(dsn: str) -> None:
    asyncio.run(_use(dsn))
    lines = json.loads(anzoth(dsn, "--json").output)
    assert [(line["tenant"], line["name"], line["num_requests"]) for line in lines] == [
        ("=bad()", None, 0), ("acme", "m", 1), ("acme", "n", 1),
    ]  # fmt: skip
    assert (lines[1]["cost"], lines[1]["currency"]) == ("0.000020000", "usd")
    by_key = json.loads(anzoth(dsn, "--tenant", "=bad()", "--by", "key", "--json").output)
    assert [(line["name"], line["num_refused_requests"]) for line in by_key] == [("key 1", 1)]
    days = json.loads(anzoth(dsn, "--since", "41d", "--by", "day", "--json").output)
    assert len(days) == 3
    text = anzoth(dsn, "--by", "project", "--since", f"{NOW:%Y-%m-%d}").output
    assert "acme" in text
    assert "default" in text
    table = list(csv.DictReader(io.StringIO(anzoth(dsn, "--csv", "--by", "tenant").output)))
    assert [line["tenant"] for line in table] == ["'=bad()", "acme"]
    for wrong in (("--since", "yesterday"), ("--tenant", "nobody")):
        assert anzoth(dsn, *wrong).exit_code == 1


def test_verification_fails_when_a_sum_is_wrong_or_a_row_contradicts_itself(dsn: str) -> None:
    asyncio.run(_use(dsn))
    good = anzoth(dsn, "verify")
    assert (good.exit_code, good.output) == (0, "12 sums are those of 4 requests.\n")

    async def tamper() -> None:
        database = await Database.open(dsn)
        who = await add_customer(dsn, "third")
        await insert(database, who, [who.row("e", NOW, output_cost=1)])
        async with database.tenant(who.handle) as connection:
            await connection.execute("UPDATE anzoth.usage_rollup SET cached_tokens = 1")
        await database.close()

    asyncio.run(tamper())
    bad = anzoth(dsn, "verify", "--json")
    assert bad.exit_code == 1
    told = json.loads(bad.stdout)
    assert (told["is_right"], told["num_wrong_rows"], len(told["differences"])) == (False, 1, 3)


def test_a_repair_makes_the_sums_those_of_the_rows_and_says_what_it_changed(dsn: str) -> None:
    asyncio.run(_use(dsn))
    before = anzoth(dsn, "--by", "key", "--json").output

    async def damage(statement: str) -> None:
        async with pool.operator(dsn) as connection:
            assert await connection.execute(statement) != "UPDATE 0"

    changed = "UPDATE anzoth.usage_rollup SET output_cost = output_cost - 7, num_requests = 9"
    asyncio.run(damage(f"{changed} WHERE width = '1d' AND model = 'm'"))
    asyncio.run(damage("DELETE FROM anzoth.usage_rollup WHERE model = 'n'"))
    asyncio.run(
        damage(
            "INSERT INTO anzoth.usage_rollup SELECT tenant_id, width, bucket_start, key_id, "
            "project_id, user_id, 'ghost', model, service_tier, batch, 1, 2, 3, 4, 5, 6, 7, 8 "
            "FROM anzoth.usage_rollup WHERE width = '1h' AND model = 'm'"
        )
    )
    assert anzoth(dsn, "verify").exit_code == 1
    done = anzoth(dsn, "verify", "--repair", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["is_right"], told["num_cells"], told["differences"]) == (True, 12, [])
    tenants = {one["tenant"]: one["differences"] for one in told["repaired"]}
    assert {name: len(cells) for name, cells in tenants.items()} == {"acme": 5, "=bad()": 2}
    days = {
        cell["model"]: (cell["num_requests"], cell["output_cost"])
        for cells in tenants.values()
        for cell in cells
        if cell["width"] == "1d"
    }
    assert days == {"m": (-8, 7), "n": (1, 0)}
    assert anzoth(dsn, "--by", "key", "--json").output == before
    again = anzoth(dsn, "verify", "--repair")
    assert again.output == "12 sums are those of 4 requests.\n"

    async def recorded() -> list[str]:
        async with pool.operator(dsn) as connection:
            rows = await connection.fetch(
                "SELECT details FROM anzoth.audit_log WHERE type = 'usage.repaired' ORDER BY at"
            )
        return [str(row["details"]) for row in rows]

    events = [json.loads(details) for details in asyncio.run(recorded())]
    assert len(events) == 2
    of_acme = next(event for event in events if "1m" in event["num_sums"])
    assert of_acme["num_sums"] == {"1d": 2, "1h": 2, "1m": 1}
    assert of_acme["cost_by_the_day"] == "0.000000007"


def test_a_row_that_contradicts_itself_is_told_and_not_repaired(dsn: str) -> None:
    async def write() -> None:
        database = await Database.open(dsn)
        who = await add_customer(dsn, "acme")
        await insert(database, who, [who.row("a", NOW, output_cost=1)])
        await database.close()

    asyncio.run(write())
    done = anzoth(dsn, "verify", "--repair", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["num_wrong_rows"], told["repaired"]) == (1, 1, [])
