"""GET /v1/organization/usage/{kind} and /v1/organization/costs, in OpenAI's shapes; GET /v1/usage.

    page ─ buckets, one after the other, also those without use ─ results, one for each group

As CSV (`format=csv`, or `Accept: text/csv`) the whole time range comes at once, one line for each
result, however long it is: it is read and written a page at a time.

Does not know: where the sums come from (see `gateway.usage_reports`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import orjson

from anzoth.api import csv_lines
from anzoth.api.call import Answer, Call
from anzoth.api.fields import wrong_value
from anzoth.api.query import Query
from anzoth.errors import MissingParameter, NotFound
from anzoth.gateway.limit_rules import BUDGET_NAMES, LimitRule
from anzoth.gateway.usage_reports import STEPS_S, Filters, Rows, Span, UsageSum
from anzoth.http.messages import Response, Sink, StreamingResponse
from anzoth.price import NANOS_PER_UNIT, decimal

LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
"""How many buckets a page has, by their width: unless something else is asked for, and at most."""
COST_LIMITS = (7, 180)
LATEST_S = 253_402_214_400
"""The last midnight of the year 9999."""
_CSV_BUCKETS = 60
"""Are read at a time: what is in memory of an export."""
_INLINE_ROWS = 100
"""Up to so many results are rendered on the loop (a millisecond)."""

_OF_WHOM = ("project_id", "user_id", "api_key_id")
_CURSOR = re.compile(r"page_(\d{1,12})", re.ASCII)


@dataclass(slots=True, frozen=True)
class Kind:
    """One page of usage."""

    name: str
    """In the results' `object`."""
    endpoints: tuple[str, ...]
    groups: tuple[str, ...]
    counters: Mapping[str, str]
    """What a result counts, by the name of the sum."""
    nothing: Mapping[str, int] = field(default_factory=dict)
    """What this server has none of."""


_INPUT = {"input_tokens": "prompt_tokens", "num_model_requests": "num_requests"}
KINDS = {
    "completions": Kind(
        "completions",
        ("/v1/chat/completions", "/v1/completions", "/v1/responses"),
        (*_OF_WHOM, "model", "batch", "service_tier"),
        {
            **_INPUT,
            "output_tokens": "completion_tokens",
            "input_cached_tokens": "cached_tokens",
            "input_uncached_tokens": "uncached_tokens",
            # OpenAI has no such field; its output tokens hold them too.
            "output_reasoning_tokens": "reasoning_tokens",
        },
        {"input_audio_tokens": 0, "output_audio_tokens": 0},
    ),
    "embeddings": Kind(
        "embeddings",
        ("/v1/embeddings", "/v1/vector_stores/{vector_store_id}/search", "/mcp"),
        (*_OF_WHOM, "model"),
        _INPUT,
    ),
    # OpenAI has no such endpoint.
    "rerank": Kind("rerank", ("/v1/rerank",), (*_OF_WHOM, "model"), _INPUT),
}
"""By the last part of the URL. A new endpoint that uses models is added here."""

_COST_GROUPS = (*_OF_WHOM, "line_item")


# --- what was asked ---------------------------------------------------------------------------


def _span(query: Query, width: str, now_s: int) -> Span:
    """Raises MissingParameter or InvalidValue."""
    start_s, end_s = (query.integer(name, 0, LATEST_S) for name in ("start_time", "end_time"))
    if start_s is None:
        raise MissingParameter("Missing required parameter: 'start_time'.", param="start_time")
    if end_s is None:
        end_s = max(now_s, start_s + 1)
    if end_s <= start_s:
        raise wrong_value("end_time", "a time after 'start_time'")
    return Span.covering(width, start_s, end_s)


def _page(query: Query, span: Span, limits: tuple[int, int]) -> Span:
    """The part of `span` that one answer shows. Raises InvalidValue."""
    default, most = limits
    limit = query.integer("limit", 1, most) or default
    cursor = query.text("page")
    if cursor is None:
        return span.first(limit)
    match = _CURSOR.fullmatch(cursor)
    if match is None or int(match[1]) not in span.buckets:
        raise wrong_value("page", "the 'next_page' of an answer to the same question")
    return span.first(limit, int(match[1]))


