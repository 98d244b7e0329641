"""Do the tools of /mcp show another tenant's documents?

`search` names nothing: it goes through all that the key may use. `fetch` names a store and a file
in one id, so both are made foreign together here (each alone is among `recipes.REFERENCES`).

Does not know: what the tools do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from anzoth.api.call import Route
from anzoth.isolation import comparing, recipes
from anzoth.isolation.belongings import Kind, message_of
from anzoth.isolation.comparing import Answer
from anzoth.isolation.probing import REFERENCES, Prober, Question
from anzoth.isolation.report import Check, failed, passed
from anzoth.isolation.showing import CONTENT


async def answers(prober: Prober, routes: Iterable[Route]) -> list[Check]:
    """Nothing where there is no such route, or nothing to find."""
    a, b = prober.a, prober.b
    needed = {Kind.STORE, Kind.FILE}
    if not needed.issubset(a.ids.keys() & b.ids.keys()) or recipes.MCP not in {
        (route.method, route.pattern) for route in routes
    }:
        return []
    return [await _search(prober), await _fetch(prober)]


async def _search(prober: Prober) -> Check:
    a, b = prober.a, prober.b
    name = "the tool 'search' finds nothing of the other's"
    content = recipes.tool_call("search", query=a.canaries.text("file"))
    own = await prober.server.ask(a.infers, *recipes.MCP, content)
    num_seen = len(prober.witness.seen)
    other = await prober.ask(Question(b.infers, *recipes.MCP, content))
    found = {"own": {"status": own.status}, "other": {"status": other.status}}
    mine, others = _results(own), _results(other)
    if mine is None or a.ids[Kind.FILE] not in mine or a.canaries.document not in mine:
        reason = f"its own tenant does not find its document: {message_of(own)}"
        return failed(CONTENT, name, reason, **found)
    if others is None or b.ids[Kind.FILE] not in others:
        reason = f"the other does not search its own documents: {message_of(other)}"
        return failed(CONTENT, name, reason, **found)
    if a.canaries.document in others or prober.witness.seen[num_seen:]:
        return failed(CONTENT, name, "it finds the other's document", **found)
    return passed(CONTENT, name, **found)


async def _fetch(prober: Prober) -> Check:
    """A whole id of the other's, like one of nobody's."""
    ids = [prober.a.ids[kind] for kind in (Kind.STORE, Kind.FILE)]
    foreign, unknown = (
        Question(
            prober.b.infers,
            *recipes.MCP,
            recipes.tool_call("fetch", id=":".join(named)),
            tuple(named),
        )
        for named in (ids, [comparing.unknown_like(id) for id in ids])
    )
    name = f"{' '.join(recipes.MCP)}: a document of the other's"
    return await prober.compare(REFERENCES, name, foreign, unknown)


def _results(answer: Answer) -> str | None:
    """None: it was refused."""
    if not recipes.is_tool_success(answer):
        return None
    body: dict[str, Any] = orjson.loads(answer.body)
    return str(body["result"]["structuredContent"]["results"])
