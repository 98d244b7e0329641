"""Which conversations does a project have, and what is in each?

A conversation is a list of items that grows: by what a client adds, and by what each response in it
read and said. An item is a row, so a turn costs what it adds, however long the conversation is.
Additions come one after the other, each whole: those of two responses at once are not mixed, and
each response read what was there when it began.

As a response that is kept (see `stored_responses`), a conversation is sealed with the tenant's key,
belongs to a project, and does not exist for anybody else; nor for a key that is not granted the
knowledge bases from which something came into it, even if that item was deleted since: later ones
were written with it. It leaves the database when it is deleted, some days after it was last
changed, or to make room.

Does not know: HTTP, or what items mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store import conversation_rows
from anzoth.db.store.conversation_rows import ConversationRow, ItemRow
from anzoth.errors import ConversationNotFound, InvalidValue, KeyRevoked, NotFound
from anzoth.gateway import audit
from anzoth.gateway.files import FileOwner, new_id
from anzoth.gateway.knowledge.listing import ListRequest, Page, page_by_place
from anzoth.gateway.response_room import SWEEP_S, make_room, remove_outdated
from anzoth.gateway.stored_responses import Item, can_be_id
from anzoth.gateway.sweeping import sweep_for_ever
from anzoth.gateway.tenant_crypt import CannotOpen, Label, TenantCipher, TenantKeys
from anzoth.response_config import ResponsesConfig

_ROW_BYTES = 256
"""What a conversation or an item takes besides its content, about: many small ones are bounded,
too."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class ConversationView:
    """A conversation as its project sees it."""

    id: str
    metadata: Mapping[str, str] = field(repr=False)
    created_at: datetime


@dataclass(slots=True, frozen=True)
class NewItems:
    """What is added at once."""

    items: Sequence[Item] = field(repr=False)
    knowledge_bases: Sequence[str] = ()
    """From which there is something in them."""


@dataclass(slots=True, frozen=True)
class Reading:
    """What a response in a conversation reads of it."""

    id: str
    last_position: int
    items: Sequence[Item] = field(repr=False)
    knowledge_bases: Sequence[str]


