"""Does keyword search rank as public tools do? `bench/retrieval_quality.py` has the other legs."""

from __future__ import annotations

import numpy as np
import pytest

import cranfield
from anzoth.index.analyzer import analyzer
from anzoth.index.sparse import SparseSegment


@pytest.mark.slow
def test_keyword_search_ranks_as_bm25s_does() -> None:
    folder = cranfield.find()
    if folder is None:
        pytest.skip(f"no Cranfield here: {cranfield.VARIABLE} is to name its folder")
    data = cranfield.load(folder)
    assert (len(data.documents), len(data.queries)) == (1400, 225)
    english = analyzer("english")
    segment = SparseSegment.build(map(english.terms, data.documents))
    ranked = [
        segment.search(segment.query(english.terms(query)), 100)[0].tolist()
        for query in data.queries
    ]
    found = list(zip(ranked, data.relevant, strict=True))
    # bm25s 0.3.16, method lucene, k1 1.5, b 0.75, English stop words, PyStemmer: .5226 and .7560.
    assert np.mean([cranfield.ndcg(*one) for one in found]) == pytest.approx(0.5226, abs=0.005)
    assert np.mean([cranfield.recall(*one) for one in found]) == pytest.approx(0.7560, abs=0.005)
