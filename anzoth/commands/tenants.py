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
    table = Table("Tenant", "Keys", "Created", "Id")
    for tenant in tenants:
        table.add_row(
            Text(tenant.name),
            str(tenant.num_keys),
            f"{tenant.created_at:%Y-%m-%d}",
            Text(str(tenant.id)),
        )
    Console().print(table)