def _wants_csv(call: Call, query: Query) -> bool:
    accept = call.request.headers.get("accept") or ""
    by_header = accept.partition(",")[0].partition(";")[0].strip().lower() == "text/csv"
    named = query.one_of("format", ("json", "csv"))
    return by_header if named is None else named == "csv"


# --- the routes -------------------------------------------------------------------------------


async def usage(call: Call) -> Answer:
    kind = KINDS.get(call.request.path_params["kind"])
    if kind is None:
        raise NotFound(f"There is no usage of that kind here; there is: {', '.join(KINDS)}.")
    reports, tenant = call.services.usage_reports, call.principal.tenant
    query = Query(call.request.query)
    width = query.one_of("bucket_width", tuple(STEPS_S)) or "1d"
    span = _span(query, width, int(reports.now_s()))
    page = None if _wants_csv(call, query) else _page(query, span, LIMITS[width])
    groups = query.several_of("group_by", kind.groups)
    filters = Filters(
        project_ids=query.ids("project_ids"),
        user_ids=query.ids("user_ids"),
        key_ids=query.ids("api_key_ids"),
        models=query.texts("models"),
        batch=query.boolean("batch") if "batch" in kind.groups else None,
    )
    query.done()

    def read(part: Span) -> Awaitable[Rows]:
        return reports.usage(tenant, part, groups, kind.endpoints, filters)

    same = {"object": f"organization.usage.{kind.name}.result", **kind.nothing}
    columns = (*kind.counters.items(), *((group, group) for group in kind.groups))

    def result(row: Mapping[str, Any]) -> dict[str, Any]:
        return same | {name: row[column] for name, column in columns}

    if page is None:
        reports.require_kept(first := await reports.since_first_use(tenant, span))
        counters = {name: itemgetter(column) for name, column in kind.counters.items()}
        return _export(f"usage-{kind.name}", first, groups, counters, read)
    reports.require_kept(page)
    return await _answer(call, span, page, read, result)


async def costs(call: Call) -> Answer:
    reports, tenant = call.services.usage_reports, call.principal.tenant
    query = Query(call.request.query)
    span = _span(query, query.one_of("bucket_width", ("1d",)) or "1d", int(reports.now_s()))
    page = None if _wants_csv(call, query) else _page(query, span, COST_LIMITS)
    groups = query.several_of("group_by", _COST_GROUPS)
    filters = Filters(
        project_ids=query.ids("project_ids"),
        user_ids=query.ids("user_ids"),
        key_ids=query.ids("api_key_ids"),
        line_items=query.texts("line_items"),
    )
    query.done()
    by_item = "line_item" in groups

    def read(part: Span) -> Awaitable[Rows]:
        return reports.costs(tenant, part, groups, filters)

    def result(row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "object": "organization.costs.result",
            "amount": _amount(row["cost"], reports.currency),
            "quantity": row["tokens"] if by_item else None,
            "quantity_unit": "tokens" if by_item else None,
            **{group: row[group] for group in _COST_GROUPS},
        }

    if page is None:
        first = await reports.since_first_use(tenant, span)
        columns: dict[str, Callable[[Mapping[str, Any]], csv_lines.Value]] = {
            "amount": lambda row: decimal(row["cost"]),
            "currency": lambda row: reports.currency,
        }
        if by_item:
            columns |= {"quantity": itemgetter("tokens")}
        return _export("costs", first, groups, columns, read)
    return await _answer(call, span, page, read, result)


async def of_key(call: Call) -> Answer:
    """What the key itself used, whatever its scopes: today and this month, in UTC."""
    reports, principal = call.services.usage_reports, call.principal
    used = await reports.of_key(principal)
    body = {
        "object": "usage",
        "api_key_id": str(principal.key_id),
        "project_id": str(principal.project_id),
        "today": _sum(used.today_s, used.today, reports.currency),
        "this_month": _sum(used.month_s, used.month, reports.currency),
        "limits": [_limit(rule, reports.currency) for rule in principal.limits],
    }
    return Response(200, orjson.dumps(body), headers=call.headers)


