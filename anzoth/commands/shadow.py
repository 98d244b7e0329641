"""`anzoth shadow`: policies that are watched instead of enforced.

Does not know: which rules there are (see `gateway.rules`).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anzoth.commands.options import (
    AsJson,
    Installation,
    command,
    print_json,
)
from anzoth.gateway import shadow_rules

app = typer.Typer(
    help="Policies that are tried out: what they would refuse is served and counted.",
    no_args_is_help=True,
)


@app.command("set")
@command
async def set_(
    installation: Installation,
    tenant: Annotated[str, typer.Option(help="For whose requests.", show_default=False)],
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            help="Rules or patterns: limit.key.tpm, limit.*, key.model. None: enforce all again.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Only this key's: its id or kid, as listed.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch exactly these rules for a tenant or a key, and enforce the others."""
    patterns = tuple(rules or ())
    async with installation.database() as dsn:
        await shadow_rules.set_rules(dsn, tenant, key, patterns)
    if as_json:
        print_json({"tenant": tenant, "key": key, "rules": patterns})
        return
    whose = tenant if key is None else f"the key {key} of {tenant}"
    what = f"Only watched for {whose}: {', '.join(patterns)}."
    Console(soft_wrap=True).print(
        what if patterns else f"Every rule is enforced for {whose}.", markup=False, highlight=False
    )


@app.command("list")
@command
async def list_(
    installation: Installation,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List which rules are only watched, and for whom."""
    async with installation.database() as dsn:
        listed = await shadow_rules.list_rules(dsn, tenant)
    if as_json:
        print_json(listed)
        return
    table = Table("Tenant", "Key", "Only watched")
    for entry in listed:
        key = "all" if entry.kid is None else f"{entry.kid} ({entry.key_name})"
        table.add_row(Text(entry.tenant), Text(key), Text(", ".join(entry.rules)))
    Console().print(table)
