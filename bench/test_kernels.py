"""How fast are attention over the paged cache and one step of a decoder on this machine?

Run with `make bench`, or `pytest bench/test_kernels.py --benchmark-only`. Each row carries what was
computed, so that a rate can be derived: `kv_mib` is what attention must read, `tokens` what a step
computes. Shapes are those of a 0.1 billion parameter decoder unless a test says otherwise.
"""

import json
from array import array

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from anzoth.frames import SamplingParams
from anzoth.kernels.dispatch import select
from anzoth.kernels.paging import PagedLayout, padded_rows
from anzoth.model_config import EngineConfig
from anzoth.scheduler.model_runner import ModelRunner
from anzoth.scheduler.models.families import read_spec
from anzoth.scheduler.models.loading import wanted_parts
from anzoth.scheduler.sequence import ScheduledSequence, Sequence

BLOCK_SIZE = 16
HEADS, KV_HEADS, HEAD_DIM = 12, 4, 64
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 16_384,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
ROUNDS = {"rounds": 10, "warmup_rounds": 2, "iterations": 1}


def _layout(num_queries, context_lens):
    needed = [-(-n // BLOCK_SIZE) for n in context_lens]
    tables = np.zeros((len(needed), max(needed)), dtype=np.int64)
    free = np.random.default_rng(0).permutation(sum(needed)).tolist()
    for row, count in zip(tables, needed, strict=True):
        row[:count] = [free.pop() for _ in range(count)]
    starts = np.concatenate(([0], np.cumsum(num_queries)))
    rows = padded_rows(int(starts[-1]))
    return PagedLayout(starts, np.array(context_lens), tables, BLOCK_SIZE, rows), sum(needed)


@pytest.mark.parametrize(
    ("num_queries", "context_lens"),
    [
        pytest.param([1], [1000], id="decode-1x1000"),
        pytest.param([1] * 16, [1000] * 16, id="decode-16x1000"),
        pytest.param([1] * 64, [200 + 10 * i for i in range(64)], id="decode-64x200-830"),
        pytest.param([512], [512], id="prefill-512"),
        pytest.param([256], [1280], id="prefill-256-behind-1024"),
        pytest.param([32] * 16, [32] * 16, id="prefill-16x32"),
    ],
)
def test_attention(benchmark, num_queries, context_lens):
    kernels = select("cpu")
    layout, num_blocks = _layout(num_queries, context_lens)
    torch.manual_seed(0)
    q = torch.randn(layout.num_rows, HEADS, HEAD_DIM).to(kernels.dtype)
    k, v = torch.randn(2, num_blocks * BLOCK_SIZE, KV_HEADS, HEAD_DIM).to(kernels.dtype)
    plan = kernels.plan_attention(
        layout,
        num_heads=HEADS,
        num_kv_heads=KV_HEADS,
        dtype=kernels.dtype,
    )
    benchmark.extra_info["kv_mib"] = round(
        sum(context_lens) * 2 * KV_HEADS * HEAD_DIM * kernels.dtype.itemsize / 2**20, 2
    )
    with torch.inference_mode():
        benchmark.pedantic(
            kernels.paged_attention, (q, k, v, plan), {"scale": HEAD_DIM**-0.5}, **ROUNDS
        )


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    path = tmp_path_factory.mktemp("decoder")
    (path / "config.json").write_text(json.dumps(CONFIG))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        part.name: 0.02 * torch.randn(part.shape, generator=generator)
        for part in wanted_parts(read_spec(path))
    }
    save_file(
        {name: tensor.bfloat16() for name, tensor in tensors.items()}, path / "model.safetensors"
    )
    return ModelRunner.load(path, EngineConfig(num_blocks=2048, block_size_tokens=BLOCK_SIZE))


@pytest.mark.parametrize(
    ("num_sequences", "num_tokens", "context_len"),
    [
        pytest.param(1, 1, 300, id="decode-1"),
        pytest.param(16, 1, 300, id="decode-16"),
        pytest.param(64, 1, 300, id="decode-64"),
        pytest.param(1, 256, 256, id="prefill-256"),
    ],
)
@pytest.mark.parametrize(
    "params",
    [
        pytest.param(SamplingParams(temperature=0), id="greedy"),
        pytest.param(SamplingParams(temperature=0.8, top_k=50, top_p=0.95), id="sampled"),
    ],
)
def test_decoder_step(benchmark, runner, num_sequences, num_tokens, context_len, params):
    blocks_each = -(-context_len // BLOCK_SIZE)
    batch = [
        ScheduledSequence(
            Sequence(
                request=i,
                choice=0,
                tenant="bench",
                cache_salt="bench",
                token_ids=[7 + (i * 31 + t) % 1000 for t in range(context_len)],
                num_prompt_tokens=context_len,
                max_tokens=1,
                sampling=params,
                arrival_s=0.0,
                num_computed_tokens=context_len - num_tokens,
                block_table=array("q", range(i * blocks_each, (i + 1) * blocks_each)),
            ),
            num_tokens,
        )
        for i in range(num_sequences)
    ]
    benchmark.extra_info["tokens"] = num_sequences * num_tokens
    benchmark.pedantic(runner.execute, (batch,), **ROUNDS)
