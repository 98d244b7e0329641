"""`anzoth files`: what a tenant's projects have stored.

Does not know: how a file is stored (see `gateway.files`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anzoth.api import files as api
from anzoth.api.forms import base_name
from anzoth.commands.options import AsJson, Installation, command, fail, print_json
from anzoth.errors import AnzothError
from anzoth.gateway import operator_files
from anzoth.gateway.files import FileOwner, FileRequest, Files, FileView
from anzoth.gateway.tenant_crypt import CannotOpen

app = typer.Typer(help="Files: what the projects of a tenant have stored.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose files.", show_default=False)]
Project = Annotated[
    str | None, typer.Option(help="Of which project. Default: the default one.", show_default=False)
]
_READ_BYTES = 1 << 20
_PAGE = 1000


@app.command("add")
@command
async def add(
    installation: Installation,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files to store.", exists=True, dir_okay=False, show_default=False),
    ],
    tenant: Tenant,
    project: Project = None,
    purpose: Annotated[
        str, typer.Option(help=f"What for: {', '.join(api.PURPOSES)}.")
    ] = "assistants",
    as_json: AsJson = False,
) -> None:
    """Store files."""
    if purpose not in api.PURPOSES:
        fail(f"the purpose can be {', '.join(api.PURPOSES)}")
    added: list[FileView] = []
    async with _files(installation, tenant, project) as (files, owner):
        for path in paths:
            incoming = await files.begin(owner)
            try:
                with path.open("rb") as content:
                    while data := content.read(_READ_BYTES):
                        await incoming.write(data)
                name = base_name(path.name, "filename")
                added.append(await incoming.complete(FileRequest(name, purpose, None)))
            except AnzothError as error:
                fail(f"{path}: {error.message}")
            finally:
                incoming.abandon()
            if not as_json:
                _say(f"Stored {path} as {added[-1].id}.")
    if as_json:
        print_json([api.describe(file) for file in added])


@app.command("list")
@command
async def list_(
    installation: Installation,
    tenant: Tenant,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """List the files of a project, the oldest first."""
    found: list[FileView] = []
    async with _files(installation, tenant, project) as (files, owner):
        after: str | None = None
        while page := await files.list(owner, _PAGE, is_ascending=True, after=after):
            found += page
            after = page[-1].id
    if as_json:
        print_json([api.describe(file) for file in found])
        return
    table = Table("File", "Bytes", "Purpose", "Created", "Expires", "Id")
    for file in found:
        table.add_row(
            Text(file.filename),
            f"{file.bytes:,}",
            file.purpose,
            f"{file.created_at:%Y-%m-%d}",
            "never" if file.expires_at is None else f"{file.expires_at:%Y-%m-%d}",
            Text(file.id),
        )
    Console().print(table)


@app.command("delete")
@command
async def delete(
    installation: Installation,
    ids: Annotated[list[str], typer.Argument(help="Their ids.", show_default=False)],
    tenant: Tenant,
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Delete files."""
    async with _files(installation, tenant, project) as (files, owner):
        for id in ids:
            await files.delete(owner, id)
            if not as_json:
                _say(f"Deleted {id}.")
    if as_json:
        print_json([{"id": id, "object": "file", "deleted": True} for id in ids])


@contextlib.asynccontextmanager
async def _files(
    installation: Installation, tenant: str, project: str | None
) -> AsyncIterator[tuple[Files, FileOwner]]:
    pepper, master = installation.pepper(), installation.master_key()
    async with installation.database() as dsn:
        try:
            async with operator_files.files_of(
                dsn, pepper, master, installation.config.files, tenant, project
            ) as opened:
                yield opened
        except AnzothError as error:
            fail(error.message)
        except CannotOpen as error:
            fail(str(error))


def _say(sentence: str) -> None:
    Console(soft_wrap=True).print(sentence, markup=False, highlight=False)
