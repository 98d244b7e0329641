"""Gateway and engine take a checkpoint for the same kind, whatever is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anzoth.model_config import ModelConfig
from anzoth.model_kind import model_kind
from anzoth.supervisor import _by_urgency


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"architectures": ["BertModel"]}', "embedding"),
        ('{"architectures": ["XLMRobertaModel"]}', "embedding"),
        ('{"architectures": ["BertForSequenceClassification"]}', "rerank"),
        ('{"architectures": ["XLMRobertaForSequenceClassification"]}', "rerank"),
        ('{"architectures": ["LlamaForCausalLM"]}', "generation"),
        ('{"architectures": ["BertLMHeadModel"]}', "generation"),
        ('{"architectures": []}', "generation"),
        ('{"architectures": "BertModel"}', "generation"),
        ('{"architectures": [["BertModel"], null, 3]}', "generation"),
        ("{}", "generation"),
        ("[]", "generation"),
        ("{", "generation"),
        ("\xff", "generation"),
    ],
)
def test_the_architecture_decides(content: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    assert model_kind(tmp_path) == kind


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("Qwen3ForCausalLM", "embedding"),
        ("BertModel", "embedding"),
        ("BertForSequenceClassification", "rerank"),
    ],
)
def test_a_described_pooling_makes_a_decoder_an_embedding_model(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (tmp_path / "modules.json").write_text("[]")
    assert model_kind(tmp_path) == kind


def test_a_missing_config_is_left_to_the_loader(tmp_path: Path) -> None:
    assert model_kind(tmp_path) == "generation"


def test_a_start_waits_for_chat_models_or_else_for_all(tmp_path: Path) -> None:
    models = []
    for name, architecture in (("embed", "BertModel"), ("chat", "LlamaForCausalLM")):
        (tmp_path / name).mkdir()
        config = json.dumps({"architectures": [architecture]})
        (tmp_path / name / "config.json").write_text(config)
        models.append(ModelConfig(name, tmp_path / name))
    embed, chat = models
    assert _by_urgency(models) == (["chat"], ["embed"])
    assert _by_urgency([embed]) == (["embed"], [])
    assert _by_urgency([chat]) == (["chat"], [])
