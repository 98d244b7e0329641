"""What does it take to make vectors of texts on this machine?

Owns the encoder and the kernel table. Does not know: which texts to take next, or who asks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from anzoth.config import ConfigError, EngineConfig
from anzoth.kernels.dispatch import DeviceError, Kernels, dtype_name, select
from anzoth.scheduler.model_runner import fingerprint, log_progress
from anzoth.scheduler.models.encoder import Encoder
from anzoth.scheduler.models.encoder_loading import load_encoder
from anzoth.scheduler.models.encoder_spec import EncoderSpec, read_encoder_spec


class EmbeddingRunner:
    """One encoder on one device. Not thread-safe: one thread drives it."""

    def __init__(
        self,
        spec: EncoderSpec,
        kernels: Kernels,
        encoder: Encoder,
        *,
        max_model_tokens: int,
        fingerprint: str,
    ) -> None:
        self.dimensions = spec.hidden_size
        self.vocab_size = spec.vocab_size
        self.max_model_tokens = max_model_tokens
        """Of one text."""
        self.dtype = dtype_name(kernels.dtype)
        self.device = str(kernels.device)
        self.fingerprint = fingerprint
        self._encoder = encoder

    @classmethod
    def load(cls, path: Path, config: EngineConfig) -> EmbeddingRunner:
        """Loads the checkpoint in `path`.

        Raises ConfigError: the checkpoint or the device is not what it takes.
        """
        spec = read_encoder_spec(path)
        try:
            kernels = select(config.device, config.dtype)
        except DeviceError as error:
            raise ConfigError(str(error)) from None
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        return cls(
            spec,
            kernels,
            load_encoder(path, spec, kernels, progress=log_progress()),
            max_model_tokens=min(config.max_model_tokens or spec.max_tokens, spec.max_tokens),
            fingerprint=fingerprint(path, dtype_name(kernels.dtype)),
        )

    @torch.inference_mode()
    def embed(
        self, texts: Sequence[Sequence[int]], dimensions: Sequence[int | None]
    ) -> list[bytes | None]:
        """One vector per text of token ids, as little-endian float32; no text may be empty.

        A text's vector does not depend on the others. `dimensions`, for each text: see
        `frames.Embed`. None: the vector holds a number that is not finite.
        """
        vectors_NE = self._encoder.embed(texts)
        is_finite = vectors_NE.isfinite().all(dim=1).tolist()
        return [
            _packed(vector_E if size is None else _shortened(vector_E, size)) if ok else None
            for vector_E, size, ok in zip(vectors_NE, dimensions, is_finite, strict=True)
        ]


def _shortened(vector_E: torch.Tensor, size: int) -> torch.Tensor:
    """The leading numbers, as long as the whole vector was."""
    return F.normalize(vector_E[:size], dim=0) * vector_E.norm()


def _packed(vector_E: torch.Tensor) -> bytes:
    numbers = vector_E.contiguous().numpy()
    return (numbers.byteswap() if sys.byteorder == "big" else numbers).tobytes()
