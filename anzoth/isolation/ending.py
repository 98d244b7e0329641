"""Is nothing left of a tenant that was deleted?

Asked for a while, because what has to follow takes a moment: a gateway hears of it within two
seconds, and the retriever forgets in the background.

Does not know: how a tenant is deleted (see `gateway.directory`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from anzoth.db import pool
from anzoth.db.store import tenant_key_rows
from anzoth.isolation.belongings import Kind, Owner
from anzoth.isolation.client import AsksServer
from anzoth.isolation.report import Check, failed, passed

AREA = "after the deletion"
_PATIENCE_S = 10.0
_POLL_S = 0.1
_UNAUTHORIZED = 401


async def has_index(owner: Owner, data_dir: Path) -> bool:
    """Whether the retriever has written something of it: it does so some seconds after a change."""
    return Kind.STORE in owner.ids and await _is_soon(_exists(_index(owner, data_dir)))


async def index_gone(owner: Owner, data_dir: Path, was_there: bool) -> Check:
    name, index = "its indexes are gone from the disk", _index(owner, data_dir)
    if not was_there:
        reason = f"none was ever in {index.parent}: is the retriever's data directory another?"
        return Check(AREA, name, "left out", reason)

    async def is_gone() -> bool:
        return not index.exists()

    return await _becomes(name, is_gone)


async def gone(server: AsksServer, owner: Owner, dsn: str) -> list[Check]:
    """Its keys and its session open nothing, and the key of its documents is no more."""

    def refused(who: str) -> Callable[[], Awaitable[bool]]:
        path = "/v1/auth/session" if who == "browser" else "/v1/models"

        async def is_refused() -> bool:
            answer = await server.ask(getattr(owner, who), "GET", path)
            return answer.status == _UNAUTHORIZED

        return is_refused

    async def has_no_key() -> bool:
        async with pool.operator(dsn) as connection:
            return await tenant_key_rows.find_key(connection, owner.party.id) is None

    return [
        await _becomes("its key is refused", refused("infers")),
        await _becomes("its management key is refused", refused("manages")),
        await _becomes("its member's session is refused", refused("browser")),
        await _becomes("the key of its documents is destroyed", has_no_key),
    ]


async def _becomes(name: str, is_true: Callable[[], Awaitable[bool]]) -> Check:
    began_at_s = time.monotonic()
    if not await _is_soon(is_true):
        return failed(AREA, name, f"not within {_PATIENCE_S:.0f} s")
    return passed(AREA, name, waited_ms=round(1000 * (time.monotonic() - began_at_s)))


async def _is_soon(is_true: Callable[[], Awaitable[bool]]) -> bool:
    give_up_at_s = time.monotonic() + _PATIENCE_S
    while not await is_true():
        if time.monotonic() > give_up_at_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _index(owner: Owner, data_dir: Path) -> Path:
    return data_dir / "index" / str(owner.party.id)


def _exists(path: Path) -> Callable[[], Awaitable[bool]]:
    return lambda: asyncio.to_thread(path.exists)
