"""What is shown without being asked for by an id?

Lists, searches, conversations: the first tenant must find its own in them, because what finds
nothing proves nothing, and the second must not.

Does not know: ids (see `probing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from anzoth.api.call import Route
from anzoth.isolation import recipes
from anzoth.isolation.belongings import Kind, Owner, Planter, message_of
from anzoth.isolation.client import AsksServer, Content
from anzoth.isolation.comparing import Answer
from anzoth.isolation.probing import (
    Prober,
    Question,
    credentials,
    filled,
    kind_in_path,
    parameters,
)
from anzoth.isolation.recipes import List
from anzoth.isolation.report import Check, failed, passed

LISTS, CONTENT = "lists", "content"
PROMPT_WORDS = 60
_CHANGES = frozenset({"last_used_at", "last_active_at", "last_seen_at", "updated_at"})
"""Fields that change without anybody changing them."""


def unknown_routes(routes: Iterable[Route]) -> list[Check]:
    """Routes without parameters that are in no table."""
    referred = {reference.route for reference in recipes.REFERENCES}
    strange = [
        route
        for route in routes
        if not parameters(route)
        and route.method != "GET"
        and (route.method, route.pattern) not in {*recipes.NOT_A_TENANTS, *referred}
    ]
    reason = "the verification does not know what this route can name"
    return [
        Check(LISTS, f"{route.method} {route.pattern}", "not probed", reason) for route in strange
    ]


async def lists(prober: Prober, routes: Iterable[Route]) -> list[Check]:
    """Every GET that names nothing, or only what the list is in."""
    return [
        await _list(prober, route)
        for route in routes
        if route.method == "GET"
        and not parameters(route)
        and (route.method, route.pattern) not in recipes.NOT_A_TENANTS
    ]


async def _list(prober: Prober, route: Route) -> Check:
    name = f"GET {route.pattern}"
    how = recipes.LISTS.get(("GET", route.pattern), List())
    content = Content(query=how.query())
    who = credentials(route, prober.b)
    own = await prober.server.ask(credentials(route, prober.a), "GET", route.pattern, content)
    num_seen = len(prober.witness.seen)
    others = [
        await prober.ask(Question(who, "GET", route.pattern, asked))
        for asked in (content, *(Content(query=query) for query in how.also))
    ]
    refused = [answer for answer in (own, *others) if not answer.is_success]
    found = {
        "asked": name,
        "own": {"status": own.status, "num_of_own": _num_shown(own, prober.a)},
        "other": {"status": others[0].status},
    }
    if refused:
        return failed(LISTS, name, f"it was refused: {message_of(refused[0])}", **found)
    can_be_empty = how.may_be_empty or how.of in prober.a.absent
    if not can_be_empty and not _num_shown(own, prober.a):
        return failed(LISTS, name, "its own tenant finds nothing of its own in it", **found)
    if shown := prober.witness.seen[num_seen:]:
        return failed(LISTS, name, "; ".join(shown), **found)
    return passed(LISTS, name, **found)


def _num_shown(answer: Answer, owner: Owner) -> int:
    ids = {id for kind, id in owner.ids.items() if kind is not Kind.EMAIL}
    return sum(id.encode() in answer.body for id in ids)


# --- searches and conversations -----------------------------------------------------------------


async def prefix_cache(planter: Planter, a: Owner, b: Owner) -> list[Check]:
    """What was computed for one tenant is no tenant else's: the first asks twice, then the second
    the same, before it has asked anything else."""
    name = "the other's whole prompt is computed anew (prefix cache)"
    prompt = a.canaries.text("conversation", PROMPT_WORDS)
    answers = [await planter.converse(owner, prompt) for owner in (a, a, b)]
    if a.model is None:
        return [Check(CONTENT, name, "left out", "no model is served that generates")]
    first, again, other = (_cached_tokens(answer) for answer in answers)
    found = {"cached_tokens": {"own": first, "own_again": again, "other": other}}
    if not again:
        reason = "even one's own prompt is not cached the second time"
        return [failed(CONTENT, name, reason, **found)]
    if other:
        reason = f"{other} tokens of another tenant's prompt were not computed but found"
        return [failed(CONTENT, name, reason, **found)]
    return [passed(CONTENT, name, **found)]


def _cached_tokens(answer: Mapping[str, Any]) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


async def searches(prober: Prober, routes: Iterable[Route]) -> list[Check]:
    """The words of the first tenant's documents, in the second one's store."""
    pattern = "/v1/vector_stores/{vector_store_id}/search"
    name = "a search for the other's words finds nothing of the other's"
    if ("POST", pattern) not in {(route.method, route.pattern) for route in routes}:
        return []
    a, b = prober.a, prober.b
    if Kind.STORE in a.absent:
        return [Check(CONTENT, name, "left out", a.absent[Kind.STORE])]
    content = Content({"query": a.canaries.text("file"), "max_num_results": 50})
    own = await prober.server.ask(a.infers, "POST", f"{a.store}/search", content)
    num_seen = len(prober.witness.seen)
    other = await prober.ask(Question(b.infers, "POST", f"{b.store}/search", content))
    found = {"own": {"status": own.status}, "other": {"status": other.status}}
    if not own.is_success or a.ids[Kind.FILE].encode() not in own.body:
        reason = f"its own tenant does not find its document: {message_of(own)}"
        return [failed(CONTENT, name, reason, **found)]
    if not other.is_success:
        return [failed(CONTENT, name, f"it was refused: {message_of(other)}", **found)]
    results = orjson.dumps(orjson.loads(other.body)["data"])  # without the query, which is repeated
    if a.canaries.document.encode() in results or prober.witness.seen[num_seen:]:
        return [failed(CONTENT, name, "it finds the other's document", **found)]
    return [passed(CONTENT, name, **found)]


# --- what should be as it was -------------------------------------------------------------------


async def seen_by_owner(server: AsksServer, a: Owner, routes: Iterable[Route]) -> dict[str, Any]:
    """Everything that a tenant can read of its own, by route."""
    seen: dict[str, Any] = {}
    for route in routes:
        kinds = {each: kind_in_path(route, each) for each in parameters(route)}
        if route.method != "GET" or not kinds or any(k not in a.ids for k in kinds.values()):
            continue
        path = filled(route.pattern, {each: a.ids[k] for each, k in kinds.items() if k})
        answer = await server.ask(credentials(route, a), "GET", path)
        seen[route.pattern] = (answer.status, _lasting(answer))
    return seen


def untouched(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Check]:
    """What the second tenant tried to change is as it was."""
    name = "everything of the first tenant is as it was"
    changed = sorted(pattern for pattern in before if before[pattern] != after.get(pattern))
    lost = sorted(pattern for pattern, (status, _) in before.items() if status != 200)
    if lost:
        return [failed(CONTENT, name, f"it could not be read to begin with: {', '.join(lost)}")]
    if changed:
        return [failed(CONTENT, name, f"it was changed: {', '.join(changed)}")]
    return [passed(CONTENT, name, num_compared=len(before))]


def _lasting(answer: Answer) -> Any:
    try:
        return _without_changes(orjson.loads(answer.body))
    except ValueError:
        return answer.body


def _without_changes(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_changes(v) for k, v in value.items() if k not in _CHANGES}
    if isinstance(value, list):
        return [_without_changes(item) for item in value]
    return value
