"""How is work shared between gateways that anybody may take up, and one at a time must do?

What waits stands in a table. A gateway claims it for a while, renews the claim while it works, and
whatever it writes it writes in a transaction that holds the claim. When it dies, others take its
work up after that while.

Does not know: what the work is.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, act_in_tenant
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle

LEASE_S = 60.0
RENEW_S = LEASE_S / 3

T = TypeVar("T")


class ClaimLost(Exception):
    """The work was cancelled, came to an end or was claimed by another gateway."""


class Turns:
    """Tenants take turns: of each that has something waiting one is taken, then it is the next
    one's turn, so that ten thousand of one tenant do not hold up a single one of another."""

    def __init__(
        self,
        transaction: Callable[[], AbstractAsyncContextManager[Connection]],
        next_tenant: Callable[[Connection, uuid.UUID], Awaitable[uuid.UUID | None]],
    ) -> None:
        """`transaction`: sees what waits, of all tenants; `next_tenant`: the first behind one."""
        self._transaction = transaction
        self._next_tenant = next_tenant
        self._turn = uuid.UUID(int=0)
        """The tenant that was asked last."""

    async def try_next(
        self, try_claim: Callable[[Connection, uuid.UUID], Awaitable[T | None]]
    ) -> T | None:
        """What the first tenant in turn has that has something. None: nobody has. Raises
        DatabaseDown."""
        began_at = self._turn
        is_second_round = False
        while True:
            async with self._transaction() as connection:
                tenant_id = await self._next_tenant(connection, self._turn)
                if tenant_id is None or (is_second_round and tenant_id > began_at):
                    self._turn = uuid.UUID(int=0)
                    if is_second_round:
                        return None
                    is_second_round = True
                    continue
                self._turn = tenant_id
                await act_in_tenant(connection, tenant_id)
                claim = await try_claim(connection, tenant_id)
            if claim is not None:
                return claim


async def while_renewed(work: Coroutine[Any, Any, T], renew: Callable[[], Awaitable[object]]) -> T:
    """Does `work` while its claim is renewed, and not a moment longer.

    Raises what either does; of DatabaseDown while renewing it hears only once the claim is about
    to end.
    """
    loop = asyncio.get_running_loop()
    working = loop.create_task(work)
    renewed_at_s = loop.time()
    try:
        while not (await asyncio.wait({working}, timeout=RENEW_S))[0]:
            try:
                await renew()
            except DatabaseDown:
                if loop.time() - renewed_at_s > LEASE_S - RENEW_S:
                    raise
            else:
                renewed_at_s = loop.time()
        return await working
    finally:
        working.cancel()
        await asyncio.wait({working})
        if not working.cancelled():
            working.exception()  # of two errors at the same time one is enough


def handle_of(pepper: Pepper, tenant_id: uuid.UUID, tenant_name: str) -> TenantHandle:
    """The tenant for which claimed work is done.

    A handle is proof of authentication, and here nobody has authenticated: it is made because the
    row that was claimed could only be written in a transaction of that tenant, by a request that
    was. It stands for what that request asked for, and for no more; this is the only place where
    work without a request gets one.
    """
    return TenantHandle(tenant_id, tenant_name, pepper.cache_salt(tenant_id))
