"""`anzoth migrate`: brings the database's schema to what this version needs.

`anzoth serve` does the same at its start; the command is for those who want to do it beforehand.

Does not know: any migration.
"""

from __future__ import annotations

from rich.console import Console

from anzoth.commands.options import (
    AsJson,
    Installation,
    command,
    print_json,
)
from anzoth.db import migrate as migrations


@command
async def migrate(
    installation: Installation,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to date."""
    async with installation.database(migrated=False) as dsn:
        applied = await migrations.migrate(dsn)
    if as_json:
        print_json({"applied": applied})
        return
    console = Console(soft_wrap=True, highlight=False)
    for name in applied:
        console.print(f"applied {name}", markup=False)
    if not applied:
        console.print("The schema is up to date.")
