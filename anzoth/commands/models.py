"""`anzoth models`: which models a running server serves, and where they come from.

Does not know: how a model is loaded (see `model_host`) or fetched (see `pull`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from anzoth import config as configuration
from anzoth import control, model_config, pulled
from anzoth.commands.options import (
    AsJson,
    ConfigFile,
    DataDir,
    command,
    foreseen_errors,
    print_json,
)
from anzoth.control import Fields, NotReached, Tell
from anzoth.db import cluster
from anzoth.pulled import PullError

if TYPE_CHECKING:
    from anzoth.model_check import Checked

app = typer.Typer(
    help="Models: list, load and unload them while the server runs; pull them from a hub.",
    no_args_is_help=True,
)


@app.command("list", epilog="Example: anzoth models list --data-dir .anzoth")
@command
async def list_(
    data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List the models of a running server, with their states and the memory that they take."""
    models = (await _ask(data_dir, config, {"do": "list"}))["models"]
    if as_json:
        print_json(models)
        return
    name = Column("Model", overflow="fold")  # whole, whatever the width: the others take it
    aliases = Column("Aliases", overflow="fold")
    table = Table(name, "State", aliases, "Context", "Weights", "KV cache", "Resident", "From")
    for model in models:
        table.add_row(
            Text(model["name"]),
            Text(model["state"]),
            Text(", ".join(model["aliases"]) or "-"),
            Text(_context(model)),
            *(_mib(model[part]) for part in ("weights_bytes", "kv_cache_bytes", "resident_bytes")),
            Text(model["origin"]),
        )
    console = Console()
    console.print(table)
    for model in models:
        if model["error"] is not None:
            console.print(f"{model['name']}: {model['error']}", markup=False, highlight=False)


