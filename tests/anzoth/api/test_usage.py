"""Do usage and cost pages have OpenAI's shapes, the right sums, and nothing of another tenant?

The application over a real database; nothing here needs an engine.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from api_harness import Api, running_api
from api_stand_ins import PRINCIPAL
from ledger_kit import START, Customer, add_customer, insert
from openai.types.admin.organization import UsageCompletionsResponse, UsageCostsResponse

from anzoth.config import UsageConfig
from anzoth.db.pool import Database
from anzoth.gateway.limit_rules import LimitRule, Limits
from anzoth.gateway.usage_reports import UsageReports
from anzoth.price import Price

pytestmark = pytest.mark.slow

T = int(START.timestamp())
NOW_S = T + 3 * 86_400 + 7
PRICE = Price(150_000, 75_000, 600_000)
Scenario = Callable[[Api, Database, Customer], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture
def run(dsn: str, checkpoint: Path, tmp_path: Path) -> Run:
    """Runs a scenario for a customer with two keys; the API's time is NOW_S."""

    async def main(scenario: Scenario) -> None:
        database = await Database.open(dsn)
        reports = UsageReports(database, UsageConfig("eur", 30), lambda: NOW_S)
        who = await add_customer(dsn, "one", num_keys=2)
        async with running_api(checkpoint, tmp_path / "e.sock", reports=reports) as api:
            api.keys.principals["good"] = replace(
                PRINCIPAL,
                tenant=who.handle,
                project_id=who.project_id,
                key_id=who.key_ids[0],
                scopes=frozenset({"usage:read"}),
            )
            await scenario(api, database, who)
        await database.close()

    return lambda scenario: asyncio.run(main(scenario))


async def get(api: Api, path: str) -> Any:
    reply = await api.call("GET", path)
    assert reply.status == 200, reply.body
    return reply.json


def test_a_page_has_every_bucket_in_order_and_sums_what_started_in_it(run: Run) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        later = START + timedelta(days=2, hours=5)
        rows = [
            who.row("a", cached_tokens=4, reasoning_tokens=2),
            who.row("b", later),
            who.row("c", later, endpoint="/v1/completions"),
            who.row("d", later, endpoint="/v1/embeddings", completion_tokens=0),
            who.row("e", later, prompt_tokens=0, completion_tokens=0, status=429),
        ]
        await insert(database, who, rows)
        body = await get(api, f"/v1/organization/usage/completions?start_time={T}")
        UsageCompletionsResponse.model_validate(body, strict=True)
        assert (body["object"], body["has_more"], body["next_page"]) == ("page", False, None)
        assert [bucket["start_time"] - T for bucket in body["data"]] == [
            day * 86_400 for day in range(4)
        ]
        sums = [[r["num_model_requests"] for r in b["results"]] for b in body["data"]]
        assert sums == [[1], [], [2], []]
        assert body["data"][0]["results"][0] == {
            "object": "organization.usage.completions.result",
            "input_tokens": 10, "input_cached_tokens": 4, "input_uncached_tokens": 6,
            "output_tokens": 5, "output_reasoning_tokens": 2,
            "input_audio_tokens": 0, "output_audio_tokens": 0, "num_model_requests": 1,
            "project_id": None, "user_id": None, "api_key_id": None, "model": None,
            "batch": None, "service_tier": None,
        }  # fmt: skip
        body = await get(api, f"/v1/organization/usage/embeddings?start_time={T}")
        assert body["data"][2]["results"][0]["input_tokens"] == 10

    run(scenario)


