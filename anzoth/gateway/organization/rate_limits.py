"""How much may the keys of a project use together, of each model that they can ask for?

    rl-<model>      the limits of the project and the model (see `limit_rules`), in OpenAI's words
    rl-*            those of the project, of all models together: none of OpenAI's

There is one for each model that is served, for each alias of the tenant, and for what else has a
limit: it may be served again.

Does not know: how limits are enforced, or those of a tenant or a key.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from anzoth.db.pool import Connection, Database
from anzoth.db.store import alias_rows, limit_rows, tenant_rows
from anzoth.db.store.limit_rows import LimitSubject
from anzoth.errors import InvalidValue, NotFound
from anzoth.gateway import audit, limit_directory
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.limit_directory import LimitChange
from anzoth.gateway.limit_rules import LIMIT_NAMES, Limits, shown
from anzoth.gateway.models import ModelRegistry
from anzoth.gateway.organization.projects import require_living
from anzoth.gateway.principal import Principal

ALL_MODELS = "*"
NAMES: Mapping[str, str] = {
    "rpm": "max_requests_per_1_minute",
    "tpm": "max_tokens_per_1_minute",
    "input_tpm": "max_input_tokens_per_1_minute",
    "output_tpm": "max_output_tokens_per_1_minute",
    "concurrency": "max_concurrent_requests",
    "tokens_per_day": "max_tokens_per_1_day",
    "budget_per_day": "max_cost_per_1_day",
    "budget_per_month": "max_cost_per_1_month",
}
"""Fields of Limits, and what the API calls them: the first two as OpenAI does."""
_PREFIX = "rl-"


@dataclass(slots=True, frozen=True)
class RateLimit:
    """The limits of a project for one model, or (ALL_MODELS) for all of them together."""

    model: str
    limits: Limits

    @property
    def id(self) -> str:
        return _PREFIX + self.model


class RateLimits:
    """One per gateway. A project of another tenant is NotFound like any other."""

    def __init__(self, database: Database, models: ModelRegistry) -> None:
        self._database = database
        self._models = models

    async def list(self, principal: Principal, project_id: uuid.UUID) -> list[RateLimit]:
        """All, in the order of their models; ALL_MODELS first. Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            return await self._all(connection, principal, project_id)

    async def update(
        self,
        principal: Principal,
        actor: Actor,
        project_id: uuid.UUID,
        id: str,
        changes: LimitChange,
    ) -> RateLimit:
        """In force within a second. Raises NotFound and InvalidValue."""
        async with self._database.tenant(principal.tenant) as connection:
            await tenant_rows.lock_directory(connection)
            model = (await self._find(connection, principal, project_id, id)).model
            subject = LimitSubject(principal.tenant.id, project_id=project_id)
            try:
                after = await limit_directory.change(connection, subject, _named(model), changes)
            except DirectoryError as error:
                raise InvalidValue(str(error)) from None
            details = {NAMES[name]: limit for name, limit in shown(changes).items()}
            event = AuditEvent(
                "rate_limit.updated",
                actor,
                principal.tenant.id,
                project_id,
                {"id": id},
                details,
            )
            await audit.record(connection, event)
            return RateLimit(model, after)

    async def delete(
        self, principal: Principal, actor: Actor, project_id: uuid.UUID, id: str
    ) -> None:
        """There is no limit for this model from now on. Raises NotFound."""
        async with self._database.tenant(principal.tenant) as connection:
            await tenant_rows.lock_directory(connection)
            found = await self._find(connection, principal, project_id, id)
            if not found.limits:
                return
            subject = LimitSubject(principal.tenant.id, project_id=project_id)
            await limit_directory.replace(connection, subject, _named(found.model), Limits())
            event = AuditEvent(
                "rate_limit.deleted", actor, principal.tenant.id, project_id, {"id": id}
            )
            await audit.record(connection, event)

    async def _all(
        self, connection: Connection, principal: Principal, project_id: uuid.UUID
    ) -> list[RateLimit]:
        await require_living(connection, principal.tenant, project_id)
        subject = LimitSubject(principal.tenant.id, project_id=project_id)
        limits = {
            row.model: Limits(**{name: getattr(row, name) for name in LIMIT_NAMES})
            for row in await limit_rows.find_limits(connection, subject)
        }
        models = {model.name for model in self._models}
        for alias in await alias_rows.list_aliases(connection, principal.tenant.id):
            models.add(alias.name)
        models |= {model for model in limits if model is not None}
        seen = sorted(model for model in models if principal.may_use_model(model))
        return [
            RateLimit(model, limits.get(_named(model), Limits())) for model in (ALL_MODELS, *seen)
        ]

    async def _find(
        self, connection: Connection, principal: Principal, project_id: uuid.UUID, id: str
    ) -> RateLimit:
        for limit in await self._all(connection, principal, project_id):
            if limit.id == id:
                return limit
        raise NotFound("There is no such rate limit.")


def _named(model: str) -> str | None:
    """As limits name it: None is all models together."""
    return None if model == ALL_MODELS else model
