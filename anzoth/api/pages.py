"""How does a list come in pages?

OpenAI's cursor pages: `limit` objects after the one with the id `after`, and whether more follow.

Does not know: what is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from anzoth.api.query import Query
from anzoth.errors import InvalidValue
from anzoth.gateway.knowledge.listing import ListRequest, Page

T = TypeVar("T")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


@dataclass(slots=True, frozen=True)
class PageRequest:
    """What a query asks for."""

    after: UUID | None
    limit: int

    @property
    def wanted(self) -> int:
        """One more than is shown: it tells whether there are more."""
        return self.limit + 1


def page_request(query: Query) -> PageRequest:
    """Raises InvalidValue."""
    limit = query.integer("limit", 1, MAX_LIMIT) or DEFAULT_LIMIT
    after = query.text("after")
    try:
        return PageRequest(None if after is None else UUID(after), limit)
    except ValueError:
        raise InvalidValue("'after' must be the id of an entry.", param="after") from None


def page(
    asked: PageRequest, rows: Sequence[T], describe: Callable[[T], dict[str, Any]]
) -> dict[str, Any]:
    """`rows`: up to `asked.wanted` of them."""
    return cursor_page(Page(rows[: asked.limit], len(rows) > asked.limit), describe)


def list_request(query: Query) -> ListRequest:
    """For lists that can also be read backwards. Raises InvalidValue."""
    return ListRequest(
        query.integer("limit", 1, MAX_LIMIT) or DEFAULT_LIMIT,
        query.one_of("order", ("asc", "desc")) == "asc",
        _cursor(query, "after"),
        _cursor(query, "before"),
    )


def cursor_page(found: Page[T], describe: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    data = [describe(entry) for entry in found.entries]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": found.has_more,
    }


def _cursor(query: Query, name: str) -> str | None:
    id = query.text(name)
    if id is not None and "\0" in id:
        raise InvalidValue(f"'{name}' must be the id of an entry of this list.", param=name)
    return id
