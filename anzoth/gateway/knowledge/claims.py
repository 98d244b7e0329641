"""Which file is read into a vector store next, by whom, and for how long is it nobody else's?

Tenants take turns, and a claim lasts a minute and is renewed while its file is worked on (see
`claimed_work`). Within a tenant those files that have waited longest come first. A gateway that is
started again takes up its own at once.

Does not know: how a file is read.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Collection, Sequence

from anzoth.db.pool import Connection, Database, act_in_tenant
from anzoth.db.store import ingestion_rows
from anzoth.db.store.ingestion_rows import ChunkSums, ClaimRow
from anzoth.gateway.claimed_work import LEASE_S, ClaimLost, Turns, handle_of
from anzoth.gateway.keys import Pepper
from anzoth.gateway.principal import TenantHandle

_MAX_DELETED = 1_000
"""Chunks in one transaction."""


class Claims:
    """One gateway's."""

    def __init__(self, database: Database, gateway: uuid.UUID, pepper: Pepper) -> None:
        """`gateway`: the same one after it was started again, and no other's."""
        self._database = database
        self._gateway = gateway
        self._pepper = pepper
        self._turns = Turns(database.ingestion, ingestion_rows.next_waiting_tenant)

    async def try_next(self, models: Sequence[str]) -> ClaimRow | None:
        """A file whose vectors one of `models` makes. None: nobody has one. Raises DatabaseDown."""
        return await self._turns.try_next(
            lambda connection, tenant_id: ingestion_rows.try_claim_file(
                *(connection, tenant_id, self._gateway, LEASE_S, models)
            )
        )

    async def take_up_own(self, running: Collection[tuple[uuid.UUID, str, str]]) -> None:
        """Files that this gateway claimed before it died, or lost the database, may be claimed
        again at once; but not those that are `running`. Raises DatabaseDown."""
        async with self._database.ingestion() as connection:
            tenant_ids = await ingestion_rows.tenants_of_claims(connection, self._gateway)
        for tenant_id in tenant_ids:
            async with self._database.ingestion() as connection:
                await act_in_tenant(connection, tenant_id)
                await ingestion_rows.drop_claims(connection, tenant_id, self._gateway, running)

    async def do_others_wait(self, claim: ClaimRow) -> bool:
        """Whether another tenant has a file to be read. Raises DatabaseDown."""
        async with self._database.ingestion() as connection:
            return await ingestion_rows.has_waiting_file_of_others(connection, claim.tenant_id)

    async def num_waiting(self) -> int:
        """Files that are not read yet, of all tenants. Raises DatabaseDown."""
        async with self._database.ingestion() as connection:
            return await ingestion_rows.count_waiting_files(connection)

    def handle_of(self, claim: ClaimRow) -> TenantHandle:
        """The tenant for which a claimed file is read."""
        return handle_of(self._pepper, claim.tenant_id, claim.tenant_name)

    # --- of one claim: each raises DatabaseDown, and ClaimLost ---------------------------------

    @contextlib.asynccontextmanager
    async def holding(self, claim: ClaimRow, num_tokens: int = 0) -> AsyncIterator[Connection]:
        """A transaction of the tenant that nobody else's claim comes between; it renews the claim,
        and counts `num_tokens` that were embedded."""
        async with self._database.tenant(self.handle_of(claim)) as connection:
            if not await ingestion_rows.hold_claim(connection, claim, LEASE_S, num_tokens):
                raise ClaimLost
            yield connection

    async def renew(self, claim: ClaimRow) -> None:
        async with self.holding(claim):
            pass

    async def let_go(self, claim: ClaimRow, pause_s: float, *, is_attempt: bool = False) -> None:
        """To be claimed again after `pause_s`."""
        async with self._database.tenant(self.handle_of(claim)) as connection:
            if not await ingestion_rows.let_go_of_claim(
                connection, claim, pause_s, is_attempt=is_attempt
            ):
                raise ClaimLost

    async def fail(self, claim: ClaimRow, code: str, message: str) -> None:
        """It will not be read. What is there of it is deleted soon (see `store_cleanup`)."""
        async with self._database.tenant(self.handle_of(claim)) as connection:
            if not await ingestion_rows.fail_file(connection, claim, code, message):
                raise ClaimLost

    async def complete(self, claim: ClaimRow, sums: ChunkSums) -> None:
        """From now on its chunks are searched."""
        async with self._database.tenant(self.handle_of(claim)) as connection:
            if not await ingestion_rows.complete_file(connection, claim, sums):
                raise ClaimLost  # and with the transaction the change of the store's head is undone

    async def delete_chunks_from(self, claim: ClaimRow, position: int) -> None:
        """Those at `position` and behind it, a thousand at a time."""
        num_deleted = _MAX_DELETED
        while num_deleted == _MAX_DELETED:
            async with self.holding(claim) as connection:
                num_deleted = await ingestion_rows.delete_chunks_from(
                    connection, claim, position, _MAX_DELETED
                )
