"""What does it take to make vectors of texts, or scores of pairs, on this machine?

Owns the model and the kernel table.

Does not know: which texts to take next, or who asks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F

from anzoth.config import ConfigError
from anzoth.kernels.dispatch import DeviceError, Kernels, dtype_name, select
from anzoth.model_config import EngineConfig
from anzoth.model_kind import architectures
from anzoth.scheduler.model_runner import fingerprint, log_progress
from anzoth.scheduler.models.decoder_embedder import BLOCK_TOKENS, DecoderEmbedder
from anzoth.scheduler.models.encoder_loading import load_encoder
from anzoth.scheduler.models.encoder_spec import is_encoder, read_encoder_spec
from anzoth.scheduler.models.families import read_spec
from anzoth.scheduler.models.head_spec import most_tokens, read_pooling
from anzoth.scheduler.models.loading import load_decoder
from anzoth.scheduler.texts import Text
from anzoth.scheduler.vector_space import vector_space

_MAX_DECODER_TOKENS_UNASKED = 8192
"""A text is computed in one step, and no step may last as long as `stall_timeout_s`."""


class Embedder(Protocol):
    """A model that makes vectors."""

    def embed(self, texts: Sequence[Text]) -> torch.Tensor:
        """[N, dimensions] in float32. A text's vector does not depend on the others."""
        ...


@dataclass(slots=True, frozen=True)
class Loaded:
    """A model, and what callers must know to use it."""

    embedder: Embedder
    dimensions: int
    vocab_size: int
    num_token_types: int
    max_tokens: int
    """Of one text."""


class EmbeddingRunner:
    """One model on one device. Not thread-safe: one thread drives it."""

    def __init__(
        self, loaded: Loaded, kernels: Kernels, *, fingerprint: str, vector_space: str | None
    ) -> None:
        self.dimensions = loaded.dimensions
        self.vocab_size = loaded.vocab_size
        self.num_token_types = loaded.num_token_types
        self.max_model_tokens = loaded.max_tokens
        """Of one text."""
        self.dtype = dtype_name(kernels.dtype)
        self.device = str(kernels.device)
        self.fingerprint = fingerprint
        self.vector_space = vector_space
        self._embedder = loaded.embedder

    @classmethod
    def load(cls, path: Path, config: EngineConfig) -> EmbeddingRunner:
        """Loads the checkpoint in `path`.

        Raises ConfigError: the checkpoint or the device is not what it takes.
        """
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        try:
            kernels = select(config.device, config.dtype, BLOCK_TOKENS)
        except DeviceError as error:
            raise ConfigError(str(error)) from None
        load = _load_encoder if is_encoder(architectures(path)) else _load_decoder
        loaded = load(path, kernels, config.max_model_tokens)
        return cls(
            loaded,
            kernels,
            fingerprint=fingerprint(path, dtype_name(kernels.dtype)),
            vector_space=vector_space(path) if loaded.dimensions > 1 else None,
        )

    @torch.inference_mode()
    def embed(self, texts: Sequence[Text], dimensions: Sequence[int | None]) -> list[bytes | None]:
        """One vector per text, as little-endian float32.

        A text's vector does not depend on the others. `dimensions`, for each text: see
        `frames.Embed`. None: the vector holds a number that is not finite.
        """
        vectors_NE = self._embedder.embed(texts)
        is_finite = vectors_NE.isfinite().all(dim=1).tolist()
        return [
            _packed(vector_E if size is None else _shortened(vector_E, size)) if ok else None
            for vector_E, size, ok in zip(vectors_NE, dimensions, is_finite, strict=True)
        ]


def _load_encoder(path: Path, kernels: Kernels, max_tokens: int | None) -> Loaded:
    spec = read_encoder_spec(path)
    return Loaded(
        load_encoder(path, spec, kernels, progress=log_progress()),
        dimensions=spec.hidden_size if spec.scoring is None else 1,
        vocab_size=spec.vocab_size,
        num_token_types=spec.num_token_types,
        max_tokens=min(max_tokens or spec.max_tokens, spec.max_tokens),
    )


def _load_decoder(path: Path, kernels: Kernels, max_tokens: int | None) -> Loaded:
    spec, pooling = read_spec(path), read_pooling(path, ("lasttoken",))
    limit = min(spec.max_position_tokens, most_tokens(path) or spec.max_position_tokens)
    limit = min(max_tokens or _MAX_DECODER_TOKENS_UNASKED, limit)
    decoder = load_decoder(
        path, spec, kernels, max_model_tokens=limit, has_head=False, progress=log_progress()
    )
    return Loaded(
        DecoderEmbedder(spec, kernels, decoder, pooling),
        dimensions=spec.hidden_size,
        vocab_size=spec.vocab_size,
        num_token_types=1,
        max_tokens=limit,
    )


def _shortened(vector_E: torch.Tensor, size: int) -> torch.Tensor:
    """The leading numbers, as long as the whole vector was."""
    return F.normalize(vector_E[:size], dim=0) * vector_E.norm()


def _packed(vector_E: torch.Tensor) -> bytes:
    numbers = vector_E.contiguous().numpy()
    return (numbers.byteswap() if sys.byteorder == "big" else numbers).tobytes()
