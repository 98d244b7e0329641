"""How good are the rankings, on Cranfield?

    python bench/retrieval_quality.py [--vectors DIR] [--threads 1] [--reranker CHECKPOINT]

Prints binary nDCG@10 and recall@100 of keyword search, of search by all-MiniLM-L6-v2's vectors (by
Anzoth's own encoder, exactly), and of both fused by each method; beside them what public tools gave
(bm25s, sentence-transformers) for the first two and for plain RRF and min-max. Each leg lists its
best 100, and both score all of these. Words that only ask (`analyzer.QUESTION_WORDS`) are not
looked for, as in the product; bm25s looked for them. `--vectors` keeps the vectors, which take
minutes to make. With `--reranker` also of the default fusion whose best candidates, as many as a
search takes, that cross-encoder has put in order; none ships with Anzoth.

The last lines say how well the calibrated score works as a probability: `expected calibration
error` over the best 20 of each question, and what a threshold for "not in the documents" does to
questions that are answered here and to 40 that are about anything else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import cranfield
from anzoth.gateway.knowledge.reranking import NUM_CANDIDATES
from anzoth.index.analyzer import analyzer
from anzoth.index.fusion import (
    ANSWERABLE,
    Calibrated,
    Convex,
    Fused,
    Leg,
    Rrf,
    background,
    fuse,
    union,
)
from anzoth.index.sparse import SparseSegment
from cranfield import ELSEWHERE, Cranfield, CrossEncoder

DEPTH = 100
SAMPLE = 256
PUBLIC = {
    "sparse": (0.523, 0.756),
    "dense": (0.513, 0.788),
    "rrf": (0.562, 0.803),
    "convex": (0.571, 0.803),
}
"""Measured 2026-11 with bm25s (Lucene, k1 1.5, b .75) and sentence-transformers."""


@dataclass(slots=True, frozen=True)
class Legs:
    """Both ways of searching the same documents, as a collection has them."""

    segment: SparseSegment
    vectors: NDArray[np.float32] = field(repr=False)
    sample: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, documents: Sequence[str], vectors: NDArray[np.float32]) -> Legs:
        segment = SparseSegment.build(map(analyzer("english").terms, documents))
        chosen = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
        return cls(segment, vectors, vectors[chosen])

    def search(
        self, text: str, vector: NDArray[np.float32]
    ) -> tuple[list[Leg], list[Leg], Calibrated]:
        """What each leg lists (sparse, dense); the same of the union; what calibrates them."""
        words = self.segment.query(analyzer("english").query_terms(text))
        similarities = self.vectors @ vector
        nearest = np.argsort(-similarities, kind="stable")[:DEPTH].astype(np.uint32)
        listed = [
            Leg(*self.segment.search(words, DEPTH)),
            Leg(nearest, similarities[nearest]),
        ]
        rows = union(*listed)
        both = [
            Leg.of(rows, self.segment.scores(words, rows)),
            Leg.of(rows, similarities[rows]),
        ]
        calibrated = Calibrated(
            background(self.sample @ vector),
            words.ceiling,
            self.vectors.__getitem__,
        )
        return listed, both, calibrated


Ranker = Callable[[list[Leg], list[Leg], Calibrated], list[int]]


def fused(both: list[Leg], method: Calibrated | Convex | Rrf) -> list[Fused]:
    sparse, dense = both
    return fuse(dense, sparse, DEPTH, method)


def rows(ranked: list[Fused]) -> list[int]:
    return [one.row for one in ranked]


RANKERS: dict[str, Ranker] = {
    "sparse": lambda listed, both, calibrated: listed[0].rows.tolist(),
    "dense": lambda listed, both, calibrated: listed[1].rows.tolist(),
    "rrf": lambda listed, both, calibrated: rows(fused(both, Rrf())),
    "convex": lambda listed, both, calibrated: rows(fused(both, Convex())),
    "calibrated, without neighbours": lambda listed, both, calibrated: rows(
        fused(both, Calibrated(calibrated.background, calibrated.ceiling))
    ),
    "calibrated (default)": lambda listed, both, calibrated: rows(fused(both, calibrated)),
}


def calibration_error(probabilities: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Expected calibration error over ten bins."""
    guessed, found = np.array(probabilities), np.array(outcomes)
    bins = np.minimum((guessed * 10).astype(int), 9)
    return sum(
        abs(float(guessed[bins == one].mean()) - float(found[bins == one].mean()))
        * float((bins == one).mean())
        for one in np.unique(bins)
    )


