"""One call of the kernel from two lists of candidates to the best, against numpy's many steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.index import candidates
from anzoth.index.collection import Collection
from anzoth.index.compiled import load_dense
from anzoth.index.filters import parse_filter
from anzoth.index.segment import Part

pytestmark = pytest.mark.skipif(load_dense() is None, reason="this processor has no such kernel")

WORDS = ["ash", "birch", "cedar", "elm", "fir"]
ODD = parse_filter({"type": "eq", "key": "odd", "value": True})


def corner(number: int, dimensions: int) -> list[float]:
    """One of the cube's: inner products of these are exact, and many are equal."""
    return [1.0 if number >> bit % 8 & 1 else -1.0 for bit in range(dimensions)]


def filled(files: list[list[tuple[int, list[str]]]], dimensions: int) -> Collection:
    """Each file is a part of its own; chunks are numbered against the order of rows."""
    parts, number = [], 10_000
    for file, chunks in enumerate(files, start=1):
        made = Collection(dimensions, "plain")
        numbers = list(range(number, number - len(chunks), -1))
        vectors = [corner(at, dimensions) for at, _ in chunks]
        made.put(
            file, numbers, [" ".join(text) for _, text in chunks], vectors, {"odd": file % 2 > 0}
        )
        parts += made.state.parts
        number -= len(chunks)
    return Collection(dimensions, "plain", parts=parts)


def require_same(made: Collection, *asked: Any) -> None:
    compiled = made.search(*asked).hits
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "load_dense", lambda: None)
        plain = made.search(*asked).hits
    assert [(hit.number, *hit[3:]) for hit in compiled] == [(hit.number, *hit[3:]) for hit in plain]
    np.testing.assert_allclose(
        [hit.score for hit in compiled], [hit.score for hit in plain], rtol=0, atol=1e-6
    )


chunks = st.lists(
    st.tuples(st.integers(0, 255), st.lists(st.sampled_from(WORDS), max_size=6)),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(
    files=st.lists(chunks, max_size=4),
    near=st.none() | st.integers(0, 255),
    text=st.none() | st.lists(st.sampled_from([*WORDS, "yew"]), max_size=5).map(" ".join),
    k=st.integers(1, 70),
    filters=st.sampled_from([None, ODD]),
    dimensions=st.sampled_from([4, 16]),
)
def test_the_kernel_gives_what_numpy_gives_ties_included(
    files: list[list[tuple[int, list[str]]]],
    near: int | None,
    text: str | None,
    k: int,
    filters: object,
    dimensions: int,
) -> None:
    if near is None and text is None:
        return
    vector = None if near is None else corner(near, dimensions)
    require_same(filled(files, dimensions), vector, text, k, filters)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [1, 30, 384])
@pytest.mark.parametrize("num_parts", [1, 3])
def test_the_kernel_gives_what_numpy_gives_for_vectors_of_any_kind(
    dimensions: int, num_parts: int
) -> None:
    rng = np.random.default_rng(dimensions)
    made = Collection(dimensions, "plain", parts=parts_of(rng, num_parts, dimensions))
    for _ in range(20):
        text = " ".join(rng.choice(WORDS, 3))
        require_same(made, rng.standard_normal(dimensions), text, int(rng.integers(1, 200)))


def parts_of(rng: np.random.Generator, num_parts: int, dimensions: int) -> list[Part]:
    made = []
    for file in range(num_parts):
        own = Collection(dimensions, "plain")
        numbers = [1000 * file + at for at in range(400)]
        texts = [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in numbers]
        own.put(file + 1, numbers, texts, rng.standard_normal((400, dimensions)))
        made += own.state.parts
    return made
