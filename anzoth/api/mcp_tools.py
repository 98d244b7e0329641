"""Which tools does /mcp offer, what do they take, and what do they answer?

    search {query}   the documents of the key's knowledge bases that say something about it
    fetch  {id}      one of them, for keys that may also read vector stores

The shapes are those that ChatGPT's connectors expect; `text` in a search's results and the entry
`next_id` in a document's metadata are extensions. Results are there twice, as the protocol wants
it: as text and as structured content.

A search goes through every vector store of the project that the key is granted and that holds
anything. A result is a document, with those of its passages that were found; the same document in
two stores is two results. A document that is long is fetched in parts: its id with a position
behind it is where the next part begins.

Does not know: JSON-RPC, or how anything is found (see `vector_store_search`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from anzoth.api import files, timeout, vector_store_search
from anzoth.api.call import Call
from anzoth.api.fields import Field, json_object, parse, string
from anzoth.api.file_search import MAX_STORES
from anzoth.api.ranking_options import Ranker
from anzoth.errors import DeadlineExceeded, Forbidden, InvalidValue, NotFound
from anzoth.gateway.knowledge.found import FoundChunk, SearchRequest
from anzoth.gateway.knowledge.listing import ListRequest
from anzoth.gateway.knowledge.spans import Span
from anzoth.gateway.knowledge.store_files import StoreFileView
from anzoth.gateway.principal import Principal

MAX_PASSAGES = 20
MAX_CHARACTERS = 100_000
"""Of a document at once: some 25,000 tokens."""
_MOST_LISTED = 100
_MAX_QUERY_CHARACTERS = 16_384
_MAX_ID_CHARACTERS = 200
_ID = re.compile(r"(vs_[A-Za-z0-9]+):(file-[A-Za-z0-9]+)(?::([0-9]{1,9}))?")


@dataclass(slots=True, frozen=True)
class Argument:
    """The one that a tool takes: a string."""

    name: str
    description: str
    max_characters: int


@dataclass(slots=True, frozen=True)
class Tool:
    """What is said about a tool, and what it does."""

    name: str
    title: str
    description: str
    scope: str
    """What a key needs to be shown it and to call it, as where the API gives out the same."""
    argument: Argument
    output_schema: Mapping[str, Any]
    run: Callable[[Call, str], Awaitable[dict[str, Any]]]

    @property
    def described(self) -> dict[str, Any]:
        """As the protocol lists it."""
        taken = {"type": "string", "description": self.argument.description}
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": {self.argument.name: taken},
                "required": [self.argument.name],
                "additionalProperties": False,
            },
            "outputSchema": self.output_schema,
            "annotations": {
                "readOnlyHint": True,
                "destructiveHint": False,
                "idempotentHint": True,
                "openWorldHint": False,
            },
        }


def shown(principal: Principal) -> list[Tool]:
    """Those that may be called."""
    is_watched = principal.watches(Forbidden.rule)
    return [tool for tool in TOOLS.values() if is_watched or principal.has_scope(tool.scope)]


async def run(call: Call, tool: Tool, arguments: Any) -> dict[str, Any]:
    """The result of a call. Raises Forbidden, MissingParameter, InvalidValue and what the tool
    raises."""
    call.principal.require_scope(tool.scope)
    given = {} if arguments is None else json_object(arguments, "arguments")
    name, most = tool.argument.name, tool.argument.max_characters
    if given.keys() - {name}:
        raise InvalidValue(f"The tool '{tool.name}' takes '{name}' and nothing else.")
    values = parse([Field(name, string(most, min_characters=1), required=True)], given)
    said = await tool.run(call, values[name])
    call.record.finish_reason = "stop"
    return {"content": text(orjson.dumps(said).decode()), "structuredContent": said}


def text(said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": said}]


# --- search ---------------------------------------------------------------------------------------


async def _search(call: Call, query: str) -> dict[str, Any]:
    request = SearchRequest((query,), MAX_PASSAGES)
    store_ids = await _searched(call)
    if not store_ids:
        _count(call)
        return {"results": []}
    found = await vector_store_search.find(call, store_ids, request, Ranker())
    return {"results": _results(call, found.chunks)}


async def _searched(call: Call) -> list[str]:
    """Those of the key's stores in which something can be found. Raises InvalidValue."""
    page = await call.services.stores.list(
        files.owner_of(call), ListRequest(_MOST_LISTED), call.principal.granted_knowledge_bases
    )
    ids = [s.id for s in page.entries if s.status != "expired" and s.files.completed]
    if page.has_more or len(ids) > MAX_STORES:
        raise InvalidValue(
            f"This API key may use more vector stores than are searched at once ({MAX_STORES}). "
            "Use one that is granted those that are meant (anzoth keys create --kb)."
        )
    return ids


