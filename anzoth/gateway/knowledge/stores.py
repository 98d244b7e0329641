"""Which vector stores does a project have?

A store belongs to a project of a tenant; for everybody else it does not exist. Its name,
description and metadata are sealed with the tenant's key. The model that makes its vectors is
chosen once.

Does not know: HTTP, what is in a store (see `store_files`), or how it is searched.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import orjson

from anzoth.db.pool import Database
from anzoth.db.store import vector_store_rows
from anzoth.db.store.vector_store_rows import FileSums, NewStore, StoreRow
from anzoth.errors import (
    InvalidValue,
    KeyRevoked,
    ModelNotFound,
    StorageFull,
    VectorStoreNotFound,
)
from anzoth.gateway import audit, files
from anzoth.gateway.files import FileOwner
from anzoth.gateway.knowledge import adding
from anzoth.gateway.knowledge.adding import FileToAdd
from anzoth.gateway.knowledge.file_batches import FileBatches
from anzoth.gateway.knowledge.listing import ListRequest, Page, page_of
from anzoth.gateway.knowledge.store_access import expired_store, require_store
from anzoth.gateway.knowledge.store_cleanup import StoreCleanup
from anzoth.gateway.knowledge.store_files import OnChange, StoreFiles
from anzoth.gateway.models import ModelRegistry, ServedModel
from anzoth.gateway.tenant_crypt import Label, TenantCipher, TenantKeys
from anzoth.knowledge_config import KnowledgeConfig

ANALYZER = "english"
"""What makes terms of the words of new stores (see `anzoth.index.analyzer`)."""
_DETAILS = "store.details"

StoreStatus = Literal["expired", "in_progress", "completed"]


@dataclass(slots=True, frozen=True)
class Details:
    """What its project says about a store."""

    name: str = field(default="", repr=False)
    description: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True, frozen=True)
class StoreRequest:
    """What a store should be. Its fields are checked (see `api.vector_stores`)."""

    details: Details = field(default_factory=Details)
    expires_after_days: int | None = None
    embedding_model: str | None = None
    """None: the one that the operator chose."""
    files: Sequence[FileToAdd] = ()


@dataclass(slots=True, frozen=True)
class StoreChange:
    """What is to be different. None: it stays."""

    name: str | None = field(default=None, repr=False)
    description: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] | None = field(default=None, repr=False)
    sets_expiry: bool = False
    expires_after_days: int | None = None
    """Where `sets_expiry`; None: never."""


@dataclass(slots=True, frozen=True)
class StoreView:
    """A store as its project sees it."""

    id: str
    details: Details
    model: str
    status: StoreStatus
    files: FileSums
    created_at: datetime
    last_active_at: datetime
    expires_after_days: int | None
    expires_at: datetime | None


class VectorStores:
    """The stores of all tenants, each for its own. One per gateway.

    Every method raises DatabaseDown, and KeyRevoked where the tenant was deleted meanwhile.
    """

    def __init__(
        self,
        database: Database,
        keys: TenantKeys,
        models: ModelRegistry,
        config: KnowledgeConfig,
        cleanup: StoreCleanup,
        on_change: OnChange = lambda *_: None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._models = models
        self._config = config
        self.cleanup = cleanup
        self.files = StoreFiles(database, keys, config.store_files, on_change)
        self.batches = FileBatches(self.files)

    async def create(self, owner: FileOwner, request: StoreRequest) -> StoreView:
        """With the files that it begins with, or not at all.

        Raises InvalidValue where there is no model for its vectors, ModelNotFound and
        ModelUnavailable for the one that is named, StorageFull, and what `adding.add` raises.
        """
        model = self._model(request.embedding_model)
        hello = model.engine.hello or model.engine.require_ready()
        assert hello.dimensions is not None, "it makes vectors"
        cipher = await self._keys.cipher(owner.tenant)
        id, tenant_id = files.new_id("vs_"), owner.tenant.id
        new = NewStore(
            id,
            owner.project_id,
            _seal(cipher, id, request.details),
            model.engine.model,
            hello.dimensions,
            ANALYZER,
            request.expires_after_days,
            hello.vector_space,
        )
        async with self._database.tenant(owner.tenant) as connection:
            await vector_store_rows.lock_stores_of_tenant(connection, tenant_id)
            if not await vector_store_rows.try_insert_store(connection, tenant_id, new):
                raise KeyRevoked("This tenant was deleted.")
            max_stores = self._config.tenant_stores
            if await vector_store_rows.count_stores(connection, tenant_id) > max_stores:
                raise StorageFull(
                    f"Your organization has {max_stores} vector stores, and no more are allowed. "
                    "Delete some of them.",
                    rule="stores.full",
                )
            if request.files:
                await adding.add(
                    *(connection, owner, cipher, id, request.files),
                    max_files=self._config.store_files,
                )
            row = await vector_store_rows.find_store(connection, tenant_id, owner.project_id, id)
            assert row is not None, "it was made"
            event = owner.event(
                "vector_store.created", id, model=new.model, num_files=len(request.files)
            )
            await audit.record(connection, event)
        return _view(cipher, row, FileSums(in_progress=len(request.files)))

    async def get(self, owner: FileOwner, id: str) -> StoreView:
        """Raises NotFound."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            scope = (connection, owner.tenant.id, owner.project_id)
            row = await vector_store_rows.find_store(*scope, id)
            if row is None:
                raise VectorStoreNotFound()
            sums = await vector_store_rows.sum_files(connection, owner.tenant.id, [id])
        return _view(cipher, row, sums.get(id, FileSums()))

    async def list(
        self, owner: FileOwner, asked: ListRequest, only: Collection[str] | None = None
    ) -> Page[StoreView]:
        """Expired ones among them. `only`: of these ids; None: all.

        Raises InvalidValue for a cursor that is no store's id. One that was just deleted is fine:
        who deletes what a page lists still gets the next page."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            scope = (connection, owner.tenant.id, owner.project_id)
            page = await page_of(
                asked,
                lambda id: vector_store_rows.find_place(*scope, id, only),
                lambda between, limit: vector_store_rows.list_stores(*scope, between, limit, only),
            )
            ids = [row.id for row in page.entries]
            sums = await vector_store_rows.sum_files(connection, owner.tenant.id, ids)
        views = [_view(cipher, row, sums.get(row.id, FileSums())) for row in page.entries]
        return Page(views, page.has_more)

    async def modify(self, owner: FileOwner, id: str, change: StoreChange) -> StoreView:
        """To set when it expires is to use it. Raises NotFound, and InvalidValue for another expiry
        of one that has expired."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            await require_store(connection, owner, id, will_change=True, may_be_expired=True)
            scope = (connection, owner.tenant.id, owner.project_id)
            row = await vector_store_rows.find_store(*scope, id)
            assert row is not None, "it is locked"
            if row.is_expired and change.sets_expiry:
                raise expired_store()
            given = {
                name: value
                for name in ("name", "description", "metadata")
                if (value := getattr(change, name)) is not None
            }
            await vector_store_rows.update_store(
                *(connection, owner.tenant.id, id),
                _seal(cipher, id, replace(_open(cipher, row), **given)),
                sets_expiry=change.sets_expiry,
                expires_after_days=change.expires_after_days,
            )
            fields = [*given, *(["expires_after"] if change.sets_expiry else [])]
            event = owner.event("vector_store.updated", id, fields=", ".join(fields))
            await audit.record(connection, event)
        return await self.get(owner, id)

    async def delete(self, owner: FileOwner, id: str) -> None:
        """Its files stay files of the project. Raises NotFound."""
        async with self._database.tenant(owner.tenant) as connection:
            scope = (connection, owner.tenant.id, owner.project_id)
            if not await vector_store_rows.delete_store(*scope, id):
                raise VectorStoreNotFound()
            await audit.record(connection, owner.event("vector_store.deleted", id))
        self.cleanup.wake()

    def _model(self, name: str | None) -> ServedModel:
        """Raises InvalidValue and ModelNotFound."""
        if name is not None:
            model = self._models.find(name)
            if model is None:
                raise ModelNotFound(param="embedding_model")
            if model.kind != "embedding":
                raise InvalidValue("This model makes no vectors.", param="embedding_model")
            return model
        chosen = self._config.embedding_model
        for model in self._models:
            if model.kind == "embedding" and chosen in (None, model.name):
                return model
        raise InvalidValue(
            "There is no model for the vectors of a new store: the operator of this server has to "
            "serve one that embeds"
            + ("." if chosen is None else ", the one that [knowledge] embedding_model names."),
            param="embedding_model",
        )


def _seal(cipher: TenantCipher, id: str, details: Details) -> bytes:
    return cipher.seal(orjson.dumps(details), Label(_DETAILS, id))


def _open(cipher: TenantCipher, row: StoreRow) -> Details:
    """Raises CannotOpen."""
    said: dict[str, Any] = orjson.loads(cipher.open(row.details, Label(_DETAILS, row.id)))
    return Details(**said)


def _view(cipher: TenantCipher, row: StoreRow, sums: FileSums) -> StoreView:
    status: StoreStatus = "in_progress" if sums.in_progress else "completed"
    return StoreView(
        id=row.id,
        details=_open(cipher, row),
        model=row.model,
        status="expired" if row.is_expired else status,
        files=sums,
        created_at=row.created_at,
        last_active_at=row.last_active_at,
        expires_after_days=row.expires_after_days,
        expires_at=row.expires_at,
    )
