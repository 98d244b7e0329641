"""An embedding runner without tensors: a text's vector spells the text, so that a mix-up shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from anzoth.scheduler.texts import Text


@dataclass
class FakeEmbeddingRunner:
    """See the module."""

    dimensions: int = 8
    vocab_size: int = 100
    num_token_types: int = 2
    max_model_tokens: int = 20
    dtype: str = "float32"
    device: str = "cpu"
    fingerprint: str = "fake"
    vector_space: str = "fake"
    fails: Callable[[Sequence[int]], bool] = lambda _: False
    before_step: Callable[[int], None] = lambda _: None
    """Called with the number of each step; may wait or raise."""
    batches: list[list[list[int]]] = field(default_factory=list)

    def embed(self, texts: Sequence[Text], dimensions: Sequence[int | None]) -> list[bytes | None]:
        self.before_step(len(self.batches))
        self.batches.append([text.token_ids for text in texts])
        return [
            None if self.fails(text.token_ids) else spelled(text.token_ids, size, text.second_at)
            for text, size in zip(texts, dimensions, strict=True)
        ]


def spelled(text: Sequence[int], size: int | None = None, second_at: int | None = None) -> bytes:
    return f"{list(text)} {size} {second_at};".encode()
