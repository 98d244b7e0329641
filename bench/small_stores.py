"""Does a small store know what it can answer?

    python bench/small_stores.py [--vectors DIR] [--threads 1]

Stores of one document to all of `company_documents`, each document one chunk or two, by
all-MiniLM-L6-v2. Asked are the questions of the documents that are there, and those of the others
together with 38 about anything else, all of which should be refused. Printed per size of the store:
which part of either gets a best calibrated score of `ANSWERABLE` at least, and the area under the
curve (that a question with an answer scores higher than one without; no threshold moves it).

`ANSWERABLE` and `analyzer.QUESTION_WORDS` were chosen while looking at these figures.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import cranfield
from anzoth.index.collection import Collection
from anzoth.index.fusion import ANSWERABLE
from company_documents import DOCUMENTS
from cranfield import ELSEWHERE

SIZES = (1, 2, 4, 8, len(DOCUMENTS))
NUM_STORES = 28
"""Of each size but the last; each document is in some of them."""
ANSWERED = (
    "How many days of paid leave does an employee get in the first year?",
    "Who is responsible for data protection in the company?",
)
"""Of `ELSEWHERE`, but not here."""

Vectors = NDArray[np.float32]


def stores(size: int) -> list[list[int]]:
    """Which documents are together."""
    shuffled = random.Random(size)
    if size == len(DOCUMENTS):
        return [list(range(size))]
    return [shuffled.sample(range(len(DOCUMENTS)), size) for _ in range(NUM_STORES)]


def best_score(store: Collection, question: str, vector: Vectors) -> float:
    hits = store.search(vector, question, k=1).hits
    return hits[0].score if hits else 0.0


def answered(scores: Sequence[float]) -> str:
    """Which part of them."""
    return f"{np.mean(np.array(scores) >= ANSWERABLE):.3f}" if scores else "-"


def area(there: Sequence[float], away: Sequence[float]) -> float:
    """Under the receiver operating characteristic."""
    above = np.subtract.outer(np.array(there), np.array(away))
    return float((above > 0).mean() + (above == 0).mean() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--vectors", type=Path, default=Path(".benchmarks/vectors"))
    parser.add_argument("--threads", type=int, default=1, help="for the encoder")
    options = parser.parse_args()
    texts = [f"{document.title}\n{document.text}" for document in DOCUMENTS]
    asked = [(at, q) for at, document in enumerate(DOCUMENTS) for q in document.questions]
    elsewhere = [question for question in ELSEWHERE if question not in ANSWERED]
    questions = [*(question for _, question in asked), *elsewhere]
    documents = cranfield.embed(texts, options.vectors, options.threads)
    vectors = cranfield.embed(questions, options.vectors, options.threads)
    print("documents  answered if there  answered if away  about anything else   area")
    for size in SIZES:
        scores: dict[str, list[float]] = {"there": [], "away": [], "elsewhere": []}
        for chosen in stores(size):
            store = Collection(documents.shape[1])
            for at in chosen:
                store.put(at, [at], [texts[at]], documents[at : at + 1])
            for number, (question, vector) in enumerate(zip(questions, vectors, strict=True)):
                kind = "elsewhere"
                if number < len(asked):
                    kind = "there" if asked[number][0] in chosen else "away"
                scores[kind].append(best_score(store, question, vector))
        there, away, anywhere = scores.values()
        print(
            f"{size:9}  {answered(there):>17}  {answered(away):>16}  {answered(anywhere):>19}  "
            f"{area(there, [*away, *anywhere]):.3f}"
        )


if __name__ == "__main__":
    main()
