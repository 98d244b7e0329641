"""`anzoth service-accounts`: programs that own keys of a project.

Keys of a person end when the person leaves; those of a service account stay until it is deleted.

Does not know: how an account is stored (see `gateway.service_account_directory`).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anzoth.commands import key_options
from anzoth.commands.key_options import words
from anzoth.commands.options import AsJson, Installation, command, print_json
from anzoth.gateway import directory, service_account_directory
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.directory_checks import DirectoryError

app = typer.Typer(help="Service accounts: create, list, delete.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose account it is.", show_default=False)]


@app.command("create")
@command
async def create(
    installation: Installation,
    name: Annotated[str, typer.Argument(help="What it is called.", show_default=False)],
    tenant: Tenant,
    project: Annotated[
        str | None,
        typer.Option(help="Its project. Default: the tenant's default one.", show_default=False),
    ] = None,
    scope: Annotated[
        list[str] | None,
        words(f"What its key may do. Default: {', '.join(directory.DEFAULT_SCOPES)}"),
    ] = None,
    model: Annotated[
        list[str] | None, words("A model its key may use, or a pattern (llama-*). Default: all")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            help="For how long its key is valid: 30m, 12h, 90d, 4w. Default: for ever.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create an account and print its first key, this once.

    More of them: anzoth keys create --service-account.
    """
    request = KeyRequest(
        tenant=tenant,
        name=name,
        project=project,
        scopes=tuple(scope or directory.DEFAULT_SCOPES),
        models=tuple(model) if model else None,
        expires_at=None if expires is None else key_options.expiry(expires),
    )
    async with installation.database() as dsn:
        made, key = await service_account_directory.create(
            dsn, installation.pepper(), name, request
        )
    if as_json:
        print_json({**dataclasses.asdict(made), "key_id": key.id, "key": key.key.text})
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"Key of the service account {name} of {tenant}. It is not stored and not shown again:\n",
        markup=False,
    )
    console.print(f"  {key.key.text}\n", markup=False)


@app.command("list")
@command
async def list_(
    installation: Installation,
    tenant: Tenant,
    project: Annotated[
        str | None, typer.Option(help="Only this project's.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the service accounts of a tenant."""
    async with installation.database() as dsn:
        listed = await service_account_directory.list_all(dsn, tenant, project)
    if as_json:
        print_json(listed)
        return
    table = Table("Id", "Name", "Project", "Created")
    for account in listed:
        table.add_row(
            Text(str(account.id)),
            Text(account.name),
            Text(account.project),
            f"{account.created_at:%Y-%m-%d}",
        )
    Console().print(table)


@app.command("delete")
@command
async def delete(
    installation: Installation,
    account: Annotated[str, typer.Argument(help="Its id, as listed.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """End an account: its keys are revoked, their requests end. Its usage stays."""
    account_id = parse_id(account)
    async with installation.database() as dsn:
        deleted = await service_account_directory.delete(dsn, account_id)
    if as_json:
        print_json(deleted)
    else:
        Console(soft_wrap=True).print(
            f"Deleted; {deleted.num_revoked_keys} keys were revoked.",
            markup=False,
            highlight=False,
        )


def parse_id(text: str) -> UUID:
    """Raises DirectoryError."""
    try:
        return UUID(text)
    except ValueError:
        raise DirectoryError(
            "this is not a service account's id; `anzoth service-accounts list` shows them"
        ) from None
