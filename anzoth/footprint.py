"""How much memory will a model's engine take, and does that fit beside the others?

    an engine = the process itself + weights + KV cache

Weights are counted from the checkpoint's headers, before anything is started. A KV cache whose size
is not set takes a share of what is left: models without a size divide it evenly, and each engine
is told its part as `memory_mib`, so that engines which start together do not all take the same
free memory.

Does not know: what is running, or how an engine lays its memory out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from anzoth.config import ConfigError
from anzoth.model_config import EngineConfig, ModelConfig
from anzoth.model_kind import model_kind
from anzoth.scheduler.checkpoint import read_headers, weight_files
from anzoth.scheduler.models.families import read_spec

PROCESS_BYTES = 256 << 20
"""An engine process with torch loaded and no model: 225 MiB resident (Linux, torch 2.13 for CPU,
Python 3.11, 2026-11)."""
_ITEM_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(slots=True, frozen=True)
class Footprint:
    """What one model takes on this machine."""

    weights_bytes: int
    kv_bytes_per_token: int
    """0: the model keeps no cache, because it makes vectors."""
    kv_cache_bytes: int | None
    """As its settings fix it. None: it takes what it gets."""

    @property
    def least_bytes(self) -> int:
        """Below this the engine cannot start as it is configured."""
        return PROCESS_BYTES + self.weights_bytes + (self.kv_cache_bytes or 0)

    def __str__(self) -> str:
        parts = [f"{self.weights_bytes >> 20} MiB of weights"]
        if self.kv_cache_bytes:
            parts.append(f"{self.kv_cache_bytes >> 20} MiB of KV cache")
        return " + ".join([*parts, f"{PROCESS_BYTES >> 20} MiB for the process"])


def measure(model: ModelConfig) -> Footprint:
    """Reads the headers of the checkpoint. Raises ConfigError for one that cannot be served."""
    engine = model.engine
    try:
        files = weight_files(model.path)
        if model_kind(model.path) != "generation":
            return Footprint(sum(file.stat().st_size for file in files), 0, 0)
        spec = read_spec(model.path)
        headers = read_headers(files)
    except OSError as error:
        raise _cannot_serve(model, f"cannot read {error.filename}: {error.strerror}") from error
    except ConfigError as error:
        raise _cannot_serve(model, error) from error
    item_bytes = _item_bytes(engine)
    num_elements = sum(math.prod(header.shape) for header in headers.values())
    per_token = 2 * spec.num_layers * spec.num_kv_heads * spec.head_dim * item_bytes
    return Footprint(num_elements * item_bytes, per_token, _kv_cache_bytes(engine, per_token))


def share_out(
    models: Sequence[ModelConfig], footprints: Sequence[Footprint], available_bytes: int
) -> list[ModelConfig]:
    """The models with the memory that each may count on, in the same order.

    Raises ConfigError naming the first one that does not fit, with the numbers.
    """
    left_bytes = available_bytes
    for model, footprint in zip(models, footprints, strict=True):
        need_bytes = _needed_bytes(model, footprint)
        if need_bytes > left_bytes:
            raise _cannot_serve(model, _too_large(footprint, need_bytes, left_bytes))
        left_bytes -= need_bytes
    takers = [_takes_what_it_gets(m, f) for m, f in zip(models, footprints, strict=True)]
    share_bytes = left_bytes // max(sum(takers), 1)
    return [
        _with_memory(model, footprint.least_bytes + share_bytes) if takes else model
        for model, footprint, takes in zip(models, footprints, takers, strict=True)
    ]


def _needed_bytes(model: ModelConfig, footprint: Footprint) -> int:
    """What must be there. A budget that is set is needed in full."""
    budget_mib = model.engine.memory_mib
    if budget_mib is None:
        return footprint.least_bytes
    if footprint.least_bytes > budget_mib << 20:
        raise _cannot_serve(
            model,
            f"memory_mib is {budget_mib}, but it needs {_mib(footprint.least_bytes)} MiB: "
            f"{footprint}",
        )
    return budget_mib << 20


def _takes_what_it_gets(model: ModelConfig, footprint: Footprint) -> bool:
    return footprint.kv_cache_bytes is None and model.engine.memory_mib is None


def _with_memory(model: ModelConfig, budget_bytes: int) -> ModelConfig:
    engine = dataclasses.replace(model.engine, memory_mib=budget_bytes >> 20)
    return dataclasses.replace(model, engine=engine)


def _too_large(footprint: Footprint, need_bytes: int, left_bytes: int) -> str:
    return (
        f"it needs {_mib(need_bytes)} MiB of memory ({footprint}), but only "
        f"{max(left_bytes, 0) >> 20} MiB are left for it"
    )


def _mib(num_bytes: int) -> int:
    """Rounded up: a need is never told smaller than it is."""
    return -(-num_bytes // (1 << 20))


def _kv_cache_bytes(engine: EngineConfig, bytes_per_token: int) -> int | None:
    if engine.num_blocks is not None:
        return engine.num_blocks * engine.block_size_tokens * bytes_per_token
    return None if engine.kv_cache_mib is None else engine.kv_cache_mib << 20


def _item_bytes(engine: EngineConfig) -> int:
    """Of the number type that the engine will compute in.

    Unset means bfloat16 wherever there are kernels for it; an unknown one is for the engine to
    refuse.
    """
    return _ITEM_BYTES.get(engine.dtype or "bfloat16", 2)


def _cannot_serve(model: ModelConfig, reason: object) -> ConfigError:
    return ConfigError(f"model {model.name} cannot be served: {reason}")