def test_groups_and_filters_in_any_combination(run: Run) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        user = UUID(int=5)
        rows = [
            who.row("a"),
            who.row("b", key=1, model="n", user_id=user),
            who.row("c", key=1, service_tier="flex", batch=True),
        ]
        await insert(database, who, rows)
        one, two = map(str, who.key_ids)
        for query, groups, expected in (
            ("group_by=model", ("model",), [("m", 2), ("n", 1)]),
            ("group_by[]=model&group_by[]=api_key_id", ("api_key_id", "model"), None),
            ("group_by=batch", ("batch",), [(False, 2), (True, 1)]),
            ("group_by=service_tier", ("service_tier",), [("default", 2), ("flex", 1)]),
            ("group_by=user_id", ("user_id",), [(str(user), 1), (None, 2)]),
            ("group_by=project_id", ("project_id",), [(str(who.project_id), 3)]),
            (f"api_key_ids[]={two}", (), [(2,)]),
            (f"api_key_ids={one}&api_key_ids={two}", (), [(3,)]),
            ("models=n", (), [(1,)]),
            ("batch=false&models=m", (), [(1,)]),
            (f"user_ids={user}", (), [(1,)]),
            (f"project_ids={UUID(int=9)}", (), []),
        ):
            path = f"/v1/organization/usage/completions?start_time={T}&limit=1&{query}"
            results = (await get(api, path))["data"][0]["results"]
            found = [(*(r[g] for g in groups), r["num_model_requests"]) for r in results]
            if expected is None:
                expected = sorted([(one, "m", 1), (two, "m", 1), (two, "n", 1)])
            assert found == expected, query

    run(scenario)


@pytest.mark.parametrize(("width", "step"), [("1m", 60), ("1h", 3600), ("1d", 86_400)])
def test_pages_follow_each_other_without_gap_or_overlap(run: Run, width: str, step: int) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        rows = [who.row(f"r{n}", START + timedelta(seconds=n * step)) for n in range(7)]
        await insert(database, who, rows)
        # Neither end is on a boundary: the buckets that hold them are shown whole.
        base = f"/v1/organization/usage/completions?start_time={T + 1}&end_time={T + 6 * step + 1}"
        base += f"&bucket_width={width}"
        starts, counts, page, num_pages = [], 0, "", 0
        while True:
            body = await get(api, f"{base}&limit=3{page}")
            num_pages += 1
            for bucket in body["data"]:
                assert bucket["end_time"] - bucket["start_time"] == step
                starts.append(bucket["start_time"])
                counts += sum(r["num_model_requests"] for r in bucket["results"])
            if not body["has_more"]:
                break
            page = f"&page={body['next_page']}"
        assert starts == [T + n * step for n in range(7)]
        assert (counts, num_pages) == (7, 3)

    run(scenario)


def test_costs_are_exact_and_split_into_line_items(run: Run) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        tokens: dict[str, Any] = {
            "prompt_tokens": 1_000_003,
            "cached_tokens": 3,
            "completion_tokens": 7,
        }
        rows = [who.row("a", price=PRICE, **tokens), who.row("b", model="unpriced")]
        await insert(database, who, rows)
        total = await get(api, f"/v1/organization/costs?start_time={T}&limit=1")
        UsageCostsResponse.model_validate(total, strict=True)
        assert total["data"][0]["results"] == [
            {
                "object": "organization.costs.result",
                "amount": {"value": 0.150004425, "currency": "eur"},
                "quantity": None, "quantity_unit": None, "project_id": None, "user_id": None,
                "api_key_id": None, "line_item": None,
            }
        ]  # fmt: skip
        path = f"/v1/organization/costs?start_time={T}&limit=1&group_by[]=line_item"
        items = (await get(api, path))["data"][0]["results"]
        assert [(i["line_item"], i["quantity"], i["amount"]["value"]) for i in items] == [
            ("m, cached_input_tokens", 3, 0.000000225),
            ("m, input_tokens", 1_000_000, 0.15),
            ("m, output_tokens", 7, 0.0000042),
            ("unpriced, input_tokens", 10, 0.0),
            ("unpriced, output_tokens", 5, 0.0),
        ]
        one = await get(api, f"{path}&line_items[]=m,%20output_tokens")
        assert [item["line_item"] for item in one["data"][0]["results"]] == ["m, output_tokens"]

    run(scenario)


def test_csv_has_the_whole_range_one_line_for_each_result(run: Run) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        rows = [
            who.row("a", price=PRICE),
            who.row("b", START + timedelta(hours=70), model='=1+"1",x', price=PRICE),
        ]
        await insert(database, who, rows)
        path = "/v1/organization/usage/completions?start_time=0&bucket_width=1h&group_by=model"
        for how in (
            {"path": f"{path}&format=csv"},
            {"path": path, "headers": {"accept": "text/csv"}},
        ):
            reply = await api.call("GET", **how)  # pyright: ignore[reportArgumentType]
            assert reply.status == 200
        assert (
            b'2026-01-03T22:00:00Z,2026-01-03T23:00:00Z,"\'=1+""1"",x",10,1,5,0,10,0\r\n'
            in reply.body
        )
        assert reply.body.count(b"\r\n") == 3
        table = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
        assert [line["model"] for line in table] == ["m", '\'=1+"1",x']
        costs = await api.call("GET", f"/v1/organization/costs?start_time={T}&format=csv")
        (line, other) = csv.DictReader(io.StringIO(costs.body.decode(), newline=""))
        assert (line["amount"], line["currency"]) == ("0.000004500", "eur")
        assert other["start_time"] == "2026-01-03T00:00:00Z"

    run(scenario)


