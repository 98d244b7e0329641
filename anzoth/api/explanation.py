"""GET /v1/requests/{id}: what became of a request, and which rule refused it?

Any key may ask about its own requests; one with the scope usage:read about all of its tenant's.
What was said in a request is not kept with it, and so is not shown: of what was found for it in
knowledge bases only ids, ranks and scores, and of calls of tools neither arguments nor results.

Does not know: who refuses (see `gateway.rules` for what each rule means).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from anzoth.api.call import Answer, Call
from anzoth.gateway import rules
from anzoth.gateway.knowledge.kept_trace import KeptTrace
from anzoth.gateway.past_requests import RequestRow
from anzoth.gateway.tools.past_calls import PastCall
from anzoth.http.messages import Response


async def retrieve(call: Call) -> Answer:
    id = call.request.path_params["id"]
    row = await call.services.past_requests.get(call.principal, id)
    calls = await call.services.past_requests.calls_of(call.principal, row)
    return Response(200, orjson.dumps(_request(row, calls)), headers=call.headers)


def _request(row: RequestRow, calls: Sequence[PastCall]) -> dict[str, Any]:
    failed = row.error_code is not None or row.rule is not None
    return {
        "id": row.request_id,
        "object": "request",
        "created": int(row.started_at.timestamp()),
        "key_id": str(row.key_id),
        "project_id": str(row.project_id),
        "endpoint": row.endpoint,
        "streamed": row.streamed,
        "model": row.model,
        "target": row.target,
        "attempts": [_attempt(attempt) for attempt in row.attempts],
        "status": row.status,
        "finish_reason": row.finish_reason,
        "error": {"code": row.error_code, "message": row.refusal} if failed else None,
        "refused_by": None if row.rule is None else _rule(row.rule),
        "would_have_been_refused_by": [_rule(rule) for rule in row.shadow_rules],
        "usage": {
            "prompt_tokens": row.prompt_tokens,
            "cached_tokens": row.cached_tokens,
            "completion_tokens": row.completion_tokens,
        },
        "time_to_first_token_ms": row.ttft_ms,
        "duration_ms": row.duration_ms,
        "retrieval": None if row.retrieval is None else _retrieval(KeptTrace.decode(row.retrieval)),
        "tool_calls": [_tool_call(made) for made in calls],
    }


def _tool_call(made: PastCall) -> dict[str, Any]:
    return {
        "id": made.id,
        "name": made.name,
        "tool_server_id": made.server_id,
        "definition_sha256": made.digest,
        "created": int(made.at.timestamp()),
        "decision": made.decision,
        "refused_by": None if made.decision == "allowed" else _rule(made.rule),
        "outcome": made.outcome,
        "duration_ms": made.latency_ms,
        "bytes": made.num_bytes,
    }


def _attempt(attempt: str) -> dict[str, str]:
    target, _, outcome = attempt.rpartition(" ")
    return {"target": target, "outcome": outcome}


def _retrieval(trace: KeptTrace) -> dict[str, Any]:
    return {
        "vector_store_ids": trace.store_ids,
        "candidates": [
            {
                "vector_store_id": one.store_id,
                "file_id": one.file_id,
                "chunk_id": f"chunk_{one.number}",
                "embedding_rank": one.dense_rank,
                "text_rank": one.sparse_rank,
                "score": one.score,
                "rerank_rank": one.rerank_rank,
                "dropped": one.dropped,
            }
            for one in trace.candidates
        ],
        "num_candidates": trace.num_candidates,
        "removed": trace.num_removed,
        "duplicates": trace.num_duplicates,
        "exact": trace.is_exact,
        "degraded": trace.degraded,
        "rerank": trace.rerank,
        "times_ms": trace.times_ms,
    }


def _rule(id: str) -> dict[str, str | None]:
    """An id that this version does not know is of another one."""
    rule = rules.find(id)
    return {
        "rule": id,
        "meaning": None if rule is None else rule.meaning,
        "what_to_do": None if rule is None else rule.advice,
    }
