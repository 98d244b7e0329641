"""Two rankings of the same chunks, by meaning and by words: which is the one to give?

Three methods. `Calibrated`, the default, puts both legs on one scale and gives a probability, which
may be compared with a threshold whatever the query. `Convex` and `Rrf` know only the lists, and how
much the caller trusts each: their scores say nothing about a query whose answer is not there.

Each leg is best asked for its own candidates first and then, exactly, for the scores of the other's
(`union`): a chunk that one leg did not list is not one that it knows nothing about.

This is the reference for `Calibrated` (native/fusion.cpp), and what runs for the others. Does not
know: vectors, terms, filters, or how either leg finds anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from anzoth.index.bm25 import K1

RRF_K = 60
"""Of the paper (Cormack, Clarke and Büttcher, 2009) and of most that came after."""
NUM_SMOOTHED = 64
NUM_NEIGHBOURS = 5
NEIGHBOURS_PART = 1 / 3
"""A chunk's own evidence counts twice what its neighbours' does."""
ALIKE = 0.6
"""Mean similarity of five neighbours from which on they have all of that part. Those that are less
like it have less, and a store of two chunks has no company to speak of."""
LEAST_WEIGHT = 1e-6
"""Of a neighbour, however unlike it is."""
SLOPE, CENTRE = 4.76, 0.785
"""From evidence to log-odds. Fitted on the relevance of Cranfield's best 20 to its questions, with
all-MiniLM-L6-v2, 2026-11-27. They move no chunk past another."""
ANSWERABLE = 0.058
"""A best score below says that the answer is not in the documents. Same day, stores of 1 to 14
short documents (bench/small_stores.py): 94 to 97 % of the questions that they answer are above, of
others 4 to 30 %; Cranfield (bench/retrieval_quality.py): all of its 225 questions, and 11 of 40
about anything else. It errs on that side because a model that reads passages can still say that
the answer is not there, and a refusal is final."""
USUAL_SIMILARITY = 0.05
"""Of unrelated English texts to all-MiniLM-L6-v2 (40 questions on as many matters: .07; those to
1,400 abstracts on aerodynamics: -.01)."""
_USUAL_WEIGHT = 32
"""Of that, in chunks seen: a store of three chunks has no background of its own."""

Vectors = Callable[[NDArray[np.uint32]], NDArray[np.float32]]


@dataclass(slots=True, frozen=True, eq=False)
class Leg:
    """Chunks that one way of searching found, best first."""

    rows: NDArray[np.uint32] = field(repr=False)
    """Distinct."""
    scores: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, rows: NDArray[np.uint32], scores: NDArray[np.float32]) -> Leg:
        """Of rows in any order; ties by row."""
        order = np.lexsort((rows, -scores))
        return cls(rows[order], scores[order])


@dataclass(slots=True, frozen=True)
class Calibrated:
    """By the probability that a chunk is relevant.

    A leg's evidence for a chunk is what part of the way it is from a chunk that is not about the
    query to one that is all about it. By meaning: (similarity - b) / (1 - b), where b is the
    similarity of the query to any chunk of the store. By words: (k1 + 1) · BM25 / Σ idf, which is 1
    for a chunk of average length that has each of the query's words once. Both have the same say.

    Chunks that are relevant to the same query are like each other (van Rijsbergen's cluster
    hypothesis), so with `vectors` a third of the evidence for each of the best 64 is the mean of
    its five nearest neighbours among them, weighted by similarity (after Diaz, "Regularizing ad
    hoc retrieval scores", 2005); less than a third where these are not much like it (`ALIKE`).
    """

    background: float
    """b: see `background()`."""
    ceiling: float
    """Σ idf: `Statistics.ceiling` of the query's terms."""
    vectors: Vectors | None = field(default=None, repr=False)
    """Those of given rows, (n, d), of length 1."""


@dataclass(slots=True, frozen=True)
class Convex:
    """By the weighted mean of both legs' scores, each stretched to 0…1 over its list."""

    dense_weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.dense_weight <= 1:
            raise ValueError(f"dense_weight is {self.dense_weight}; expected 0 to 1")


@dataclass(slots=True, frozen=True)
class Rrf:
    """By reciprocal ranks: Σ weight / (60 + rank), in parts of what the first of both lists gets.

    The weights are OpenAI's `embedding_weight` and `text_weight`.
    """

    dense_weight: float = 1.0
    sparse_weight: float = 1.0

    def __post_init__(self) -> None:
        weights = (self.dense_weight, self.sparse_weight)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError(f"the weights are {weights}; expected none below 0, and one above")


Method = Calibrated | Convex | Rrf


class Fused(NamedTuple):
    """One chunk, and where its score comes from. Ranks count from 1; None: not in that list."""

    row: int
    score: float
    """0 to 1. `Calibrated`: the probability that the chunk is relevant."""
    dense_rank: int | None
    dense_score: float | None
    sparse_rank: int | None
    sparse_score: float | None


def union(dense: Leg, sparse: Leg) -> NDArray[np.uint32]:
    """The rows of either list, ascending."""
    rows = np.sort(np.concatenate((dense.rows, sparse.rows)))
    return rows[np.append(True, rows[1:] != rows[:-1])] if len(rows) else rows


def background(similarities: NDArray[np.float32], usual: float = USUAL_SIMILARITY) -> float:
    """The similarity of a query to chunks that are not about it.

    `similarities`: the query's to a fixed random sample of the store's chunks (256 are plenty).
    `usual`: that of unrelated texts to this embedder.
    """
    return background_of_sum(
        float(similarities.sum(dtype=np.float64)), len(similarities), usual=usual
    )


def background_of_sum(similarity: float, size: int, usual: float = USUAL_SIMILARITY) -> float:
    """The same, of the query's similarity to the sum of the sample's vectors."""
    return (similarity + _USUAL_WEIGHT * usual) / (size + _USUAL_WEIGHT)


def fuse(dense: Leg, sparse: Leg, k: int, method: Method) -> list[Fused]:
    """The best k of all rows in either list, best first, ties by row.

    A row without any of the query's words (a sparse score of 0) is not in the sparse list. A leg
    that lists nothing has no say under `Calibrated`; under the others it says 0 of everything.
    """
    has_words = sparse.scores > 0
    sparse = Leg(sparse.rows[has_words], sparse.scores[has_words])
    rows = union(dense, sparse)
    in_dense, in_sparse = _positions(rows, dense), _positions(rows, sparse)
    match method:
        case Calibrated():
            scores = _probabilities(rows, dense, in_dense, sparse, in_sparse, method)
        case Convex(weight):
            scores = weight * _taken(_stretched(dense.scores), in_dense, 0.0)
            scores += (1 - weight) * _taken(_stretched(sparse.scores), in_sparse, 0.0)
        case Rrf(dense_weight, sparse_weight):
            scores = dense_weight * _taken(_reciprocals(len(dense.rows)), in_dense, 0.0)
            scores += sparse_weight * _taken(_reciprocals(len(sparse.rows)), in_sparse, 0.0)
            scores /= dense_weight + sparse_weight
        case _:
            assert_never(method)
    order = np.lexsort((rows, -scores))[:k]
    return _listed(rows, scores, order, dense, in_dense, sparse, in_sparse)


def _listed(
    rows: NDArray[np.uint32],
    scores: NDArray[np.float64],
    order: NDArray[np.signedinteger],
    dense: Leg,
    in_dense: NDArray[np.signedinteger],
    sparse: Leg,
    in_sparse: NDArray[np.signedinteger],
) -> list[Fused]:
    return [
        Fused(row, score, *_of_leg(dense, at_dense), *_of_leg(sparse, at_sparse))
        for row, score, at_dense, at_sparse in zip(
            rows[order].tolist(),
            scores[order].tolist(),
            in_dense[order].tolist(),
            in_sparse[order].tolist(),
            strict=True,
        )
    ]


# --- calibrated -------------------------------------------------------------------------------


def _probabilities(
    rows: NDArray[np.uint32],
    dense: Leg,
    in_dense: NDArray[np.intp],
    sparse: Leg,
    in_sparse: NDArray[np.intp],
    method: Calibrated,
) -> NDArray[np.float64]:
    legs: list[NDArray[np.float64]] = []
    if len(dense.rows):
        similarities = _taken(dense.scores, in_dense, method.background)
        legs.append((similarities - method.background) / max(1e-6, 1 - method.background))
    if len(sparse.rows) and method.ceiling > 0:
        legs.append(_taken(sparse.scores, in_sparse, 0.0) * ((K1 + 1) / method.ceiling))
    evidence = sum(legs, np.zeros(len(rows))) / max(1, len(legs))
    if method.vectors is not None and len(rows) > 1:
        evidence = _smoothed(rows, evidence, method.vectors)
    return 1 / (1 + np.exp(-SLOPE * (evidence - CENTRE)))


def _smoothed(
    rows: NDArray[np.uint32], evidence: NDArray[np.float64], vectors: Vectors
) -> NDArray[np.float64]:
    best = np.lexsort((rows, -evidence))[:NUM_SMOOTHED]
    vectors_ND = vectors(rows[best])
    similarities_NN = vectors_ND @ vectors_ND.T
    np.fill_diagonal(similarities_NN, -np.inf)
    num_neighbours = min(NUM_NEIGHBOURS, len(best) - 1)
    # Of equally near ones those with more evidence.
    nearest_NK = np.argsort(-similarities_NN, kind="stable", axis=1)[:, :num_neighbours]
    weights_NK = np.take_along_axis(similarities_NN, nearest_NK, axis=1)
    weights_NK = weights_NK.clip(LEAST_WEIGHT).astype(float)
    around = np.average(evidence[best][nearest_NK], axis=1, weights=weights_NK)
    part = NEIGHBOURS_PART * np.minimum(1, weights_NK.sum(axis=1) / (NUM_NEIGHBOURS * ALIKE))
    smoothed = evidence.copy()
    smoothed[best] += part * (around - evidence[best])
    return smoothed


# --- lists ------------------------------------------------------------------------------------


def _positions(rows: NDArray[np.uint32], leg: Leg) -> NDArray[np.intp]:
    """Where in the leg's list each row is; -1: it is not."""
    positions = np.full(len(rows), -1, np.intp)
    positions[np.searchsorted(rows, leg.rows)] = np.arange(len(leg.rows))
    return positions


def _taken(
    values: NDArray[np.floating], positions: NDArray[np.intp], otherwise: float
) -> NDArray[np.float64]:
    # One more at the end, which position -1 takes.
    return np.append(values.astype(np.float64), otherwise)[positions]


def _stretched(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """To 0…1; all alike: 1."""
    if not len(scores):
        return np.empty(0)
    low, high = float(scores.min()), float(scores.max())
    return (scores.astype(np.float64) - low) / (high - low) if high > low else np.ones(len(scores))


def _reciprocals(num_ranks: int) -> NDArray[np.float64]:
    return (RRF_K + 1) / (RRF_K + np.arange(1, num_ranks + 1))


def _of_leg(leg: Leg, position: int) -> tuple[int | None, float | None]:
    if position < 0:
        return None, None
    return position + 1, float(leg.scores[position])
