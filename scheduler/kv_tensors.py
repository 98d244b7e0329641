"""How much key/value cache does this machine get, and where does it lie?

One tensor for all layers, allocated once and never moved. It starts as untouched zero pages, so
blocks that are never used cost no memory.

Does not know: which block belongs to whom (scheduler/kv_cache.py), or what is stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from anzoth.config import ConfigError
from anzoth.model_config import EngineConfig
from anzoth.scheduler.models.decoder import LayerCache
from anzoth.scheduler.models.specs import ModelSpec

_SHARE_OF_AVAILABLE_MEMORY = 0.4
"""The rest is for activations, the database, the page cache and the user's other programs."""
_MAX_MODEL_TOKENS_UNASKED = 8192
"""When sizing by itself: reserve no more per sequence, however long the model's context."""


@dataclass(slots=True, frozen=True)
class KVSize:
    """How many blocks, and how long one sequence may become with them."""

    num_blocks: int
    max_model_tokens: int


def choose_size(
    spec: ModelSpec, dtype: torch.dtype, config: EngineConfig, available_bytes: int
) -> KVSize:
    """From `num_blocks`, else `kv_cache_mib`, else a share of `available_bytes`.

    Raises ConfigError when that holds no block, or less than the `max_model_tokens` asked for.
    """
    block_size = config.block_size_tokens
    if block_size < 1:
        raise ConfigError("block_size_tokens is 0; expected at least 1")
    if config.max_model_tokens == 0:
        raise ConfigError("max_model_tokens is 0; expected at least 1")
    limit = min(config.max_model_tokens or spec.max_position_tokens, spec.max_position_tokens)
    block_bytes = num_block_bytes(spec, dtype, block_size)
    if config.num_blocks is not None:
        num_blocks, source = config.num_blocks, f"num_blocks = {config.num_blocks}"
    elif config.kv_cache_mib is not None:
        num_blocks = (config.kv_cache_mib << 20) // block_bytes
        source = f"kv_cache_mib = {config.kv_cache_mib}"
    else:
        share = int(available_bytes * _SHARE_OF_AVAILABLE_MEMORY) // block_bytes
        usual = limit if config.max_model_tokens else min(limit, _MAX_MODEL_TOKENS_UNASKED)
        useful = max(config.max_running_sequences, 1) * -(-usual // block_size)
        num_blocks = min(share, max(useful, -(-limit // block_size)))
        source = f"{available_bytes >> 20} MiB of free memory"
    if num_blocks < 1:
        raise ConfigError(
            f"the KV cache holds no block: {source}, and one block of {block_size} tokens needs "
            f"{block_bytes / 2**20:.2f} MiB"
        )
    capacity = num_blocks * block_size
    if config.max_model_tokens is not None and capacity < limit:
        raise ConfigError(
            f"max_model_tokens is {config.max_model_tokens}, but the KV cache holds only "
            f"{capacity} tokens ({source}); lower it or give the cache more memory"
        )
    return KVSize(num_blocks, min(limit, capacity))


def num_block_bytes(spec: ModelSpec, dtype: torch.dtype, block_size_tokens: int) -> int:
    """Keys and values of one block, over all layers."""
    per_token = 2 * spec.num_layers * spec.num_kv_heads * spec.head_dim
    return per_token * block_size_tokens * dtype.itemsize


@dataclass(slots=True, frozen=True, eq=False)
class KVTensors:
    """Keys and values of all blocks and layers. Block b is slots [b · block size, (b + 1) · …)."""

    layers: tuple[LayerCache, ...]
    """Views of the one tensor, by layer."""
    _by_block: torch.Tensor
    """The same once more: [layers · 2, blocks, numbers in a block]."""

    def copy(self, blocks: list[tuple[int, int]]) -> None:
        """Copies each first block to the second one in every layer. All are read before any is
        written. Whole blocks: how a backend orders the slots inside one is its own affair."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self._by_block.device)
        self._by_block[:, index[:, 1]] = self._by_block[:, index[:, 0]]

    def scrub(self, block_ids: list[int]) -> None:
        """Zeroes these blocks in every layer: one operation, whatever the number of layers."""
        index = torch.tensor(block_ids, dtype=torch.int64, device=self._by_block.device)
        self._by_block.index_fill_(1, index, 0)


def allocate(
    spec: ModelSpec,
    dtype: torch.dtype,
    num_blocks: int,
    block_size_tokens: int,
    device: torch.device,
) -> KVTensors:
    """A zeroed cache of `num_blocks` blocks for each layer."""
    num_slots = num_blocks * block_size_tokens
    shape = (spec.num_layers, 2, num_slots, spec.num_kv_heads, spec.head_dim)
    if device.type == "cpu":
        # numpy asks for zero pages, which the system hands out on first use; torch writes them.
        num_bytes = math.prod(shape) * dtype.itemsize
        cache = torch.from_numpy(np.zeros(num_bytes, np.uint8)).view(dtype).view(shape)
    else:
        cache = torch.zeros(shape, dtype=dtype, device=device)
    layers = tuple(LayerCache(k_SKD=keys, v_SKD=values) for keys, values in cache)
    return KVTensors(layers, cache.view(2 * spec.num_layers, num_blocks, -1))
