"""Which commands does `anzoth` have?

Each lives in a module of `anzoth.commands`, which has its name, and enters here as one word of a
table. A module is imported when its command is called, so that nobody waits for the others.

Does not know: what any of them does.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
import typer.core
import typer.main

# A function of that name in the module.
COMMANDS = ("serve", "doctor", "migrate", "verify-isolation")
# A group of commands: the module's `app`.
GROUPS = (
    *("tenants", "users", "invites", "projects", "service-accounts", "keys", "models", "files"),
    *("kb", "tools", "audit", "usage", "aliases", "shadow"),
)


def build() -> typer.Typer:
    app = typer.Typer(
        help="A private inference server that speaks the OpenAI API.",
        cls=_OnDemand,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # they would print local variables, and so secrets
    )
    app.callback()(_anzoth)
    return app


def _anzoth() -> None:
    """A private inference server that speaks the OpenAI API."""


class _OnDemand(typer.core.TyperGroup):
    """Knows its commands by name alone until they are asked for."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = dict.fromkeys([*COMMANDS, *GROUPS])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # the types are click's, or typer's own
        if cmd_name in self.commands and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)


def _load(name: str) -> Any:
    word = name.replace("-", "_")
    module = importlib.import_module(f"anzoth.commands.{word}")
    holder = typer.Typer()
    if name in COMMANDS:
        holder.command(name)(getattr(module, word))
    else:
        holder.add_typer(module.app, name=name)
    return typer.main.get_group(holder).commands[name]


def main() -> None:
    build()(prog_name="anzoth")


if __name__ == "__main__":
    main()
