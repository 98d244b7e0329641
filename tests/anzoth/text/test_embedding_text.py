"""What a checkpoint says about its texts is done to them, or stops the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from checkpoints import write_embedding_checkpoint
from tokenizers import processors

from anzoth.text.embedding_text import EmbeddingText, EmbeddingTextError, UnframedTokens
from anzoth.text.tokenizer import Tokenizer

HI = [2, 9, 3]


def load(directory: Path, **described: Any) -> EmbeddingText:
    checkpoint = write_embedding_checkpoint(directory, **described)
    return EmbeddingText.load(checkpoint, Tokenizer.load(checkpoint))


def test_a_model_without_prompts_makes_no_difference_between_texts(tmp_path: Path) -> None:
    text = load(tmp_path)
    for input_type in ("query", "document", None):
        assert text.encode(["hi"], input_type) == [HI]


def test_nothing_but_the_model_directory_is_needed(tmp_path: Path) -> None:
    checkpoint = write_embedding_checkpoint(tmp_path)
    (checkpoint / "config_sentence_transformers.json").unlink()
    text = EmbeddingText.load(checkpoint, Tokenizer.load(checkpoint))
    assert text.encode(["hi"], None) == [HI]


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_each_customary_name_of_the_prompt_of_documents_is_known(name: str, tmp_path: Path) -> None:
    text = load(tmp_path, prompts={name: "passage: "})
    assert text.encode(["hi"], "document") == [[2, 5, 6, 9, 3]]
    assert text.encode(["hi"], "query") == [HI]


def test_of_several_names_the_first_counts(tmp_path: Path) -> None:
    prompts = {"passage": "hello ", "document": "passage: "}
    assert load(tmp_path, prompts=prompts).encode(["hi"], "document") == [[2, 5, 6, 9, 3]]


def test_an_input_of_ids_without_its_special_tokens_is_found(tmp_path: Path) -> None:
    text = load(tmp_path)
    assert text.encode([HI, "hi"], None) == [HI, HI]
    with pytest.raises(UnframedTokens) as caught:
        text.encode([HI, "hi", [9]], None)
    assert caught.value.args == (2,)


@pytest.mark.parametrize(
    ("template", "framed", "unframed"),
    [
        ("$A [SEP]", [[9, 3], [3], [2, 9, 3]], [[9], [3, 9], [2]]),
        ("[CLS] $A", [[2, 9], [2]], [[9, 2], [9]]),
        ("[CLS] $A [SEP] [SEP]", [[2, 9, 3, 3], [2, 3, 3]], [[2, 9, 3], [2, 3], [3, 3]]),
        ("$A", [[9], [2, 3]], []),
    ],
)
def test_special_tokens_are_wanted_where_the_model_has_them(
    template: str, framed: list[list[int]], unframed: list[list[int]], tmp_path: Path
) -> None:
    checkpoint = write_embedding_checkpoint(tmp_path)
    file = str(checkpoint / "tokenizer.json")
    backend = tokenizers.Tokenizer.from_file(file)
    backend.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.save(file)
    text = EmbeddingText.load(checkpoint, Tokenizer.load(checkpoint))
    assert text.encode(framed, None) == framed
    for entry in unframed:
        with pytest.raises(UnframedTokens):
            text.encode([entry], None)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, frozenset()),
        ({"matryoshka_dimensions": [64, 128]}, frozenset({64, 128})),
        ({"is_matryoshka": True}, None),
        ({"is_matryoshka": False}, frozenset()),
    ],
)
def test_vectors_may_be_cut_as_the_checkpoint_promises(config, expected, tmp_path: Path) -> None:
    assert load(tmp_path, config=config).shorter_dimensions == expected


@pytest.mark.parametrize(
    "described",
    [{"prompts": ["query: "]}, {"prompts": {"query": 3}}, {"default_prompt_name": "query"}],
)
def test_a_description_that_makes_no_sense_is_named(described: Any, tmp_path: Path) -> None:
    with pytest.raises(EmbeddingTextError, match="prompt"):
        load(tmp_path, **described)


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_a_damaged_description_is_named(content: bytes, tmp_path: Path) -> None:
    checkpoint = write_embedding_checkpoint(tmp_path)
    (checkpoint / "config_sentence_transformers.json").write_bytes(content)
    with pytest.raises(EmbeddingTextError, match=r"config_sentence_transformers\.json"):
        EmbeddingText.load(checkpoint, Tokenizer.load(checkpoint))
