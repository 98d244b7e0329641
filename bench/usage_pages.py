"""How long does a page of usage take over a ledger of N rows?

    PYTHONPATH=tests/support python bench/usage_pages.py --rows 10000000 [--days 365] [--keep DIR]

Makes a Postgres of its own (about 1.4 KB for each row) and deletes it at the end, or keeps it, so
that it can be asked again without being filled. Rows are inserted by SQL, a hundred thousand with
each statement, so that every one passes through the trigger that makes the sums; four tenants share
them 70 : 20 : 9 : 1, and the first one, which is asked for its pages, has 40 keys and 4 models,
evenly used over the days. Then the application answers requests, without a socket: a year by the
day, a month by the hour, a day by the minute, as many pages as each takes, alone and grouped by key
and model. Prints one line of JSON: milliseconds for a page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from api_harness import Api, running_api
from api_stand_ins import PRINCIPAL
from checkpoints import write_checkpoint
from ledger_kit import Customer, add_customer

from anzoth.config import UsageConfig
from anzoth.db import embedded, migrate, pool
from anzoth.db.pool import Database
from anzoth.gateway.usage_reports import UsageReports

SHARES = ((0.7, 40), (0.2, 40), (0.09, 20), (0.01, 4))
"""Of the rows, and keys, of each tenant."""
CHUNK = 100_000
ROWS = """
    INSERT INTO anzoth.usage (
        tenant_id, project_id, request_id, started_at, key_id, endpoint, model, prompt_tokens,
        cached_tokens, completion_tokens, finish_reason, streamed, status, ttft_ms, duration_ms,
        service_tier, input_price, cached_input_price, output_price, input_cost, cached_input_cost,
        output_cost
    )
    SELECT $1, $2, 'req_' || n, $3::timestamptz + n * $4::interval,
        ($5::uuid[])[1 + n * 7919 % cardinality($5::uuid[])], '/v1/chat/completions',
        'model-' || n / cardinality($5::uuid[]) % 4, 900, 300, 150, 'stop', true, 200, 80, 2000,
        'default',
        150000, 75000, 600000, 90000, 22500, 90000
    FROM generate_series($6::bigint, $7::bigint - 1) AS n
