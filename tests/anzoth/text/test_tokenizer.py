"""A checkpoint's tokenizer files give the ids that Hugging Face's code gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders
from transformers import PreTrainedTokenizerFast

from anzoth.text.tokenizer import Tokenizer, TokenizerError


def test_completion_prompts_get_the_ids_of_transformers(byte_level_dir: Path) -> None:
    oracle = PreTrainedTokenizerFast(tokenizer_file=str(byte_level_dir / "tokenizer.json"))
    ours = Tokenizer.load(byte_level_dir)
    for text in ("hello world", "", "naïve 🙂<|end|>x", "  two  spaces\n"):
        assert ours.encode(text, add_special_tokens=True) == oracle(text)["input_ids"]


def test_a_rendered_template_gets_no_second_bos(byte_level_dir: Path) -> None:
    ours = Tokenizer.load(byte_level_dir)
    ids = ours.encode("<|bos|>hello", add_special_tokens=False)
    assert ids.count(0) == 1
    assert ids[0] == 0


def test_special_tokens_are_read_in_both_forms(byte_level_dir: Path) -> None:
    assert Tokenizer.load(byte_level_dir).special_tokens == {
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
    }


def test_the_special_tokens_map_fills_what_the_config_lacks(byte_level_dir: Path) -> None:
    (byte_level_dir / "tokenizer_config.json").unlink()
    (byte_level_dir / "special_tokens_map.json").write_text('{"eos_token": "<|end|>"}')
    assert Tokenizer.load(byte_level_dir).special_tokens == {"eos_token": "<|end|>"}


def test_truncation_and_padding_of_the_file_are_not_applied_to_prompts(
    byte_level_dir: Path,
) -> None:
    file = byte_level_dir / "tokenizer.json"
    document = json.loads(file.read_text())
    document["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    file.write_text(json.dumps(document))
    ours = Tokenizer.load(byte_level_dir)
    assert ours.decode(ours.encode("hello world", add_special_tokens=False)) == "hello world"


def test_decode_is_the_inverse_of_encode(byte_level_dir: Path) -> None:
    ours = Tokenizer.load(byte_level_dir)
    text = "naïve 🙂 漢字\n"
    assert ours.decode(ours.encode(text, add_special_tokens=True)) == text


def test_token_bytes_joined_are_the_texts_bytes(byte_level_dir: Path) -> None:
    ours = Tokenizer.load(byte_level_dir)
    ids = ours.encode("a🙂b", add_special_tokens=False)
    assert b"".join(map(ours.token_bytes, ids)) == "a🙂b".encode()


@pytest.mark.parametrize("source", ["config", "named", "jinja", "json"])
def test_the_chat_template_is_found_in_each_of_its_places(
    source: str, byte_level_dir: Path
) -> None:
    config_file = byte_level_dir / "tokenizer_config.json"
    match source:
        case "named":
            templates = [
                {"name": "tool_use", "template": "wrong"},
                {"name": "default", "template": "right"},
            ]
            config_file.write_text(json.dumps({"chat_template": templates}))
        case "config":
            config_file.write_text(json.dumps({"chat_template": "right"}))
        case "jinja":
            (byte_level_dir / "chat_template.jinja").write_text("right")
        case "json":
            (byte_level_dir / "chat_template.json").write_text('{"chat_template": "right"}')
    assert Tokenizer.load(byte_level_dir).chat_template == "right"


def test_a_checkpoint_without_a_template_loads(byte_level_dir: Path) -> None:
    (byte_level_dir / "tokenizer_config.json").write_text("{}")
    assert Tokenizer.load(byte_level_dir).chat_template is None


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"version": "1.0"}'])
def test_a_broken_tokenizer_file_is_one_clear_error(
    content: bytes | None, byte_level_dir: Path
) -> None:
    file = byte_level_dir / "tokenizer.json"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.load(byte_level_dir)


def test_a_tokenizer_that_cannot_produce_text_still_encodes(byte_level_dir: Path) -> None:
    file = byte_level_dir / "tokenizer.json"
    document = json.loads(file.read_text())
    document["decoder"] = json.loads(decoders.WordPiece().__getstate__())
    file.write_text(json.dumps(document))
    ours = Tokenizer.load(byte_level_dir)
    assert ours.encode("hello", add_special_tokens=False)
    with pytest.raises(TokenizerError, match="WordPiece"):
        _ = ours.pieces


@pytest.mark.parametrize("is_hermes", [True, False])
def test_the_marks_of_tool_calls_are_text_even_where_they_are_special(
    byte_level_dir: Path, is_hermes: bool
) -> None:
    """Otherwise a call would come out as bare JSON, and nobody could tell that it is one."""
    backend = tokenizers.Tokenizer.from_file(str(byte_level_dir / "tokenizer.json"))
    backend.add_special_tokens(["<tool_call>", "</tool_call>"])
    backend.save(str(byte_level_dir / "tokenizer.json"))
    template = "{{ '<tool_call>{\"arguments\": 1}' }}" if is_hermes else "{{ messages }}"
    (byte_level_dir / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    tokenizer = Tokenizer.load(byte_level_dir)
    call = '{"name": "f", "arguments": {}}'
    ids = tokenizer.encode(f"<tool_call>{call}</tool_call><|end|>", add_special_tokens=False)
    assert tokenizer.decode(ids) == (f"<tool_call>{call}</tool_call>" if is_hermes else call)


@pytest.mark.parametrize("reasons", [True, False])
def test_the_marks_of_reasoning_are_text_where_the_template_knows_them(
    byte_level_dir: Path, reasons: bool
) -> None:
    backend = tokenizers.Tokenizer.from_file(str(byte_level_dir / "tokenizer.json"))
    backend.add_special_tokens(["<think>", "</think>"])
    backend.save(str(byte_level_dir / "tokenizer.json"))
    template = "{{ content.split('</think>') }}" if reasons else "{{ messages }}"
    (byte_level_dir / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    tokenizer = Tokenizer.load(byte_level_dir)
    ids = tokenizer.encode("<think>hello</think><|end|>", add_special_tokens=False)
    assert tokenizer.decode(ids) == ("<think>hello</think>" if reasons else "hello")


def test_only_added_tokens_stand_apart_from_the_vocabulary(byte_level_dir: Path) -> None:
    tokenizer = Tokenizer.load(byte_level_dir)
    added = tokenizer.added_tokens(["<|end|>", "<tool call>", "hello", "h", "nowhere"])
    assert set(added) == {"<|end|>", "<tool call>"}
    for text, token_id in added.items():
        assert tokenizer.encode(text, add_special_tokens=False) == [token_id]