@app.command(
    "load",
    epilog="Example: anzoth models load llama=/models/Llama-3.2-1B-Instruct --kv-cache-mib 2048",
)
@command
async def load(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME=PATH",
            help="The name to serve it under, and its directory or the hub id of a pulled one.",
            show_default=False,
        ),
    ],
    alias: Annotated[
        list[str] | None,
        typer.Option(help="A further name for it; can be repeated.", show_default=False),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="What a million tokens cost: input=0.15,cached_input=0.075,output=0.60. "
            "Default: nothing.",
            show_default=False,
        ),
    ] = None,
    alias_price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ALIAS:PARTS",
            help="The same for one of its aliases. Default: what the model costs.",
            show_default=False,
        ),
    ] = None,
    kv_cache_mib: Annotated[
        int | None,
        typer.Option(help="Memory for its KV cache. Default: a share of what is free."),
    ] = None,
    memory_mib: Annotated[
        int | None,
        typer.Option(help="What it may count on altogether. Default: all that is free."),
    ] = None,
    max_model_tokens: Annotated[
        int | None, typer.Option(help="The longest sequence, prompt and output.")
    ] = None,
    max_running_sequences: Annotated[
        int | None, typer.Option(help="How many sequences run at the same time.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32.")] = None,
    num_threads: Annotated[int | None, typer.Option(help="Threads that compute.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Load a model into a running server, beside those that it serves.

    It is served once it is ready; interrupted before that, the load is undone. What is not set
    here is as in the server's own [engine] settings. A model that was loaded by this command is
    not loaded again when the server starts the next time: anzoth.toml says what is.
    """
    name, path = model_config.split_pair("MODEL", "NAME=PATH", model)
    settings = {
        "kv_cache_mib": kv_cache_mib,
        "memory_mib": memory_mib,
        "max_model_tokens": max_model_tokens,
        "max_running_sequences": max_running_sequences,
        "dtype": dtype,
        "num_threads": num_threads,
    }
    table = {"name": name, "path": _as_the_server_finds_it(path), "aliases": alias or []}
    table |= {setting: value for setting, value in settings.items() if value is not None}
    if price is not None:
        table["price"] = _price_table("--price", price)
    if alias_price:
        table["alias_prices"] = dict(map(_alias_price, alias_price))
    started_s = time.monotonic()
    with _Bar(name, is_shown=not as_json) as bar:
        loaded = await _ask(data_dir, config, {"do": "load", "table": table}, bar.event)
    after_s = time.monotonic() - started_s
    if as_json:
        print_json({**loaded, "loaded_after_s": round(after_s, 3)})
        return
    engine = loaded["engine"]
    _say(
        f"{name} is ready after {after_s:.1f} s: {engine['dtype']} on {engine['device']}, at most "
        f"{_context(loaded)} tokens, {_mib(loaded['kv_cache_bytes'])} of KV cache"
    )


@app.command("unload", epilog="Example: anzoth models unload llama --drain-s 5")
@command
async def unload(
    name: Annotated[str, typer.Argument(help="A model, as listed.", show_default=False)],
    drain_s: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="How long its running requests may take to end. Default: the server's drain_s.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Unload a model from a running server: its requests end, its memory is free.

    New requests for it get 404 at once. A model that stands in the configuration is loaded again
    when the server starts the next time.
    """
    await _ask(data_dir, config, {"do": "unload", "model": name, "drain_s": drain_s})
    if as_json:
        print_json({"unloaded": name})
    else:
        _say(f"{name} is unloaded.")


@app.command(
    "pull", epilog="Example: anzoth models pull Qwen/Qwen2.5-0.5B-Instruct --data-dir .anzoth"
)
def pull(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ORG/NAME[@REVISION]",
            help="A model of the hub, and a branch, a tag or a commit of it.",
            show_default=False,
        ),
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="HF_ENDPOINT",
            help="A mirror to ask instead. It is sent the token, too.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a checkpoint from the Hugging Face hub into the data directory.

    Only what serving needs is fetched, weights only as safetensors. Every file is verified against
    the digest that the hub announces; an interrupted pull goes on where it was. HF_TOKEN is sent
    where it is set. Serve what was pulled with: anzoth serve --model NAME=ORG/NAME
    """
    # Here, because the hub's client takes half a second to import.
    from anzoth import pull as pulling

    with foreseen_errors():
        wanted = pulled.try_parse(model)
        if wanted is None:
            raise PullError(
                f"{model!r} is no model of a hub; expected ORG/NAME or ORG/NAME@REVISION"
            )
        found = configuration.load_server(config, {"data_dir": data_dir}).data_dir
        cluster.make_data_dir(found)
        with _PullBar(is_shown=not as_json) as bar:
            directory, record = pulling.pull(
                found,
                wanted,
                endpoint=endpoint,
                token=os.environ.get("HF_TOKEN") or None,
                progress=bar,
            )
    num_bytes = sum(file.num_bytes for file in record.files)
    if as_json:
        print_json({**asdict(record), "path": str(directory), "num_bytes": num_bytes})
        return
    _say(f"Pulled {wanted.repository} at {record.commit[:12]} ({_mib(num_bytes)}) to {directory}.")
    _say(f"Serve it: anzoth serve --model NAME={wanted} --data-dir {found}")


@app.command("check", epilog="Example: anzoth models check /models/Llama-3.2-1B-Instruct")
def check(
    path: Annotated[
        str,
        typer.Argument(help="A directory, or the hub id of a pulled model.", show_default=False),
    ],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint is, whether it would be served, and how much memory it needs.

    The status is 0 if it would be served with the present settings, else 1.
    """
    # Here, because only this command reads tokenizers and templates.
    from anzoth import model_check

    with foreseen_errors():
        server = configuration.load_server(config, {"data_dir": data_dir})
        engine = configuration.load_engine(config)
        table = {"name": path.rstrip("/").rpartition("/")[2] or path, "path": path}
        checked = model_check.check(model_config.model_of_table(table, engine, server.data_dir))
    if as_json:
        print_json(asdict(checked))
    else:
        table = Table(box=None, show_header=False, padding=(0, 2))
        for name, value in _checked_rows(checked):
            table.add_row(name, Text(value))
        Console(highlight=False).print(table)
    if checked.problem is not None:
        raise typer.Exit(1)


async def _ask(
    data_dir: Path | None, config: Path | None, request: Fields, on_event: Tell | None = None
) -> Fields:
    """Raises ConfigError, ControlError or NotReached."""
    found = configuration.load_server(config, {"data_dir": data_dir}).data_dir
    try:
        return await control.ask(
            configuration.control_socket(configuration.run_dir(found)), request, on_event
        )
    except NotReached as error:
        match error.__cause__:
            case PermissionError():
                why = "only the user that runs the server (or root) may do this"
            case FileNotFoundError() | ConnectionRefusedError():
                why = f"start one with: anzoth serve --data-dir {found}"
            case _:
                why = "it ended, or is starting again"
        raise NotReached(f"no server answers on {found}; {why}") from error


def _price_table(option: str, parts: str) -> dict[str, str]:
    """As a [[models]] table has it; the server checks it. Raises ConfigError."""
    form = "such as input=0.15,output=0.60"
    return dict(model_config.split_pair(option, form, part) for part in parts.split(","))


def _alias_price(text: str) -> tuple[str, dict[str, str]]:
    alias, _, parts = text.rpartition(":")
    return alias, _price_table("--alias-price", parts)


def _as_the_server_finds_it(path: str) -> str:
    """A directory is meant from where the command runs; a hub id is not."""
    directory = Path(path).expanduser()
    return str(directory.resolve()) if directory.is_dir() or path.startswith((".", "~")) else path


class _Bar:
    """How far a load is, on a terminal."""

    def __init__(self, name: str, *, is_shown: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (is_shown and console.is_terminal),
        )
        self._name = name
        self._task = self._progress.add_task(f"asking for {name}", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def event(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"state": "waiting", "for": str(what)}:
                self._progress.update(self._task, description=f"waiting for {what}")
            case {"progress": int() | float() as share}:
                self._progress.update(self._task, total=1.0, completed=share)
            case {"state": "loading", "weights_bytes": int(size)}:
                text = f"loading {self._name} ({_mib(size)} of weights)"
                self._progress.update(self._task, description=text)


def _checked_rows(checked: Checked) -> Iterator[tuple[str, str]]:
    yield "path", checked.path
    yield "kind", f"{checked.kind} ({checked.architecture or 'unknown architecture'})"
    if checked.parameters is not None:
        stored = ", ".join(checked.stored_as)
        yield "parameters", f"{checked.parameters / 1e6:,.1f} M, stored as {stored}"
    if checked.max_model_tokens is not None:
        yield "context", f"{checked.max_model_tokens} tokens"
    if checked.kind == "generation" and checked.has_chat_template is not None:
        yield "chat", "yes" if checked.has_chat_template else "no template: completions only"
        yield "tool calls", checked.tool_calls or "not in a form that is known here"
        yield "reasoning", "yes" if checked.reasons else "no"
    if checked.needs_bytes is not None:
        per_token = checked.kv_bytes_per_token or 0
        cache = f", and {per_token / 1024:g} KiB of KV cache a token" if per_token else ""
        available = _mib(checked.available_bytes)
        yield "memory", f"{_mib(checked.needs_bytes)} of {available} available{cache}"
    yield "served", "yes" if checked.problem is None else f"no: {checked.problem}"


def _say(text: str) -> None:
    Console(soft_wrap=True).print(text, markup=False, highlight=False)


def _context(model: Mapping[str, Any]) -> str:
    return "-" if model["engine"] is None else str(model["engine"]["max_model_tokens"])


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"


class _PullBar:
    """How far a pull is, on a terminal."""

    def __init__(self, *, is_shown: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (is_shown and console.is_terminal),
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> _PullBar:
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def begin(self, num_bytes: int) -> None:
        self._bar.update(self._task, total=num_bytes)

    def doing(self, what: str) -> None:
        self._bar.update(self._task, description=escape(what))

    def advance(self, num_bytes: int) -> None:
        self._bar.advance(self._task, num_bytes)
