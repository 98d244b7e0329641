"""`anzoth aliases`: names of models that mean something to one tenant.

Does not know: what an alias may hold (see `api.model_aliases`), or how it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anzoth.api.model_aliases import describe, parse_alias
from anzoth.commands.options import (
    AsJson,
    Installation,
    command,
    print_json,
)
from anzoth.config import Config
from anzoth.errors import AnzothError
from anzoth.gateway import alias_directory
from anzoth.gateway.alias_directory import AliasRequest, AliasView
from anzoth.gateway.aliases import Target
from anzoth.gateway.directory import DirectoryError
from anzoth.model_kind import ModelKind, model_kind

app = typer.Typer(help="Names that models have for one tenant.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose name it is.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The alias' name.", show_default=False)]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="MODEL or BACKEND:MODEL, with =WEIGHT for its share (default 1; 0: only when the "
        "others fail); can be repeated.",
        show_default=False,
    ),
]
SystemPrompt = Annotated[
    str | None, typer.Option(help="Stands before every conversation.", show_default=False)
]
Defaults = Annotated[
    list[str] | None,
    typer.Option(
        "--default",
        help="NAME=JSON: a parameter where a request says nothing; can be repeated.",
        show_default=False,
    ),
]
Forced = Annotated[
    list[str] | None,
    typer.Option(
        "--force",
        help="NAME=JSON: a parameter whatever a request says; can be repeated.",
        show_default=False,
    ),
]
Sticky = Annotated[
    bool | None,
    typer.Option(
        "--sticky/--no-sticky",
        help="Requests that begin alike go to the same target.",
        show_default=False,
    ),
]
KnowledgeBases = Annotated[
    list[str] | None,
    typer.Option(
        "--kb",
        help="A knowledge base that its chats are answered from; can be repeated. `none` alone "
        "takes all away.",
        show_default=False,
    ),
]
Tools = Annotated[
    list[str] | None,
    typer.Option(
        "--tool",
        help="LABEL or LABEL__TOOL: offered to its chats, and the most that one can have; can be "
        "repeated. `none` alone takes all away.",
        show_default=False,
    ),
]


@app.command("create")
@command
async def create(
    installation: Installation,
    name: Name,
    tenant: Tenant,
    target: Targets = None,
    system_prompt: SystemPrompt = None,
    default: Defaults = None,
    force: Forced = None,
    sticky: Sticky = None,
    kb: KnowledgeBases = None,
    tool: Tools = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Even if a model of this name is served.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give one or several models a name."""
    served = {name for model in installation.config.models for name in model.names}
    if name in served and not shadow:
        raise DirectoryError(f"a model named {name!r} is served; --shadow hides it from the tenant")
    fields = _fields(installation.config, target, system_prompt, default, force, sticky, kb, tool)
    request = _parse(installation.config, {"name": name, **fields})
    async with installation.database() as dsn:
        made = await alias_directory.create_for_tenant(dsn, tenant, request)
    _print(made, as_json)


@app.command("list")
@command
async def list_(
    installation: Installation,
    tenant: Tenant,
    as_json: AsJson = False,
) -> None:
    """List a tenant's aliases and where they lead."""
    async with installation.database() as dsn:
        listed = await alias_directory.list_of_tenant(dsn, tenant)
    if as_json:
        print_json([describe(alias) for alias in listed])
        return
    table = Table("Alias", "Targets", "Sticky", "System prompt", "Knowledge", "Tools", "Parameters")
    for alias in listed:
        table.add_row(
            Text(alias.name),
            Text(", ".join(map(_target_text, alias.targets))),
            "yes" if alias.sticky else "-",
            "-" if alias.system_prompt is None else f"{len(alias.system_prompt)} characters",
            Text(", ".join(alias.knowledge_bases) or "-"),
            Text(", ".join(alias.tools) or "-"),
            Text(", ".join([*alias.defaults, *(f"{name} (forced)" for name in alias.forced)])),
        )
    Console().print(table)


