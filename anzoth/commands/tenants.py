"""`anzoth tenants`: the customers of this installation.

Does not know: how a tenant is stored (see `gateway.directory`).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anzoth.commands import limit_options
from anzoth.commands.limit_options import (
    BudgetPerDay,
    BudgetPerMonth,
    Concurrency,
    ForModel,
    InputTpm,
    OutputTpm,
    Rpm,
    TokensPerDay,
    Tpm,
)
from anzoth.commands.options import (
    AsJson,
    Installation,
    command,
    print_json,
)
from anzoth.gateway import directory, project_directory

app = typer.Typer(help="Tenants: the customers that API keys belong to.", no_args_is_help=True)


@app.command("create")
@command
async def create(
    installation: Installation,
    name: Annotated[str, typer.Argument(help="The new tenant's name.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Create a tenant."""
    async with installation.database() as dsn:
        created = await directory.create_tenant(dsn, name)
    if as_json:
        print_json({"id": created.id, "name": created.name, "created_at": created.created_at})
    else:
        Console(soft_wrap=True).print(f"Created tenant {name}.", markup=False, highlight=False)


@app.command("list")
@command
async def list_(
    installation: Installation,
    as_json: AsJson = False,
) -> None:
    """List the tenants."""
    async with installation.database() as dsn:
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


@app.command("update")
@command
async def update(
    installation: Installation,
    name: Annotated[str, typer.Argument(help="The tenant's name.", show_default=False)],
    rpm: Rpm = None,
    tpm: Tpm = None,
    input_tpm: InputTpm = None,
    output_tpm: OutputTpm = None,
    concurrency: Concurrency = None,
    tokens_per_day: TokensPerDay = None,
    budget_per_day: BudgetPerDay = None,
    budget_per_month: BudgetPerMonth = None,
    for_model: ForModel = None,
    as_json: AsJson = False,
) -> None:
    """Change a tenant's limits, for all of its keys together. Servers see it within a second."""
    changes = limit_options.changes(
        rpm=rpm,
        tpm=tpm,
        input_tpm=input_tpm,
        output_tpm=output_tpm,
        concurrency=concurrency,
        tokens_per_day=tokens_per_day,
        budget_per_day=budget_per_day,
        budget_per_month=budget_per_month,
    )
    async with installation.database() as dsn:
        limits = await project_directory.update_tenant(dsn, name, limits=changes, model=for_model)
    if as_json:
        print_json({"name": name, "for_model": for_model, **limit_options.fields(limits)})
    else:
        Console(soft_wrap=True).print(
            f"The tenant {name}: {limit_options.describe(limits)}.", markup=False, highlight=False
        )


@app.command("limits")
@command
async def limits(
    installation: Installation,
    name: Annotated[str, typer.Argument(help="The tenant's name.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """List every limit of a tenant, of its projects and of its keys."""
    async with installation.database() as dsn:
        listed = await project_directory.list_limits(dsn, name)
    if as_json:
        print_json([limit_options.listed(limit) for limit in listed])
        return
    table = Table("Of", "Model", "Limits")
    for limit in listed:
        owner = f"key {limit.key}" if limit.key_id is not None else f"project {limit.project}"
        if limit.key_id is None and limit.project_id is None:
            owner = "tenant"
        values = limit_options.describe(limit_options.of_row(limit))
        table.add_row(Text(owner), Text(limit.model or "all"), values)
    Console().print(table)


@app.command("delete")
@command
async def delete(
    installation: Installation,
    name: Annotated[str, typer.Argument(help="The tenant's name.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant: its keys, its running requests, what caches hold of it. Its usage stays."""
    if not (yes or as_json):
        typer.confirm(f"Delete the tenant {name} for ever?", abort=True)
    async with installation.database() as dsn:
        deleted = await directory.delete_tenant(dsn, name)
    if as_json:
        print_json(deleted)
    else:
        documents = "It had no documents."
        if deleted.key_destroyed:
            documents = "The key of its documents was destroyed: nobody can read them any more."
        Console(soft_wrap=True).print(
            f"Deleted tenant {name}; {deleted.num_revoked_keys} keys were revoked. Running servers "
            f"end its requests and zero what they cached of it. {documents} Usage records are "
            "kept.",
            markup=False,
            highlight=False,
        )
