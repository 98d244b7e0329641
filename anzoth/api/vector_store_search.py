"""POST /v1/vector_stores/{vector_store_id}/search: which passages answer a question?

OpenAI's shape, with extensions: in `ranking_options` a `fusion` and the name of a reranker, and in
the answer `chunk` of each result (where it stands, and what either leg and a reranker made of it),
`usage` and `trace`. The order is the reranker's where one had a say; `score` is the fusion's.

`rewrite_query` changes what no model is needed for: composed characters are written as one (NFC),
characters that nobody sees are taken out, and white space between words is one space. What was
searched for is in the answer's `search_query`.

Does not know: how anything is found (see `gateway.knowledge.searching`).
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anzoth.api import files, parts, reranking, timeout
from anzoth.api.call import Answer, Call
from anzoth.api.fields import (
    Field,
    array,
    boolean,
    integer,
    json_object,
    parse,
    string,
    wrong_type,
)
from anzoth.api.ranking_options import Ranker, Ranking, ranking_options
from anzoth.api.vector_store_fields import store_id
from anzoth.errors import ModelUnavailable
from anzoth.gateway.knowledge.found import Found, FoundChunk, SearchRequest
from anzoth.gateway.knowledge.kept_trace import KeptTrace
from anzoth.gateway.knowledge.query_vectors import Embed, Wanted
from anzoth.http.messages import Response

MAX_QUERIES = 32
MAX_RESULTS = 50
_MAX_QUERY_CHARACTERS = 16_384
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Cn")


def _queries(value: Any, param: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_QUERY(value, param),)
    if isinstance(value, list):
        return array(_QUERY, MAX_QUERIES, min_items=1)(value, param)
    raise wrong_type(param, "a string or an array of strings", value)


_QUERY = string(_MAX_QUERY_CHARACTERS, min_characters=1)
FIELDS = (
    Field("query", _queries, required=True),
    Field("max_num_results", integer(1, MAX_RESULTS), default=10),
    Field("filters", json_object),
    Field("ranking_options", ranking_options, default=Ranking()),
    Field("rewrite_query", boolean, default=False),
)


def parse_search(body: Mapping[str, Any]) -> tuple[SearchRequest, Ranker]:
    """What to look for, and what ranks it anew.

    Raises MissingParameter, InvalidValue or UnsupportedParameter.
    """
    values = parse(FIELDS, body)
    asked: tuple[str, ...] = values["query"]
    ranking: Ranking = values["ranking_options"]
    request = SearchRequest(
        tuple(map(normalized, asked)) if values["rewrite_query"] else asked,
        values["max_num_results"],
        values["filters"],
        ranking.fusion,
        ranking.score_threshold,
    )
    return request, ranking.ranker


def normalized(query: str) -> str:
    """What `rewrite_query` makes of it: see the module."""
    composed = unicodedata.normalize("NFC", query)
    seen = (c for c in composed if c.isspace() or unicodedata.category(c) not in _UNSEEN)
    return " ".join("".join(seen).split())


async def search(call: Call) -> Answer:
    request, ranker = parse_search(call.body)
    found = await find(call, [store_id(call)], request, ranker)
    content = orjson.dumps(_page(request.queries, found))
    return Response(200, content, headers=[*call.headers, ("cache-control", "no-store")])


async def find(
    call: Call, store_ids: Sequence[str], request: SearchRequest, ranker: Ranker
) -> Found:
    """What these stores say, counted and kept as a search that the caller asks for.

    Grants are the caller's matter. Raises what `Searcher.search` and `reranking.of_search` raise.
    """
    found = await call.services.searcher.search(
        files.owner_of(call),
        store_ids,
        request,
        key_id=call.principal.key_id,
        timeout_ms=timeout.left_ms(call.request),
        embed=_counted(call),
        reranking=await reranking.of_search(call, ranker),
    )
    call.record.finish_reason = "stop"
    call.record.retrieval = KeptTrace.of(store_ids, found).encode()
    return found


def _counted(call: Call) -> Embed:
    """As an embedding of the queries counts: they are reserved, charged and written down under the
    store's model. Where that is away the request counts, without tokens. Further models, of other
    stores, are parts of the request."""
    embedder, usage = call.services.embedder, call.record
    suffixes = itertools.count(2)

    async def embed(wanted: Wanted) -> Sequence[bytes]:
        if call.reservation is not None:
            if wanted.model is None or wanted.request is None:
                raise ModelUnavailable()
            suffix = str(next(suffixes))
            return await parts.embed(call, suffix, usage.endpoint, wanted.model, wanted.request)
        usage.model = wanted.name
        if wanted.model is not None and wanted.request is not None:
            usage.price = wanted.model.price
            try:
                reservation = embedder.reserve(wanted.model, wanted.request, call.principal)
            except ModelUnavailable:
                pass
            else:
                call.hold(reservation)
                return await embedder.embed(
                    wanted.model, wanted.request, call.principal, reservation, usage
                )
        call.hold(call.services.limiter.reserve_request(call.principal, wanted.name))
        raise ModelUnavailable()

    return embed


# --- the answer -----------------------------------------------------------------------------------


def _page(queries: Sequence[str], found: Found) -> dict[str, Any]:
    return {
        "object": "vector_store.search_results.page",
        "search_query": list(queries),
        "data": list(map(_result, found.chunks)),
        "has_more": False,
        "next_page": None,
        "usage": {
            "prompt_tokens": found.num_query_tokens,
            "total_tokens": found.num_query_tokens + found.num_rerank_tokens,
        },
        "trace": found.trace,
    }


def _result(chunk: FoundChunk) -> dict[str, Any]:
    content = chunk.content
    return {
        "file_id": chunk.file_id,
        "filename": chunk.filename,
        "score": chunk.score,
        "attributes": chunk.attributes,
        "content": [{"type": "text", "text": content.text}],
        "chunk": {
            "id": f"chunk_{chunk.number}",
            "position": chunk.position,
            "start": content.start,
            "end": content.end,
            "page": content.page,
            "last_page": content.last_page,
            "headings": content.headings,
            "embedding": _rank(chunk.dense_rank, chunk.dense_score),
            "text": _rank(chunk.sparse_rank, chunk.sparse_score),
            "rerank": reranking.shown(chunk),
        },
    }


def _rank(rank: int | None, score: float | None) -> dict[str, Any] | None:
    return None if rank is None else {"rank": rank, "score": score}
