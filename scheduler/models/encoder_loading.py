"""Which tensors of a checkpoint make up the encoder, and what is done to them on the way?

Queries, keys and values become one matrix. A text has one token type, so its row is added to the
table of positions once, here.

Does not know: what the encoder does with its weights.
"""

from __future__ import annotations

from pathlib import Path

import torch

from anzoth.kernels.dispatch import Kernels
from anzoth.scheduler.models.encoder import Encoder, EncoderLayer, Norm
from anzoth.scheduler.models.encoder_spec import EncoderSpec
from anzoth.scheduler.models.feed_forward import Linear
from anzoth.scheduler.weights import Part, Progress, WeightReader

_WORD = "embeddings.word_embeddings"
_POSITION = "embeddings.position_embeddings"
_TYPE = "embeddings.token_type_embeddings"
_NORM = "embeddings.LayerNorm"
_UNREAD = (
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "pooler.dense.weight",
    "pooler.dense.bias",
)
"""Tables of consecutive numbers, and the head that BERT was trained with."""


def load_encoder(
    directory: Path, spec: EncoderSpec, kernels: Kernels, *, progress: Progress | None = None
) -> Encoder:
    """The model in `directory`. Raises CheckpointError."""
    reader = WeightReader(directory, wanted_parts(spec), ignored=_UNREAD, progress=progress)
    loader = _Loader(reader, spec, kernels)
    position_PE = loader.table(_POSITION, spec.num_positions, torch.float32)
    type_E = loader.table(_TYPE, spec.num_token_types, torch.float32)[0]
    return Encoder(
        spec,
        kernels,
        word_VE=loader.table(_WORD, spec.vocab_size, kernels.dtype),
        position_PE=position_PE[spec.first_position :] + type_E,
        norm=loader.norm(_NORM),
        layers=[_load_layer(loader, index) for index in range(spec.num_layers)],
    )


def wanted_parts(spec: EncoderSpec) -> list[Part]:
    """All tensors that a checkpoint of this model must hold, and their shapes."""
    tables = {
        _WORD: spec.vocab_size,
        _POSITION: spec.num_positions,
        _TYPE: spec.num_token_types,
    }
    parts = [_table(name, size, spec) for name, size in tables.items()] + _norm(_NORM, spec)
    for index in range(spec.num_layers):
        for name, (outputs, inputs) in _linears(spec, index).items():
            parts += [Part(f"{name}.weight", (outputs, inputs)), Part(f"{name}.bias", (outputs,))]
        for name in _layer_norms(index):
            parts += _norm(name, spec)
    return parts


# --- names and shapes --------------------------------------------------------------------------


def _table(name: str, num_rows: int, spec: EncoderSpec) -> Part:
    return Part(f"{name}.weight", (num_rows, spec.hidden_size))


def _norm(name: str, spec: EncoderSpec) -> list[Part]:
    return [Part(f"{name}.{kind}", (spec.hidden_size,)) for kind in ("weight", "bias")]


def _projections(index: int) -> list[str]:
    attention = f"encoder.layer.{index}.attention.self"
    return [f"{attention}.{name}" for name in ("query", "key", "value")]


def _linears(spec: EncoderSpec, index: int) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each linear layer of theirs."""
    width, inner = spec.hidden_size, spec.intermediate_size
    layer = f"encoder.layer.{index}"
    return dict.fromkeys(_projections(index), (width, width)) | {
        f"{layer}.attention.output.dense": (width, width),
        f"{layer}.intermediate.dense": (inner, width),
        f"{layer}.output.dense": (width, inner),
    }


def _layer_norms(index: int) -> tuple[str, str]:
    layer = f"encoder.layer.{index}"
    return f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"


# --- reading -----------------------------------------------------------------------------------


class _Loader:
    """Reads parameters by the checkpoint's names."""

    def __init__(self, reader: WeightReader, spec: EncoderSpec, kernels: Kernels) -> None:
        self.spec = spec
        self._reader = reader
        self._kernels = kernels

    def table(self, name: str, num_rows: int, dtype: torch.dtype) -> torch.Tensor:
        return self._reader.read([_table(name, num_rows, self.spec)], dtype)

    def norm(self, name: str) -> Norm:
        weight, bias = _norm(name, self.spec)
        return Norm(
            self._reader.read([weight], torch.float32), self._reader.read([bias], torch.float32)
        )

    def linear(self, shapes: dict[str, tuple[int, int]], *names: str) -> Linear:
        """The named layers, as one."""
        weights = [Part(f"{name}.weight", shapes[name]) for name in names]
        biases = [Part(f"{name}.bias", shapes[name][:1]) for name in names]
        dtype = self._kernels.dtype
        return self._kernels.prepare_linear(
            self._reader.read(weights, dtype), self._reader.read(biases, dtype)
        )


def _load_layer(loader: _Loader, index: int) -> EncoderLayer:
    shapes = _linears(loader.spec, index)
    *projections, output, up, down = shapes
    after_attention, after_feed_forward = _layer_norms(index)
    return EncoderLayer(
        qkv=loader.linear(shapes, *projections),
        output=loader.linear(shapes, output),
        norm_after_attention=loader.norm(after_attention),
        up=loader.linear(shapes, up),
        down=loader.linear(shapes, down),
        norm_after_feed_forward=loader.norm(after_feed_forward),
    )
