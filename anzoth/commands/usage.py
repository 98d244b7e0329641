"""`anzoth usage`: what the customers used, what it cost, and whether the sums are right.

Does not know: how use is summed (see `db.store.usage_rollup_rows`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anzoth.api import csv_lines
from anzoth.commands.options import (
    AsJson,
    ConfigFile,
    DatabaseUrl,
    DataDir,
    Installation,
    command,
    fail,
    print_json,
)
from anzoth.db import pool
from anzoth.db.store import tenant_rows, usage_rollup_rows
from anzoth.db.store.usage_rollup_rows import UsageSummary
from anzoth.gateway import usage_repair
from anzoth.gateway.directory import DirectoryError
from anzoth.gateway.usage_retention import kept_since
from anzoth.price import decimal

app = typer.Typer(help="What was used, and what it cost.", invoke_without_command=True)

_DAYS = re.compile(r"(\d{1,5})d", re.ASCII)
_SUMMARY_TIMEOUT_S = 60
_VERIFY_TIMEOUT_S = 3600
_MAX_DIFFERENCES = 20


class By(StrEnum):
    """What a summary has one line for."""

    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"
    MODEL = "model"
    DAY = "day"


@app.callback()
def usage(
    context: typer.Context,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's.", show_default=False)
    ] = None,
    since: Annotated[
        str, typer.Option(help="The first day: a date, or days before today (30d). In UTC.")
    ] = "30d",
    by: Annotated[By, typer.Option(help="What to sum by.")] = By.MODEL,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
) -> None:
    """What was used, and what it cost, whole days in UTC."""
    if context.invoked_subcommand is None:
        _summarise(
            tenant=tenant,
            since=since,
            by=by,
            data_dir=data_dir,
            config=config,
            database_url=database_url,
            as_json=as_json,
            as_csv=as_csv,
        )


@command
async def _summarise(
    installation: Installation,
    tenant: str | None,
    since: str,
    by: By,
    as_json: bool,
    as_csv: bool,
) -> None:
    first = _first_day(since)
    async with (
        installation.database() as dsn,
        pool.operator(dsn, timeout_s=_SUMMARY_TIMEOUT_S) as connection,
    ):
        if tenant is not None and await tenant_rows.find_tenant(connection, tenant) is None:
            raise DirectoryError(f"there is no tenant named {tenant!r}")
        lines = await usage_rollup_rows.summarise_usage(connection, tenant, first, by)
    currency = installation.config.usage.currency
    if as_json:
        print_json(
            [{**asdict(line), "cost": decimal(line.cost), "currency": currency} for line in lines]
        )
    elif as_csv:
        names = [field.name for field in fields(UsageSummary)]
        values = [
            (*(str(value) if value is not None and name == "id" else value
               for name, value in {**asdict(line), "cost": decimal(line.cost)}.items()), currency)
            for line in lines
        ]  # fmt: skip
        print(csv_lines.lines([(*names, "currency"), *values]), end="")
    else:
        _print_table(lines, by, currency)


@app.command("verify")
@command
async def verify(
    installation: Installation,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Make wrong sums right first; recorded in the tenants' audit logs."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every sum with the requests it was made of. Fails when one is wrong.

    A server may be running: everything is read as it was at one moment.
    """
    since = kept_since(datetime.now(UTC), installation.config.usage.minute_retention_days)
    async with installation.database() as dsn:
        repaired = (
            await usage_repair.repair(dsn, since, timeout_s=_VERIFY_TIMEOUT_S) if repair else []
        )
        async with pool.operator(dsn, timeout_s=_VERIFY_TIMEOUT_S) as connection:
            counts, differences = await usage_rollup_rows.verify_usage(
                connection, since, _MAX_DIFFERENCES
            )
    is_right = not differences and not counts.num_wrong_rows
    if as_json:
        told = {"is_right": is_right, **asdict(counts), "differences": differences}
        print_json(told | ({"repaired": list(map(asdict, repaired))} if repair else {}))
    else:
        for one in repaired:
            sums = ", ".join(f"{number} of {width}" for width, number in one.by_width().items())
            print(f"{one.tenant}: made right {sums}; --json and the audit log say more.")
    if not is_right:
        at_least = "at least " if len(differences) == _MAX_DIFFERENCES else ""
        fail(
            f"{at_least}{len(differences)} of {counts.num_cells} sums are not those of the "
            f"{counts.num_rows} requests, and {counts.num_wrong_rows} requests contradict "
            "themselves; --json shows which sums"
        )
    if not as_json:
        print(f"{counts.num_cells} sums are those of {counts.num_rows} requests.")


def _first_day(since: str) -> datetime:
    if (match := _DAYS.fullmatch(since)) is not None:
        day = datetime.now(UTC).date() - timedelta(days=int(match[1]))
    else:
        try:
            day = date.fromisoformat(since)
        except ValueError:
            raise DirectoryError(
                f"--since is {since!r}; expected a date such as 2026-11-01, or days such as 30d"
            ) from None
    return datetime.combine(day, time(), UTC)


def _print_table(lines: Sequence[UsageSummary], by: By, currency: str) -> None:
    table = Table("Tenant", *([] if by is By.TENANT else [by.capitalize()]))
    for heading in ("Requests", "Refused", "Input", "Cached", "Output", f"Cost ({currency})"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(
            Text(line.tenant),
            *([] if by is By.TENANT else [Text("-" if line.name is None else line.name)]),
            *(str(line.num_requests), str(line.num_refused_requests), str(line.prompt_tokens)),
            *(str(line.cached_tokens), str(line.completion_tokens), decimal(line.cost)),
        )
    Console().print(table)
