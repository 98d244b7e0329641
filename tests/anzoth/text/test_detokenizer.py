"""The pieces of a stream, joined, are the text; no piece is half a character."""

from __future__ import annotations

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.text.detokenizer import Detokenizer, detokenize
from anzoth.text.pieces import TokenPieces, UnsupportedDecoder


@pytest.fixture(scope="session")
def pieces(backends: dict[str, tokenizers.Tokenizer]) -> dict[str, TokenPieces]:
    return {
        name: TokenPieces(backend, json.loads(backend.to_str())["decoder"])
        for name, backend in backends.items()
    }


def ids_of(backend: tokenizers.Tokenizer, *tokens: str) -> list[int]:
    found = [backend.token_to_id(token) for token in tokens]
    return [token_id for token_id in found if token_id is not None]


@settings(max_examples=300, deadline=None)
@given(token_ids=st.lists(st.integers(0, 329), max_size=40))
def test_any_byte_level_ids_give_the_text_of_the_tokenizer_itself(
    token_ids: list[int],
    backends: dict[str, tokenizers.Tokenizer],
    pieces: dict[str, TokenPieces],
) -> None:
    expected = backends["byte_level"].decode(token_ids, skip_special_tokens=True)
    assert detokenize(pieces["byte_level"], token_ids) == expected


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["byte_level", "byte_fallback"]),
    text=st.text(st.sampled_from(" abcehlot🙂漢é\u00a0"), max_size=30),
)
def test_pieces_of_encoded_text_joined_are_the_text(
    name: str,
    text: str,
    backends: dict[str, tokenizers.Tokenizer],
    pieces: dict[str, TokenPieces],
) -> None:
    token_ids = backends[name].encode(text, add_special_tokens=False).ids
    detokenizer = Detokenizer(pieces[name], starts_text=True)
    parts = [detokenizer.push(token_id) for token_id in token_ids]
    assert all("\ufffd" not in part for part in parts)
    assert "".join(parts) + detokenizer.flush() == text
    assert backends[name].decode(token_ids, skip_special_tokens=True) == text


def test_a_character_over_several_tokens_comes_whole_with_its_last_token(
    backends: dict[str, tokenizers.Tokenizer], pieces: dict[str, TokenPieces]
) -> None:
    token_ids = [3 + byte for byte in "🙂".encode()]
    detokenizer = Detokenizer(pieces["byte_fallback"], starts_text=True)
    assert [detokenizer.push(token_id) for token_id in token_ids] == ["", "", "", "🙂"]
    assert detokenizer.flush() == ""


def test_an_unfinished_character_is_a_replacement_character_only_at_the_end(
    pieces: dict[str, TokenPieces],
) -> None:
    detokenizer = Detokenizer(pieces["byte_fallback"], starts_text=True)
    assert [detokenizer.push(3 + byte) for byte in "🙂".encode()[:3]] == ["", "", ""]
    assert detokenizer.flush() == "\ufffd"


def test_a_stream_of_broken_bytes_is_not_held_back(pieces: dict[str, TokenPieces]) -> None:
    detokenizer = Detokenizer(pieces["byte_fallback"], starts_text=True)
    assert [detokenizer.push(3 + 0xFF) for _ in range(3)] == ["\ufffd"] * 3


def test_the_word_space_is_dropped_at_a_texts_start_and_kept_in_a_continuation(
    backends: dict[str, tokenizers.Tokenizer], pieces: dict[str, TokenPieces]
) -> None:
    token_ids = backends["byte_fallback"].encode("hello the cat").ids
    assert detokenize(pieces["byte_fallback"], token_ids, starts_text=True) == "hello the cat"
    assert detokenize(pieces["byte_fallback"], token_ids, starts_text=False) == " hello the cat"


def test_only_as_many_leading_spaces_are_dropped_as_the_decoder_says(
    backends: dict[str, tokenizers.Tokenizer], pieces: dict[str, TokenPieces]
) -> None:
    token_ids = ids_of(backends["byte_fallback"], "▁", "▁", "▁", "a")
    expected = backends["byte_fallback"].decode(token_ids)
    assert detokenize(pieces["byte_fallback"], token_ids) == expected == "  a"


def test_special_tokens_are_not_rendered_and_other_added_tokens_are(
    backends: dict[str, tokenizers.Tokenizer], pieces: dict[str, TokenPieces]
) -> None:
    backend = backends["byte_level"]
    token_ids = ids_of(backend, "<|bos|>", "<tool call>", "<|end|>")
    assert detokenize(pieces["byte_level"], token_ids) == "<tool call>"
    assert pieces["byte_level"].literal(1) == b"<|end|>"


def test_ids_beyond_the_tokenizer_add_nothing(pieces: dict[str, TokenPieces]) -> None:
    assert detokenize(pieces["byte_level"], [100_000]) == ""


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "Sequence", "decoders": [{"type": "CTC"}]},
        {"type": "Replace", "pattern": {"Regex": "x"}, "content": ""},
    ],
)
def test_a_decoder_that_is_no_function_of_single_tokens_is_refused(
    decoder: dict[str, object] | None, backends: dict[str, tokenizers.Tokenizer]
) -> None:
    with pytest.raises(UnsupportedDecoder):
        TokenPieces(backends["byte_level"], decoder)


def test_metaspace_is_a_space_and_its_prefix_is_dropped(
    backends: dict[str, tokenizers.Tokenizer],
) -> None:
    decoder = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    backend = backends["byte_fallback"]
    pieces = TokenPieces(backend, decoder)
    assert detokenize(pieces, ids_of(backend, "▁the", "▁cat")) == "the cat"
