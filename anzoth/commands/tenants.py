"""`anzoth tenants`: the customers of this installation.

Does not know: how a tenant is stored (see `gateway.directory`).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
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
from anzoth.gateway import directory

app = typer.Typer(help="Tenants: the customers that API keys belong to.", no_args_is_help=True)


@app.command("create")
@command
async def create(
    name: Annotated[str, typer.Argument(help="The new tenant's name.", show_default=False)],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Create a tenant."""
    async with Installation.find(data_dir, config, database_url).database() as dsn:
        created = await directory.create_tenant(dsn, name)
    if as_json:
        print_json({"id": created.id, "name": created.name, "created_at": created.created_at})
    else:
        Console(soft_wrap=True).print(f"Created tenant {name}.", markup=False, highlight=False)


@app.command("list")
@command
async def list_(
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the tenants."""
    async with Installation.find(data_dir, config, database_url).database() as dsn:
        tenants = await directory.list_tenants(dsn)
    if as_json:
        print_json(tenants)
        return
    table = Table("Tenant", "Keys", "Created", "State", "Id")
    for tenant in tenants:
        table.add_row(
            Text(tenant.name),
            str(tenant.num_keys),
            f"{tenant.created_at:%Y-%m-%d}",
            "active" if tenant.deleted_at is None else f"deleted {tenant.deleted_at:%Y-%m-%d}",
            Text(str(tenant.id)),
        )
    Console().print(table)


@app.command("delete")
@command
async def delete(
    name: Annotated[str, typer.Argument(help="The tenant's name.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant: its keys, its running requests, what caches hold of it. Its usage stays."""
    if not (yes or as_json):
        typer.confirm(f"Delete the tenant {name} for ever?", abort=True)
    async with Installation.find(data_dir, config, database_url).database() as dsn:
        deleted = await directory.delete_tenant(dsn, name)
    if as_json:
        print_json(deleted)
    else:
        Console(soft_wrap=True).print(
            f"Deleted tenant {name}; {deleted.num_revoked_keys} keys were revoked. Running servers "
            "end its requests and zero what they cached of it. Usage records are kept.",
            markup=False,
            highlight=False,
        )
