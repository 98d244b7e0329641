"""Is one list made of two as each method says?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anzoth.index.fusion import (
    ALIKE,
    ANSWERABLE,
    CENTRE,
    SLOPE,
    Calibrated,
    Convex,
    Fused,
    Leg,
    Rrf,
    background,
    background_of_sum,
    fuse,
    union,
)


def leg(scores: dict[int, float]) -> Leg:
    return Leg.of(np.array([*scores], np.uint32), np.array([*scores.values()], np.float32))


def rows(fused: list[Fused]) -> list[int]:
    return [one.row for one in fused]


METHODS = [Calibrated(background=0.1, ceiling=12.0), Convex(0.3), Rrf(), Rrf(0.2, 3.0)]
scored = st.dictionaries(st.integers(0, 30), st.floats(-1, 1, width=16), max_size=12).map(leg)


def as_first_written(dense: Leg, sparse: Leg, k: int, method: Calibrated) -> list[tuple[Any, ...]]:
    """The calibrated fusion in other words, to compare with."""
    sparse = Leg(sparse.rows[sparse.scores > 0], sparse.scores[sparse.scores > 0])
    all_rows = np.union1d(dense.rows, sparse.rows)
    legs, positions = [], []
    for one, otherwise in ((dense, method.background), (sparse, 0.0)):
        at = np.full(len(all_rows), -1)
        at[np.searchsorted(all_rows, one.rows)] = np.arange(len(one.rows))
        positions.append(at)
        legs.append(np.append(one.scores.astype(np.float64), otherwise)[at])
    says: list[NDArray[np.float64]] = []
    if len(dense.rows):
        says.append((legs[0] - method.background) / max(1e-6, 1 - method.background))
    if len(sparse.rows) and method.ceiling > 0:
        says.append(legs[1] * (2.5 / method.ceiling))
    evidence = sum(says, np.zeros(len(all_rows))) / max(1, len(says))
    if method.vectors is not None and len(all_rows) > 1:
        best = np.lexsort((all_rows, -evidence))[:64]
        vectors = method.vectors(all_rows[best])
        like = vectors @ vectors.T
        np.fill_diagonal(like, -np.inf)
        count = min(5, len(best) - 1)
        nearest = np.argpartition(-like, count - 1, axis=1)[:, :count]
        weights = np.take_along_axis(like, nearest, axis=1).clip(1e-6).astype(float)
        around = np.average(evidence[best][nearest], axis=1, weights=weights)
        evidence = evidence.copy()
        company = np.minimum(1, weights.sum(axis=1) / 5 / ALIKE)
        evidence = evidence.copy()
        evidence[best] += company * (around - evidence[best]) / 3
    scores = 1 / (1 + np.exp(-SLOPE * (evidence - CENTRE)))
    return [
        (
            int(all_rows[at]),
            float(scores[at]),
            *(
                value
                for one, where in zip((dense, sparse), positions, strict=True)
                for value in (
                    (int(where[at]) + 1, float(one.scores[where[at]]))
                    if where[at] >= 0
                    else (None, None)
                )
            ),
        )
        for at in np.lexsort((all_rows, -scores))[:k].tolist()
    ]


few_scores = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
many_scored = st.dictionaries(st.integers(0, 199), few_scores | st.floats(0, 9, width=32)).map(leg)


@settings(deadline=None)
@given(
    dense=many_scored | st.integers(0, 150).map(lambda n: leg({r: 1 - r / 200 for r in range(n)})),
    sparse=many_scored,
    k=st.integers(0, 250),
    background=st.floats(-0.2, 0.9),
    ceiling=st.sampled_from([0.0, 3.0, 50.0]),
    seed=st.none() | st.integers(0, 9),
)
def test_calibrated_fusion_is_what_its_first_version_said_ties_included(
    dense: Leg,
    sparse: Leg,
    k: int,
    background: float,
    ceiling: float,
    seed: int | None,
) -> None:
    vectors = None
    if seed is not None:
        drawn = np.random.default_rng(seed).standard_normal((200, 20)).astype(np.float32)
        vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).__getitem__
    method = Calibrated(background, ceiling, vectors)
    found = fuse(dense, sparse, k, method)
    expected = as_first_written(dense, sparse, k, method)
    assert [(row, *rest) for row, _, *rest in found] == [(row, *rest) for row, _, *rest in expected]
    np.testing.assert_allclose(
        [one[1] for one in found], [one[1] for one in expected], rtol=0, atol=1e-6
    )


def test_a_leg_is_best_first_with_ties_by_row() -> None:
    assert leg({7: 1.0, 3: 2.0, 5: 1.0}).rows.tolist() == [3, 5, 7]


@settings(deadline=None)
@given(dense=scored, sparse=scored, k=st.integers(0, 40), method=st.sampled_from(METHODS))
def test_every_method_gives_the_best_k_once_each(
    dense: Leg, sparse: Leg, k: int, method: Calibrated | Convex | Rrf
) -> None:
    fused = fuse(dense, sparse, k, method)
    sparse_rows = set(sparse.rows[sparse.scores > 0].tolist())
    found = set(dense.rows.tolist()) | sparse_rows
    assert len(fused) == min(k, len(found))
    assert len(set(rows(fused))) == len(fused)
    assert set(rows(fused)) <= found
    assert all(0 <= one.score <= 1 for one in fused)
    assert fused == sorted(fused, key=lambda one: (-one.score, one.row))
    for one in fused:
        assert (one.sparse_rank is None) == (one.row not in sparse_rows)
        if one.dense_rank is not None:
            assert dense.rows[one.dense_rank - 1] == one.row
            assert dense.scores[one.dense_rank - 1] == one.dense_score


def test_reciprocal_ranks_are_added_with_their_weights() -> None:
    dense, sparse = leg({1: 0.9, 2: 0.8, 3: 0.7}), leg({3: 9.0, 4: 5.0})
    best = fuse(dense, sparse, 9, Rrf(1, 1))
    assert rows(best) == [3, 1, 2, 4]
    assert best[0].score == pytest.approx((1 / 63 + 1 / 61) / (2 / 61))
    assert rows(fuse(dense, sparse, 9, Rrf(0, 1)))[:2] == [3, 4]
    assert fuse(dense, sparse, 1, Rrf(0, 5))[0].score == 1


def test_convex_stretches_each_list() -> None:
    dense, sparse = leg({1: 0.9, 2: 0.5, 3: 0.7}), leg({2: 9.0, 3: 5.0, 4: 1.0})
    fused = {one.row: one.score for one in fuse(dense, sparse, 9, Convex(0.25))}
    expected = {1: 0.25, 2: 0.75, 3: 0.25 * 0.5 + 0.75 * 0.5, 4: 0.0}
    assert fused == pytest.approx(expected)


def test_calibrated_is_the_mean_of_both_legs_evidence() -> None:
    method = Calibrated(background=0.2, ceiling=20.0)
    (one,) = fuse(leg({1: 0.6}), leg({1: 6.0}), 1, method)
    evidence = ((0.6 - 0.2) / 0.8 + 2.5 * 6 / 20) / 2
    assert one.score == pytest.approx(1 / (1 + math.exp(-SLOPE * (evidence - CENTRE))))


def test_a_leg_that_found_nothing_has_no_say() -> None:
    method = Calibrated(background=0.2, ceiling=20.0)
    nothing = leg({})
    (by_meaning,) = fuse(leg({1: 0.6}), nothing, 1, method)
    (by_words,) = fuse(nothing, leg({1: 4.0}), 1, method)
    assert by_meaning.score == pytest.approx(by_words.score)
    assert fuse(nothing, nothing, 5, method) == []


def test_a_chunk_that_no_word_and_no_meaning_speaks_for_is_not_answerable() -> None:
    method = Calibrated(background=0.05, ceiling=30.0)
    (far,) = fuse(leg({1: 0.2}), leg({1: 2.0}), 1, method)
    (near,) = fuse(leg({1: 0.7}), leg({1: 11.0}), 1, method)
    assert far.score < ANSWERABLE < near.score


def test_neighbours_lift_a_chunk_in_company_over_a_lonely_one() -> None:
    about = {row: 0.01 * row for row in range(1, 8)}
    elsewhere = {row: 1.5 + 0.01 * row for row in range(11, 18)}
    scores = dict.fromkeys(about, 0.6) | dict.fromkeys(elsewhere, 0.2) | {11: 0.62}

    def vectors(asked: NDArray[np.uint32]) -> NDArray[np.float32]:
        angles = np.array([(about | elsewhere)[row] for row in asked.tolist()])
        return np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)

    alone = Calibrated(background=0.1, ceiling=0.0)
    together = Calibrated(background=0.1, ceiling=0.0, vectors=vectors)
    assert rows(fuse(leg(scores), leg({}), 3, alone)) == [11, 1, 2]
    assert rows(fuse(leg(scores), leg({}), 8, together)) == [*about, 11]


def test_the_only_other_chunk_says_little_where_it_is_about_something_else() -> None:
    def alike(similarity: float) -> Calibrated:
        corners = np.array([[1, 0], [similarity, math.sqrt(1 - similarity**2)]], np.float32)
        return Calibrated(background=0.05, ceiling=0.0, vectors=corners.__getitem__)

    scores = leg({0: 0.6, 1: 0.1})
    alone = Calibrated(background=0.05, ceiling=0.0)
    (by_itself, beside_a_stranger, beside_a_twin) = (
        fuse(scores, leg({}), 1, method)[0].score for method in (alone, alike(0.02), alike(0.98))
    )
    assert beside_a_stranger == pytest.approx(by_itself, rel=0.02)
    assert beside_a_twin < 0.9 * by_itself


def test_one_chunk_has_no_neighbours() -> None:
    method = Calibrated(0.1, 1.0, vectors=lambda rows: np.ones((len(rows), 1), np.float32))
    assert fuse(leg({9: 0.6}), leg({}), 5, method) == fuse(leg({9: 0.6}), leg({}), 5, METHODS[0])


def test_the_background_is_the_same_from_the_sum_of_the_sample() -> None:
    drawn = np.random.default_rng(3).standard_normal((50, 8)).astype(np.float32)
    query = drawn[0]
    from_sum = background_of_sum(float(drawn.sum(axis=0) @ query), 50)
    assert from_sum == pytest.approx(background(drawn @ query), abs=1e-6)


def test_the_background_of_few_chunks_is_mostly_the_usual_one() -> None:
    assert background(np.array([0.9, 0.9], np.float32), usual=0.05) == pytest.approx(0.1)
    assert background(np.full(10_000, 0.3, np.float32)) == pytest.approx(0.3, abs=1e-3)
    assert background(np.empty(0, np.float32), usual=0.7) == pytest.approx(0.7)


def test_the_union_is_of_both_lists() -> None:
    assert union(leg({5: 1, 2: 3}), leg({5: 2, 9: 1})).tolist() == [2, 5, 9]


@pytest.mark.parametrize("weights", [(0, 0), (-1, 2), (math.inf, 1), (math.nan, 1)])
def test_weights_that_weigh_nothing_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Rrf(*weights)
    with pytest.raises(ValueError, match="dense_weight"):
        Convex(2.0)
