"""Who changed what?

    async with pool.operator(dsn) as connection:            # or database.tenant(…), or any other
        … the change itself …
        await audit.record(connection, AuditEvent("api_key.created", actor, tenant.id, …))

`record` appends to the log inside the transaction of the change: both happen, or none. It takes the
lock of each chain that it appends to and holds it until that transaction ends, so it comes last,
after every other lock and statement; and once: a transaction with several events hands them over
together, and `record` locks their chains in one and the same order. Then nobody who holds a chain
ever waits for anything but another chain behind it, and there is no deadlock.

An event holds ids and what was asked for, never a secret or a prompt.

Does not know: how a chain is verified (see `audit_chain`), or who reads it.
"""

from __future__ import annotations

import os
import pwd
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from anzoth.db.pool import Connection
from anzoth.db.store import audit_rows
from anzoth.db.store.audit_rows import AuditRow
from anzoth.gateway import audit_chain, keys
from anzoth.gateway.audit_events import EVENTS
from anzoth.gateway.principal import Principal

ActorKind = Literal["api_key", "user", "operator", "system"]

_MAX_BYTES = 16_384
"""Of the target and of the details: an event is a line, not a document."""


class InvalidEvent(ValueError):
    """An event that must not be recorded as it is: a mistake of whoever made it."""


@dataclass(slots=True, frozen=True)
class Actor:
    """Who did it."""

    kind: ActorKind
    id: uuid.UUID | str | None
    """Of the key or the user; the operating system's name of an operator."""
    ip: str | None = None


@dataclass(slots=True, frozen=True)
class AuditEvent:
    """What happened. `target` has the ids of what was changed, the first of them called `id`."""

    type: str
    actor: Actor
    tenant_id: uuid.UUID | None
    """None: it concerns the installation."""
    project_id: uuid.UUID | None = None
    target: Mapping[str, Any] = field(default_factory=dict)  # JSON, and UUIDs
    details: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None


SYSTEM = Actor("system", "anzoth")
"""What happens by itself."""


def operator() -> Actor:
    """Whoever runs this process: the commands' actor."""
    try:
        return Actor("operator", pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:  # a user without a name, as containers have
        return Actor("operator", f"uid {os.getuid()}")


def actor_of(principal: Principal, ip: str | None) -> Actor:
    """Who makes a request."""
    if principal.user_id is not None:
        return Actor("user", principal.user_id, ip)
    return Actor("api_key", principal.key_id, ip)


async def record(connection: Connection, *events: AuditEvent) -> None:
    """Appends the events, in this order within each chain. To be called last in a transaction.

    Raises InvalidEvent for a type that is not in the table, for what is not JSON with whole
    numbers, and for anything that looks like an API key; and what the database raises.
    """
    assert connection.is_in_transaction(), "the event must stand or fall with its change"
    by_chain: dict[uuid.UUID, list[AuditEvent]] = {}
    for event in events:
        by_chain.setdefault(audit_rows.chain_of(event.tenant_id), []).append(_checked(event))
    # The installation's chain has the lowest id and the most visitors: it is locked last.
    for chain in sorted(by_chain, reverse=True):
        head = await audit_rows.open_chain(connection, chain)
        at = head.now if head.at is None else max(head.now, head.at)  # clocks are set back
        rows = linked(head.seq or 0, head.hash or audit_chain.GENESIS, at, by_chain[chain])
        await audit_rows.insert_events(connection, rows)
        await audit_rows.close_chain(connection)


def linked(seq: int, previous: bytes, at: datetime, events: Iterable[AuditEvent]) -> list[AuditRow]:
    """The events of one chain as they follow its event `seq`, whose hash is `previous`."""
    rows = []
    for event in events:
        seq += 1
        row = AuditRow(
            id=uuid.uuid4(),
            tenant_id=event.tenant_id,
            seq=seq,
            at=at,
            type=event.type,
            actor_kind=event.actor.kind,
            actor_id=None if event.actor.id is None else str(event.actor.id),
            actor_ip=event.actor.ip,
            project_id=event.project_id,
            target=event.target,
            details=event.details,
            request_id=event.request_id,
            previous=previous,
            hash=b"",
        )
        row = replace(row, hash=audit_chain.digest(audit_chain.content(row)))
        previous = row.hash
        rows.append(row)
    return rows


def _checked(event: AuditEvent) -> AuditEvent:
    """The event as it is stored. Raises InvalidEvent."""
    if event.type not in EVENTS:
        raise InvalidEvent(f"there is no audit event {event.type!r}")
    actor = event.actor
    checked = replace(
        event,
        actor=replace(actor, id=_plain(actor.id), ip=_plain(actor.ip)),
        target=_plain(event.target),
        details=_plain(event.details),
        request_id=_plain(event.request_id),
    )
    for part in (checked.target, checked.details):
        if len(audit_chain.canonical(part)) > _MAX_BYTES:
            raise InvalidEvent(f"a {event.type} event of more than {_MAX_BYTES} bytes")
    return checked


def _plain(value: Any) -> Any:  # JSON in, JSON out
    """JSON that reads back from the database exactly as it was hashed. Raises InvalidEvent."""
    match value:
        case None | bool():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case uuid.UUID():
            return str(value)
        case str():
            if keys.holds_key(value):
                raise InvalidEvent("an audit event holds an API key")  # not quoted, of course
            # Postgres takes neither NUL nor half of a surrogate pair.
            return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        case Mapping():
            return {_plain(_name(name)): _plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            items = sorted(value) if isinstance(value, set | frozenset) else value
            return [_plain(item) for item in items]
        case _:
            raise InvalidEvent(f"an audit event holds a {type(value).__name__}")


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidEvent("an audit event has a field whose name is no text")
    return name
