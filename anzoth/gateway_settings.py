"""What is the gateway process told when it starts?

The supervisor's side of what `anzoth.server` and `anzoth.model_changes` read; the benches that run
a gateway without a supervisor tell it the same.

Does not know: what the gateway does with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from anzoth.config import Config, retriever_socket, run_dir, to_json
from anzoth.model_config import ModelConfig


def gateway_settings(
    config: Config,
    *,
    listen_fd: int,
    control_socket: Path,
    dsn: str,
    models: Sequence[Mapping[str, object]],
    models_must_load: bool,
    backend_keys: Mapping[str, str] | None = None,
) -> dict[str, object]:
    """JSON. `models`: each made by `offered_model`; `backend_keys`: see `startup.take_secrets`."""
    server = config.server
    return {
        "listen_fd": listen_fd,
        "control_socket": str(control_socket),
        "dsn": dsn,
        "data_dir": str(server.data_dir),
        "drain_s": server.drain_s,
        "http": to_json(config.http),
        "accounts": to_json(config.accounts),
        "oidc": [to_json(provider) for provider in config.oidc],
        "journal": to_json(config.journal),
        "usage": to_json(config.usage),
        "files": to_json(config.files),
        "knowledge": to_json(config.knowledge),
        "responses": to_json(config.responses),
        "batches": to_json(config.batches),
        "egress": to_json(config.egress),
        "tools": to_json(config.tools),
        "models": models,
        "backends": [to_json(backend) for backend in config.backends],
        "backend_keys": backend_keys or {},
        "models_must_load": models_must_load,
        "retriever_socket": str(retriever_socket(run_dir(server.data_dir))),
        "log_level": server.log_level,
    }


def offered_model(model: ModelConfig, engine_socket: Path) -> Mapping[str, object]:
    """JSON: one model, and where its engine listens."""
    return {
        "name": model.name,
        "path": str(model.path),
        "socket": str(engine_socket),
        "aliases": model.aliases,
        "prices": {name: asdict(price) for name, price in model.prices.items()},
        "stall_timeout_s": model.engine.stall_timeout_s,
    }
