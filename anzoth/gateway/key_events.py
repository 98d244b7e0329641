"""What does the audit log say about a key?

Does not know: when it is said (see `directory`, `key_changes`, `key_minting`).
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Any

from anzoth.db.store.key_rows import KeySettings, RevokedKey
from anzoth.gateway.audit import Actor, AuditEvent
from anzoth.gateway.limit_rules import Limits, shown

if TYPE_CHECKING:
    from anzoth.gateway.directory import CreatedKey
    from anzoth.gateway.limit_directory import LimitChange

_SETTINGS = (
    "name",
    "scopes",
    "models",
    "endpoints",
    "networks",
    "knowledge_bases",
    "default_knowledge_bases",
    "tools",
    "expires_at",
)


def created(key: CreatedKey, actor: Actor) -> AuditEvent:
    request = key.request
    details = {name: _plain(getattr(request, name)) for name in _SETTINGS}
    details["scopes"] = sorted(set(request.scopes))
    details |= shown(dataclasses.asdict(request.limits))
    details |= {name: id for name, id in dataclasses.asdict(key.owner).items() if id is not None}
    if request.limits_by_model:
        details["limits_by_model"] = {
            model: given(limits) for model, limits in request.limits_by_model.items()
        }
    return AuditEvent(
        "api_key.created",
        actor,
        key.tenant_id,
        key.project_id,
        target={"id": key.id, "kid": key.key.kid},
        details=details,
    )


def updated(
    before: KeySettings, after: KeySettings, limits: LimitChange, model: str | None, actor: Actor
) -> AuditEvent:
    """What has changed, as it is now; `limits`: of that model, or of all together."""
    details = {
        name: _plain(getattr(after, name))
        for name in _SETTINGS
        if getattr(after, name) != getattr(before, name)
    }
    details |= shown(limits)
    if model is not None:
        details["limits_of_model"] = model
    return _of(after, "api_key.updated", details, actor)


def rotated(key: KeySettings, new_kid: str, old_until: datetime | None, actor: Actor) -> AuditEvent:
    details = {"rotated_to_kid": new_kid, "old_secret_until": _plain(old_until)}
    return _of(key, "api_key.updated", details, actor)


def deleted(revoked: RevokedKey, actor: Actor) -> AuditEvent:
    return AuditEvent(
        "api_key.deleted",
        actor,
        revoked.tenant_id,
        revoked.project_id,
        target={"id": revoked.id, "kid": revoked.kid},
        details={"name": revoked.name},
    )


def given(limits: Limits) -> dict[str, int | str]:
    """Those that there are."""
    named = shown(dataclasses.asdict(limits))
    return {name: limit for name, limit in named.items() if limit is not None}


def _of(key: KeySettings, type: str, details: dict[str, Any], actor: Actor) -> AuditEvent:
    target = {"id": key.id, "kid": key.kid}
    return AuditEvent(type, actor, key.tenant_id, key.project_id, target=target, details=details)


def _plain(value: Any) -> Any:  # what settings hold in, JSON out
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return value
