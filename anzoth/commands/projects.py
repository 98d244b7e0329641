"""`anzoth projects`: the parts of a tenant that are granted, limited and counted on their own.

Does not know: how a project is stored (see `gateway.project_directory`).
"""

from __future__ import annotations

import dataclasses
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
from anzoth.gateway import project_directory

app = typer.Typer(help="Projects: the parts of a tenant that keys belong to.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose project it is.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The project's name.", show_default=False)]


@app.command("create")
@command
async def create(
    installation: Installation,
    name: Name,
    tenant: Tenant,
    rpm: Rpm = None,
    tpm: Tpm = None,
    input_tpm: InputTpm = None,
    output_tpm: OutputTpm = None,
    concurrency: Concurrency = None,
    tokens_per_day: TokensPerDay = None,
    budget_per_day: BudgetPerDay = None,
    budget_per_month: BudgetPerMonth = None,
    as_json: AsJson = False,
) -> None:
    """Create a project. Its limits hold for all of its keys together."""
    limits = limit_options.limits(
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
        created = await project_directory.create_project(dsn, tenant, name, limits)
    if as_json:
        print_json(
            {**dataclasses.asdict(created), "tenant": tenant, **limit_options.fields(limits)}
        )
    else:
        _say(f"Created the project {name} of {tenant}.")


@app.command("list")
@command
async def list_(
    installation: Installation,
    tenant: Tenant,
    as_json: AsJson = False,
) -> None:
    """List the projects of a tenant."""
    async with installation.database() as dsn:
        projects = await project_directory.list_projects(dsn, tenant)
    if as_json:
        print_json(projects)
        return
    table = Table("Project", "Created", "State", "Id")
    for project in projects:
        table.add_row(
            Text(project.name),
            f"{project.created_at:%Y-%m-%d}",
            "active" if project.archived_at is None else f"archived {project.archived_at:%Y-%m-%d}",
            Text(str(project.id)),
        )
    Console().print(table)


@app.command("update")
@command
async def update(
    installation: Installation,
    name: Name,
    tenant: Tenant,
    new_name: Annotated[str | None, typer.Option(help="A new name.", show_default=False)] = None,
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
    """Rename a project or change its limits. Running servers see it within a second."""
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
        project, limits = await project_directory.update_project(
            dsn, tenant, name, new_name=new_name, limits=changes, model=for_model
        )
    if as_json:
        print_json(
            {**dataclasses.asdict(project), "for_model": for_model, **limit_options.fields(limits)}
        )
    else:
        _say(f"The project {project.name} of {tenant}: {limit_options.describe(limits)}.")


@app.command("archive")
@command
async def archive(
    installation: Installation,
    name: Name,
    tenant: Tenant,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a project: its keys are revoked, their requests end. Its usage stays."""
    if not (yes or as_json):
        typer.confirm(f"Archive the project {name} for ever?", abort=True)
    async with installation.database() as dsn:
        archived = await project_directory.archive_project(dsn, tenant, name)
    if as_json:
        print_json(
            {
                **dataclasses.asdict(archived.project),
                "num_revoked_keys": archived.num_revoked_keys,
            }
        )
    else:
        _say(f"Archived the project {name}; {archived.num_revoked_keys} keys were revoked.")


def _say(sentence: str) -> None:
    Console(soft_wrap=True).print(sentence, markup=False, highlight=False)
