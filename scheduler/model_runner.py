"""What does it take to compute one step of a batch on this machine?

Owns the model, its KV cache tensors and the kernel table, and joins the parts of a step:

    scheduled sequences -> batch tensors -> attention plans -> decoder -> sampler -> answers
                        └-> masks, on a thread beside the decoder ──────┘

Does not know: which sequences to schedule, when one is finished, or who owns a block.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch

from anzoth.config import ConfigError
from anzoth.kernels.dispatch import DeviceError, Kernels, dtype_name, select
from anzoth.kernels.paging import padded_rows
from anzoth.memory import available_memory_bytes
from anzoth.model_config import EngineConfig
from anzoth.scheduler.batch import Batch, build_batch
from anzoth.scheduler.checkpoint import sample_weights, weight_files
from anzoth.scheduler.kv_tensors import KVSize, KVTensors, allocate, choose_size
from anzoth.scheduler.masks import MaskComputer
from anzoth.scheduler.models.decoder import Decoder, StepInputs
from anzoth.scheduler.models.families import read_spec
from anzoth.scheduler.models.loading import load_decoder
from anzoth.scheduler.models.specs import ModelSpec
from anzoth.scheduler.sampler import sample, score
from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence
from anzoth.scheduler.weights import Progress

log = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 2.0
_FINGERPRINT_PAGES = 64
_SCORED_AT_ONCE = 64
"""Rows of a prompt whose logits exist at once: 39 MiB for a vocabulary of 152,000."""


class ModelRunner:
    """One model on one device. Not thread-safe: one thread drives it."""

    def __init__(
        self,
        spec: ModelSpec,
        kernels: Kernels,
        decoder: Decoder,
        kv_cache: KVTensors,
        size: KVSize,
        *,
        block_size_tokens: int,
        fingerprint: str,
    ) -> None:
        self.spec = spec
        self.num_blocks = size.num_blocks
        self.block_size_tokens = block_size_tokens
        self.max_model_tokens = size.max_model_tokens
        self.dtype = dtype_name(kernels.dtype)
        self.device = str(kernels.device)
        self.fingerprint = fingerprint
        self.kv_cache = kv_cache
        self._kernels = kernels
        self._decoder = decoder
        self._windows = set(spec.windows)
        self._masks = MaskComputer(kernels.forbid)

    @classmethod
    def load(cls, path: Path, config: EngineConfig) -> ModelRunner:
        """Loads the checkpoint in `path` and allocates its cache.

        Raises ConfigError: the checkpoint, the device or the memory is not what it takes.
        """
        spec = read_spec(path)
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        try:
            kernels = select(config.device, config.dtype, config.block_size_tokens)
        except DeviceError as error:
            raise ConfigError(str(error)) from None
        # Sized before the weights are read, so that an impossible setting is told at once.
        weight_bytes = sum(file.stat().st_size for file in weight_files(path))
        available_bytes = max(available_memory_bytes(config.memory_mib) - weight_bytes, 0)
        size = choose_size(spec, kernels.dtype, config, available_bytes)
        decoder = load_decoder(
            path,
            spec,
            kernels,
            max_model_tokens=size.max_model_tokens,
            progress=log_progress(),
        )
        kv_cache = allocate(
            spec, kernels.dtype, size.num_blocks, config.block_size_tokens, kernels.device
        )
        return cls(
            spec,
            kernels,
            decoder,
            kv_cache,
            size,
            block_size_tokens=config.block_size_tokens,
            fingerprint=fingerprint(path, dtype_name(kernels.dtype)),
        )

    @torch.inference_mode()
    def execute(self, batch: Sequence[ScheduledSequence]) -> list[list[SampledToken | RowFailure]]:
        """Computes the tokens and drafts of each item; samples at its places, if it has any.

        Stores keys and values through the block tables; changes no sequence. The answers for an
        item do not depend on the other items: one for each token of its prompt that the step
        scores, then one for each place.
        """
        if not batch:
            return []
        tensors = build_batch(batch, self.block_size_tokens)
        places = [item.places for item in batch]
        flat = [place for own in places for place in own]
        masks = self._masks.start(flat, self.spec.vocab_size)
        x_TE = self._decoder.forward(self._inputs(tensors), self.kv_cache.layers)
        answers = [
            self._score(x_TE, item, rows) if rows else []
            for item, rows in zip(batch, tensors.score_rows, strict=True)
        ]
        if flat:
            logits_RV = self._decoder.logits(x_TE, tensors.sample_rows_R)
            # Rows past the places are padding.
            sampled = iter(sample(logits_RV[: len(flat)], flat, self.spec.eos_token_ids, masks()))
            for own, own_places in zip(answers, places, strict=True):
                own += islice(sampled, len(own_places))
        return answers

    def _score(
        self, x_TE: torch.Tensor, item: ScheduledSequence, rows: range
    ) -> list[SampledToken | RowFailure]:
        """How likely the prompt's tokens behind these rows are; a few rows' logits at a time."""
        sequence = item.sequence
        first = sequence.num_scored_tokens + 1
        token_ids = sequence.token_ids[first : first + len(rows)]
        answers: list[SampledToken | RowFailure] = []
        for start in range(0, len(rows), _SCORED_AT_ONCE):
            some = list(rows[start : start + _SCORED_AT_ONCE])
            padded = some + some[-1:] * (padded_rows(len(some)) - len(some))
            logits_RV = self._decoder.logits(x_TE, torch.tensor(padded))[: len(some)]
            some_ids = token_ids[start : start + len(some)]
            answers += score(logits_RV, some_ids, sequence.sampling.num_prompt_logprobs or 0)
        return answers

    @torch.inference_mode()
    def copy(self, blocks: list[tuple[int, int]]) -> None:
        """Copies keys and values from each first to the second block, in every layer."""
        self.kv_cache.copy(blocks)

    @torch.inference_mode()
    def scrub(self, block_ids: list[int]) -> None:
        """Zeroes the keys and values in these blocks, in every layer."""
        self.kv_cache.scrub(block_ids)

    def _inputs(self, batch: Batch) -> StepInputs:
        plans = {
            window: self._kernels.plan_attention(
                batch.layout,
                num_heads=self.spec.num_heads,
                num_kv_heads=self.spec.num_kv_heads,
                dtype=self._kernels.dtype,
                window=window,
            )
            for window in self._windows
        }
        return StepInputs(
            token_ids_T=batch.token_ids_T,
            positions_T=batch.positions_T,
            slots=batch.slots,
            plans=plans,
        )


def fingerprint(directory: Path, dtype: str) -> str:
    """A short name for "these weights, computed by this code in this type".

    Of the weights only a sample is hashed (see `checkpoint.sample_weights`).
    """
    digest = hashlib.sha256(f"{dtype}\0{torch.__version__}".encode())
    package = Path(__file__).resolve().parent
    kernels = Path(select.__code__.co_filename).resolve().parent
    for source in sorted([*package.rglob("*.py"), *kernels.rglob("*.py"), *kernels.rglob("*.so")]):
        digest.update(source.read_bytes())
    digest.update((directory / "config.json").read_bytes())
    for part in sample_weights(directory, _FINGERPRINT_PAGES):
        digest.update(part)
    return f"fp_{digest.hexdigest()[:12]}"


def log_progress() -> Progress:
    """A progress callback that logs now and then: only a slow load says anything."""
    last_s = time.monotonic()

    def report(share: float) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= _PROGRESS_INTERVAL_S:
            last_s = now_s
            progress = {"progress": share}  # for the supervisor, see `anzoth.child`
            log.info("reading weights: %d %%", round(share * 100), extra=progress)

    return report
