"""Is a model another one exactly when its vectors are?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import write_embedding_checkpoint
from safetensors.numpy import save_file

from anzoth.scheduler.vector_space import vector_space

Change = Callable[[Path], None]


def rewrite(name: str, **fields: Any) -> Change:
    def change(directory: Path) -> None:
        file = directory / name
        file.parent.mkdir(exist_ok=True)
        said = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps({**said, **fields}, indent=4))

    return change


def flip_a_weight(directory: Path) -> None:
    file = directory / "model.safetensors"
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)


def add_a_token(directory: Path) -> None:
    file = directory / "tokenizer.json"
    said = json.loads(file.read_text())
    said["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(said))


def add_a_module(directory: Path) -> None:
    file = directory / "modules.json"
    modules = json.loads(file.read_text())
    file.write_text(json.dumps([*modules, {"type": "models.Normalize", "path": "2_Normalize"}]))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_embedding_checkpoint(tmp_path_factory.mktemp("original"))
    weights = np.random.default_rng(1).standard_normal((64, 64), dtype=np.float32)
    save_file({"layer": weights}, path / "model.safetensors")
    modules = [
        {"type": "sentence_transformers.models.Transformer", "path": ""},
        {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    rewrite("1_Pooling/config.json", pooling_mode_mean_tokens=True)(path)
    return path


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


CHANGES: dict[str, Change] = {
    "a weight": flip_a_weight,
    "the tokenizer": add_a_token,
    "the pooling": rewrite("1_Pooling/config.json", pooling_mode_mean_tokens=False),
    "a module": add_a_module,
    "the architecture": rewrite("config.json", hidden_act="relu"),
    "a prompt": rewrite("config_sentence_transformers.json", prompts={"query": "query: "}),
}
SAME: dict[str, Change] = {
    "nothing": lambda _: None,
    "who saved it": rewrite("config.json", transformers_version="99", torch_dtype="float16"),
    "white space": rewrite("config.json"),
    "who made it": rewrite("config_sentence_transformers.json", __version__={"torch": "9"}),
    "how long a text may be": rewrite("sentence_bert_config.json", max_seq_length=128),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_vectors_makes_another_space(original: Path, copied: Path, what: str) -> None:
    CHANGES[what](copied)
    assert vector_space(copied) != vector_space(original)


@pytest.mark.parametrize("what", SAME)
def test_what_changes_no_vector_does_not(original: Path, copied: Path, what: str) -> None:
    SAME[what](copied)
    assert vector_space(copied) == vector_space(original)
