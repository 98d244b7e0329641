"""`anzoth tools`: tool servers of a tenant, and which of their tools were approved.

Whatever a server says of itself is written by a stranger, and shown without what could move a
terminal's cursor.

Does not know: what a tool server may be (see `api.tool_server_fields`), or how it is stored.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anzoth.api.tool_server_fields import describe, parse_change, parse_server
from anzoth.commands.options import AsJson, Installation, command, fail, print_json
from anzoth.errors import AnzothError
from anzoth.gateway.directory import DirectoryError
from anzoth.gateway.egress.egress import Egress
from anzoth.gateway.tenant_crypt import CannotOpen
from anzoth.gateway.tools import operator
from anzoth.gateway.tools.connections import ToolConnections
from anzoth.gateway.tools.http_tool import METHODS
from anzoth.gateway.tools.managing import PinnedTool, ServerView, ToolManager
from anzoth.gateway.tools.registry import ToolRegistry

app = typer.Typer(
    help="Tool servers: what models of a tenant can call, once somebody approved it.",
    no_args_is_help=True,
)

Label = Annotated[str, typer.Argument(help="The server's label.", show_default=False)]
Tenant = Annotated[str, typer.Option(help="Whose server.", show_default=False)]
Names = Annotated[list[str], typer.Argument(help="Names of tools.", show_default=False)]
Approval = Annotated[
    str | None,
    typer.Option(help="Which calls a person approves: never, writes (default) or always."),
]
Taint = Annotated[
    str | None,
    typer.Option(
        help="What a model has read makes a call that may write need approval: `any` (default), or "
        "only `values` of it among the arguments."
    ),
]
TimeoutS = Annotated[float | None, typer.Option("--timeout-s", help="Of one call. Default: 30.")]
MaxBytes = Annotated[
    int | None, typer.Option("--max-result-bytes", help="Of one result. Default: 65536.")
]
CallsPerMinute = Annotated[
    int | None, typer.Option(help="Of each of its tools. 0: as many as there are (default).")
]
CredentialsFile = Annotated[
    str | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        help='JSON: {"headers": {NAME: VALUE}}, or of a command {"environment": {…}}; - reads it '
        "from the standard input. It is sealed and never shown.",
        show_default=False,
    ),
]


@app.command("create")
@command
async def create(
    installation: Installation,
    label: Label,
    tenant: Tenant,
    url: Annotated[
        str | None,
        typer.Option(help="Where it is: an MCP server, or with --definition a template."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--command",
            help="An MCP server that is run: one that `tools.commands` of the settings names.",
        ),
    ] = None,
    definition: Annotated[
        Path | None,
        typer.Option(
            help='A plain HTTP tool, as JSON: {"name", "description", "input_schema", '
            '"read_only"}.',
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help=f"Of a plain HTTP tool: {', '.join(METHODS)}.")
    ] = None,
    approval: Approval = None,
    taint: Taint = None,
    timeout_s: TimeoutS = None,
    max_result_bytes: MaxBytes = None,
    calls_per_minute: CallsPerMinute = None,
    credentials: CredentialsFile = None,
    as_json: AsJson = False,
) -> None:
    """Register a server, and ask it what it can do."""
    kind = "command" if run is not None else "mcp" if definition is None else "http"
    body = {"label": label, "kind": kind, "url": url, "command": run, "method": method}
    if definition is not None:
        body["tool"] = _json(str(definition))
    body |= _rules(approval, taint, timeout_s, max_result_bytes, calls_per_minute, credentials)
    async with _registry(installation, tenant) as (registry, by):
        view = await registry.create(by, parse_server(body))
    _print(view, as_json)


@app.command("list")
@command
async def list_(installation: Installation, tenant: Tenant, as_json: AsJson = False) -> None:
    """List a tenant's tool servers."""
    async with _registry(installation, tenant) as (registry, by):
        views = await registry.list(by)
    if as_json:
        print_json([describe(view) for view in views])
        return
    table = Table("Label", "Kind", "Where", "Approval", "Tools", "Waiting", "Note")
    for view in views:
        waiting = sum(tool.state != "approved" for tool in view.tools)
        table.add_row(
            Text(view.server.label),
            view.server.kind,
            Text(view.server.url or view.server.command or ""),
            view.server.approval,
            str(len(view.tools)),
            str(waiting),
            Text(_line(view.note or "-")),
        )
    Console().print(table)


@app.command("show")
@command
async def show(
    installation: Installation, label: Label, tenant: Tenant, as_json: AsJson = False
) -> None:
    """Show a server with all that its tools say of themselves."""
    async with _labelled(installation, tenant, label) as (_, _, view):
        _print(view, as_json)


