"""A whole gateway in this process, as `anzoth.server` builds it: what a test patches, serves.

Without models: everything but inference is there, over real HTTP and on a real database.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from anzoth import server
from anzoth.api.app import App
from anzoth.api.call import Route
from anzoth.api.routes import ROUTES
from anzoth.config import Config, HttpConfig, ServerConfig
from anzoth.gateway import directory, keys
from anzoth.gateway_settings import gateway_settings
from anzoth.http.server import HttpServer
from anzoth.telemetry import Metrics


def config_of(data_dir: Path) -> Config:
    return replace(Config(models=()), server=ServerConfig(data_dir=data_dir))


@contextlib.asynccontextmanager
async def gateway(dsn: str, data_dir: Path, routes: Sequence[Route] = ROUTES) -> AsyncIterator[str]:
    """Where it answers, with /v1. It is an installation with a tenant of its own."""
    settings = gateway_settings(
        config_of(data_dir),
        listen_fd=-1,
        control_socket=data_dir / "control.sock",
        dsn=dsn,
        models=[],
        models_must_load=True,
    )
    await directory.ensure_default_tenant_and_key(dsn, keys.load_pepper(data_dir))
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        models = server._models(settings, metrics).registry
        services = await server._build(stack, settings, metrics, models)
        http = HttpServer(App(services, 8 << 20, routes), HttpConfig())
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        await http.start(sock)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            await http.drain(1)
            await asyncio.sleep(0)
