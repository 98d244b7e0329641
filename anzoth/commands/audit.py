"""`anzoth audit`: who changed what, and has the record of it been changed?

Does not know: what an event is made of (see `gateway.audit`, `gateway.audit_chain`).
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from anzoth.commands.options import (
    AsJson,
    ConfigFile,
    DatabaseUrl,
    DataDir,
    Installation,
    command,
    fail,
    foreseen_errors,
    print_json,
)
from anzoth.db import pool
from anzoth.db.store import audit_rows, tenant_rows
from anzoth.gateway import audit_chain, audit_export, audit_heads
from anzoth.gateway.audit_chain import Report
from anzoth.gateway.audit_events import EVENTS
from anzoth.gateway.audit_export import NotAnExport
from anzoth.gateway.directory_checks import DirectoryError

app = typer.Typer(
    help="The audit log: list it, export it, verify that nobody changed it.", no_args_is_help=True
)

_READ_TIMEOUT_S = 3600
"""For all of a log: it is read as a stream."""
_INSTALLATION = "-"

Tenant = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        help=f"Only this tenant's; {_INSTALLATION} for what concerns the installation.",
        show_default=False,
    ),
]
PublicKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--public-key",
        help="A key that may have signed heads (hexadecimal digits); can be repeated.",
        show_default=False,
    ),
]


@app.command("list", epilog="Example: anzoth audit list --tenant acme --since 2026-01-31")
@command
async def list_(
    installation: Installation,
    tenant: Tenant = None,
    since: Annotated[
        datetime | None, typer.Option(help="Not older than this (UTC).", show_default=False)
    ] = None,
    type: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this type; can be repeated.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List the latest events."""
    for name in type or ():
        if name not in EVENTS:
            raise DirectoryError(f"there is no event {name!r}; there are: {', '.join(EVENTS)}")
    start = None if since is None else since.replace(tzinfo=UTC)
    async with (
        installation.database() as dsn,
        pool.operator(dsn) as connection,
    ):
        chain = await _chain(connection, tenant)
        rows = await audit_rows.list_events(connection, chain, start, type, limit)
        names = {row.id: row.name for row in await tenant_rows.list_tenants(connection)}
    if as_json:
        print_json([audit_chain.exported(row) for row in rows])
        return
    table = Table("When (UTC)", "Tenant", "No.", Column("Event", overflow="fold"), "Who", "What")
    for row in rows:
        target = row.target.get("kid") or row.target.get("id") or ""
        table.add_row(
            f"{row.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            Text(_INSTALLATION if row.tenant_id is None else names[row.tenant_id]),
            str(row.seq),
            Text(row.type),
            Text(f"{row.actor_kind} {row.actor_id or ''}".strip()),
            Text(str(row.details.get("name") or row.details.get("rule") or target)),
        )
    Console().print(table)


