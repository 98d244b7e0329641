"""Pages of a list, against the list itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from anzoth.db.store.vector_store_rows import Between, Place
from anzoth.errors import InvalidValue
from anzoth.gateway.knowledge.listing import ListRequest, page_of

START = datetime(2026, 1, 1, tzinfo=UTC)
# Two of the same time each.
PLACES: list[Place] = [(START + timedelta(seconds=n // 2), f"id{n}") for n in range(7)]
IDS = [id for _, id in PLACES]


async def read(between: Between, limit: int) -> Sequence[str]:
    chosen = [
        (time, id)
        for time, id in PLACES
        if (between.low is None or (time, id) > between.low)
        and (between.high is None or (time, id) < between.high)
    ]
    return [id for _, id in (chosen if between.is_ascending else chosen[::-1])][:limit]


async def find_time(id: str) -> datetime | None:
    return {id: time for time, id in PLACES}.get(id)


@pytest.mark.parametrize("is_ascending", [True, False])
def test_a_page_is_what_stands_next_to_its_cursor(is_ascending: bool) -> None:
    order = IDS if is_ascending else IDS[::-1]
    for after, before, limit in itertools.product([None, *IDS], [None, *IDS], (1, 3, 7)):
        request = ListRequest(limit, is_ascending, after, before)
        page = asyncio.run(page_of(request, find_time, read))
        first = 0 if after is None else order.index(after) + 1
        last = len(order) if before is None else order.index(before)
        between = order[first:last]
        is_backwards = before is not None and after is None
        expected = between[-limit:] if is_backwards else between[:limit]
        assert (list(page.entries), page.has_more) == (expected, len(between) > limit)


@pytest.mark.parametrize("name", ["after", "before"])
def test_a_cursor_that_is_no_entry_is_refused(name: str) -> None:
    request = ListRequest(3, **{name: "unknown"})  # type: ignore[arg-type]  # one of two names
    with pytest.raises(InvalidValue) as raised:
        asyncio.run(page_of(request, find_time, read))
    assert raised.value.param == name