def line(name: str, data: Cranfield, rankings: Sequence[list[int]]) -> str:
    ranked = list(zip(rankings, data.relevant, strict=True))
    gain = np.mean([cranfield.ndcg(*one) for one in ranked])
    recalled = np.mean([cranfield.recall(*one) for one in ranked])
    public = "".join(f"  {value:.3f}" for value in PUBLIC.get(name, ()))
    return f"{name:32}   {gain:.4f}      {recalled:.4f} {public}"


def rerank(encoder: CrossEncoder, data: Cranfield, query: str, ranking: list[int]) -> list[int]:
    """As a search does."""
    best, rest = ranking[:NUM_CANDIDATES], ranking[NUM_CANDIDATES:]
    order = encoder.order(query, [data.documents[row] for row in best])
    return [best[at] for at in order] + rest


def report(
    data: Cranfield, legs: Legs, vectors: NDArray[np.float32], encoder: CrossEncoder | None
) -> None:
    found = [legs.search(*one) for one in zip(data.queries, vectors, strict=True)]
    print(f"{'':32}  nDCG@10  recall@100   public tools")
    for name, ranker in RANKERS.items():
        print(line(name, data, [ranker(*one) for one in found]))
    if encoder is not None:
        default = [RANKERS["calibrated (default)"](*one) for one in found]
        reranked = [
            rerank(encoder, data, query, ranking)
            for query, ranking in zip(data.queries, default, strict=True)
        ]
        print(line(f"calibrated, best {NUM_CANDIDATES} reranked", data, reranked))
    best = [fused(both, calibrated)[:20] for _, both, calibrated in found]
    pairs = [
        (one.score, one.row in wanted)
        for ranked, wanted in zip(best, data.relevant, strict=True)
        for one in ranked
    ]
    error = calibration_error(*zip(*pairs, strict=True))
    print(f"\nexpected calibration error of the best 20: {error:.3f}")


def report_refusals(data: Cranfield, legs: Legs, here: Sequence[float], folder: Path) -> None:
    """`here`: the best score of each question that is answered."""
    away: list[float] = []
    for text, vector in zip(ELSEWHERE, cranfield.embed(ELSEWHERE, folder), strict=True):
        _, both, calibrated = legs.search(text, vector)
        away.append(max((one.score for one in fused(both, calibrated)), default=0.0))
    refused = sum(score < ANSWERABLE for score in here)
    answered = sum(score >= ANSWERABLE for score in away)
    print(
        f"best score below {ANSWERABLE}: {refused} of {len(here)} questions that are answered here "
        f"(lowest {min(here):.3f}); above: {answered} of {len(away)} about anything else "
        f"(highest {max(away):.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--vectors", type=Path, default=Path(".benchmarks/vectors"))
    parser.add_argument("--threads", type=int, default=1, help="for the encoder")
    parser.add_argument("--reranker", type=Path, help="the checkpoint of a cross-encoder")
    options = parser.parse_args()
    folder = cranfield.find()
    if folder is None:
        sys.exit(f"no Cranfield here: set {cranfield.VARIABLE} (see bench/cranfield.py)")
    data = cranfield.load(folder)
    queries = cranfield.embed(data.queries, options.vectors, options.threads)
    documents = cranfield.embed(data.documents, options.vectors, options.threads)
    legs = Legs.of(data.documents, documents)
    encoder = options.reranker and cranfield.CrossEncoder(options.reranker, options.threads)
    report(data, legs, queries, encoder)
    here = []
    for text, vector in zip(data.queries, queries, strict=True):
        _, both, calibrated = legs.search(text, vector)
        here.append(fused(both, calibrated)[0].score)
    report_refusals(data, legs, here, options.vectors)


if __name__ == "__main__":
    main()
