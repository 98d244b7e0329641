"""`anzoth users`: the people who manage, for whoever runs the installation.

The server sends no mail: what sets a password is a token that is printed once, for the operator to
hand over.

Does not know: how accounts work (see `gateway.accounts`).
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
from anzoth.db.store.user_rows import UserListing
from anzoth.gateway.accounts import people, roles
from anzoth.gateway.accounts.people import OneTimeToken
from anzoth.gateway.accounts.tokens import Vault

app = typer.Typer(
    help="Users: create, list, set-role, reset-password, disable.", no_args_is_help=True
)

Email = Annotated[str, typer.Argument(help="Whose account.", show_default=False)]
ROLES_HELP = f"What they are there: {', '.join(reversed(roles.ROLES))}."


@app.command("create")
@command
async def create(
    installation: Installation,
    email: Email,
    name: Annotated[str, typer.Option(help="What to call them.", show_default=False)] = "",
    tenant: Annotated[
        str | None, typer.Option(help="A tenant they belong to.", show_default=False)
    ] = None,
    role: Annotated[str, typer.Option(help=ROLES_HELP)] = roles.MEMBER,
    operator: Annotated[
        bool, typer.Option("--operator", help="They manage the whole installation.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create an account and print the token with which its owner sets a password."""
    async with installation.database() as dsn:
        made = await people.create_user(
            dsn,
            Vault(installation.pepper()),
            email,
            name=name,
            tenant=tenant,
            role=role,
            operator=operator,
        )
    _print_token(made, as_json, f"Created the user {email}.")


@app.command("list")
@command
async def list_(
    installation: Installation,
    tenant: Annotated[
        str | None, typer.Option(help="Only this tenant's users.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the users."""
    async with installation.database() as dsn:
        listed = await people.list_users(dsn, tenant)
    if as_json:
        print_json(listed)
        return
    table = Table("Email", "Name", "Roles", "Second factor", "State")
    for user in listed:
        table.add_row(
            Text(user.email),
            Text(user.name),
            Text(", ".join((["operator"] if user.is_operator else []) + user.roles)),
            "yes" if user.has_second_factor else "no",
            _state(user),
        )
    Console().print(table)


@app.command("set-role")
@command
async def set_role(
    installation: Installation,
    email: Email,
    tenant: Annotated[str, typer.Option(help="In which tenant.", show_default=False)],
    role: Annotated[str, typer.Option(help=ROLES_HELP, show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Make a user something in a tenant. In force with the user's next request."""
    async with installation.database() as dsn:
        await people.set_role(dsn, email, tenant, role)
    _say(f"{email} is {role} of {tenant}.", as_json, email=email, tenant=tenant, role=role)


@app.command("reset-password")
@command
async def reset_password(
    installation: Installation,
    email: Email,
    second_factor: Annotated[
        bool,
        typer.Option("--second-factor", help="Also remove the second factor: both were lost."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a token that sets a new password, once, within 24 hours."""
    async with installation.database() as dsn:
        made = await people.reset_password(dsn, Vault(installation.pepper()), email)
        if second_factor:
            await people.remove_second_factor(dsn, email)
    _print_token(made, as_json, f"A new password for {email}.")


@app.command("disable")
@command
async def disable(
    installation: Installation,
    email: Email,
    undo: Annotated[bool, typer.Option("--undo", help="Let them sign in again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Sign a user out everywhere, at once, and let them in nowhere. Their API keys are revoked, for
    good; those of tenants and service accounts are not theirs, and stay."""
    async with installation.database() as dsn:
        ended = await people.set_disabled(dsn, email, not undo)
    said = f"{email} may sign in again."
    if not undo:
        said = f"Disabled {email}; ended {ended.num_sessions} sessions and {ended.num_keys} keys."
    _say(
        said,
        as_json,
        email=email,
        disabled=not undo,
        ended_sessions=ended.num_sessions,
        revoked_keys=ended.num_keys,
    )


def _state(user: UserListing) -> str:
    if user.disabled_at is not None:
        return f"disabled {user.disabled_at:%Y-%m-%d}"
    if user.last_sign_in_at is None:
        return "never signed in"
    return f"active {user.last_sign_in_at:%Y-%m-%d}"


def _print_token(made: OneTimeToken, as_json: bool, what: str) -> None:
    if as_json:
        print_json({"id": made.user_id, "token": made.token, "expires_at": made.expires_at})
        return
    Console(soft_wrap=True, highlight=False).print(
        f"{what} They set the password with this token, once, until "
        f"{made.expires_at:%Y-%m-%d %H:%M} UTC:\n\n  {made.token}\n\n"
        "  POST /v1/auth/password/reset with token and new_password",
        markup=False,
    )


def _say(text: str, as_json: bool, **facts: object) -> None:
    if as_json:
        print_json(facts)
    else:
        Console(soft_wrap=True, highlight=False).print(text, markup=False)
