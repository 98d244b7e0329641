"""`ranking_options`: how a search of knowledge bases orders what it finds.

OpenAI's fields, wherever a search takes them, and two extensions: `fusion`, which of the methods of
the retriever puts its two rankings together, and as `ranker` the name of a model that then ranks
the best anew. OpenAI's names of rankers stand for the operator's, where there is one.

Does not know: what the methods do (see `anzoth.index.fusion`), or which models rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anzoth.api.fields import Field, nested, number, one_of, string
from anzoth.errors import InvalidValue, UnsupportedParameter
from anzoth.index_frames import Fusion

NO_RANKER = "none"
OPERATORS_RANKER = ("auto", "default-2024-11-15")
_MAX_RANKER = 256
"""Characters: of a model's name."""
_MAX_WEIGHT = 1e6
_EQUAL = {"calibrated": (1.0, 1.0), "convex": (0.5, 0.5), "rrf": (1.0, 1.0)}


@dataclass(slots=True, frozen=True)
class Ranker:
    """What ranks the best anew."""

    name: str = OPERATORS_RANKER[0]
    """NO_RANKER, one of OPERATORS_RANKER, or a model."""
    param: str = "ranking_options.ranker"
    """What errors about it name."""


@dataclass(slots=True, frozen=True)
class Ranking:
    """By which method, from which score on, and what ranks anew."""

    fusion: Fusion = field(default_factory=Fusion)
    score_threshold: float = 0.0
    ranker: Ranker = field(default_factory=Ranker)


def ranking_options(value: Any, param: str) -> Ranking:
    """A check (see `fields`)."""
    given = _OPTIONS(value, param)
    fusion = _fusion(given["fusion"], given["hybrid_search"], f"{param}.hybrid_search")
    return Ranking(fusion, given["score_threshold"], Ranker(given["ranker"], f"{param}.ranker"))


def _fusion(method: Any, weights: Mapping[str, float] | None, param: str) -> Fusion:
    """By reciprocal ranks where only weights are given, as OpenAI's are."""
    if weights is None:
        return Fusion("calibrated" if method is None else method, *_EQUAL[method or "calibrated"])
    dense, sparse = weights["embedding_weight"], weights["text_weight"]
    if dense + sparse == 0:
        raise InvalidValue(f"One of the weights of '{param}' must be above 0.", param=param)
    if method == "calibrated":
        raise UnsupportedParameter(f"Calibrated fusion has no weights: '{param}'.", param=param)
    if method == "convex":
        return Fusion("convex", dense / (dense + sparse), sparse / (dense + sparse))
    return Fusion("rrf", dense, sparse)


_WEIGHT = number(0, _MAX_WEIGHT)
_OPTIONS = nested(
    Field("ranker", string(_MAX_RANKER, min_characters=1), default=OPERATORS_RANKER[0]),
    Field("score_threshold", number(0, 1), default=0.0),
    Field(
        "hybrid_search",
        nested(
            Field("embedding_weight", _WEIGHT, required=True),
            Field("text_weight", _WEIGHT, required=True),
        ),
    ),
    Field("fusion", one_of("calibrated", "convex", "rrf")),
)