"""


async def fill(dsn: str, customer: Customer, num_rows: int, start: datetime, days: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"SET ROLE {pool.APP_ROLE}")
    await connection.execute("SET synchronous_commit = off")
    tenant = str(customer.handle.id)
    await connection.execute("SELECT set_config('app.tenant', $1, false)", tenant)
    step = timedelta(days=days) / max(num_rows, 1)
    for first in range(0, num_rows, CHUNK):
        await connection.execute(
            ROWS,
            *(customer.handle.id, customer.project_id, start, step, list(customer.key_ids)),
            *(first, min(first + CHUNK, num_rows)),
        )
    await connection.close()


async def ask(api: Api, path: str) -> tuple[list[float], int]:
    """Milliseconds of each page, and how many results there were in all."""
    times, results, page = [], 0, ""
    while True:
        started_s = time.perf_counter()
        reply = await api.call("GET", path + page)
        times.append((time.perf_counter() - started_s) * 1000)
        assert reply.status == 200, reply.body
        body = reply.json
        results += sum(len(bucket["results"]) for bucket in body["data"])
        if not body["has_more"]:
            return times, results
        page = f"&page={body['next_page']}"


async def measure(dsn: str, tenant: uuid.UUID, end_s: int, repeats: int) -> list[dict[str, Any]]:
    database = await Database.open(dsn)
    reports = UsageReports(database, UsageConfig(), lambda: end_s)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_checkpoint(Path(folder) / "checkpoint")
        async with running_api(checkpoint, Path(folder) / "e.sock", reports=reports) as api:
            api.keys.principals["good"] = replace(
                PRINCIPAL,
                tenant=replace(PRINCIPAL.tenant, id=tenant),
                scopes=frozenset({"usage:read"}),
            )
            kind = "/v1/organization/usage/completions"
            for name, path, days in (
                ("a year by the day", f"{kind}?bucket_width=1d&limit=31", 365),
                ("a month by the hour", f"{kind}?bucket_width=1h&limit=168", 30),
                ("a day by the minute", f"{kind}?bucket_width=1m&limit=1440", 1),
                ("costs of a year", "/v1/organization/costs?limit=180", 365),
            ):
                groups = "&group_by=api_key_id" + (
                    "&group_by=line_item" if "costs" in path else "&group_by=model"
                )
                for group in ("", groups):
                    asked = f"{path}&start_time={end_s - days * 86_400}&end_time={end_s}{group}"
                    await ask(api, asked)  # warm-up
                    times, results = [], 0
                    for _ in range(repeats):
                        more, results = await ask(api, asked)
                        times += more
                    times.sort()
                    found.append(
                        {
                            "page": name + (", by key and model" if group else ""),
                            "p50_ms": round(statistics.median(times), 1),
                            "p95_ms": round(times[int(len(times) * 0.95)], 1),
                            "max_ms": round(times[-1], 1),
                            "num_pages": len(times) // repeats,
                            "num_results": results,
                        }
                    )
    await database.close()
    return found


async def prepare(dsn: str, num_rows: int, end: datetime, days: int) -> dict[str, Any]:
    """Fills the ledger; what is worth knowing about it."""
    await migrate.migrate(dsn)
    customers = [
        await add_customer(dsn, f"tenant {number}", num_keys)
        for number, (_, num_keys) in enumerate(SHARES)
    ]
    started_s = time.perf_counter()
    for customer, (share, _) in zip(customers, SHARES, strict=True):
        await fill(dsn, customer, round(num_rows * share), end - timedelta(days=days), days)
        print(f"{time.perf_counter() - started_s:7.0f} s: {customer.handle.name}", file=sys.stderr)
    filled_s = time.perf_counter() - started_s
    connection = await asyncpg.connect(dsn)
    await connection.execute("VACUUM ANALYZE anzoth.usage_rollup")
    sizes = {
        table: await connection.fetchval(f"SELECT pg_total_relation_size('anzoth.{table}')")
        for table in ("usage", "usage_rollup")
    }
    await connection.close()
    async with pool.operator(dsn) as operator:
        num_cells = await operator.fetchval("SELECT count(*) FROM anzoth.usage_rollup")
    return {
        "tenant": str(customers[0].handle.id), "end_s": int(end.timestamp()),
        "rows": num_rows, "days": days, "cells": num_cells,
        "mib": {table: size >> 20 for table, size in sizes.items()},
        "filled_s": round(filled_s), "rows_per_s": round(num_rows / filled_s),
    }  # fmt: skip


async def run(data_dir: Path, num_rows: int, days: int, repeats: int) -> dict[str, Any]:
    about = data_dir / "filled.json"
    async with embedded.running(data_dir) as dsn:
        if not about.exists():
            end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            about.write_text(json.dumps(await prepare(dsn, num_rows, end, days)))
        found = json.loads(about.read_text())
        tenant, end_s = uuid.UUID(found.pop("tenant")), found.pop("end_s")
        return found | {"pages": await measure(dsn, tenant, end_s, repeats)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path, default=None, help="where to keep the database")
    given = parser.parse_args(arguments)
    data_dir = given.keep or Path(tempfile.mkdtemp(prefix="anzoth-usage-"))
    data_dir.mkdir(exist_ok=True)
    data_dir.chmod(0o711)  # Postgres' own user must get in
    try:
        result = asyncio.run(run(data_dir, given.rows, given.days, given.repeats))
    finally:
        if given.keep is None:
            shutil.rmtree(data_dir, ignore_errors=True)
    git = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    result |= {
        "commit": git.stdout.strip()[:12], "python": platform.python_version(),
        "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
