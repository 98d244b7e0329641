"""Which events does the audit log know?

OpenAI's names where it has one, and ours for what it does not have. An event that is not in this
table cannot be recorded.

Does not know: who records them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Payload = Literal["data", "changes_requested", "flat"]
"""Under which name OpenAI shows the details of an event: beside its target's id, or one level down.
"""

EVENTS: Mapping[str, Payload] = {
    # OpenAI's
    "api_key.created": "data",
    "api_key.updated": "changes_requested",
    "api_key.deleted": "flat",
    "invite.sent": "data",
    "invite.accepted": "flat",
    "invite.deleted": "flat",
    "ip_allowlist.created": "flat",
    "ip_allowlist.updated": "flat",
    "ip_allowlist.deleted": "flat",
    "ip_allowlist.config.activated": "flat",
    "ip_allowlist.config.deactivated": "flat",
    "login.succeeded": "flat",
    "login.failed": "flat",
    "logout.succeeded": "flat",
    "logout.failed": "flat",
    "organization.updated": "changes_requested",
    "project.created": "data",
    "project.updated": "changes_requested",
    "project.archived": "flat",
    "project.deleted": "flat",
    "rate_limit.updated": "changes_requested",
    "rate_limit.deleted": "flat",
    "role.created": "flat",
    "role.updated": "changes_requested",
    "role.deleted": "flat",
    "role.assignment.created": "flat",
    "role.assignment.deleted": "flat",
    "service_account.created": "data",
    "service_account.updated": "changes_requested",
    "service_account.deleted": "flat",
    "user.added": "data",
    "user.updated": "changes_requested",
    "user.deleted": "flat",
    "resource.deleted": "flat",
    # ours
    "tenant.created": "data",
    "tenant.deleted": "flat",
    "model.loaded": "data",
    "model.unloaded": "flat",
    "alias.created": "data",
    "alias.updated": "changes_requested",
    "alias.deleted": "flat",
    "policy.created": "data",
    "policy.updated": "changes_requested",
    "policy.deleted": "flat",
    "price.updated": "changes_requested",
    "usage.repaired": "flat",
    "backend.created": "data",
    "backend.updated": "changes_requested",
    "backend.deleted": "flat",
    "identity_provider.created": "data",
    "identity_provider.updated": "changes_requested",
    "identity_provider.deleted": "flat",
    "password.changed": "flat",
    "second_factor.enabled": "flat",
    "second_factor.disabled": "flat",
    "file.created": "data",
    "file.deleted": "flat",
    "vector_store.created": "data",
    "vector_store.updated": "changes_requested",
    "vector_store.deleted": "flat",
    "vector_store.file_added": "data",
    "vector_store.file_removed": "flat",
    "response.deleted": "flat",
    "response.cancelled": "flat",
    "batch.created": "data",
    "batch.cancelled": "flat",
    "conversation.deleted": "flat",
    "conversation.item_deleted": "flat",
    "tool.created": "data",
    "tool.updated": "changes_requested",
    "tool.deleted": "flat",
    "tool.called": "flat",
    "tool.completed": "flat",
    "tool.approved": "flat",
    "tool.withdrawn": "flat",
    "tool.quarantined": "flat",
    "tool.removed": "flat",
    "tool.refused": "flat",
    "denial": "flat",
}
