"""`anzoth invites`: who is asked to join a tenant.

The server sends no mail: the token is printed once, for the operator to hand over.

Does not know: how an invitation is accepted (see `gateway.accounts`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

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
from anzoth.commands.users import ROLES_HELP
from anzoth.db.store.invitation_rows import InvitationRow
from anzoth.gateway.accounts import people, roles
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.directory_checks import DirectoryError

app = typer.Typer(help="Invitations into a tenant: create, list, revoke.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Into which tenant.", show_default=False)]


@app.command("create")
@command
async def create(
    installation: Installation,
    email: Annotated[str, typer.Argument(help="Who is invited.", show_default=False)],
    tenant: Tenant,
    role: Annotated[str, typer.Option(help=ROLES_HELP)] = roles.MEMBER,
    as_json: AsJson = False,
) -> None:
    """Invite somebody and print the token with which they join."""
    lifetime_s = installation.config.accounts.invitation_lifetime_s
    async with installation.database() as dsn:
        made = await people.invite(
            dsn, Vault(installation.pepper()), tenant, email, role, lifetime_s
        )
    if as_json:
        print_json({**_describe(made.row), "token": made.token})
        return
    Console(soft_wrap=True, highlight=False).print(
        f"{made.row.email} joins {tenant} as {made.row.role} with this token, once, until "
        f"{made.row.expires_at:%Y-%m-%d %H:%M} UTC:\n\n  {made.token}\n\n"
        "  POST /v1/auth/invitations/accept with token and, for a new account, password",
        markup=False,
    )


@app.command("list")
@command
async def list_(
    installation: Installation,
    tenant: Tenant,
    as_json: AsJson = False,
) -> None:
    """List a tenant's invitations, never their tokens."""
    async with installation.database() as dsn:
        listed = await people.list_invitations(dsn, tenant)
    if as_json:
        print_json([_describe(row) for row in listed])
        return
    table = Table("Id", "Email", "Role", "State")
    for row in listed:
        table.add_row(Text(str(row.id)), Text(row.email), Text(row.role), _state(row))
    Console().print(table)


@app.command("revoke")
@command
async def revoke(
    installation: Installation,
    invitation: Annotated[str, typer.Argument(help="Its id, as listed.", show_default=False)],
    tenant: Tenant,
    as_json: AsJson = False,
) -> None:
    """End an invitation: its token works no more."""
    try:
        invitation_id = UUID(invitation)
    except ValueError:
        raise DirectoryError(
            "this is not an invitation's id; `anzoth invites list` shows them"
        ) from None
    async with installation.database() as dsn:
        await people.revoke_invitation(dsn, tenant, invitation_id)
    if as_json:
        print_json({"id": invitation_id, "deleted": True})
    else:
        Console(soft_wrap=True).print("Revoked.", markup=False, highlight=False)


def _describe(row: InvitationRow) -> dict[str, object]:
    return {
        "id": row.id,
        "email": row.email,
        "role": row.role,
        "projects": [{"id": id, "role": role} for id, role in row.projects.items()],
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "accepted_at": row.accepted_at,
    }


def _state(row: InvitationRow) -> str:
    if row.accepted_at is not None:
        return f"accepted {row.accepted_at:%Y-%m-%d}"
    verb = "expired" if row.expires_at <= datetime.now(UTC) else "until"
    return f"{verb} {row.expires_at:%Y-%m-%d}"
