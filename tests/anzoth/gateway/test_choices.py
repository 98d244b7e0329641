"""Tokens to text within one choice, and the collector that keeps it."""

from __future__ import annotations

import pytest
from checkpoints import write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.frames import Row
from anzoth.gateway.choices import Choice, Collector, TokenLogprob
from anzoth.text.detokenizer import Detokenizer
from anzoth.text.stops import StopMatcher
from anzoth.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_checkpoint(tmp_path_factory.mktemp("choices")))


def generate(
    tokenizer: Tokenizer, token_ids: list[int], stops: list[str]
) -> tuple[list[str], list[list[TokenLogprob]], bool]:
    """The pieces of text with the logprobs that came with each, and whether a stop ended it."""
    choice = Choice(Detokenizer(tokenizer.pieces, starts_text=True), StopMatcher(stops))
    texts, logprobs = [], []
    for token_id in token_ids:
        texts.append(choice.push(Row(1, 0, token_id, None, -1.0, [], None), token_id))
        logprobs.append(choice.take_logprobs(is_last=choice.is_stopped))
        if choice.is_stopped:
            return texts, logprobs, True
    texts.append(choice.flush())
    logprobs.append(choice.take_logprobs(is_last=True))
    return texts, logprobs, choice.is_stopped


@settings(max_examples=200, deadline=None)
@given(
    token_ids=st.lists(st.integers(0, 299), max_size=30),
    stops=st.lists(st.text("hel \ufffd", min_size=1, max_size=3), max_size=2),
)
def test_text_ends_before_the_first_stop_string_of_the_whole_text(
    token_ids: list[int], stops: list[str], tokenizer: Tokenizer
) -> None:
    texts, _, stopped = generate(tokenizer, token_ids, stops)
    whole, text = tokenizer.decode(token_ids), "".join(texts)
    assert whole.startswith(text)
    assert not any(stop in text for stop in stops)
    assert stopped == any(stop in whole for stop in stops)
    assert stopped or text == whole


@settings(max_examples=200, deadline=None)
@given(token_ids=st.lists(st.integers(0, 299), max_size=30))
def test_every_token_has_its_logprob_once_and_in_order(
    token_ids: list[int], tokenizer: Tokenizer
) -> None:
    _, logprobs, _ = generate(tokenizer, token_ids, [])
    entries = [entry for part in logprobs for entry in part]
    assert [entry.token_id for entry in entries] == token_ids
    offsets = [entry.text_offset for entry in entries]
    assert offsets == sorted(offsets)


@settings(max_examples=200, deadline=None)
@given(
    token_ids=st.lists(st.integers(0, 299), max_size=30),
    stops=st.lists(st.text("hel ", min_size=1, max_size=3), min_size=1, max_size=2),
)
def test_logprobs_of_text_that_was_cut_off_are_not_given(
    token_ids: list[int], stops: list[str], tokenizer: Tokenizer
) -> None:
    texts, logprobs, stopped = generate(tokenizer, token_ids, stops)
    if stopped:
        length = len("".join(texts))
        assert all(entry.text_offset < length for part in logprobs for entry in part)


def test_a_collector_gives_its_contents_on_to_another() -> None:
    first, second = Collector(2), Collector(2)
    entry = TokenLogprob(5, -1.0, (), 0)
    first.text(1, "a", [entry])
    first.text(1, "b", [])
    first.finished(1, "stop")
    first.replay(second)
    second.text(0, "c", [])
    assert [choice.text for choice in second.choices()] == ["c", "ab"]
    assert second.choices()[1].logprobs == (entry,)
    assert second.endings == [None, "stop"]