@app.command("export", epilog="Example: anzoth audit export audit-2026-01-31.jsonl")
@command
async def export(
    installation: Installation,
    file: Annotated[Path, typer.Argument(help="Where to.", show_default=False)],
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Write events, signed heads and the public key as JSON lines, to be verified anywhere."""
    key = installation.audit_key()
    try:
        stream = file.open("xb")
    except OSError as error:
        raise DirectoryError(f"cannot write {file}: {error.strerror}") from error
    with stream:
        async with (
            installation.database() as dsn,
            pool.operator(dsn, timeout_s=_READ_TIMEOUT_S) as connection,
        ):
            chain = await _chain(connection, tenant)
            num_events = await audit_export.write(connection, chain, key.public, stream)
    if as_json:
        print_json({"file": str(file), "num_events": num_events, "public_key": key.public.hex()})
    else:
        _say(f"Exported {num_events} events to {file}. Verify: anzoth audit verify {file}")


@app.command("verify", epilog="Example: anzoth audit verify audit.jsonl --public-key KEY")
def verify(
    file: Annotated[
        Path | None,
        typer.Argument(help="An export. Default: the database itself.", show_default=False),
    ] = None,
    public_key: PublicKeys = None,
    earlier: Annotated[
        Path | None,
        typer.Option(
            help="An earlier export: the heads in it must still be led to.", show_default=False
        ),
    ] = None,
    tenant: Tenant = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Say whether the log is whole, or which event is the first bad one and why. Then the status
    is 1.

    A FILE is verified offline, without database or server; heads are then believed whoever signed
    them, unless --public-key says who may have. The database's are believed if this installation
    signed them.
    """
    with foreseen_errors():
        trusted = None if public_key is None else [parse_public_key(text) for text in public_key]
        try:
            if file is not None:
                report = audit_export.verify_file(file, trusted, earlier)
            else:
                installation = Installation.find(data_dir, config, database_url)
                trusted = trusted or [installation.audit_key().public]
                report = asyncio.run(_verify_database(installation, tenant, trusted, earlier))
        except NotAnExport as error:
            fail(str(error))
        except OSError as error:
            fail(f"cannot read {error.filename}: {error.strerror}")
    if as_json:
        print_json(asdict(report))
    else:
        _show(report, is_pinned=trusted is not None)
    if report.problems:
        raise typer.Exit(1)


@app.command("sign")
@command
async def sign(
    installation: Installation,
    as_json: AsJson = False,
) -> None:
    """Sign now where each chain has got to. A running server does this once a day."""
    key = installation.audit_key()
    async with installation.database() as dsn:
        heads = await audit_heads.sign(dsn, key, datetime.now(UTC))
    if as_json:
        print_json([audit_chain.exported_head(head) for head in heads])
    else:
        _say(f"Signed the heads of {len(heads)} chains; the others had been signed.")


@app.command("key")
def key(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print the public key of the signatures: what `verify --public-key` takes."""
    with foreseen_errors():
        public_key = Installation.find(data_dir, config, None).audit_key().public.hex()
    if as_json:
        print_json({"public_key": public_key})
    else:
        print(public_key)


async def _verify_database(
    installation: Installation, tenant: str | None, trusted: list[bytes], earlier: Path | None
) -> Report:
    async with (
        installation.database() as dsn,
        pool.operator(dsn, timeout_s=_READ_TIMEOUT_S) as connection,
    ):
        chain = await _chain(connection, tenant)
        return await audit_export.verify_database(connection, chain, trusted, earlier)


async def _chain(connection: pool.Connection, tenant: str | None) -> UUID | None:
    """None: all of them. Raises DirectoryError. A deleted tenant's log is there, too."""
    if tenant is None:
        return None
    if tenant == _INSTALLATION:
        return audit_rows.INSTALLATION
    found = await tenant_rows.find_tenant(connection, tenant)
    if found is None:
        raise DirectoryError(f"there is no tenant named {tenant!r}")
    return found.id


def parse_public_key(text: str) -> bytes:
    """What `--public-key` says. Raises DirectoryError."""
    try:
        public_key = bytes.fromhex(text)
    except ValueError:
        public_key = b""
    if len(public_key) != 32:
        raise DirectoryError("--public-key is not one; expected what `anzoth audit key` prints")
    return public_key


def _show(report: Report, *, is_pinned: bool) -> None:
    for problem in report.problems:
        chain = "installation" if problem.tenant_id is None else f"tenant {problem.tenant_id}"
        event = "" if problem.seq is None else f", event {problem.seq}"
        id = "" if problem.id is None else f" ({problem.id})"
        _say(f"BAD  {chain}{event}{id}: {problem.reason}")
    found = f"{report.num_events} events in {report.num_chains} chains, {report.num_heads} heads"
    if report.problems:
        _say(f"The log was changed. Looked at {found}.")
        return
    _say(f"The log is whole: {found}. Not signed yet: the last {report.num_after_heads} events.")
    if report.public_keys and not is_pinned:
        signers = ", ".join(report.public_keys)
        _say(f"Signed by {signers}: check that it is the installation's, or use --public-key.")


def _say(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)