def _limit(rule: LimitRule, currency: str) -> dict[str, Any]:
    """Of the tenant, the project or the key, with what is limited there."""
    limits: dict[str, Any] = asdict(rule.limits)
    for name in BUDGET_NAMES:
        if limits[name] is not None:
            limits[name] = _amount(limits[name], currency)
    return {"level": rule.level, "model": rule.model, **limits}


# --- answers ----------------------------------------------------------------------------------


async def _answer(
    call: Call,
    span: Span,
    page: Span,
    read: Callable[[Span], Awaitable[Rows]],
    result: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Answer:
    rows = await read(page)

    def render() -> bytes:
        results: dict[int, list[dict[str, Any]]] = {start_s: [] for start_s in page.buckets}
        for row in rows:
            results[int(row["bucket_start"].timestamp())].append(result(row))
        has_more = page.end_s < span.end_s
        body = {
            "object": "page",
            "data": [
                {
                    "object": "bucket",
                    "start_time": start_s,
                    "end_time": start_s + page.step_s,
                    "results": found,
                }
                for start_s, found in results.items()
            ],
            "has_more": has_more,
            "next_page": f"page_{page.end_s}" if has_more else None,
        }
        return orjson.dumps(body, default=str)  # ids: asyncpg's own class of UUID

    is_small = len(rows) <= _INLINE_ROWS
    content = render() if is_small else await asyncio.to_thread(render)
    return Response(200, content, headers=call.headers)


def _export(
    name: str,
    span: Span,
    groups: Sequence[str],
    columns: Mapping[str, Callable[[Mapping[str, Any]], csv_lines.Value]],
    read: Callable[[Span], Awaitable[Rows]],
) -> StreamingResponse:
    def render(rows: Rows) -> bytes:
        def fields() -> Iterable[Sequence[csv_lines.Value]]:
            for row in rows:
                start_s = int(row["bucket_start"].timestamp())
                yield (
                    *(_iso(start_s), _iso(start_s + span.step_s)),
                    *(_text(row[group]) for group in groups),
                    *(column(row) for column in columns.values()),
                )

        return csv_lines.lines(fields()).encode()

    async def run(sink: Sink) -> None:
        sink.write(csv_lines.lines([("start_time", "end_time", *groups, *columns)]).encode())
        from_s = span.start_s
        while from_s < span.end_s:
            part = span.first(_CSV_BUCKETS, from_s)
            rows = await read(part)
            is_small = len(rows) <= _INLINE_ROWS
            sink.write(render(rows) if is_small else await asyncio.to_thread(render, rows))
            await sink.drained()
            from_s = part.end_s

    return StreamingResponse(
        run,
        content_type=csv_lines.CONTENT_TYPE,
        headers=[("content-disposition", f'attachment; filename="{name}.csv"')],
        keep_alive_comment=None,
    )


def _sum(start_s: int, used: UsageSum, currency: str) -> dict[str, Any]:
    names = {
        "prompt_tokens": "input_tokens",
        "cached_tokens": "input_cached_tokens",
        "completion_tokens": "output_tokens",
        "reasoning_tokens": "output_reasoning_tokens",
    }
    counts = asdict(used)
    cost = counts.pop("cost")
    return {
        "start_time": start_s,
        **{names.get(name, name): count for name, count in counts.items()},
        "cost": _amount(cost, currency),
    }


def _amount(nanos: int, currency: str) -> dict[str, Any]:
    """JSON has but one kind of number; this is the nearest one, and nothing is computed with it."""
    return {"value": nanos / NANOS_PER_UNIT, "currency": currency}


def _iso(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: object) -> csv_lines.Value:
    return value if value is None or isinstance(value, bool) else str(value)
