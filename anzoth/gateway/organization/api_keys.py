"""Which keys does a tenant have, project by project, and which admin keys?

An admin key (scope `admin`) stands above projects: no project's list shows it, and it is made and
ended among its like. Revoked keys are on no list.

Does not know: what a caller may do with keys (see `key_minting`).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from anzoth.db.pool import Connection, Database
from anzoth.db.store import key_rows, limit_rows
from anzoth.db.store.key_rows import KeyView
from anzoth.errors import InvalidValue, NotFound
from anzoth.gateway import key_minting
from anzoth.gateway.directory import CreatedKey, KeyRequest
from anzoth.gateway.key_changes import KeyChange, RotatedKey
from anzoth.gateway.keys import Pepper
from anzoth.gateway.limit_rules import LIMIT_NAMES, Limits
from anzoth.gateway.organization.projects import no_project, require_living
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.scopes import ADMIN_SCOPE, INFERENCE_SCOPES


@dataclass(slots=True, frozen=True)
class ListedKey:
    """A key that is not revoked, as lists show it."""

    view: KeyView
    limits: Mapping[str | None, Limits]
    """By model; None: for all together."""


class ApiKeys:
    """One per gateway. An id of another tenant or project is NotFound like any other."""

    def __init__(self, database: Database, pepper: Pepper) -> None:
        self._database = database
        self._pepper = pepper

    # --- of a project ---------------------------------------------------------------------------

    async def list(
        self, principal: Principal, project_id: uuid.UUID, *, after: uuid.UUID | None, limit: int
    ) -> list[ListedKey]:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            views = await key_rows.page_of_keys(
                connection, principal.tenant.id, project_id, after, limit
            )
            return await _listed(connection, principal.tenant, views)

    async def find(
        self, principal: Principal, project_id: uuid.UUID, key_id: uuid.UUID
    ) -> ListedKey:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            return await _find(connection, principal.tenant, project_id, key_id)

    async def create(
        self,
        principal: Principal,
        ip: str | None,
        project_id: uuid.UUID,
        request: KeyRequest,
        inherits: Collection[str],
    ) -> tuple[CreatedKey, ListedKey]:
        """Raises as `key_minting.create_key_as`."""
        require_ordinary(request)
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            made = await key_minting.create_key_as(
                connection, self._pepper, principal, request, project_id, inherits=inherits, ip=ip
            )
            return made, await _find(connection, principal.tenant, project_id, made.id)

    async def update(
        self,
        principal: Principal,
        ip: str | None,
        project_id: uuid.UUID,
        key_id: uuid.UUID,
        change: KeyChange,
    ) -> ListedKey:
        """Raises as `key_minting.update_key_as`."""
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            await _find(connection, principal.tenant, project_id, key_id)
            await key_minting.update_key_as(connection, principal, key_id, change, ip=ip)
            return await _find(connection, principal.tenant, project_id, key_id)

    async def rotate(
        self,
        principal: Principal,
        ip: str | None,
        project_id: uuid.UUID,
        key_id: uuid.UUID,
        grace: timedelta,
    ) -> tuple[RotatedKey, ListedKey]:
        """Raises as `key_minting.rotate_key_as`."""
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            await _find(connection, principal.tenant, project_id, key_id)
            rotated = await key_minting.rotate_key_as(
                connection, self._pepper, principal, key_id, grace, ip=ip
            )
            return rotated, await _find(connection, principal.tenant, project_id, key_id)

    async def delete(
        self, principal: Principal, ip: str | None, project_id: uuid.UUID, key_id: uuid.UUID
    ) -> None:
        """It works no more, and its running requests end. Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await require_readable(connection, principal, project_id)
            await _find(connection, principal.tenant, project_id, key_id)
            await key_minting.revoke_key_as(connection, principal, key_id, ip=ip)

    # --- admin keys -----------------------------------------------------------------------------

    async def list_admin(
        self, principal: Principal, *, after: uuid.UUID | None, limit: int, is_descending: bool
    ) -> list[KeyView]:
        async with self._database.tenant(principal.tenant) as connection:
            return await key_rows.page_of_keys(
                connection,
                principal.tenant.id,
                None,
                after,
                limit,
                is_descending=is_descending,
            )

    async def find_admin(self, principal: Principal, key_id: uuid.UUID) -> KeyView:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            return await _find_view(connection, principal.tenant, None, key_id)

    async def create_admin(
        self, principal: Principal, ip: str | None, name: str, expires_at: datetime
    ) -> tuple[CreatedKey, KeyView]:
        """It manages everything and infers nothing; what its maker could hand on, it can.

        Raises as `key_minting.create_key_as`.
        """
        handed_on = ("all",) if principal.user_id is not None else ()
        handed_on = handed_on or tuple(s for s in INFERENCE_SCOPES if s in principal.scopes)
        request = KeyRequest("", name, scopes=(ADMIN_SCOPE, *handed_on), expires_at=expires_at)
        inherits = {*key_minting.INHERITED} - {"scopes", "expires_at"}
        async with self._database.tenant(principal.tenant) as connection:
            made = await key_minting.create_key_as(
                connection, self._pepper, principal, request, inherits=inherits, ip=ip
            )
            return made, await _find_view(connection, principal.tenant, None, made.id)

    async def delete_admin(self, principal: Principal, ip: str | None, key_id: uuid.UUID) -> None:
        """Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await _find_view(connection, principal.tenant, None, key_id)
            await key_minting.revoke_key_as(connection, principal, key_id, ip=ip)


async def require_readable(
    connection: Connection, principal: Principal, project_id: uuid.UUID
) -> None:
    """Raises NotFound: the same whether there is no such project, or it is out of reach."""
    if not key_minting.may_read(principal, project_id):
        raise no_project()
    await require_living(connection, principal.tenant, project_id)


def require_ordinary(request: KeyRequest) -> None:
    """Raises InvalidValue for an admin key."""
    if ADMIN_SCOPE in request.scopes:
        raise InvalidValue(
            f"Invalid value for 'scopes': a key with {ADMIN_SCOPE} is made at "
            "/v1/organization/admin_api_keys.",
            param="scopes",
        )


async def _listed(
    connection: Connection, tenant: TenantHandle, views: Sequence[KeyView]
) -> list[ListedKey]:
    limits: dict[uuid.UUID | None, dict[str | None, Limits]] = {}
    for row in await limit_rows.limits_of_keys(connection, tenant.id, [view.id for view in views]):
        of_model = Limits(**{name: getattr(row, name) for name in LIMIT_NAMES})
        limits.setdefault(row.key_id, {})[row.model] = of_model
    return [ListedKey(view, limits.get(view.id, {})) for view in views]


async def _find(
    connection: Connection, tenant: TenantHandle, project_id: uuid.UUID, key_id: uuid.UUID
) -> ListedKey:
    view = await _find_view(connection, tenant, project_id, key_id)
    return (await _listed(connection, tenant, [view]))[0]


async def _find_view(
    connection: Connection, tenant: TenantHandle, project_id: uuid.UUID | None, key_id: uuid.UUID
) -> KeyView:
    view = await key_rows.find_listed_key(connection, tenant.id, project_id, key_id)
    if view is None:
        raise NotFound("There is no such API key.")
    return view