@app.command("update")
@command
async def update(
    installation: Installation,
    name: Name,
    tenant: Tenant,
    target: Targets = None,
    system_prompt: SystemPrompt = None,
    default: Defaults = None,
    force: Forced = None,
    sticky: Sticky = None,
    kb: KnowledgeBases = None,
    tool: Tools = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays. An empty system prompt takes it away."""
    fields = _fields(installation.config, target, system_prompt, default, force, sticky, kb, tool)

    def change(before: AliasView) -> AliasRequest:
        own = ("id", "object", "created_at", "updated_at")
        kept_fields = {name: value for name, value in describe(before).items() if name not in own}
        return _parse(installation.config, kept_fields | fields)

    async with installation.database() as dsn:
        made = await alias_directory.update_for_tenant(dsn, tenant, name, change)
    _print(made, as_json)


@app.command("delete")
@command
async def delete(
    installation: Installation,
    name: Name,
    tenant: Tenant,
    as_json: AsJson = False,
) -> None:
    """Delete an alias. Running servers do not know it any more at once."""
    async with installation.database() as dsn:
        id = await alias_directory.delete_of_tenant(dsn, tenant, name)
    if as_json:
        print_json({"id": id, "name": name, "deleted": True})
    else:
        Console(soft_wrap=True).print(f"Deleted the alias {name}.", markup=False, highlight=False)


def _print(alias: AliasView, as_json: bool) -> None:
    if as_json:
        print_json(describe(alias))
        return
    targets = ", ".join(map(_target_text, alias.targets))
    Console(soft_wrap=True).print(
        f"{alias.name} leads to {targets}.", markup=False, highlight=False
    )


def _target_text(target: Any) -> str:
    name = (
        target["model"] if target["backend"] is None else f"{target['backend']}:{target['model']}"
    )
    return f"{name}={target['weight']}"


def _parse(config: Config, fields: dict[str, Any]) -> AliasRequest:
    paths = {name: model.path for model in config.models for name in model.names}

    def kind_of(target: Target) -> ModelKind | None:
        path = None if target.backend is not None else paths.get(target.model)
        return None if path is None else model_kind(path)  # one may be loaded by command

    try:
        request = parse_alias(fields)
        alias_directory.require_one_purpose(request, kind_of)
        return request
    except AnzothError as error:
        raise DirectoryError(error.message) from None


def _fields(
    config: Config,
    targets: Sequence[str] | None,
    system_prompt: str | None,
    defaults: Sequence[str] | None,
    forced: Sequence[str] | None,
    sticky: bool | None,
    knowledge_bases: Sequence[str] | None,
    tools: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Those that were given, as the API takes them."""
    given: dict[str, Any] = {}
    if targets:
        given["targets"] = [_target(config, text) for text in targets]
    if system_prompt is not None:
        given["system_prompt"] = system_prompt or None
    for name, pairs in (("defaults", defaults), ("forced", forced)):
        if pairs:
            given[name] = dict(map(_parameter, pairs))
    if sticky is not None:
        given["sticky"] = sticky
    for name, words in (("knowledge_bases", knowledge_bases), ("tools", tools)):
        if words:
            given[name] = [] if words == ["none"] else words
    return given


def _target(config: Config, text: str) -> dict[str, Any]:
    """Model names may hold colons: what stands before one is a backend only if it is one."""
    target: dict[str, Any] = {"model": text}
    name, equals, weight = text.rpartition("=")
    if equals and weight.isdigit():
        target = {"model": name, "weight": int(weight)}
    prefix, _, rest = target["model"].partition(":")
    for backend in config.backends:
        if backend.name == prefix:
            if rest not in backend.models:
                raise DirectoryError(f"the backend {prefix} serves: {', '.join(backend.models)}")
            return {**target, "model": rest, "backend": prefix}
    return target


def _parameter(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        parsed = value  # a plain word
    if not name or not equals:
        raise DirectoryError(f"{pair!r} is no parameter; expected NAME=VALUE")
    return name, parsed
