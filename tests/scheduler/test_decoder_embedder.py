"""Vectors from a decoder's last token against transformers' hidden states."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from anzoth.model_config import EngineConfig
from anzoth.model_kind import model_kind
from anzoth.scheduler.checkpoint import CheckpointError
from anzoth.scheduler.texts import Text

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

MODELS = ["qwen3", "qwen2", "llama-tied-biased", "mistral", "gemma2", "qwen3-moe"]
TEXTS = [Text([3 + (7 * place + n) % 200 for place in range(n)]) for n in (5, 1, 33, 5, 16, 60, 2)]


def described(
    source: Path,
    directory: Path,
    modules: Sequence[str] = ("Transformer", "Pooling", "Normalize"),
    mode: str = "lasttoken",
) -> Path:
    """The checkpoint with what sentence-transformers writes beside one."""
    for file in source.iterdir():
        (directory / file.name).symlink_to(file)
    entries = [
        {"idx": index, "name": str(index), "path": f"{index}_{name}", "type": f"x.models.{name}"}
        for index, name in enumerate(modules)
    ]
    (directory / "modules.json").write_text(json.dumps(entries))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(
        json.dumps({f"pooling_mode_{mode}": True, "include_prompt": True})
    )
    return directory


def load(path: Path, **settings: Any) -> Any:
    from anzoth.scheduler.embedding_runner import EmbeddingRunner

    defaults: dict[str, Any] = {"dtype": "float32"}
    return EmbeddingRunner.load(path, EngineConfig(**(defaults | settings)))


def embed(runner: Any, texts: Sequence[Text]) -> Any:
    import torch

    packed = runner.embed(texts, [None] * len(texts))
    return torch.tensor([struct.unpack(f"<{runner.dimensions}f", vector) for vector in packed])


def last_states(checkpoint: Any) -> Any:
    """[texts, width], of transformers' model without its head."""
    import torch

    with torch.inference_mode():
        return torch.stack(
            [
                checkpoint.oracle.model(torch.tensor([text.token_ids])).last_hidden_state[0, -1]
                for text in TEXTS
            ]
        )


@pytest.mark.parametrize("name", MODELS)
def test_a_vector_is_transformers_state_of_the_last_token(
    name: str, make_checkpoint, tmp_path: Path
) -> None:
    import torch

    checkpoint = make_checkpoint(name)
    path = described(checkpoint.path, tmp_path, ["Transformer", "Pooling"])
    assert model_kind(path) == "embedding"
    runner = load(path)
    assert runner.dimensions == 48
    torch.testing.assert_close(embed(runner, TEXTS), last_states(checkpoint), rtol=2e-5, atol=2e-5)


def test_normalised_vectors_have_length_1(make_checkpoint, tmp_path: Path) -> None:
    import torch

    checkpoint = make_checkpoint("qwen3")
    vectors = embed(load(described(checkpoint.path, tmp_path)), TEXTS)
    expected = torch.nn.functional.normalize(last_states(checkpoint), dim=1)
    torch.testing.assert_close(vectors, expected, rtol=2e-5, atol=2e-5)


def test_half_the_bits_keep_the_direction(make_checkpoint, tmp_path: Path) -> None:
    """At most twice as far from float32 as transformers' own bfloat16."""
    import copy

    import torch

    checkpoint = make_checkpoint("qwen3")
    exact = last_states(checkpoint)
    narrow = copy.copy(checkpoint)
    narrow.oracle = copy.deepcopy(checkpoint.oracle).bfloat16()
    vectors = embed(load(described(checkpoint.path, tmp_path), dtype="bfloat16"), TEXTS)

    def distance(other: Any) -> Any:
        return 1 - torch.nn.functional.cosine_similarity(exact, other.float()).min()

    assert distance(vectors) <= 2 * distance(last_states(narrow)) + 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_vector_does_not_depend_on_the_texts_beside_it(
    dtype: str, make_checkpoint, tmp_path: Path
) -> None:
    import torch

    runner = load(described(make_checkpoint("qwen3").path, tmp_path), dtype=dtype)
    together = embed(runner, TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(embed(runner, [text])[0], vector, rtol=0, atol=1e-6)
    assert torch.equal(embed(runner, TEXTS[::-1]).flip(0), together)


def test_a_checkpoint_of_the_bare_model_is_the_same(make_checkpoint, tmp_path: Path) -> None:
    """Its tensors' names lack a prefix, and its architecture is called after the model alone."""
    import torch

    checkpoint = make_checkpoint("qwen3")
    (bare := tmp_path / "bare").mkdir()
    checkpoint.oracle.model.save_pretrained(bare)
    config = json.loads((bare / "config.json").read_text())
    assert config["architectures"] == ["Qwen3Model"]
    (tmp_path / "described").mkdir()
    runner = load(described(bare, tmp_path / "described", ["Transformer", "Pooling"]))
    torch.testing.assert_close(embed(runner, TEXTS), last_states(checkpoint), rtol=2e-5, atol=2e-5)


def test_the_longest_text_is_what_model_tokenizer_and_settings_allow(
    make_checkpoint, tmp_path: Path
) -> None:
    path = described(make_checkpoint("qwen3").path, tmp_path)
    assert load(path).max_model_tokens == 256
    assert load(path, max_model_tokens=100).max_model_tokens == 100
    (path / "tokenizer_config.json").write_text('{"model_max_length": 80}')
    assert load(path, max_model_tokens=100).max_model_tokens == 80


@pytest.mark.parametrize(
    ("modules", "mode", "says"),
    [
        (("Transformer", "Pooling"), "mean_tokens", "'mean' is not supported"),
        (("Transformer", "Pooling", "Dense"), "lasttoken", "Dense"),
    ],
)
def test_what_would_change_the_vectors_and_is_not_computed_is_named(
    modules, mode: str, says: str, make_checkpoint, tmp_path: Path
) -> None:
    path = described(make_checkpoint("qwen3").path, tmp_path, modules, mode)
    with pytest.raises(CheckpointError, match=says):
        load(path)
