"""Our scores of pairs against transformers' logits, on tiny random classifiers of every family."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anzoth.model_config import EngineConfig
from anzoth.model_kind import RERANK_ARCHITECTURES
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
    "num_labels": 1,
    # As sentence-transformers stored it before 4.0: the logit itself.
    "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", {"pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaConfig", {"pad_token_id": 1, "type_vocab_size": 1}),
    "camembert": ("CamembertConfig", {"pad_token_id": 1, "type_vocab_size": 1}),
}
QUERY = [2, 20, 21, 22, 3]
LENGTHS = (0, 5, 1, 5, 30, 5, 59)  # of documents: equal and unequal, not in their order

Make = Callable[[str], "Checkpoint"]


@dataclass(slots=True)
class Checkpoint:
    path: Path
    oracle: Any  # transformers' model classes are not typed
    has_types: bool

    def pairs(self) -> list[Text]:
        second_at = len(QUERY) if self.has_types else None
        return [Text([*QUERY, *range(10, 10 + n), 3], second_at) for n in LENGTHS]

    def logits(self, pairs: Sequence[Text]) -> Any:
        import torch

        logits = []
        with torch.inference_mode():
            for pair in pairs:
                types = torch.zeros(1, len(pair), dtype=torch.int64)
                if pair.second_at is not None:
                    types[:, pair.second_at :] = 1
                ids = torch.tensor([pair.token_ids])
                logits.append(self.oracle(ids, token_type_ids=types).logits[0, 0].float())
        return torch.stack(logits)


@pytest.fixture(scope="session")
def make_classifier(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """name of MODELS -> Checkpoint; each is made once."""
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
            model = transformers.AutoModelForSequenceClassification.from_config(config)
            model = model.float().eval()
            with torch.no_grad():
                for parameter_name, parameter in model.named_parameters():
                    # Freshly made biases and norms change nothing: forgetting them goes unseen.
                    if "bias" in parameter_name or "LayerNorm" in parameter_name:
                        parameter.add_(0.3 * torch.randn_like(parameter))
            path = tmp_path_factory.mktemp(name)
            model.save_pretrained(path)
            made[name] = Checkpoint(path, model, class_name == "BertConfig")
        return made[name]

    return make


def load(path: Path, **settings: Any) -> Any:
    from anzoth.scheduler.embedding_runner import EmbeddingRunner

    defaults: dict[str, Any] = {"dtype": "float32"}
    return EmbeddingRunner.load(path, EngineConfig(**(defaults | settings)))


def score(runner: Any, pairs: Sequence[Text]) -> Any:
    import torch

    packed = runner.embed(pairs, [None] * len(pairs))
    return torch.tensor([number for (number,) in map(struct.Struct("<f").unpack, packed)])


def changed(checkpoint: Checkpoint, directory: Path, **changes: Any) -> Path:
    """The checkpoint with another config.json; None removes a field."""
    config = json.loads((checkpoint.path / "config.json").read_text()) | changes
    config = {name: value for name, value in config.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").symlink_to(checkpoint.path / "model.safetensors")
    return directory


@pytest.mark.parametrize("name", MODELS)
def test_scores_in_float32_are_transformers_logits(name: str, make_classifier: Make) -> None:
    import torch

    checkpoint = make_classifier(name)
    runner = load(checkpoint.path)
    assert runner.dimensions == 1
    pairs = checkpoint.pairs()
    expected = checkpoint.logits(pairs)
    assert expected.std() > 0.01  # they differ by more than what is allowed
    torch.testing.assert_close(score(runner, pairs), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
def test_scores_in_bfloat16_are_as_near_as_those_of_transformers(
    name: str, make_classifier: Make
) -> None:
    """Error against float32 at most twice transformers' own in bfloat16, plus one step at 1…2."""
    import copy

    checkpoint = make_classifier(name)
    pairs = checkpoint.pairs()
    exact = checkpoint.logits(pairs)
    narrow = Checkpoint(checkpoint.path, copy.deepcopy(checkpoint.oracle).bfloat16(), False)
    theirs = (narrow.logits(pairs) - exact).abs().max()
    ours = (score(load(checkpoint.path, dtype="bfloat16"), pairs) - exact).abs().max()
    assert ours <= 2 * theirs + 2**-7


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["bert", "xlm-roberta"])
def test_a_score_does_not_depend_on_the_pairs_beside_it(
    name: str, dtype: str, make_classifier: Make
) -> None:
    import torch

    checkpoint = make_classifier(name)
    runner = load(checkpoint.path, dtype=dtype)
    pairs = checkpoint.pairs()
    together = score(runner, pairs)
    for pair, among in zip(pairs, together, strict=True):
        torch.testing.assert_close(score(runner, [pair])[0], among, rtol=0, atol=1e-6)
    assert torch.equal(score(runner, pairs[::-1]).flip(0), together)


