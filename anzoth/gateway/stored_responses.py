"""Which responses does a project have, so that a conversation can go on from one?

A response is kept with all that was read for it: what went before, its own input, its output. So
each one stands for itself, whichever of the others was deleted or has expired. One that belongs to
a conversation (see `conversations`) keeps only its own part: what went before is there.

It is sealed with the tenant's key, belongs to a project, and does not exist for anybody else; nor
for a key that is not granted the knowledge bases from which something is in it.

One that is made in the background is there from the beginning, claimed by the gateway that makes it
(see `background_responses`), and takes its last shape when it ends. Where the claim has passed its
gateway is gone: it has failed, which everybody who reads it sees at once.

It leaves the database when it is deleted, when it expires, or when its tenant has no more room and
it is among the oldest.

Does not know: HTTP, or what items mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import asyncpg
import orjson

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store import approval_rows, response_rows
from anzoth.errors import InvalidValue, KeyRevoked, PreviousResponseNotFound, ResponseNotFound
from anzoth.gateway import audit
from anzoth.gateway.files import FileOwner
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.response_room import SWEEP_S, make_room, remove_outdated
from anzoth.gateway.sweeping import sweep_for_ever
from anzoth.gateway.tenant_crypt import CannotOpen, Label, TenantCipher, TenantKeys
from anzoth.response_config import ResponsesConfig

Item = Mapping[str, Any]  # JSON

_KIND = "response"
LOST = "The server that made this response ended before it was complete."

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class StoredResponse:
    """All that is kept of one."""

    response: Mapping[str, Any] = field(repr=False)
    """As its caller got it."""
    context: Sequence[Item] = field(repr=False)
    """What went before."""
    input: Sequence[Item] = field(repr=False)
    knowledge_bases: Sequence[str] = ()
    """From which there is something in it, or in what went before."""
    conversation_id: str | None = None
    """That it belongs to (see `conversations`): what went before is there."""
    last_position: int = 0
    """In that conversation, of what went before."""

    @property
    def id(self) -> str:
        return self.response["id"]

    @property
    def is_running(self) -> bool:
        """In the background."""
        return self.response.get("status") in ("queued", "in_progress")

    @property
    def conversation(self) -> list[Item]:
        """What the next response goes on from."""
        return [*self.context, *self.input, *self.response["output"]]

    @property
    def new_item_ids(self) -> list[str]:
        """Of the items that are in it for the first time."""
        known = {item["id"] for item in self.context}
        made = (item["id"] for item in (*self.input, *self.response["output"]))
        return [id for id in dict.fromkeys(made) if id not in known]


class StoredResponses:
    """The responses of all tenants, each for its own. One per gateway; `run` must be running.

    Every method but `try_save` raises DatabaseDown, and KeyRevoked where the tenant was deleted
    meanwhile. `granted`: the knowledge bases of whoever asks; None: all.
    """

    def __init__(self, database: Database, keys: TenantKeys, config: ResponsesConfig) -> None:
        self._database = database
        self._keys = keys
        self._config = config
        self._wanted = asyncio.Event()

    @property
    def keeps_any(self) -> bool:
        return self._config.retention_days > 0

    async def try_save(self, owner: FileOwner, made: StoredResponse) -> bool:
        """False: it is not kept, because it is too large, or the database is away."""
        try:
            sealed = await self._sealed(owner, made)
            if len(sealed) > self._config.max_kib << 10:
                return False
            async with self._database.tenant(owner.tenant) as connection:
                await self._insert(connection, owner, made, sealed)
        except (DatabaseDown, KeyRevoked, CannotOpen, asyncpg.PostgresError) as error:
            _log.warning("a response was not kept: %s", type(error).__name__)
            return False
        return True

    async def add_running(self, owner: FileOwner, queued: StoredResponse, running_s: float) -> None:
        """It is then claimed for so long. Raises InvalidValue for one that is too large."""
        sealed = await self._sealed(owner, queued)
        if len(sealed) > self._config.max_kib << 10:
            raise InvalidValue(
                "What is read for this response is too large to be kept, and in the background it "
                f"must be: the most are {self._config.max_kib} KiB.",
                param="input",
            )
        async with self._database.tenant(owner.tenant) as connection:
            await self._insert(connection, owner, queued, sealed, running_s)

    async def renew(
        self, tenant: TenantHandle, ids: Collection[str], begun: Collection[str], running_s: float
    ) -> set[str]:
        """Claims them for as long again. Those of them that still run."""
        async with self._database.tenant(tenant) as connection:
            return await response_rows.renew_responses(connection, tenant.id, ids, begun, running_s)

    async def try_end(
        self, owner: FileOwner, ended: StoredResponse, *, is_cancelled: bool = False
    ) -> bool:
        """What came of one that runs; of one that is too large, that it was. False: it does not
        run any more."""
        sealed = await self._sealed(owner, ended)
        if len(sealed) > self._config.max_kib << 10:
            ended = failed(ended, "The response is too large to be kept.")
            sealed = await self._sealed(owner, ended)
        async with self._database.tenant(owner.tenant) as connection:
            if not await response_rows.try_end_running(
                connection, owner.tenant.id, owner.project_id, ended.id
            ):
                return False
            await self._insert(connection, owner, ended, sealed)
            if is_cancelled:
                await audit.record(connection, owner.event("response.cancelled", ended.id))
        return True

    async def cancel(
        self, owner: FileOwner, id: str, granted: Collection[str] | None
    ) -> StoredResponse:
        """As it is then: cancelled, or what it had come to before. Raises ResponseNotFound, and
        InvalidValue for one that its caller waits for."""
        found = await self.get(owner, id, granted)
        if not found.response.get("background"):
            raise InvalidValue(
                "Only responses that are made in the background can be cancelled.",
                param="response_id",
            )
        if not found.is_running:
            return found
        cancelled = replace(found, response={**found.response, "status": "cancelled"})
        if await self.try_end(owner, cancelled, is_cancelled=True):
            return cancelled
        return await self.get(owner, id, granted)

    async def _sealed(self, owner: FileOwner, made: StoredResponse) -> bytes:
        cipher = await self._keys.cipher(owner.tenant)
        return await asyncio.to_thread(_seal, cipher, made)

    async def _insert(
        self,
        connection: Connection,
        owner: FileOwner,
        made: StoredResponse,
        sealed: bytes,
        running_s: float | None = None,
    ) -> None:
        tenant_id = owner.tenant.id
        if not await response_rows.try_insert_response(
            *(connection, tenant_id, owner.project_id, made.id),
            content=sealed,
            item_ids=made.new_item_ids,
            kept_days=self._config.retention_days,
            running_s=running_s,
        ):
            raise KeyRevoked("This tenant was deleted.")
        await make_room(connection, tenant_id, self._config)

    async def get(
        self, owner: FileOwner, id: str, granted: Collection[str] | None
    ) -> StoredResponse:
        """Raises ResponseNotFound."""
        found = await self._find(owner, id, granted)
        if found is None:
            raise ResponseNotFound()
        return found

    async def previous(
        self, owner: FileOwner, id: str, granted: Collection[str] | None
    ) -> StoredResponse:
        """That a new one goes on from. Raises PreviousResponseNotFound, and InvalidValue for one
        that still runs."""
        found = await self._find(owner, id, granted)
        if found is None:
            raise PreviousResponseNotFound()
        if found.is_running:
            raise InvalidValue(
                "The previous response is not complete yet: wait for it, or cancel it.",
                param="previous_response_id",
            )
        return found

    async def items(
        self, owner: FileOwner, ids: Collection[str], granted: Collection[str] | None
    ) -> tuple[Mapping[str, Item], Sequence[str]]:
        """Those items that there are, and the knowledge bases that are in their responses."""
        wanted = [id for id in ids if can_be_id(id)]
        async with self._database.tenant(owner.tenant) as connection:
            born_in = await response_rows.find_births(
                connection, owner.tenant.id, owner.project_id, wanted
            )
        items: dict[str, Item] = {}
        knowledge_bases: list[str] = []
        for response_id in born_in:  # one at a time: each may be large
            found = await self._find(owner, response_id, granted)
            if found is not None:
                knowledge_bases += found.knowledge_bases
                own = (*found.input, *found.response["output"])
                items |= {item["id"]: item for item in own if item["id"] in ids}
        return items, knowledge_bases

    async def delete(self, owner: FileOwner, id: str, granted: Collection[str] | None) -> None:
        """Raises ResponseNotFound."""
        await self.get(owner, id, granted)
        async with self._database.tenant(owner.tenant) as connection:
            if not await response_rows.delete_response(
                connection, owner.tenant.id, owner.project_id, id
            ):
                raise ResponseNotFound()
            await audit.record(connection, owner.event("response.deleted", id))

    async def _find(
        self, owner: FileOwner, id: str, granted: Collection[str] | None
    ) -> StoredResponse | None:
        if not can_be_id(id):
            return None
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            row = await response_rows.find_response(
                connection, owner.tenant.id, owner.project_id, id
            )
        if row is None:
            return None
        found = await asyncio.to_thread(_open, cipher, id, row.content)
        if not _may_see(granted, found):
            return None
        if row.is_lost:
            return failed(found, LOST)
        if row.is_running and row.is_begun:
            return replace(found, response={**found.response, "status": "in_progress"})
        return found

    # --- what has expired ------------------------------------------------------------------------

    async def run(self) -> None:
        """Removes what has expired, of all tenants, for ever, and what says that an approval was
        used when no kept response can ask for it any more. That others do the same does no
        harm."""
        await sweep_for_ever(
            self.sweep,
            self._wanted,
            every_s=SWEEP_S,
            if_not="expired responses were not removed",
        )

    async def sweep(self) -> None:
        """All that there is to do now. Raises DatabaseDown."""
        await remove_outdated(
            self._database, response_rows.outdated_responses, response_rows.forget_responses
        )
        kept_days = self._config.retention_days
        await remove_outdated(
            self._database,
            partial(approval_rows.outdated_approvals, kept_days=kept_days),
            approval_rows.forget_approvals,
        )


def failed(made: StoredResponse, message: str, code: str = "server_error") -> StoredResponse:
    """Without what it had said."""
    error = {"code": code, "message": message}
    shown = {"status": "failed", "error": error, "incomplete_details": None, "output": []}
    without = {name: made.response[name] for name in made.response if name != "completed_at"}
    return replace(made, response={**without, **shown})


def can_be_id(id: str) -> bool:
    """The database takes no other text."""
    return "\0" not in id


def _may_see(granted: Collection[str] | None, found: StoredResponse) -> bool:
    return granted is None or set(found.knowledge_bases) <= set(granted)


def _seal(cipher: TenantCipher, made: StoredResponse) -> bytes:
    return cipher.seal(orjson.dumps(made), Label(_KIND, made.id))


def _open(cipher: TenantCipher, id: str, sealed: bytes) -> StoredResponse:
    """Raises CannotOpen."""
    return StoredResponse(**orjson.loads(cipher.open(sealed, Label(_KIND, id))))