class Conversations:
    """The conversations of all tenants, each for its own. One per gateway; `run` must be running.

    Every method but `try_add` raises DatabaseDown, and KeyRevoked where the tenant was deleted
    meanwhile; every one with `granted` ConversationNotFound. `granted`: the knowledge bases of
    whoever asks; None: all.
    """

    def __init__(self, database: Database, keys: TenantKeys, config: ResponsesConfig) -> None:
        self._database = database
        self._keys = keys
        self._config = config
        self._wanted = asyncio.Event()

    @property
    def keeps_any(self) -> bool:
        return self._config.retention_days > 0

    # --- conversations ---------------------------------------------------------------------------

    async def create(
        self, owner: FileOwner, metadata: Mapping[str, str], new: NewItems
    ) -> ConversationView:
        """Raises InvalidValue when there is too much in it."""
        cipher = await self._keys.cipher(owner.tenant)
        id = new_id("conv_")
        sealed_metadata = _seal_metadata(cipher, id, metadata)
        sealed = await asyncio.to_thread(_seal, cipher, id, new.items)
        async with self._database.tenant(owner.tenant) as connection:
            row = await conversation_rows.try_insert_conversation(
                *(connection, owner.tenant.id, owner.project_id, id),
                metadata=sealed_metadata,
                num_bytes=_ROW_BYTES + len(sealed_metadata),
                kept_days=self._config.retention_days,
            )
            if row is None:
                raise KeyRevoked("This tenant was deleted.")
            if not await self._try_insert(connection, owner, row, sealed, new.knowledge_bases):
                raise self._full()
        return _view(cipher, row)

    async def get(
        self, owner: FileOwner, id: str, granted: Collection[str] | None
    ) -> ConversationView:
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            row = await _find(connection, owner, id, granted)
        return _view(cipher, row)

    async def set_metadata(
        self,
        owner: FileOwner,
        id: str,
        granted: Collection[str] | None,
        metadata: Mapping[str, str],
    ) -> ConversationView:
        """It has these and no others."""
        cipher = await self._keys.cipher(owner.tenant)
        sealed = _seal_metadata(cipher, id, metadata)
        async with self._database.tenant(owner.tenant) as connection:
            row = await _lock(connection, owner, id, granted)
            num_bytes = row.bytes - len(row.metadata) + len(sealed)
            row = replace(row, metadata=sealed, bytes=num_bytes)
            await self._update(connection, owner, row)
        return _view(cipher, row)

    async def delete(self, owner: FileOwner, id: str, granted: Collection[str] | None) -> None:
        """With all that is in it. Responses in it stay, with their own part."""
        async with self._database.tenant(owner.tenant) as connection:
            await _lock(connection, owner, id, granted)
            await conversation_rows.delete_conversation(connection, owner.tenant.id, id)
            await audit.record(connection, owner.event("conversation.deleted", id))

    # --- items -----------------------------------------------------------------------------------

    async def add(
        self, owner: FileOwner, id: str, granted: Collection[str] | None, new: NewItems
    ) -> None:
        """Raises InvalidValue where an item is in it already, or there is no room for them."""
        cipher = await self._keys.cipher(owner.tenant)
        sealed = await asyncio.to_thread(_seal, cipher, id, new.items)
        async with self._database.tenant(owner.tenant) as connection:
            row = await _lock(connection, owner, id, granted)
            of = (connection, owner.tenant.id, id)
            if await conversation_rows.present_items(*of, list(sealed)):
                raise InvalidValue(
                    "Invalid value for 'items': expected items that are not in the conversation "
                    "yet.",
                    param="items",
                )
            if not await self._try_insert(connection, owner, row, sealed, new.knowledge_bases):
                raise self._full()

    async def list_items(
        self, owner: FileOwner, id: str, granted: Collection[str] | None, asked: ListRequest
    ) -> Page[Item]:
        """Raises InvalidValue for a cursor that is no item of it. One that was deleted is fine."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            row = await _find(connection, owner, id, granted)
            of = (connection, owner.tenant.id, id)
            page = await page_by_place(
                asked,
                lambda item_id: conversation_rows.find_place(*of, item_id),
                lambda *part: conversation_rows.list_items(*of, row.last_position, *part),
            )
        return Page(await asyncio.to_thread(_open, cipher, id, page.entries), page.has_more)

    async def get_item(
        self, owner: FileOwner, id: str, granted: Collection[str] | None, item_id: str
    ) -> Item:
        """Raises NotFound."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            row = await _find(connection, owner, id, granted)
            content = await conversation_rows.find_item(
                connection, owner.tenant.id, id, row.last_position, item_id
            )
        if content is None:
            raise _unknown_item()
        (item,) = await asyncio.to_thread(_open, cipher, id, [ItemRow(item_id, content)])
        return item

    async def delete_item(
        self, owner: FileOwner, id: str, granted: Collection[str] | None, item_id: str
    ) -> ConversationView:
        """Raises NotFound."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            row = await _lock(connection, owner, id, granted)
            of = (connection, owner.tenant.id, id)
            content = await conversation_rows.find_item(*of, row.last_position, item_id)
            if content is None:
                raise _unknown_item()
            await conversation_rows.empty_item(*of, item_id)
            row = replace(row, bytes=row.bytes - len(content))
            await self._update(connection, owner, row)
            event = owner.event("conversation.item_deleted", id, item_id=item_id)
            await audit.record(connection, event)
        return _view(cipher, row)

    # --- responses in a conversation -------------------------------------------------------------

    async def read(self, owner: FileOwner, id: str, granted: Collection[str] | None) -> Reading:
        """Raises InvalidValue for one that takes nothing more."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            row = await _find(connection, owner, id, granted, "conversation")
            if row.bytes >= self._max_bytes:
                raise self._full()
            rows = await conversation_rows.list_items(
                connection, owner.tenant.id, id, row.last_position
            )
        items = await asyncio.to_thread(_open, cipher, id, rows)
        return Reading(id, row.last_position, items, row.knowledge_bases)

    async def read_again(
        self, owner: FileOwner, id: str, last_position: int
    ) -> Sequence[Item] | None:
        """What a response read that is kept, and may be seen, without what was deleted since; None:
        the conversation is not there any more."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            row = await conversation_rows.find_conversation(
                connection, owner.tenant.id, owner.project_id, id
            )
            if row is None:
                return None
            rows = await conversation_rows.list_items(
                connection, owner.tenant.id, id, last_position
            )
        return await asyncio.to_thread(_open, cipher, id, rows)

    async def try_add(self, owner: FileOwner, id: str, new: NewItems) -> bool:
        """What a response read and said, but for what came into the conversation meanwhile. False:
        the conversation was deleted or is full, or the database is away."""
        try:
            cipher = await self._keys.cipher(owner.tenant)
            sealed = await asyncio.to_thread(_seal, cipher, id, new.items)
            async with self._database.tenant(owner.tenant) as connection:
                row = await _lock(connection, owner, id, None)
                of = (connection, owner.tenant.id, id)
                for known in await conversation_rows.present_items(*of, list(sealed)):
                    del sealed[known]
                return await self._try_insert(connection, owner, row, sealed, new.knowledge_bases)
        except (
            *(DatabaseDown, KeyRevoked, CannotOpen, ConversationNotFound),
            asyncpg.PostgresError,
        ) as error:
            _log.warning("a response is not in its conversation: %s", type(error).__name__)
            return False

    async def _try_insert(
        self,
        connection: Connection,
        owner: FileOwner,
        row: ConversationRow,
        sealed: Mapping[str, bytes],
        knowledge_bases: Sequence[str],
    ) -> bool:
        """Into one that is locked, and without them. False: there is no room; nothing was done."""
        num_bytes = row.bytes + sum(len(content) + _ROW_BYTES for content in sealed.values())
        if num_bytes > self._max_bytes:
            return False
        of = (connection, owner.tenant.id, row.id)
        num_bytes -= _ROW_BYTES * await conversation_rows.forget_empty_items(*of, list(sealed))
        await conversation_rows.insert_items(*of, row.last_position, sealed)
        all_bases = dict.fromkeys((*row.knowledge_bases, *knowledge_bases))
        last_position = row.last_position + len(sealed)
        changed = replace(
            row, bytes=num_bytes, knowledge_bases=tuple(all_bases), last_position=last_position
        )
        await self._update(connection, owner, changed)
        return True

    async def _update(
        self, connection: Connection, owner: FileOwner, changed: ConversationRow
    ) -> None:
        tenant_id, kept_days = owner.tenant.id, self._config.retention_days
        await conversation_rows.update_conversation(connection, tenant_id, changed, kept_days)
        await make_room(connection, tenant_id, self._config)

    @property
    def _max_bytes(self) -> int:
        return self._config.max_kib << 10

    def _full(self) -> InvalidValue:
        return InvalidValue(
            f"There is no room for this: a conversation takes {self._config.max_kib} KiB. Begin "
            "another one.",
            param="conversation",
        )

    # --- what has expired ------------------------------------------------------------------------

    async def run(self) -> None:
        """Removes what has expired, of all tenants, for ever. That others do the same does no
        harm."""
        await sweep_for_ever(
            self.sweep,
            self._wanted,
            every_s=SWEEP_S,
            if_not="expired conversations were not removed",
        )

    async def sweep(self) -> None:
        """All that there is to do now. Raises DatabaseDown."""
        await remove_outdated(
            self._database,
            conversation_rows.outdated_conversations,
            conversation_rows.forget_conversations,
        )


async def _find(
    connection: Connection,
    owner: FileOwner,
    id: str,
    granted: Collection[str] | None,
    param: str = "conversation_id",
) -> ConversationRow:
    """What was added after it was read here must not be shown: that may be from other knowledge
    bases. Raises ConversationNotFound."""
    row, of = None, (owner.tenant.id, owner.project_id, id)
    if can_be_id(id):
        row = await conversation_rows.find_conversation(connection, *of)
    return _seen(row, granted, param)


async def _lock(
    connection: Connection, owner: FileOwner, id: str, granted: Collection[str] | None
) -> ConversationRow:
    """Raises ConversationNotFound."""
    of = (owner.tenant.id, owner.project_id, id)
    return _seen(await conversation_rows.lock_conversation(connection, *of), granted)


def _seen(
    row: ConversationRow | None,
    granted: Collection[str] | None,
    param: str = "conversation_id",
) -> ConversationRow:
    if row is None or not (granted is None or set(row.knowledge_bases) <= set(granted)):
        raise ConversationNotFound(param)
    return row


def _unknown_item() -> NotFound:
    return NotFound("There is no such item in this conversation.", param="item_id")


# --- sealed ---------------------------------------------------------------------------------------


def _seal_metadata(cipher: TenantCipher, id: str, metadata: Mapping[str, str]) -> bytes:
    return cipher.seal(orjson.dumps(metadata), Label("conversation", id))


def _view(cipher: TenantCipher, row: ConversationRow) -> ConversationView:
    """Raises CannotOpen."""
    metadata: Any = orjson.loads(cipher.open(row.metadata, Label("conversation", row.id)))
    return ConversationView(row.id, metadata, row.created_at)


def _seal(cipher: TenantCipher, id: str, items: Sequence[Item]) -> dict[str, bytes]:
    """By id."""
    return {item["id"]: cipher.seal(orjson.dumps(item), _label(id, item["id"])) for item in items}


def _open(cipher: TenantCipher, id: str, rows: Sequence[ItemRow]) -> list[Item]:
    """Raises CannotOpen."""
    return [orjson.loads(cipher.open(row.content, _label(id, row.id))) for row in rows]


def _label(id: str, item_id: str) -> Label:
    return Label("conversation item", f"{id} {item_id}")
