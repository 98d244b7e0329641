"""Our encoder against transformers' own, on tiny random checkpoints of every served family.

Shapes are awkward on purpose. Vectors are compared before they are scaled, unless a test is about
that: a wrong length must show.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anzoth.model_config import EngineConfig
from anzoth.scheduler.checkpoint import CheckpointError
from anzoth.scheduler.texts import Text

pytest.importorskip("transformers")

COMMON = {
    "vocab_size": 83,
    "hidden_size": 40,
    "intermediate_size": 88,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "max_position_embeddings": 70,
    "initializer_range": 0.3,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "bert-one-type": ("BertConfig", {"type_vocab_size": 1, "hidden_act": "gelu_new"}),
    "bert-relu": ("BertConfig", {"hidden_act": "relu", "layer_norm_eps": 1e-2}),
    "roberta": ("RobertaConfig", {"pad_token_id": 1, "type_vocab_size": 1}),
    "roberta-padding-4": ("RobertaConfig", {"pad_token_id": 4}),
    "xlm-roberta": ("XLMRobertaConfig", {"pad_token_id": 1}),
    "camembert": ("CamembertConfig", {"pad_token_id": 1}),
}
TEXTS = [
    [2, *range(10, 10 + n), 3] for n in (0, 5, 1, 5, 30, 5, 61)
]  # equal and unequal lengths, not in their order


@dataclass(slots=True)
class Checkpoint:
    path: Path
    oracle: Any  # transformers' model classes are not typed

    def states(self, text: Sequence[int]) -> Any:
        """[tokens, width]"""
        import torch

        with torch.inference_mode():
            return self.oracle(torch.tensor([text])).last_hidden_state[0]


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory: pytest.TempPathFactory):
    """name of MODELS -> Checkpoint, without any modules.json; each is made once."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    made: dict[str, Checkpoint] = {}

    def make(name: str) -> Checkpoint:
        if name not in made:
            class_name, settings = MODELS[name]
            config = getattr(transformers, class_name)(**(COMMON | settings))
            torch.manual_seed(len(name))
            model = transformers.AutoModel.from_config(config).float().eval()
            with torch.no_grad():
                for parameter_name, parameter in model.named_parameters():
                    # Freshly made biases and norms change nothing: forgetting them goes unseen.
                    if "bias" in parameter_name or "LayerNorm" in parameter_name:
                        parameter.add_(0.3 * torch.randn_like(parameter))
            path = tmp_path_factory.mktemp(name)
            model.save_pretrained(path)
            made[name] = Checkpoint(path, model)
        return made[name]

    return make


def described(
    checkpoint: Checkpoint, directory: Path, modules: list[str], pooling: dict[str, Any]
) -> Path:
    """The checkpoint with what sentence-transformers writes beside one."""
    for file in checkpoint.path.iterdir():
        (directory / file.name).symlink_to(file)
    entries = []
    for index, name in enumerate(modules):
        folder = f"{index}_{name.rpartition('.')[2]}" if index else ""
        entries.append({"idx": index, "name": str(index), "path": folder, "type": name})
    (directory / "modules.json").write_text(json.dumps(entries))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return directory


def load(path: Path, **settings: Any) -> Any:
    from anzoth.scheduler.embedding_runner import EmbeddingRunner

    defaults: dict[str, Any] = {"dtype": "float32"}
    return EmbeddingRunner.load(path, EngineConfig(**(defaults | settings)))


def embed(runner: Any, texts: Sequence[Sequence[int]], size: int | None = None) -> Any:
    import torch

    packed = runner.embed([Text(list(text)) for text in texts], [size] * len(texts))
    length = size or runner.dimensions
    return torch.tensor([struct.unpack(f"<{length}f", vector) for vector in packed])


@pytest.mark.parametrize("name", MODELS)
def test_a_vector_is_the_mean_of_transformers_states(name: str, make_encoder) -> None:
    import torch

    checkpoint = make_encoder(name)
    runner = load(checkpoint.path)
    texts = [text[: runner.max_model_tokens] for text in TEXTS]
    expected = torch.stack([checkpoint.states(text).mean(dim=0) for text in texts])
    torch.testing.assert_close(embed(runner, texts), expected, rtol=2e-5, atol=2e-5)