def test_the_token_types_of_a_pair_matter(make_classifier: Make) -> None:
    checkpoint = make_classifier("bert")
    runner = load(checkpoint.path)
    pairs = checkpoint.pairs()
    untyped = [Text(pair.token_ids) for pair in pairs]
    assert (score(runner, pairs) - score(runner, untyped)).abs().min() > 1e-3
    assert runner.num_token_types == 2
    assert load(make_classifier("roberta").path).num_token_types == 1


@pytest.mark.parametrize(
    ("activation", "squeezes"),
    [
        ({}, True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, False),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, True),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
    ],
)
def test_the_activation_is_the_checkpoints_and_else_a_sigmoid(
    activation: dict[str, Any], squeezes: bool, make_classifier: Make, tmp_path: Path
) -> None:
    import torch

    checkpoint = make_classifier("bert")
    absent = {"sbert_ce_default_activation_function": None}
    path = changed(checkpoint, tmp_path, **(absent | activation))
    logits = checkpoint.logits(checkpoint.pairs())
    expected = torch.sigmoid(logits) if squeezes else logits
    torch.testing.assert_close(score(load(path), checkpoint.pairs()), expected)


def test_the_newest_place_of_the_activation_wins(make_classifier: Make, tmp_path: Path) -> None:
    import torch

    checkpoint = make_classifier("bert")
    path = changed(checkpoint, tmp_path)  # whose config.json says Identity
    described = {"activation_fn": "torch.nn.modules.activation.Sigmoid"}
    (path / "config_sentence_transformers.json").write_text(json.dumps(described))
    expected = torch.sigmoid(checkpoint.logits(checkpoint.pairs()))
    torch.testing.assert_close(score(load(path), checkpoint.pairs()), expected)


def test_the_tokenizers_longest_text_is_the_limit(make_classifier: Make, tmp_path: Path) -> None:
    path = changed(make_classifier("bert"), tmp_path)
    assert load(path).max_model_tokens == 70
    (path / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884}')
    assert load(path).max_model_tokens == 70
    (path / "tokenizer_config.json").write_text('{"model_max_length": 33}')
    assert load(path).max_model_tokens == 33


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id2label": {"0": "no", "1": "yes"}}, "2 labels"),
        ({"id2label": None}, "2 labels"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, "torch.nn.Tanh"),
        ({"architectures": ["RobertaForSequenceClassification"]}, "roberta.embeddings"),
    ],
)
def test_a_classifier_that_is_no_reranker_is_refused_by_name(
    changes: dict[str, Any], says: str, make_classifier: Make, tmp_path: Path
) -> None:
    path = changed(make_classifier("bert"), tmp_path, **changes)
    with pytest.raises(CheckpointError, match=says):
        load(path)


def test_modules_and_prompts_that_would_change_the_scores_are_refused(
    make_classifier: Make, tmp_path: Path
) -> None:
    path = changed(make_classifier("bert"), tmp_path)
    modules = [{"type": f"x.{name}", "path": name} for name in ("Transformer", "Dense")]
    (path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match="Dense"):
        load(path)
    (path / "modules.json").write_text(json.dumps(modules[:1]))
    assert load(path).dimensions == 1
    described = {"prompts": {"q": "query: "}, "default_prompt_name": "q"}
    (path / "config_sentence_transformers.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="default_prompt_name"):
        load(path)


def test_every_family_is_compared(make_classifier: Make) -> None:
    compared = {
        json.loads((make_classifier(name).path / "config.json").read_text())["architectures"][0]
        for name in MODELS
    }
    assert compared == RERANK_ARCHITECTURES
