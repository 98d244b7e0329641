"""The tool `file_search` of a request: which knowledge bases, and how are they searched?

OpenAI's fields, as in its Responses API, and two extensions of ours in the tool:

    "file_search": {"on_no_answer": "say_so" | "answer"}
        what becomes of a question that the documents do not answer. `say_so`: a fixed sentence, and
        the model is not asked. `answer`: the model answers from what it knows; the default where it
        may also call functions.
    "trace": true
        what was found, read and left out stands in the answer, as `x_anzoth.retrieval`.

The server searches before the model answers, whatever the model would want: `tool_choice` has no
say in it but for `none`.

Does not know: what is searched for, or what an answer looks like.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from anzoth.api.fields import (
    Field,
    array,
    boolean,
    integer,
    json_object,
    nested,
    one_of,
    string,
)
from anzoth.api.ranking_options import Ranker, Ranking, ranking_options
from anzoth.errors import InvalidValue
from anzoth.gateway.knowledge.grounding import KnowledgeUse

MAX_STORES = 16
MAX_RESULTS = 50
RESULTS = "file_search_call.results"
"""In `include`: the results are to stand in the answer."""

OnNoAnswer = Literal["say_so", "answer"]


@dataclass(slots=True, frozen=True)
class FileSearch:
    """One tool of the type `file_search`."""

    use: KnowledgeUse
    on_no_answer: OnNoAnswer | None = None
    shows_trace: bool = False
    ranker: Ranker = field(default_factory=Ranker)


_TOOL = nested(
    Field(
        "vector_store_ids",
        array(string(64, min_characters=1), MAX_STORES, min_items=1),
        required=True,
    ),
    Field("max_num_results", integer(1, MAX_RESULTS), default=10),
    Field("filters", json_object),
    Field("ranking_options", ranking_options, default=Ranking()),
    Field(
        "file_search",
        nested(Field("on_no_answer", one_of("say_so", "answer"))),
        default={"on_no_answer": None},
    ),
    Field("trace", boolean, default=False),
)


def file_search(value: Any, param: str) -> FileSearch:
    """A check (see `fields`) of a tool whose `type` says that it is one."""
    given = _TOOL(value, param)
    ranking: Ranking = given["ranking_options"]
    use = KnowledgeUse(
        tuple(dict.fromkeys(given["vector_store_ids"])),
        given["max_num_results"],
        given["filters"],
        ranking.fusion,
        ranking.score_threshold,
    )
    return FileSearch(use, given["file_search"]["on_no_answer"], given["trace"], ranking.ranker)


def only_one(searches: list[FileSearch], param: str) -> FileSearch | None:
    """Raises InvalidValue."""
    if len(searches) > 1:
        raise InvalidValue(
            f"Invalid value for '{param}': one tool of the type 'file_search' at most; it can name "
            f"{MAX_STORES} vector stores.",
            param=param,
        )
    return searches[0] if searches else None
