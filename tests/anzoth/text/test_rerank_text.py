"""Pairs are what transformers' tokenizers make of the same files, cut only behind the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from checkpoints import write_rerank_checkpoint
from tokenizers import processors

from anzoth.text import rerank_text
from anzoth.text.rerank_text import PairsTooLong, RerankText, RerankTextError
from anzoth.text.tokenizer import Tokenizer

BERT, ROBERTA = "BertForSequenceClassification", "RobertaForSequenceClassification"
LIMIT = 64


def load(directory: Path, architecture: str = BERT, post_processor: Any = None) -> RerankText:
    checkpoint = write_rerank_checkpoint(directory, architecture)
    if post_processor is not None:
        file = str(checkpoint / "tokenizer.json")
        backend = tokenizers.Tokenizer.from_file(file)
        backend.post_processor = post_processor
        backend.save(file)
    return RerankText.load(
        checkpoint, Tokenizer.load(checkpoint), has_token_types=architecture == BERT
    )


def encoded(text: RerankText, query: str, document: str, limit: int = LIMIT) -> list[int]:
    (pair,) = text.encode(query, [document], limit, None)
    return list(pair.token_ids)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("class_name", "architecture", "post_processor"),
    [
        ("BertTokenizer", BERT, None),
        ("BertTokenizer", BERT, processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))),
        ("RobertaTokenizer", ROBERTA, None),
        ("RobertaTokenizer", ROBERTA, processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))),
    ],
)
def test_pairs_are_those_of_transformers(
    class_name: str, architecture: str, post_processor: Any, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    text = load(tmp_path, architecture, post_processor)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        model_input_names=getattr(transformers, class_name).model_input_names,
    )
    for query, document in (("hi", "hello there"), ("hi there", ""), ("hello", "hi " * 30)):
        # As a batch, because an empty second text would count as none.
        batch = theirs([query], [document], truncation="only_second", max_length=20)
        expected = {name: rows[0] for name, rows in batch.items()}
        (pair,) = text.encode(query, [document], 20, None)
        types = expected.get("token_type_ids", [0] * len(expected["input_ids"]))
        assert list(pair.token_ids) == expected["input_ids"]
        second_at = len(types) if pair.second_at is None else pair.second_at
        assert [int(place >= second_at) for place in range(len(types))] == types


def test_a_document_is_cut_at_its_end_and_keeps_what_stands_behind_it(tmp_path: Path) -> None:
    text = load(tmp_path)
    assert encoded(text, "hi", "hello there hi") == [2, 9, 3, 7, 8, 9, 3]
    assert encoded(text, "hi", "hello there hi", limit=6) == [2, 9, 3, 7, 8, 3]
    assert encoded(text, "hi", "hello there hi", limit=5) == [2, 9, 3, 7, 3]


def test_a_document_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    documents = ["hello there hi", "hi"]
    pairs = load(tmp_path).encode("hi", documents, LIMIT, 2)
    assert [pair.token_ids for pair in pairs] == [[2, 9, 3, 7, 8, 3], [2, 9, 3, 9, 3]]


def test_a_query_is_never_cut(tmp_path: Path) -> None:
    text = load(tmp_path)
    with pytest.raises(PairsTooLong, match="may have 1 of them, but has 2") as caught:
        text.encode("hi hi", ["hello"], 5, None)
    assert caught.value.param == "query"
    assert encoded(text, "hi", "hello", limit=5) == [2, 9, 3, 7, 3]


def test_all_pairs_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerank_text, "MAX_TOKENS", 10)
    text = load(tmp_path)
    assert len(text.encode("hi", ["hi", "hi"], LIMIT, None)) == 2
    with pytest.raises(PairsTooLong, match="fewer documents") as caught:
        text.encode("hi", ["hi", "hi", "hi"], LIMIT, None)
    assert caught.value.param == "documents"


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        ("$A $B", "puts nothing between"),
        ("[CLS] $A [SEP] $B [SEP]", "types"),
        ("[CLS]:1 $A:1 [SEP]:1 $B:0 [SEP]:0", "types"),
        ("[CLS] $A [SEP] $B:2 [SEP]:2", "types"),
    ],
)
def test_a_tokenizer_that_makes_no_pairs_of_two_types_stops_the_start(
    pair: str, says: str, tmp_path: Path
) -> None:
    post_processor = processors.TemplateProcessing(
        single="$A", pair=pair, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(RerankTextError, match=says):
        load(tmp_path, BERT, post_processor)
