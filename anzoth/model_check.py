"""What is this checkpoint, would it be served, and how much memory does it need?

Each half is asked as the process that will serve it reads it: the engine's from config.json and the
headers of the weights, the gateway's from the tokenizer and the chat template. No weight is read.

Does not know: what is running, or how a command shows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from anzoth import footprint
from anzoth.config import ConfigError
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import ModelLoadError, load_model
from anzoth.memory import available_memory_bytes
from anzoth.model_config import ModelConfig
from anzoth.model_kind import model_kind
from anzoth.scheduler.checkpoint import read_headers, read_json, weight_files
from anzoth.scheduler.models.encoder_spec import read_encoder_spec
from anzoth.scheduler.models.families import read_spec
from anzoth.telemetry import Metrics
from anzoth.text.reasoning import has_reasoning


@dataclass(slots=True, frozen=True)
class Checked:
    """What was found; fields that a problem left unknown are None."""

    path: str
    problem: str | None
    """Why it would not be served. None: it would be."""
    kind: str
    architecture: str | None = None
    parameters: int | None = None
    stored_as: tuple[str, ...] = ()
    """Number types of the weights on disk."""
    max_model_tokens: int | None = None
    """As the checkpoint says; a small KV cache may hold less."""
    has_chat_template: bool | None = None
    tool_calls: str | None = None
    """The form in which it writes calls. None: in none that this server reads."""
    reasons: bool | None = None
    needs_bytes: int | None = None
    """With the present settings: process, weights, and a KV cache whose size is set."""
    kv_bytes_per_token: int | None = None
    available_bytes: int = 0


def check(model: ModelConfig) -> Checked:
    """Looks at everything that is looked at before a model is served."""
    found: dict[str, object] = {}
    problem: str | None = None
    try:
        _engine_half(model, found)
        _gateway_half(model, found)
    except (ConfigError, ModelLoadError) as error:
        problem = str(error)
    return Checked(
        path=str(model.path),
        problem=problem,
        kind=model_kind(model.path),
        available_bytes=available_memory_bytes(),
        **found,  # type: ignore[arg-type]  # fields by name
    )


def _engine_half(model: ModelConfig, found: dict[str, object]) -> None:
    names = read_json(model.path / "config.json").get("architectures")
    found["architecture"] = str(names[0]) if isinstance(names, list) and names else None
    measured = footprint.measure(model)
    found["needs_bytes"] = measured.least_bytes
    found["kv_bytes_per_token"] = measured.kv_bytes_per_token
    if model_kind(model.path) == "generation":
        found["max_model_tokens"] = read_spec(model.path).max_position_tokens
        headers = read_headers(weight_files(model.path)).values()
        found["parameters"] = sum(math.prod(header.shape) for header in headers)
        found["stored_as"] = tuple(sorted({header.dtype for header in headers}))
    else:
        found["max_model_tokens"] = read_encoder_spec(model.path).max_tokens
    footprint.share_out([model], [measured], available_memory_bytes())


def _gateway_half(model: ModelConfig, found: dict[str, object]) -> None:
    # The engine is never asked: loading is what tells whether the text half is usable.
    served = load_model(model, EngineClient(model.name, Path("unused"), Metrics()))
    found["has_chat_template"] = served.template is not None
    found["tool_calls"] = None if served.tool_calls is None else served.tool_calls.name
    found["reasons"] = has_reasoning(served.tokenizer.chat_template or "")
