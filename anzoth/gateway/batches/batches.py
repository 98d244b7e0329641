"""Which batches does a project have, and how does one come and go?

A batch belongs to a project of a tenant, as its input file does, and its requests are made as the
key that made it. What callers say about it is sealed with the tenant's key; ids, counts and times
are not.

Does not know: HTTP, or how a batch is worked on (see `running`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from anzoth.batch_config import BatchesConfig
from anzoth.db.pool import Connection
from anzoth.db.store import batch_rows
from anzoth.db.store.batch_rows import BatchRow, NewBatch
from anzoth.errors import Conflict, InvalidValue, KeyRevoked, NotFound, TooManyBatches
from anzoth.file_config import MIB
from anzoth.gateway import audit
from anzoth.gateway.files import FileOwner, Files, new_id
from anzoth.gateway.knowledge.listing import Page
from anzoth.gateway.principal import Address, Principal
from anzoth.gateway.tenant_crypt import Label, TenantCipher

WINDOW_S = 24 * 3600
PURPOSE = "batch"
"""Of its input file."""
_KIND = "batch.metadata"


@dataclass(slots=True, frozen=True)
class BatchRequest:
    """What a batch should be."""

    endpoint: str
    input_file_id: str
    metadata: Mapping[str, str] | None = field(repr=False)
    file_expires_after_s: int | None
    """Of the files that it makes. None: they stay."""


@dataclass(slots=True, frozen=True)
class BatchView:
    """A batch as its project sees it."""

    row: BatchRow
    metadata: Mapping[str, str] | None = field(repr=False)


class Batches:
    """The batches of all tenants, each for its own. One per gateway.

    Every method raises DatabaseDown, and KeyRevoked where the tenant was deleted meanwhile.
    """

    def __init__(self, files: Files, config: BatchesConfig) -> None:
        self._files = files
        self._database = files.database
        self._config = config

    async def create(
        self, owner: FileOwner, principal: Principal, address: Address | None, asked: BatchRequest
    ) -> BatchView:
        """Raises NotFound and InvalidValue for an input file that cannot be one, and
        TooManyBatches."""
        assert principal.key_id is not None, "only keys run models"
        await self._check_input(owner, asked.input_file_id)
        cipher = await self._files.keys.cipher(owner.tenant)
        id = new_id("batch_")
        metadata = None
        if asked.metadata is not None:
            metadata = cipher.seal(orjson.dumps(asked.metadata), Label(_KIND, id))
        new = NewBatch(
            *(id, owner.project_id, principal.key_id, address, asked.endpoint),
            *(asked.input_file_id, metadata, asked.file_expires_after_s),
        )
        async with self._database.tenant(owner.tenant) as connection:
            row = await batch_rows.try_insert_batch(connection, owner.tenant.id, new, WINDOW_S)
            if row is None:
                raise KeyRevoked("This tenant was deleted.")
            num_unfinished = await batch_rows.num_unfinished(connection, owner.tenant.id)
            if num_unfinished > self._config.tenant_batches:
                raise TooManyBatches()
            await batch_rows.announce(connection)
            event = owner.event("batch.created", id, endpoint=asked.endpoint)
            await audit.record(connection, event)
        return BatchView(row, asked.metadata)

    async def _check_input(self, owner: FileOwner, file_id: str) -> None:
        try:
            file = await self._files.get(owner, file_id)
        except NotFound:
            raise NotFound("There is no such file.", param="input_file_id") from None
        if file.purpose != PURPOSE:
            raise InvalidValue(
                f"The input file must have the purpose '{PURPOSE}', but it has '{file.purpose}'.",
                param="input_file_id",
            )
        if file.bytes > self._config.max_mib * MIB:
            raise InvalidValue(
                f"The input file may have at most {self._config.max_mib} MiB.",
                param="input_file_id",
            )

    async def get(self, owner: FileOwner, id: str) -> BatchView:
        """Raises NotFound."""
        async with self._database.tenant(owner.tenant) as connection:
            row = await _find(connection, owner, id)
        return _view(await self._files.keys.cipher(owner.tenant), row)

    async def list(self, owner: FileOwner, after: str | None, limit: int) -> Page[BatchView]:
        """The newest first. Raises InvalidValue when `after` is no batch's id."""
        async with self._database.tenant(owner.tenant) as connection:
            scope = (connection, owner.tenant.id, owner.project_id)
            place = None if after is None else await _try_find(connection, owner, after)
            if after is not None and place is None:
                raise InvalidValue("'after' must be the id of a batch.", param="after")
            rows = await batch_rows.list_batches(*scope, place, limit + 1)
        cipher = await self._files.keys.cipher(owner.tenant)
        return Page([_view(cipher, row) for row in rows[:limit]], len(rows) > limit)

    async def cancel(self, owner: FileOwner, id: str) -> BatchView:
        """Requests that run are stopped; what was answered is in the files. Doing it again finds it
        done. Raises NotFound, and Conflict when it has ended or is about to."""
        async with self._database.tenant(owner.tenant) as connection:
            before = await _find(connection, owner, id)
            row = await batch_rows.try_cancel_batch(
                connection, owner.tenant.id, owner.project_id, id
            )
            if row is not None:
                await batch_rows.announce(connection)
                await audit.record(connection, owner.event("batch.cancelled", id))
            elif before.cancelling_at is None:
                before = await _find(connection, owner, id)
                raise Conflict(f"The batch cannot be cancelled any more: it is {before.status}.")
        return _view(await self._files.keys.cipher(owner.tenant), row or before)


async def _find(connection: Connection, owner: FileOwner, id: str) -> BatchRow:
    row = await _try_find(connection, owner, id)
    if row is None:
        raise NotFound("There is no such batch.", param="batch_id")
    return row


async def _try_find(connection: Connection, owner: FileOwner, id: str) -> BatchRow | None:
    if "\0" in id:  # the database takes no such text
        return None
    return await batch_rows.find_batch(connection, owner.tenant.id, owner.project_id, id)


def _view(cipher: TenantCipher, row: BatchRow) -> BatchView:
    if row.metadata is None:
        return BatchView(row, None)
    return BatchView(row, orjson.loads(cipher.open(row.metadata, Label(_KIND, row.id))))
