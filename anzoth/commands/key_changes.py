"""`anzoth keys update` and `anzoth keys rotate`: a key stays the same and becomes different.

Does not know: how a change is made (see `gateway.key_changes`).
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from anzoth.commands import key_options, limit_options
from anzoth.commands.key_options import Key, words
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
from anzoth.gateway import key_changes
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.key_changes import KeyChange

Words = list[str] | None
_UNRESTRICTED = ("models", "endpoints", "networks", "knowledge_bases")


@command
async def update(
    installation: Installation,
    key: Key,
    name: Annotated[str | None, typer.Option(help="A new name.", show_default=False)] = None,
    add_scope: Annotated[Words, words("What it may do from now on")] = None,
    remove_scope: Annotated[Words, words("What it may do no more")] = None,
    add_model: Annotated[Words, words("A model it may use from now on, or a pattern")] = None,
    remove_model: Annotated[Words, words("A model that it is granted no more")] = None,
    add_endpoint: Annotated[Words, words("A route it may use, or a pattern")] = None,
    remove_endpoint: Annotated[Words, words("A route that it may use no more")] = None,
    add_network: Annotated[Words, words("An address or network it may be used from")] = None,
    remove_network: Annotated[Words, words("One that it may be used from no more")] = None,
    add_kb: Annotated[Words, words("A knowledge base it may read")] = None,
    remove_kb: Annotated[Words, words("One that it may read no more")] = None,
    add_default_kb: Annotated[
        Words, words("A knowledge base that its chats are answered from where they name none")
    ] = None,
    remove_default_kb: Annotated[Words, words("One that they are answered from no more")] = None,
    add_tool: Annotated[Words, words("A tool it may call")] = None,
    remove_tool: Annotated[Words, words("A tool it may call no more")] = None,
    unrestrict: Annotated[
        Words, words(f"Takes a restriction away: {', '.join(_UNRESTRICTED)}")
    ] = None,
    restrict: Annotated[
        Words, words(f"What --add-… then begins from nothing: {', '.join(_UNRESTRICTED)}")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            help="For how long it is valid from now: 30m, 12h, 90d, 4w; `never`.",
            show_default=False,
        ),
    ] = None,
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
    """Change what a key may do. Running servers see it within a second."""
    values: dict[str, str | datetime | list[str] | None] = {}
    if name is not None:
        values["name"] = name
    if expires is not None:
        values["expires_at"] = None if expires == "never" else key_options.expiry(expires)
    for names, value in ((unrestrict, None), (restrict, [])):
        for which in names or ():
            if which not in _UNRESTRICTED:
                raise DirectoryError(f"{which!r} is none of {', '.join(_UNRESTRICTED)}")
            values[which] = value
    change = KeyChange(
        values=values,
        added={
            "scopes": add_scope or (),
            "models": add_model or (),
            "endpoints": add_endpoint or (),
            "networks": key_options.networks(add_network) or (),
            "knowledge_bases": add_kb or (),
            "default_knowledge_bases": add_default_kb or (),
            "tools": add_tool or (),
        },
        removed={
            "scopes": remove_scope or (),
            "models": remove_model or (),
            "endpoints": remove_endpoint or (),
            "networks": key_options.networks(remove_network) or (),
            "knowledge_bases": remove_kb or (),
            "default_knowledge_bases": remove_default_kb or (),
            "tools": remove_tool or (),
        },
        limits=limit_options.changes(
            rpm=rpm,
            tpm=tpm,
            input_tpm=input_tpm,
            output_tpm=output_tpm,
            concurrency=concurrency,
            tokens_per_day=tokens_per_day,
            budget_per_day=budget_per_day,
            budget_per_month=budget_per_month,
        ),
        limits_of_model=for_model,
    )
    async with installation.database() as dsn:
        changed = await key_changes.update_key(dsn, key, change)
    settings = changed.settings
    if as_json:
        print_json(
            {
                **dataclasses.asdict(settings),
                "networks": None
                if settings.networks is None
                else list(map(str, settings.networks)),
                "for_model": for_model,
                **limit_options.fields(changed.limits),
            }
        )
        return
    which_limits = "Limits" if for_model is None else f"Limits for {for_model}"
    Console(soft_wrap=True, highlight=False).print(
        f"Changed the key {settings.name} of {settings.tenant}. Scopes: "
        f"{', '.join(settings.scopes)}. {which_limits}: "
        f"{limit_options.describe(changed.limits)}.",
        markup=False,
    )


@command
async def rotate(
    installation: Installation,
    key: Key,
    grace: Annotated[
        str, typer.Option(help="For how long the old secret still works: 0h to 7d.")
    ] = "24h",
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret and print it, this once. Id, limits and usage stay."""
    lasts = key_options.duration("--grace", grace)
    async with installation.database() as dsn:
        rotated = await key_changes.rotate_key(dsn, installation.pepper(), key, lasts)
    if as_json:
        print_json(
            {
                "id": rotated.id,
                "key": rotated.key.text,
                "kid": rotated.key.kid,
                "tenant": rotated.tenant,
                "name": rotated.name,
                "old_until": rotated.old_until,
            }
        )
        return
    until = "no longer works"
    if rotated.old_until is not None:
        until = f"works until {rotated.old_until:%Y-%m-%d %H:%M} UTC"
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"New secret of {rotated.name} ({rotated.tenant}); the old one {until}. It is not stored "
        "and not shown again:\n",
        markup=False,
    )
    console.print(f"  {rotated.key.text}\n", markup=False)