def test_impossible_questions_are_refused_by_name(run: Run) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        for query, param in (
            ("", "start_time"),
            ("start_time=yesterday", "start_time"),
            ("start_time=-1", "start_time"),
            (f"start_time={T}&start_time={T}", "start_time"),
            (f"start_time={T}&end_time={T}", "end_time"),
            (f"start_time={T}&bucket_width=2d", "bucket_width"),
            (f"start_time={T}&limit=32", "limit"),
            (f"start_time={T}&limit=0", "limit"),
            (f"start_time={T}&bucket_width=1m&limit=1441", "limit"),
            (f"start_time={T}&group_by=colour", "group_by"),
            (f"start_time={T}&api_key_ids=nobody", "api_key_ids"),
            (f"start_time={T}&page=page_{T + 1}", "page"),
            (f"start_time={T}&page=page_0", "page"),
            (f"start_time={T}&batch=1", "batch"),
            (f"start_time={T}&models=%00", "models"),
            (f"start_time={T}&colour=red", "colour"),
            (f"start_time={T}&format=xml", "format"),
            (f"start_time={T - 40 * 86_400}&bucket_width=1m", "start_time"),
        ):
            reply = await api.call("GET", f"/v1/organization/usage/completions?{query}")
            assert (reply.status, reply.error["param"]) == (400, param), query
        reply = await api.call("GET", f"/v1/organization/usage/elephants?start_time={T}")
        assert reply.status == 404

    run(scenario)


def test_another_tenant_s_use_is_seen_by_nobody_else(run: Run, dsn: str) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        other = await add_customer(dsn, "two")
        await insert(database, other, [other.row("a", price=PRICE)])
        for path in (
            f"/v1/organization/usage/completions?start_time={T}",
            f"/v1/organization/usage/completions?start_time={T}&api_key_ids={other.key_ids[0]}",
            f"/v1/organization/costs?start_time={T}",
        ):
            assert all(bucket["results"] == [] for bucket in (await get(api, path))["data"])

    run(scenario)


def test_a_key_sees_its_own_use_and_no_more(run: Run) -> None:
    async def scenario(api: Api, database: Database, who: Customer) -> None:
        rows = [
            who.row("a", START, price=PRICE),
            who.row("b", START + timedelta(days=3), price=PRICE),
            who.row("c", START + timedelta(days=3), prompt_tokens=0, completion_tokens=0),
            who.row("last year", START - timedelta(seconds=1)),
            who.row("another key's", START + timedelta(days=3), key=1),
        ]
        await insert(database, who, rows)
        good = api.keys.principals["good"]
        limits = (LimitRule("key", who.key_ids[0], Limits(rpm=60, budget_per_month=2_500_000_000)),)
        api.keys.principals["good"] = replace(good, scopes=frozenset({"chat"}), limits=limits)
        body = await get(api, "/v1/usage")
        assert body["api_key_id"] == str(who.key_ids[0])
        (limit,) = body["limits"]
        assert (limit["level"], limit["rpm"], limit["tpm"]) == ("key", 60, None)
        assert limit["budget_per_month"] == {"value": 2.5, "currency": "eur"}
        assert limit["budget_per_day"] is None
        assert body["today"] == {
            "start_time": T + 3 * 86_400, "num_requests": 1, "num_refused_requests": 1,
            "input_tokens": 10, "input_cached_tokens": 0, "output_tokens": 5,
            "output_reasoning_tokens": 0, "cost": {"value": 0.0000045, "currency": "eur"},
        }  # fmt: skip
        api.keys.principals["good"] = replace(good, key_id=None)
        assert (await api.call("GET", "/v1/usage")).status == 403
        month = body["this_month"]
        assert (month["start_time"], month["num_requests"], month["input_tokens"]) == (T, 2, 20)

    run(scenario)
