"""`anzoth keys`: who may call the API, and how much.

A key is printed once, when it is created; nothing can show it again.

Does not know: what a key looks like or how it is stored (see `gateway.keys`, `gateway.directory`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

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
    print_json,
)
from anzoth.db.store.key_rows import KeyListing
from anzoth.gateway import directory
from anzoth.gateway.directory import CreatedKey, DirectoryError, KeyRequest

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)


@app.command("create")
@command
async def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is.", show_default=False)],
    name: Annotated[str, typer.Option(help="What it is for.", show_default=False)],
    project: Annotated[
        str | None,
        typer.Option(help="Its project. Default: the tenant's default one.", show_default=False),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What it may do ({', '.join(directory.SCOPES)}); can be repeated. "
            f"Default: {', '.join(directory.DEFAULT_SCOPES)}.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model it may use, or a pattern (llama-*); can be repeated. Default: all.",
            show_default=False,
        ),
    ] = None,
    rpm: Annotated[
        int | None,
        typer.Option(help="Requests per minute. Default: unlimited.", show_default=False),
    ] = None,
    tpm: Annotated[
        int | None,
        typer.Option(
            help="Tokens per minute, prompt and output. Default: unlimited.", show_default=False
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            help="For how long it is valid: 30m, 12h, 90d, 4w. Default: for ever.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it, this once."""
    request = KeyRequest(
        tenant=tenant,
        name=name,
        project=project,
        scopes=tuple(scope or directory.DEFAULT_SCOPES),
        models=tuple(model) if model else None,
        rpm=rpm,
        tpm=tpm,
        expires_at=None if expires is None else _expiry(expires),
    )
    installation = Installation.find(data_dir, config, database_url)
    async with installation.database() as dsn:
        created = await directory.create_key(dsn, installation.pepper(), request)
    if as_json:
        print_json(_describe(created))
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"Key for {tenant} ({name}). It is not stored and not shown again:\n", markup=False
    )
    console.print(f"  {created.key.text}\n", markup=False)


@app.command("list")
@command
async def list_(
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's keys.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the keys, never their secret half."""
    async with Installation.find(data_dir, config, database_url).database() as dsn:
        listed = await directory.list_keys(dsn, tenant)
    if as_json:
        print_json(listed)
        return
    kid = Column("Kid", min_width=12)  # whole, whatever the width: `revoke` takes it
    table = Table(kid, "Tenant", "Name", "Scopes", "Models", "rpm", "tpm", "State")
    for key in listed:
        table.add_row(
            Text(key.kid),
            Text(_owner(key)),
            Text(key.name),
            Text(", ".join(key.scopes)),
            Text("all" if key.models is None else ", ".join(key.models)),
            "-" if key.rpm is None else str(key.rpm),
            "-" if key.tpm is None else str(key.tpm),
            _state(key),
        )
    Console().print(table)


@app.command("revoke")
@command
async def revoke(
    key: Annotated[str, typer.Argument(help="Its id or kid, as listed.", show_default=False)],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """End a key. Running servers refuse it at once."""
    async with Installation.find(data_dir, config, database_url).database() as dsn:
        revoked = await directory.revoke_key(dsn, key)
    if as_json:
        print_json(revoked)
    else:
        Console(soft_wrap=True).print(
            f"Revoked the key {revoked.name} of {revoked.tenant}.", markup=False, highlight=False
        )


def _owner(key: KeyListing) -> str:
    """The tenant, and the project unless it is the default one."""
    is_default = key.project == directory.DEFAULT_PROJECT
    return key.tenant if is_default else f"{key.tenant} / {key.project}"


def _describe(created: CreatedKey) -> dict[str, object]:
    request = created.request
    return {
        "id": created.id,
        "key": created.key.text,
        "kid": created.key.kid,
        "tenant": request.tenant,
        "project": request.project or directory.DEFAULT_PROJECT,
        "name": request.name,
        "scopes": request.scopes,
        "models": request.models,
        "rpm": request.rpm,
        "tpm": request.tpm,
        "created_at": created.created_at,
        "expires_at": request.expires_at,
    }


def _expiry(duration: str) -> datetime:
    match = _DURATION.fullmatch(duration)
    if match is None or int(match[1]) == 0:
        raise DirectoryError(f"--expires is {duration!r}; expected a duration such as 12h or 90d")
    return datetime.now(UTC) + timedelta(**{_UNITS[match[2]]: int(match[1])})


def _state(key: KeyListing) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.expires_at is None:
        return "active"
    verb = "expired" if key.expires_at <= datetime.now(UTC) else "until"
    return f"{verb} {key.expires_at:%Y-%m-%d}"
