"""Which tensors of a checkpoint make up the encoder, and what is done to them on the way?

Queries, keys and values become one matrix, and the tables of positions and of token types one
table of both. Next to a classifier the encoder's tensors have a prefix, and the classifier its own.

Does not know: what the encoder does with its weights.
"""

from __future__ import annotations

from pathlib import Path

import torch

from anzoth.kernels.dispatch import Kernels
from anzoth.scheduler.models.encoder import Classifier, Encoder, EncoderLayer, Norm
from anzoth.scheduler.models.encoder_spec import EncoderSpec
from anzoth.scheduler.models.feed_forward import Linear
from anzoth.scheduler.models.head_spec import Scoring
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
"""Tables of consecutive numbers, and the head that BERT was trained with (its classifier's inner
layer, where that is wanted)."""


def load_encoder(
    directory: Path, spec: EncoderSpec, kernels: Kernels, *, progress: Progress | None = None
) -> Encoder:
    """The model in `directory`. Raises CheckpointError."""
    ignored = [spec.prefix + name for name in _UNREAD]
    reader = WeightReader(directory, wanted_parts(spec), ignored=ignored, progress=progress)
    loader = _Loader(reader, spec, kernels)
    position_PE = loader.table(_POSITION, spec.num_positions, torch.float32)
    type_KE = loader.table(_TYPE, spec.num_token_types, torch.float32)
    return Encoder(
        spec,
        kernels,
        word_VE=loader.table(_WORD, spec.vocab_size, kernels.dtype),
        place_KPE=type_KE[:, None] + position_PE[spec.first_position :],
        norm=loader.norm(_NORM),
        layers=[_load_layer(loader, index) for index in range(spec.num_layers)],
        classifier=None if spec.scoring is None else _load_classifier(loader, spec.scoring),
    )


def wanted_parts(spec: EncoderSpec) -> list[Part]:
    """All tensors that a checkpoint of this model must hold, and their shapes."""
    tables = {
        _WORD: spec.vocab_size,
        _POSITION: spec.num_positions,
        _TYPE: spec.num_token_types,
    }
    parts = [_table(name, size, spec) for name, size in tables.items()] + _norm(_NORM, spec)
    linears = {} if spec.scoring is None else _classifier(spec, spec.scoring)
    for index in range(spec.num_layers):
        linears |= _linears(spec, index)
        for name in _layer_norms(index):
            parts += _norm(name, spec)
    for name, (outputs, inputs) in linears.items():
        parts += [Part(f"{name}.weight", (outputs, inputs)), Part(f"{name}.bias", (outputs,))]
    return parts


# --- names and shapes --------------------------------------------------------------------------


def _table(name: str, num_rows: int, spec: EncoderSpec) -> Part:
    return Part(f"{spec.prefix}{name}.weight", (num_rows, spec.hidden_size))


def _norm(name: str, spec: EncoderSpec) -> list[Part]:
    return [Part(f"{spec.prefix}{name}.{kind}", (spec.hidden_size,)) for kind in ("weight", "bias")]


def _linears(spec: EncoderSpec, index: int) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each linear layer of theirs."""
    width, inner = spec.hidden_size, spec.intermediate_size
    layer = f"{spec.prefix}encoder.layer.{index}"
    projections = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
    return dict.fromkeys(projections, (width, width)) | {
        f"{layer}.attention.output.dense": (width, width),
        f"{layer}.intermediate.dense": (inner, width),
        f"{layer}.output.dense": (width, inner),
    }


def _layer_norms(index: int) -> tuple[str, str]:
    layer = f"encoder.layer.{index}"
    return f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"


def _classifier(spec: EncoderSpec, scoring: Scoring) -> dict[str, tuple[int, int]]:
    width = spec.hidden_size
    return {scoring.inner: (width, width), scoring.outer: (1, width)}


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

    def linear(
        self,
        shapes: dict[str, tuple[int, int]],
        *names: str,
        dtype: torch.dtype | None = None,
    ) -> Linear:
        """The named layers, as one; in the model's type unless another is given."""
        weights = [Part(f"{name}.weight", shapes[name]) for name in names]
        biases = [Part(f"{name}.bias", shapes[name][:1]) for name in names]
        dtype = dtype or self._kernels.dtype
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


def _load_classifier(loader: _Loader, scoring: Scoring) -> Classifier:
    """In float32 whatever the encoder's type: scores that are near each other must not tie."""
    shapes = _classifier(loader.spec, scoring)
    return Classifier(
        inner=loader.linear(shapes, scoring.inner, dtype=torch.float32),
        outer=loader.linear(shapes, scoring.outer, dtype=torch.float32),
        is_sigmoid=scoring.is_sigmoid,
    )
