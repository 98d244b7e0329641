"""Which commands does `anzoth` have?

Each lives in a module of `anzoth.commands` and enters here as one line of a table.

Does not know: what any of them does.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from anzoth.commands import (
    aliases,
    audit,
    doctor,
    files,
    invites,
    kb,
    keys,
    migrate,
    models,
    projects,
    serve,
    service_accounts,
    shadow,
    tenants,
    usage,
    users,
    verify_isolation,
)

# Commands by name, and groups of commands by name.
COMMANDS: dict[str, Callable[..., None]] = {
    "serve": serve.serve,
    "doctor": doctor.doctor,
    "migrate": migrate.migrate,
    "verify-isolation": verify_isolation.verify_isolation,
}
GROUPS: dict[str, typer.Typer] = {
    "tenants": tenants.app,
    "users": users.app,
    "invites": invites.app,
    "projects": projects.app,
    "service-accounts": service_accounts.app,
    "keys": keys.app,
    "models": models.app,
    "files": files.app,
    "kb": kb.app,
    "audit": audit.app,
    "usage": usage.app,
    "aliases": aliases.app,
    "shadow": shadow.app,
}


def build() -> typer.Typer:
    app = typer.Typer(
        help="A private inference server that speaks the OpenAI API.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # they would print local variables, and so secrets
    )
    app.callback()(_anzoth)
    for name, function in COMMANDS.items():
        app.command(name)(function)
    for name, group in GROUPS.items():
        app.add_typer(group, name=name)
    return app


def _anzoth() -> None:
    """A private inference server that speaks the OpenAI API."""


def main() -> None:
    build()(prog_name="anzoth")


if __name__ == "__main__":
    main()
