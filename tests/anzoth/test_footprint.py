"""Memory is counted from headers, shared out, and refused with numbers."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import pytest

from anzoth.config import ConfigError
from anzoth.footprint import PROCESS_BYTES, Footprint, measure, share_out
from anzoth.model_config import BUNDLED_MODEL_DIR, EngineConfig, ModelConfig

MIB = 1 << 20
CHECKPOINT = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 10,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 2,
    "max_position_embeddings": 64,
}


def checkpoint(folder: Path, num_bytes: int = 400, **config: object) -> Path:
    """One float32 tensor: its shape is what matters here."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CHECKPOINT, **config}))
    tensor = {"dtype": "F32", "shape": [num_bytes // 4], "data_offsets": [0, num_bytes]}
    header = json.dumps({"t": tensor}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(num_bytes)
    (folder / "model.safetensors").write_bytes(content)
    return folder


def model(name: str = "m", path: Path = BUNDLED_MODEL_DIR, **engine: object) -> ModelConfig:
    return ModelConfig(name, path, engine=dataclasses.replace(EngineConfig(), **engine))  # type: ignore[arg-type]  # fields by name


def test_weights_are_counted_in_the_type_that_is_computed_in(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    assert measure(model(path=path, dtype="float32")).weights_bytes == 400
    assert measure(model(path=path, dtype="bfloat16")).weights_bytes == 200


def test_the_kv_cache_is_what_its_settings_fix(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    per_token = 2 * 3 * 2 * 2 * 2  # keys and values, layers, heads, head dimension, bytes
    free = measure(model(path=path, dtype="float16"))
    assert (free.kv_bytes_per_token, free.kv_cache_bytes) == (per_token, None)
    blocks = measure(model(path=path, dtype="float16", num_blocks=5, block_size_tokens=8))
    assert blocks.kv_cache_bytes == 5 * 8 * per_token
    assert measure(model(path=path, kv_cache_mib=3)).kv_cache_bytes == 3 * MIB


def test_a_model_that_makes_vectors_has_no_cache(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, architectures=["BertModel"])
    measured = measure(model(path=path, kv_cache_mib=100))
    assert (measured.kv_bytes_per_token, measured.kv_cache_bytes) == (0, 0)
    assert measured.weights_bytes == (path / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: (path / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda path: (path / "model.safetensors").write_bytes(b"x" * 9), "not a safetensors file"),
        (lambda path: (path / "config.json").write_text("{}"), "architecture"),
    ],
)
def test_a_checkpoint_that_cannot_be_served_is_told_with_its_name(tmp_path, damage, says) -> None:
    path = checkpoint(tmp_path)
    damage(path)
    with pytest.raises(ConfigError, match=f"model m cannot be served: .*{says}"):
        measure(model(path=path))


def test_what_is_left_is_shared_evenly_by_those_without_a_size() -> None:
    small, large = Footprint(10 * MIB, 1, None), Footprint(50 * MIB, 1, None)
    fixed, vectors = Footprint(20 * MIB, 1, 100 * MIB), Footprint(30 * MIB, 0, 0)
    models = [model("a"), model("b", kv_cache_mib=100), model("c"), model("v")]
    least = (10 + 20 + 100 + 50 + 30) * MIB + 4 * PROCESS_BYTES
    shared = share_out(models, [small, fixed, large, vectors], least + 600 * MIB)
    process_mib = PROCESS_BYTES // MIB
    assert [m.engine.memory_mib for m in shared] == [
        process_mib + 10 + 300,
        None,
        process_mib + 50 + 300,
        None,
    ]
    assert [m.name for m in shared] == ["a", "b", "c", "v"]


def test_a_budget_that_is_set_is_kept_and_counted() -> None:
    footprints = [Footprint(10 * MIB, 1, None)] * 2
    models = [model("a", memory_mib=1000), model("b")]
    first, second = share_out(models, footprints, 1500 * MIB)
    assert (first.engine.memory_mib, second.engine.memory_mib) == (1000, 500)


def test_the_first_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    footprints = [Footprint(100 * MIB, 1, None), Footprint(200 * MIB, 1, 300 * MIB)]
    with pytest.raises(ConfigError) as caught:
        share_out([model("a"), model("b")], footprints, 1000 * MIB)
    assert str(caught.value) == (
        "model b cannot be served: it needs 756 MiB of memory (200 MiB of weights + 300 MiB of KV "
        "cache + 256 MiB for the process), but only 644 MiB are left for it"
    )


def test_a_budget_below_the_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory_mib is 100, but it needs 356 MiB"):
        share_out([model(memory_mib=100)], [Footprint(100 * MIB, 1, None)], 10_000 * MIB)


def test_the_bundled_model_is_measured() -> None:
    measured = measure(model(dtype="bfloat16"))
    size = (BUNDLED_MODEL_DIR / "model.safetensors").stat().st_size
    assert 0.95 * size < measured.weights_bytes <= size
