"""A whole gateway in this process, as `anzoth.server` builds it: what a test patches, serves.

Over real HTTP, on a real database; files are really read, and searched by a real retriever. There
is an embedding model, whose vectors are made of words; none that generates.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import knowledge_kit
from engine_peer import EnginePeer
from retriever_kit import Retriever

from anzoth import server
from anzoth.api.app import App
from anzoth.api.call import Route, Services
from anzoth.api.routes import ROUTES
from anzoth.config import Config, HttpConfig, ServerConfig, run_dir
from anzoth.gateway import directory, keys
from anzoth.gateway_settings import gateway_settings, offered_model
from anzoth.http.server import HttpServer
from anzoth.model_config import ModelConfig
from anzoth.telemetry import Metrics


def config_of(data_dir: Path) -> Config:
    return replace(Config(models=()), server=ServerConfig(data_dir=data_dir))


async def serve(
    stack: contextlib.AsyncExitStack,
    dsn: str,
    data_dir: Path,
    models: Sequence[Mapping[str, object]] = (),
    routes: Sequence[Route] = ROUTES,
    **settings: object,
) -> tuple[str, Services]:
    """Where it answers, with /v1, and its parts, which `stack` ends. `settings`: see
    `gateway_settings`."""
    told = gateway_settings(
        config_of(data_dir),
        listen_fd=-1,
        control_socket=data_dir / "control.sock",
        dsn=dsn,
        models=models,
        models_must_load=True,
    )
    told |= settings
    metrics = Metrics()
    registry = server._models(told, metrics).registry
    services = await server._build(stack, told, metrics, registry)
    http = HttpServer(App(services, 8 << 20, routes), HttpConfig())
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await http.start(sock)
    stack.push_async_callback(http.drain, 1)
    return f"http://127.0.0.1:{port}/v1", services


async def until_ready(services: Services, *components: str) -> None:
    """As `/readyz` has them."""
    async with asyncio.timeout(60):
        while True:
            found = await services.health.components()
            if all(found[name].state == "ready" for name in components):
                return
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def gateway(
    dsn: str, data_dir: Path, routes: Sequence[Route] = ROUTES, *, has_stores: bool = False
) -> AsyncIterator[str]:
    """Where it answers, with /v1. It is an installation with a tenant of its own. Without
    `has_stores` it has neither model nor retriever."""
    await directory.ensure_default_tenant_and_key(dsn, keys.load_pepper(data_dir))
    async with contextlib.AsyncExitStack() as stack:
        models = [await _embedding_model(stack, data_dir)] if has_stores else []
        url, services = await serve(stack, dsn, data_dir, models, routes)
        if has_stores:
            await until_ready(services, "retriever")
        yield url


async def _embedding_model(
    stack: contextlib.AsyncExitStack, data_dir: Path
) -> Mapping[str, object]:
    run = run_dir(data_dir)
    run.mkdir()
    retriever = Retriever(run)
    retriever.start()
    stack.callback(retriever.end, signal.SIGKILL)
    checkpoint = knowledge_kit.write_model(data_dir / "model")
    peer = EnginePeer(run / "engine.sock", lambda submit, prompt, choice: [], knowledge_kit.HELLO)
    peer.vector_of = knowledge_kit.vector_of
    await peer.start()
    stack.push_async_callback(peer.stop)
    return offered_model(ModelConfig("words", checkpoint), run / "engine.sock")
