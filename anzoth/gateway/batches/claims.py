"""On which batch is worked next, by whom, and for how long is it nobody else's?

Tenants take turns, and a claim is renewed while its batch is worked on (see `claimed_work`). What
is written for a batch is written in a transaction that holds its claim.

Does not know: what is done for a batch.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Collection

from anzoth.db.pool import Connection, Database, act_in_tenant
from anzoth.db.store import batch_claim_rows
from anzoth.db.store.batch_claim_rows import BatchClaim
from anzoth.gateway.claimed_work import LEASE_S, ClaimLost, Turns, handle_of
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle

TENANT_RUNNING = 2
"""So many batches of one tenant a gateway works on at the same time."""

Key = tuple[uuid.UUID, str]
"""Tenant and batch."""


class BatchClaims:
    """One gateway's. Every method raises DatabaseDown."""

    def __init__(self, database: Database, gateway: uuid.UUID, pepper: Pepper) -> None:
        """`gateway`: the same one after it was started again, and no other's."""
        self._database = database
        self._gateway = gateway
        self._pepper = pepper
        self._turns = Turns(database.open_batches, batch_claim_rows.next_tenant)

    async def try_next(self, running: Collection[Key]) -> BatchClaim | None:
        """None: there is nothing to do beside what is `running` here."""
        num_running = Counter(tenant_id for tenant_id, _ in running)

        async def try_claim(connection: Connection, tenant_id: uuid.UUID) -> BatchClaim | None:
            if num_running[tenant_id] >= TENANT_RUNNING:
                return None
            own = _of(tenant_id, running)
            return await batch_claim_rows.try_claim(
                connection, tenant_id, self._gateway, LEASE_S, own
            )

        return await self._turns.try_next(try_claim)

    async def take_up_own(self, running: Collection[Key]) -> None:
        """What this gateway claimed before it died, or lost the database, may be claimed again at
        once; but not what is `running`."""
        async with self._database.open_batches() as connection:
            tenant_ids = await batch_claim_rows.tenants_of_claims(connection, self._gateway)
        for tenant_id in tenant_ids:
            async with self._database.open_batches() as connection:
                await act_in_tenant(connection, tenant_id)
                own = _of(tenant_id, running)
                await batch_claim_rows.drop_claims(connection, tenant_id, self._gateway, own)

    def handle_of(self, claim: BatchClaim) -> TenantHandle:
        return handle_of(self._pepper, claim.tenant_id, claim.tenant_name)

    @contextlib.asynccontextmanager
    async def holding(self, claim: BatchClaim) -> AsyncIterator[Connection]:
        """A transaction of the tenant that nobody else's claim comes between; it renews the claim.
        Raises ClaimLost."""
        async with self._database.tenant(self.handle_of(claim)) as connection:
            await require(connection, claim)
            yield connection

    async def renew(self, claim: BatchClaim) -> str:
        """The batch's status. Raises ClaimLost."""
        async with self._database.tenant(self.handle_of(claim)) as connection:
            return await require(connection, claim)

    async def let_go(self, claim: BatchClaim, pause_s: float, *, is_attempt: bool = False) -> None:
        """To be claimed again after `pause_s`."""
        async with self._database.tenant(self.handle_of(claim)) as connection:
            await batch_claim_rows.let_go(connection, claim, pause_s, is_attempt=is_attempt)


async def require(connection: Connection, claim: BatchClaim) -> str:
    """The batch's status, which stays so until the end of the transaction. Raises ClaimLost."""
    status = await batch_claim_rows.hold(connection, claim, LEASE_S)
    if status is None:
        raise ClaimLost
    return status


def _of(tenant_id: uuid.UUID, running: Collection[Key]) -> list[str]:
    return [id for tenant, id in running if tenant == tenant_id]
