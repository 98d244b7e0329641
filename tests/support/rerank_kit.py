"""A reranker beside the model of a running gateway: a scripted engine that knows `WORDS`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tokenizers
from api_harness import Api, until
from checkpoints import write_rerank_checkpoint
from engine_peer import RERANK_HELLO, EnginePeer
from knowledge_kit import WORDS, Knowledge, run_knowledge
from tokenizers import models, pre_tokenizers, processors

from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import ServedModel, load_model
from anzoth.model_config import ModelConfig
from anzoth.price import Price

RANKER = "ranker"
PRICE = Price(2_000_000, 0, 0)
"""Two units of the currency for a million tokens."""
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_KNOWN = {word: at for at, word in enumerate([*_SPECIAL, *WORDS])}
_WORD = {at: word for word, at in _KNOWN.items()}


@dataclass
class Ranking:
    """A running reranker."""

    peer: EnginePeer
    model: ServedModel

    def score(self, by: Callable[[list[str], list[str]], float]) -> None:
        """From now on by the words of the query and those of the passage."""

        def score_of(token_ids: list[int]) -> float:
            query, passage = pair(token_ids)
            return by(query, passage)

        self.peer.score_of = score_of

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All that it was ever asked."""
        asked = [ids for _, texts in self.peer.embeds for ids in texts]
        return [(" ".join(query), " ".join(passage)) for query, passage in map(pair, asked)]

    async def away(self) -> None:
        await self.peer.stop()
        await until(lambda: not self.model.engine.healthy)


def pair(token_ids: Sequence[int]) -> tuple[list[str], list[str]]:
    """The words of both texts."""
    words = [_WORD[token_id] for token_id in token_ids]
    at = words.index("[SEP]")
    return words[1:at], words[at + 1 : -1]


def by_words(query: list[str], passage: list[str]) -> float:
    """As a bare logit: how many of the query's words stand there, less what stands there else."""
    return sum(word in passage for word in query) - len(passage) / 4


@contextlib.asynccontextmanager
async def ranking(api: Api, folder: Path, name: str = RANKER) -> AsyncIterator[Ranking]:
    """Whose scores are `by_words`."""
    checkpoint = write_rerank_checkpoint(folder / name)
    backend = tokenizers.Tokenizer(models.WordLevel(_KNOWN, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    backend.save(str(checkpoint / "tokenizer.json"))
    hello = replace(RERANK_HELLO, vocab_size=len(_KNOWN))
    peer = EnginePeer(folder / f"{name}.sock", lambda submit, prompt, choice: [], hello)
    engine = EngineClient(name, peer.path, api.metrics)
    model = replace(load_model(ModelConfig(name, checkpoint), engine), price=PRICE)
    await peer.start()
    try:
        api.services.models.add(model)
        await until(lambda: engine.healthy)
        made = Ranking(peer, model)
        made.score(by_words)
        yield made
    finally:
        await peer.stop()


Scenario = Callable[[Knowledge, Ranking], Awaitable[None]]


def run_reranked(dsn: str, folder: Path, scenario: Scenario) -> None:
    async def with_ranking(it: Knowledge) -> None:
        async with ranking(it.server.api, folder) as made:
            await scenario(it, made)

    run_knowledge(dsn, folder, with_ranking)
