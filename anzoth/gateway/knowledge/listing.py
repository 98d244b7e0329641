"""Which part of a list is a page?

OpenAI's cursors: `after` is the last entry of the page before, `before` the first of the page
behind; each in the order that is asked for. With both, what lies between them.

Does not know: what is listed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from anzoth.db.store.vector_store_rows import Between, Place
from anzoth.errors import InvalidValue

P = TypeVar("P")
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class ListRequest:
    """Which entries are wanted."""

    limit: int = 20
    is_ascending: bool = False
    after: str | None = None
    before: str | None = None


@dataclass(slots=True, frozen=True)
class Page(Generic[T]):
    """Entries, and whether there are more in the direction in which they were read."""

    entries: Sequence[T]
    has_more: bool


async def page_of(
    asked: ListRequest,
    find_time: Callable[[str], Awaitable[datetime | None]],
    read: Callable[[Between, int], Awaitable[Sequence[T]]],
) -> Page[T]:
    """Of a list by time and id. `find_time`: of an entry by its id; otherwise as
    `page_by_place`."""

    async def find_place(id: str) -> Place | None:
        time = await find_time(id)
        return None if time is None else (time, id)

    async def read_between(
        low: Place | None, high: Place | None, is_ascending: bool, limit: int
    ) -> Sequence[T]:
        return await read(Between(low, high, is_ascending), limit)

    return await page_by_place(asked, find_place, read_between)


async def page_by_place(
    asked: ListRequest,
    find_place: Callable[[str], Awaitable[P | None]],
    read: Callable[[P | None, P | None, bool, int], Awaitable[Sequence[T]]],
) -> Page[T]:
    """`find_place`: of an entry by its id, None where there is none and was none lately; `read`:
    the first entries between two places, ascending or not, at most so many. Raises InvalidValue for
    a cursor that is no entry."""

    async def place(name: str, id: str | None) -> P | None:
        if id is None:
            return None
        found = await find_place(id)
        if found is None:
            raise InvalidValue(f"'{name}' must be the id of an entry of this list.", param=name)
        return found

    after = await place("after", asked.after)
    before = await place("before", asked.before)
    low, high = (after, before) if asked.is_ascending else (before, after)
    # What stands right before an entry is found from there.
    is_backwards = before is not None and after is None
    rows = await read(low, high, asked.is_ascending != is_backwards, asked.limit + 1)
    entries = rows[: asked.limit]
    return Page(entries[::-1] if is_backwards else entries, len(rows) > asked.limit)