@app.command("update")
@command
async def update(
    installation: Installation,
    label: Label,
    tenant: Tenant,
    approval: Approval = None,
    taint: Taint = None,
    timeout_s: TimeoutS = None,
    max_result_bytes: MaxBytes = None,
    calls_per_minute: CallsPerMinute = None,
    credentials: CredentialsFile = None,
    remove_credentials: Annotated[
        bool, typer.Option("--remove-credentials", help="It is spoken to without any.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Change what is given; the rest stays. Where a server is never changes."""
    body = _rules(approval, taint, timeout_s, max_result_bytes, calls_per_minute, credentials)
    if remove_credentials:
        body["credentials"] = None
    async with _labelled(installation, tenant, label) as (registry, by, view):
        view = await registry.update(by, view.id, parse_change(body))
    _print(view, as_json)


@app.command("refresh")
@command
async def refresh(
    installation: Installation, label: Label, tenant: Tenant, as_json: AsJson = False
) -> None:
    """Ask a server again what it can do."""
    async with _labelled(installation, tenant, label) as (registry, by, view):
        view = await registry.refresh(by, view.id)
    _print(view, as_json)


@app.command("approve")
@command
async def approve(
    installation: Installation,
    label: Label,
    tenant: Tenant,
    tools: Annotated[
        list[str] | None, typer.Argument(help="Names of tools. Default: all that wait.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let tools be called as they are shown now."""
    async with _labelled(installation, tenant, label) as (registry, by, view):
        wanted = _chosen(view, tools)
        if not as_json:
            _print_tools(wanted)
        if wanted and not yes:
            typer.confirm(f"Approve {len(wanted)}?", abort=True, err=True)
        digests = {tool.said.name: tool.said.digest for tool in wanted}
        view = await registry.approve(by, view.id, digests)
    if as_json:
        print_json(describe(view))
    else:
        _say(f"Approved {', '.join(digests) or 'nothing: nothing waits'}.")


@app.command("withdraw")
@command
async def withdraw(
    installation: Installation, label: Label, tenant: Tenant, tools: Names, as_json: AsJson = False
) -> None:
    """Let tools not be called until they are approved again. Running servers know it at once."""
    async with _labelled(installation, tenant, label) as (registry, by, view):
        view = await registry.withdraw(by, view.id, tools)
    if as_json:
        print_json(describe(view))
    else:
        _say(f"Not approved any more: {', '.join(tools)}.")


@app.command("delete")
@command
async def delete(
    installation: Installation, label: Label, tenant: Tenant, as_json: AsJson = False
) -> None:
    """Delete a server with its credentials and all approvals."""
    async with _labelled(installation, tenant, label) as (registry, by, view):
        deleted = await registry.delete(by, view.id)
    if as_json:
        print_json({"id": deleted, "label": label, "deleted": True})
    else:
        _say(f"Deleted the tool server {label}.")


@contextlib.asynccontextmanager
async def _registry(
    installation: Installation, tenant: str
) -> AsyncIterator[tuple[ToolRegistry, ToolManager]]:
    config = installation.config
    pepper, master = installation.pepper(), installation.master_key()
    egress = Egress(config.egress)
    async with installation.database() as dsn:
        try:
            async with operator.registry_of(
                *(dsn, pepper, master, config.tools),
                lambda on_listed: ToolConnections(egress, config.tools, on_listed),
                tenant,
            ) as opened:
                yield opened
        except AnzothError as error:
            fail(error.message)
        except CannotOpen as error:
            fail(str(error))


@contextlib.asynccontextmanager
async def _labelled(
    installation: Installation, tenant: str, label: str
) -> AsyncIterator[tuple[ToolRegistry, ToolManager, ServerView]]:
    """The server of that label, and what manages it."""
    async with _registry(installation, tenant) as (registry, by):
        yield registry, by, await operator.labelled(registry, by, label)


def _rules(
    approval: str | None,
    taint: str | None,
    timeout_s: float | None,
    max_result_bytes: int | None,
    calls_per_minute: int | None,
    credentials: str | None,
) -> dict[str, Any]:
    """Those that were given, as the API takes them."""
    given = {
        "approval": approval,
        "taint": taint,
        "timeout_s": timeout_s,
        "max_result_bytes": max_result_bytes,
    }
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if calls_per_minute is not None:
        body["calls_per_minute"] = calls_per_minute or None
    if credentials is not None:
        body["credentials"] = _json(credentials)
    return body


def _json(path: str) -> Any:  # whoever reads a field of it checks it
    """Raises DirectoryError, which quotes nothing of the content."""
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return orjson.loads(content)
    except OSError as error:
        raise DirectoryError(f"cannot read {path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise DirectoryError(f"{path} is not JSON (at character {error.pos})") from None


def _chosen(view: ServerView, names: list[str] | None) -> list[PinnedTool]:
    """None: all that wait. Raises DirectoryError."""
    if not names:
        return [tool for tool in view.tools if tool.state != "approved"]
    by_name = {tool.said.name: tool for tool in view.tools}
    for name in names:
        if name not in by_name:
            raise DirectoryError(f"{view.server.label} has no tool named {name!r}")
    return [by_name[name] for name in dict.fromkeys(names)]


# --- how it looks -------------------------------------------------------------------------------


def _print(view: ServerView, as_json: bool) -> None:
    if as_json:
        print_json(describe(view))
        return
    server = view.server
    _say(f"{server.label}: {server.kind}, {server.url or server.command}, {server.id}")
    _say(f"  calls to approve: {server.approval}; taint: {server.taint}")
    if view.note is not None:
        _say(f"  {view.note}")
    _print_tools(view.tools)


def _print_tools(tools: Sequence[PinnedTool]) -> None:
    for tool in tools:
        said = tool.said
        reads = "only reads" if said.is_read_only else "may write"
        _say(f"\n  {said.name} ({tool.state}, {reads}) {said.digest.hex()[:16]}")
        _say(f"    {said.description}")
        _say(f"    {orjson.dumps(dict(said.input_schema)).decode()}")
        if tool.changed is not None:
            _say(f"    before: {tool.definition.description}")
            _say(f"            {orjson.dumps(dict(tool.definition.input_schema)).decode()}")


def _say(text: str) -> None:
    lead = text[: len(text) - len(text.lstrip())]
    Console(soft_wrap=True).print(lead + _line(text.strip()), markup=False, highlight=False)


def _line(text: str) -> str:
    """On one line, and nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
