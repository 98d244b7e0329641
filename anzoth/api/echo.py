"""What do choices begin with when a completion has to repeat its prompt?

The text, and if log probabilities are asked for, those of the prompt's tokens: in the older
endpoint's four parallel lists, where nothing is known of the first token.

Does not know: how the engine scores a prompt, or when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anzoth.api import answers
from anzoth.gateway.choices import TokenLogprob
from anzoth.text.detokenizer import Detokenizer
from anzoth.text.tokenizer import Tokenizer

PromptScores = Sequence[tuple[float, Sequence[tuple[int, float]]]]
"""Of the tokens from the second on: log probability, and the likeliest tokens with theirs."""


@dataclass(slots=True, frozen=True)
class Echo:
    """One prompt as its choices repeat it."""

    text: str = field(repr=False)
    token_ids: Sequence[int] = field(repr=False)

    def logprobs(self, scores: PromptScores, tokenizer: Tokenizer) -> dict[str, Any]:
        """The `logprobs` object of the text."""
        detokenizer = Detokenizer(tokenizer.pieces, starts_text=True)
        entries: list[TokenLogprob] = []
        offset = 0
        for token_id, (logprob, top) in zip(self.token_ids, [(0.0, ()), *scores], strict=True):
            entries.append(TokenLogprob(token_id, logprob, top, offset))
            offset += len(detokenizer.push(token_id))
        lists = answers.completion_logprobs(entries, tokenizer)
        lists["token_logprobs"][0] = lists["top_logprobs"][0] = None
        return lists


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two `logprobs` objects, one text after the other."""
    return {name: first[name] + second[name] for name in first}