def test_a_text_may_be_as_long_as_the_table_of_positions(make_encoder) -> None:
    assert load(make_encoder("bert").path).max_model_tokens == 70
    assert load(make_encoder("roberta-padding-4").path).max_model_tokens == 65
    checkpoint = make_encoder("roberta-padding-4")
    text = [2] + [11] * 63 + [3]
    difference = embed(load(checkpoint.path), [text])[0] - checkpoint.states(text).mean(dim=0)
    assert difference.abs().max() < 2e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_vector_does_not_depend_on_the_texts_beside_it(dtype: str, make_encoder) -> None:
    import torch

    runner = load(make_encoder("bert").path, dtype=dtype)
    together = embed(runner, TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(embed(runner, [text])[0], vector, rtol=0, atol=1e-6)
    assert torch.equal(embed(runner, TEXTS[::-1]).flip(0), together)


@pytest.mark.parametrize(
    ("pooling", "is_first"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, True),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, False),
        ({"pooling_mode": "cls", "include_prompt": True}, True),
        ({"pooling_mode": "mean"}, False),
        ({"word_embedding_dimension": 40}, False),
    ],
)
def test_the_pooling_is_the_checkpoints(pooling, is_first: bool, make_encoder, tmp_path) -> None:
    import torch

    checkpoint = make_encoder("bert")
    path = described(checkpoint, tmp_path, ["x.Transformer", "x.Pooling"], pooling)
    states = checkpoint.states(TEXTS[1])
    expected = states[0] if is_first else states.mean(dim=0)
    torch.testing.assert_close(embed(load(path), TEXTS[1:2])[0], expected, rtol=2e-5, atol=2e-5)


def test_normalised_vectors_have_length_1_whole_and_shortened(make_encoder, tmp_path) -> None:
    import torch

    modules = ["a.b.Transformer", "a.b.Pooling", "a.b.Normalize"]
    path = described(make_encoder("bert"), tmp_path, modules, {"pooling_mode": "mean"})
    runner, plain = load(path), load(make_encoder("bert").path)
    whole, raw = embed(runner, TEXTS), embed(plain, TEXTS)
    torch.testing.assert_close(whole, raw / raw.norm(dim=1, keepdim=True))
    short = embed(runner, TEXTS, size=7)
    torch.testing.assert_close(short.norm(dim=1), torch.ones(len(TEXTS)))
    cosine = torch.nn.functional.cosine_similarity(short, whole[:, :7])
    torch.testing.assert_close(cosine, torch.ones(len(TEXTS)))


def test_numbers_that_are_not_finite_are_no_vector(make_encoder) -> None:
    runner = load(make_encoder("bert").path)
    runner._embedder._place_QE[3] = float("nan")
    made = runner.embed([Text([2, 5, 3]), Text(TEXTS[4])], [None, 2])
    assert [vector is None for vector in made] == [False, True]


def test_half_the_bits_keep_the_direction(make_encoder) -> None:
    """The default where the processor multiplies bfloat16. Real weights: test_minilm.py."""
    import torch

    path = make_encoder("bert").path
    exact, narrow = embed(load(path), TEXTS), embed(load(path, dtype="bfloat16"), TEXTS)
    distance = 1 - torch.nn.functional.cosine_similarity(exact, narrow)
    assert distance.max() < 1e-3  # random weights of this size are far less benign than trained


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modules", "pooling", "says"),
    [
        (["x.Transformer", "x.Pooling", "x.Dense"], {}, "Dense"),
        (["x.Transformer"], {}, "modules Transformer are not supported"),
        (["x.Transformer", "x.Pooling"], {"pooling_mode": "lasttoken"}, "'lasttoken'"),
        (["x.Transformer", "x.Pooling"], {"pooling_mode_max_tokens": True}, "'max'"),
        (
            ["x.Transformer", "x.Pooling"],
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "'cls', 'mean'",
        ),
        (["x.Transformer", "x.Pooling"], {"include_prompt": False}, "include_prompt"),
    ],
)
def test_what_would_change_the_vectors_and_is_not_computed_is_named(
    modules, pooling, says, make_encoder, tmp_path: Path
) -> None:
    path = described(make_encoder("bert"), tmp_path, modules, pooling)
    with pytest.raises(CheckpointError, match=says):
        load(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architectures": ["MPNetModel"]}, "MPNetModel"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "causal"),
        ({"hidden_act": "swish"}, "swish"),
        ({"num_attention_heads": 7}, "multiple of 7"),
        ({"vocab_size": 84}, "wrong shape"),
    ],
)
def test_a_config_that_cannot_be_served_is_named(
    changes: dict[str, Any], says: str, make_encoder, tmp_path: Path
) -> None:
    source = make_encoder("bert").path
    config = json.loads((source / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(source / "model.safetensors")
    with pytest.raises(CheckpointError, match=says):
        load(tmp_path)


def test_the_length_the_model_was_made_for_is_its_limit(make_encoder, tmp_path: Path) -> None:
    path = described(make_encoder("bert"), tmp_path, ["x.Transformer", "x.Pooling"], {})
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 33}')
    assert load(path).max_model_tokens == 33
    assert load(path, max_model_tokens=9).max_model_tokens == 9


def test_old_checkpoints_keep_their_tables_of_consecutive_numbers(
    make_encoder, tmp_path: Path
) -> None:
    import safetensors.torch
    import torch

    source = make_encoder("bert").path
    tensors = safetensors.torch.load_file(source / "model.safetensors")
    tensors["embeddings.position_ids"] = torch.arange(70)[None]
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    torch.testing.assert_close(embed(load(tmp_path), TEXTS), embed(load(source), TEXTS))