def _results(call: Call, chunks: Sequence[FoundChunk]) -> list[dict[str, str]]:
    """A document each, best first; its passages too."""
    found: dict[tuple[str, str], list[FoundChunk]] = {}
    for chunk in chunks:
        found.setdefault((chunk.store_id, chunk.file_id), []).append(chunk)
    return [
        {
            "id": f"{store_id}:{file_id}",
            "title": passages[0].filename,
            "url": _url(call, store_id, file_id, passages[0].attributes),
            "text": "\n\n".join(passage.content.text for passage in passages),
        }
        for (store_id, file_id), passages in found.items()
    ]


# --- fetch ----------------------------------------------------------------------------------------


async def _fetch(call: Call, id: str) -> dict[str, Any]:
    _count(call)
    parts = _ID.fullmatch(id)
    if parts is None:
        raise _unknown_document()
    start = int(parts[3] or 0)
    span = Span(parts[1], parts[2], start, start + MAX_CHARACTERS)
    left_ms = timeout.left_ms(call.request)
    try:
        async with asyncio.timeout(None if left_ms is None else left_ms / 1000):
            return {"id": id, **await _read(call, span)}
    except TimeoutError:
        raise DeadlineExceeded() from None


async def _read(call: Call, span: Span) -> dict[str, Any]:
    """Raises NotFound."""
    services, owner = call.services, files.owner_of(call)
    try:
        call.principal.require_knowledge_base(span.store_id)
        view = await services.stores.files.get(owner, span.store_id, span.file_id)
        filename = (await services.files.get(owner, span.file_id)).filename
    except NotFound as error:
        raise _unknown_document(error.rule) from None
    part = await services.searcher.part(owner, span)
    if part is None:
        raise _unknown_document()
    return {
        "title": filename,
        "text": part.text,
        "url": _url(call, span.store_id, span.file_id, view.attributes),
        "metadata": _metadata(view, None if part.is_last else span.end),
    }


def _metadata(view: StoreFileView, next_start: int | None) -> dict[str, Any]:
    said = {**view.attributes, "vector_store_id": view.store_id, "file_id": view.id}
    if next_start is not None:
        said["next_id"] = f"{view.store_id}:{view.id}:{next_start}"
    return said


def _unknown_document(rule: str | None = None) -> NotFound:
    """For every id that names nothing that the key may read, whatever else it is."""
    return NotFound(
        "There is no such document. Ids of documents come from the results of 'search'.",
        param="id",
        rule=rule,
    )


# --- both -----------------------------------------------------------------------------------------


def _count(call: Call) -> None:
    """A request for which no model is needed. Raises RateLimited."""
    call.hold(call.services.limiter.reserve_request(call.principal, ""))


def _url(call: Call, store_id: str, file_id: str, attributes: Mapping[str, Any]) -> str:
    """Where people find it: the attribute `url`, or else its text in this API."""
    own = attributes.get("url")
    if isinstance(own, str) and own.startswith(("https://", "http://")):
        return own
    base = call.services.accounts.config.public_url
    if base is None:
        base = f"http://{call.request.headers.get('host') or 'localhost'}"
    return f"{base}/v1/vector_stores/{store_id}/files/{file_id}/content"


_STRING = {"type": "string"}
_DOCUMENT = {"id": _STRING, "title": _STRING, "text": _STRING, "url": _STRING}


def _schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "search",
            "Search the knowledge bases",
            "Finds documents that say something about a question or some words. Returns them best "
            "first, with the passages that were found. Read a whole document with 'fetch'.",
            "vector_stores:search",
            Argument("query", "A question, or the words to look for.", _MAX_QUERY_CHARACTERS),
            _schema(results={"type": "array", "items": _schema(**_DOCUMENT)}),
            _search,
        ),
        Tool(
            "fetch",
            "Read a document",
            "Returns the text of a document. Of a long one it returns a part, and "
            "'metadata.next_id' is the id to fetch the next part with.",
            "vector_stores:read",
            Argument("id", "Of a result of 'search', or a 'next_id'.", _MAX_ID_CHARACTERS),
            _schema(**_DOCUMENT, metadata={"type": "object"}),
            _fetch,
        ),
    )
}
