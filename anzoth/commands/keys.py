"""`anzoth keys`: who may call the API, and how much.

A key is printed once, when it is created; nothing can show it again.

Does not know: what a key looks like or how it is stored (see `gateway.keys`, `gateway.directory`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from anzoth.commands import key_changes, key_options, limit_options, service_accounts
from anzoth.commands.key_options import Key, words
from anzoth.commands.limit_options import (
    BudgetPerDay,
    BudgetPerMonth,
    Concurrency,
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
from anzoth.db.store.key_rows import KeyListing
from anzoth.gateway import directory
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.scopes import SCOPES

app = typer.Typer(help="API keys: create, list, update, rotate, revoke.", no_args_is_help=True)
app.command("update")(key_changes.update)
app.command("rotate")(key_changes.rotate)


@app.command("create")
@command
async def create(
    installation: Installation,
    tenant: Annotated[str, typer.Option(help="Whose key it is.", show_default=False)],
    name: Annotated[str, typer.Option(help="What it is for.", show_default=False)],
    project: Annotated[
        str | None,
        typer.Option(help="Its project. Default: the tenant's default one.", show_default=False),
    ] = None,
    service_account: Annotated[
        str | None,
        typer.Option(
            help="The id of its owner, a service account of the project. Default: the tenant.",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What it may do ({', '.join(SCOPES)}); can be repeated. "
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
    endpoint: Annotated[
        list[str] | None, words("A route it may use, or a pattern (/v1/chat/*). Default: all")
    ] = None,
    network: Annotated[
        list[str] | None,
        words("An address or network (10.0.0.0/8) it may be used from. Default: anywhere"),
    ] = None,
    kb: Annotated[
        list[str] | None, words("A vector store it may use, by its id. Default: all of its project")
    ] = None,
    default_kb: Annotated[
        list[str] | None,
        words("A vector store that its chats are answered from where they name none"),
    ] = None,
    tool: Annotated[list[str] | None, words("A tool it may call. Default: none")] = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    input_tpm: InputTpm = None,
    output_tpm: OutputTpm = None,
    concurrency: Concurrency = None,
    tokens_per_day: TokensPerDay = None,
    budget_per_day: BudgetPerDay = None,
    budget_per_month: BudgetPerMonth = None,
    expires: Annotated[
        str | None,
        typer.Option(
            help="For how long it is valid: 30m, 12h, 90d, 4w. Default: for ever. One with the "
            "scope admin must expire.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and print it, this once."""
    owner = None if service_account is None else service_accounts.parse_id(service_account)
    request = KeyRequest(
        tenant=tenant,
        name=name,
        project=project,
        scopes=tuple(scope or directory.DEFAULT_SCOPES),
        models=tuple(model) if model else None,
        limits=limit_options.limits(
            rpm=rpm,
            tpm=tpm,
            input_tpm=input_tpm,
            output_tpm=output_tpm,
            concurrency=concurrency,
            tokens_per_day=tokens_per_day,
            budget_per_day=budget_per_day,
            budget_per_month=budget_per_month,
        ),
        expires_at=None if expires is None else key_options.expiry(expires),
        endpoints=endpoint or None,
        networks=key_options.networks(network),
        knowledge_bases=kb or None,
        default_knowledge_bases=default_kb or (),
        tools=tool or None,
    )
    async with installation.database() as dsn:
        created = await directory.create_key(dsn, installation.pepper(), request, owner)
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
    installation: Installation,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's keys.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the keys, never their secret half."""
    async with installation.database() as dsn:
        listed = await directory.list_keys(dsn, tenant)
    if as_json:
        print_json([_listed(key) for key in listed])
        return
    kid = Column("Kid", min_width=12)  # whole, whatever the width: `revoke` takes it
    state = Column("State", min_width=8)
    table = Table(kid, "Tenant", "Name", "Scopes", "Models", "Limits", "Used", state)
    for key in listed:
        table.add_row(
            Text(key.kid),
            Text(_owner(key)),
            Text(key.name),
            Text(", ".join(key.scopes)),
            Text("all" if key.models is None else ", ".join(key.models)),
            limit_options.describe(limit_options.of_row(key)),
            _last_use(key),
            _state(key),
        )
    Console().print(table)


@app.command("revoke")
@command
async def revoke(
    installation: Installation,
    key: Key,
    let_finish: Annotated[
        bool,
        typer.Option(
            "--let-finish/--end-streams", help="What becomes of its requests that are running."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """End a key, with both of its secrets. Running servers refuse it at once."""
    async with installation.database() as dsn:
        revoked = await directory.revoke_key(dsn, key, lets_finish=let_finish)
    if as_json:
        print_json(revoked)
    else:
        Console(soft_wrap=True).print(
            f"Revoked the key {revoked.name} of {revoked.tenant}.", markup=False, highlight=False
        )


def _owner(key: KeyListing) -> str:
    """The tenant, the project unless it is the default one, and whose it is there."""
    is_default = key.project == directory.DEFAULT_PROJECT
    names = (key.tenant, None if is_default else key.project, key.owner)
    return " / ".join(name for name in names if name is not None)


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
        "endpoints": request.endpoints,
        "networks": None if request.networks is None else list(map(str, request.networks)),
        "knowledge_bases": request.knowledge_bases,
        "default_knowledge_bases": request.default_knowledge_bases,
        "tools": request.tools or (),
        **limit_options.fields(request.limits),
        "created_at": created.created_at,
        "expires_at": request.expires_at,
    }


def _listed(key: KeyListing) -> dict[str, object]:
    fields = limit_options.listed(key)
    if key.networks is not None:
        fields["networks"] = list(map(str, key.networks))
    if key.last_used_ip is not None:
        fields["last_used_ip"] = str(key.last_used_ip)
    return fields


def _last_use(key: KeyListing) -> Text:
    if key.last_used_at is None:
        return Text("never")
    place = "" if key.last_used_ip is None else f" from {key.last_used_ip}"
    return Text(f"{key.last_used_at:%Y-%m-%d}{place}")


def _state(key: KeyListing) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.predecessor_expires_at is not None and key.predecessor_expires_at > datetime.now(UTC):
        until = f"{key.predecessor_expires_at:%Y-%m-%d %H:%M}"
        return f"rotating until {until} (old secret used {key.predecessor_uses} times)"
    if key.expires_at is None:
        return "active"
    verb = "expired" if key.expires_at <= datetime.now(UTC) else "until"
    return f"{verb} {key.expires_at:%Y-%m-%d}"
