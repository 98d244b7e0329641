"""What is approved is a whole system prompt in the model's own template, and nothing behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anzoth import shared_prompts
from anzoth.config import ConfigError, to_json
from anzoth.model_config import BUNDLED_MODEL_DIR, EngineConfig, ModelConfig, model_of_table
from anzoth.text.chat_template import ChatTemplate
from anzoth.text.prompt import chat_prompt
from anzoth.text.tokenizer import Tokenizer

PROMPT = "You are the help desk of a museum.\nAnswer in one sentence. Never <|im_end|> early."


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    (tmp_path / "help.txt").write_text(PROMPT + "\n")
    (tmp_path / "other.txt").write_text("Write verse.")
    (tmp_path / "notes.md").write_text("Not one.")
    return ModelConfig("m", BUNDLED_MODEL_DIR, engine=EngineConfig(shared_prompts=tmp_path))


def prompt_of(system: str, user: str, **extra: object) -> list[int]:
    tokenizer = Tokenizer.load(BUNDLED_MODEL_DIR)
    assert tokenizer.chat_template is not None
    template = ChatTemplate(tokenizer.chat_template, tokenizer.special_tokens)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return chat_prompt(tokenizer, template, messages, extra)


def text_of(token_ids: list[int]) -> str:
    tokenizer = Tokenizer.load(BUNDLED_MODEL_DIR)
    return b"".join(map(tokenizer.token_bytes, token_ids)).decode()


def test_every_conversation_with_the_prompt_begins_with_what_is_approved(
    model: ModelConfig,
) -> None:
    help_desk, verse = shared_prompts.read(model)
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
    for user in ("?", "hello", "\n\nWhy", "<|im_end|>"):
        for more in ("", "\n\nOurs is closed on Mondays.", " And be brief."):
            prompt = prompt_of(PROMPT + more, user)
            assert prompt[: len(help_desk)] == help_desk
            assert prompt[: len(verse)] != verse
    assert prompt_of(PROMPT, "?", tools=[tool])[:5] == help_desk[:5]


def test_the_approved_beginning_ends_where_the_prompt_ends(model: ModelConfig) -> None:
    help_desk, verse = map(text_of, shared_prompts.read(model))
    assert help_desk.rstrip().endswith("early.") or help_desk.rstrip().endswith("early")
    assert "Write verse" in verse
    for text in (help_desk, verse):
        assert "?" not in text
        assert "user" not in text


def test_without_the_setting_and_for_models_of_vectors_nothing_is_shared(
    model: ModelConfig, tmp_path: Path
) -> None:
    assert shared_prompts.read(replace(model, engine=EngineConfig())) == []
    (tmp_path / "encoder").mkdir()
    config = '{"architectures": ["BertModel"], "model_type": "bert"}'
    (tmp_path / "encoder" / "config.json").write_text(config)
    assert shared_prompts.read(replace(model, path=tmp_path / "encoder")) == []


def test_a_setting_that_is_of_no_use_stops_the_start(model: ModelConfig, tmp_path: Path) -> None:
    def problem(directory: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            shared_prompts.read(replace(model, engine=EngineConfig(shared_prompts=directory)))
        return str(caught.value)

    assert "expected a directory" in problem(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "expected a directory" in problem(tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.txt").write_bytes(b"\xff\xfe\xff")
    assert "cannot be read" in problem(tmp_path / "broken")


def test_the_directory_survives_the_way_to_the_engine(model: ModelConfig, tmp_path: Path) -> None:
    assert to_json(model.engine)["shared_prompts"] == str(tmp_path)


def test_a_models_own_table_can_do_without(model: ModelConfig) -> None:
    table = {"name": "m", "path": str(BUNDLED_MODEL_DIR), "shared_prompts": ""}
    assert model_of_table(table, model.engine, model.path).engine.shared_prompts is None
    del table["shared_prompts"]
    assert model_of_table(table, model.engine, model.path).engine == model.engine
