"""What is written down of a call, and when?

    tool.called      before the tool runs, in the transaction that finds the key still granted and
                     uses the call's approval, if it has one: an approval makes one call. A call of
                     which this cannot be written is not made, and its approval not used
    tool.completed   when it ended, however it did. Where it is missing, the gateway or the database
                     went away meanwhile: nobody knows then what came of the call
    tool.refused     instead of both: which rule refused it, or asks for approval

All three have the call's id as target and name the request. Of the arguments there is a digest
(SHA-256 of their JSON with sorted keys; of what is no JSON, of the text), and, where the operator
wants it, the arguments themselves, sealed with the tenant's key: they are gone with the tenant.

Does not know: who decides.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Connection, Database
from anzoth.db.store import approval_rows, key_rows
from anzoth.errors import KeyRevoked
from anzoth.gateway import audit, keys
from anzoth.gateway.audit import AuditEvent, InvalidEvent
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.tenant_crypt import CannotOpen, Label, TenantKeys
from anzoth.gateway.tools.definitions import Decision, GovernedTool
from anzoth.gateway.tools.grants import is_granted

_MAX_SEALED_BYTES = 8_192
"""Of arguments: an event is a line. What is longer is cut; `arguments_bytes` is all of it."""
_MAX_FILES = 100
_MAX_WORD = 256
_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)

_log = logging.getLogger(__name__)


class NotWritten(Exception):
    """The audit log cannot be written at the moment."""


@dataclass(slots=True)
class Call:
    """What the log says of a call, whatever comes of it. Its maker fills it in as it learns."""

    id: str
    name: str
    arguments: Mapping[str, Any] | str = field(repr=False)
    """The text, until they have been checked."""
    principal: Principal
    request_id: str
    ip: str | None
    end_user: str | None
    model: str
    file_ids: Collection[str]
    approval_id: str | None = None
    """Of the request for approval that a person said yes to."""
    tool: GovernedTool | None = None
    """None: the model was shown none of that name."""


class CallAudit:
    """One per gateway."""

    def __init__(
        self, database: Database, tenant_keys: TenantKeys, *, keeps_arguments: bool
    ) -> None:
        self._database = database
        self._tenant_keys = tenant_keys
        self._keeps_arguments = keeps_arguments

    async def begin(self, call: Call, tool: GovernedTool, rule: str) -> str | None:
        """Writes that the call will be made, allowed by `rule`. If the key is not granted the tool
        any more, or the approval was used, writes that instead, and returns the rule that refuses
        it.

        Raises NotWritten.
        """
        with _translated_errors():
            said = await self._said(call)
            async with self._database.tenant(call.principal.tenant) as connection:
                refusal = await _refusal(connection, call, tool)
                if refusal is None:
                    event = _event("tool.called", call, {**said, **_decided("allowed", rule)})
                else:
                    event = _event("tool.refused", call, {**said, **_decided("denied", refusal)})
                await audit.record(connection, event)
        return refusal

    async def refused(self, call: Call, decision: Decision, rule: str) -> None:
        """Writes that the call is not made. Raises NotWritten."""
        with _translated_errors():
            said = await self._said(call)
            event = _event("tool.refused", call, {**said, **_decided(decision, rule)})
            await self._record(call.principal.tenant, event)

    async def completed(self, call: Call, outcome: str, latency_ms: int, num_bytes: int) -> None:
        """Writes how it ended. Raises NotWritten."""
        details = {"outcome": outcome, "latency_ms": latency_ms, "bytes": num_bytes}
        with _translated_errors():
            event = _event("tool.completed", call, details)
            await self._record(call.principal.tenant, event)

    async def _record(self, tenant: TenantHandle, event: AuditEvent) -> None:
        async with self._database.tenant(tenant) as connection:
            await audit.record(connection, event)

    async def _said(self, call: Call) -> dict[str, Any]:
        """What the log keeps of how the tool was called."""
        arguments = call.arguments
        text = (
            arguments.encode(errors="replace") if isinstance(arguments, str) else _json(arguments)
        )
        said = {
            "model": _word(call.model),
            "end_user": _word(call.end_user),
            "arguments_digest": hashlib.sha256(text).hexdigest(),
            "arguments_bytes": len(text),
            "file_ids": sorted(call.file_ids)[:_MAX_FILES],
            "num_files": len(call.file_ids),
        }
        if not self._keeps_arguments:
            return said
        cipher = await self._tenant_keys.cipher(call.principal.tenant)
        sealed = cipher.seal(text[:_MAX_SEALED_BYTES], arguments_label(call.request_id, call.id))
        return {**said, "arguments": base64.b64encode(sealed).decode()}


def arguments_label(request_id: str, call_id: str) -> Label:
    """With which the arguments of a call are sealed."""
    return Label("tool.arguments", f"{request_id}/{call_id}")


async def _refusal(connection: Connection, call: Call, tool: GovernedTool) -> str | None:
    """Which rule refuses the call to the key as it is now; None: none, and its approval is used."""
    principal = call.principal
    if principal.key_id is None:
        return "key.tool"
    grants = await key_rows.find_tools_of_key(connection, principal.key_id)
    if grants is None:
        return "key.revoked"
    if not is_granted(tool, grants):
        return "key.tool"
    if call.approval_id is None:
        return None
    is_first = await approval_rows.try_use(connection, principal.tenant.id, call.approval_id)
    return None if is_first else "tool.approval_used"


def _event(type: str, call: Call, details: Mapping[str, Any]) -> AuditEvent:
    target: dict[str, Any] = {"id": _word(call.id), "name": _name(call.name)}
    if call.tool is not None:
        target["server_id"] = call.tool.server.id
        target["digest"] = call.tool.definition.digest.hex()
    return AuditEvent(
        type,
        audit.actor_of(call.principal, call.ip),
        call.principal.tenant.id,
        call.principal.project_id,
        target=target,
        details=details,
        request_id=call.request_id,
    )


def _decided(decision: Decision, rule: str) -> dict[str, str]:
    return {"decision": decision, "rule": rule}


def _name(name: str) -> str | None:
    """None: a model wrote what is no name of a tool, and it is kept nowhere."""
    return name if _NAME.fullmatch(name) and not keys.holds_key(name) else None


def _word(text: str | None) -> str | None:
    """What a client may have written, at a length and without a key that does not belong there."""
    return None if text is None else keys.redact(text)[:_MAX_WORD]


def _json(arguments: Mapping[str, Any]) -> bytes:
    return orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    """Raises NotWritten for every way in which an event cannot be written."""
    try:
        yield
    except (DatabaseDown, asyncpg.PostgresError, KeyRevoked, CannotOpen, InvalidEvent) as error:
        _log.error("a call of a tool cannot be written to the audit log: %s", error)
        raise NotWritten from error
