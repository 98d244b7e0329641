"""How does an audit log show that somebody changed it?

Each event carries the hash of the one before it. There is a chain for every tenant and one for the
installation; in each, events are numbered from 1 without a gap, and `previous` of the first is
zeros. The hash is the SHA-256 of the event's canonical form, which is one JSON object:

    {"actor":{"id":…,"ip":…,"kind":…},"at":"2026-01-31T12:00:00.000000Z","details":{…},
     "format":"anzoth.audit.1","id":…,"previous":…,"project_id":…,"request_id":…,"seq":…,
     "target":{…},"tenant_id":…,"type":…}

UTF-8, keys sorted by their code points at every level, no white space, no escapes but those that
JSON demands (\\" \\\\ \\b \\f \\n \\r \\t, other control characters as \\u00xx), numbers only whole
ones, times in UTC with six digits, ids as lower-case UUIDs, hashes as lower-case hexadecimal
digits, null where there is nothing. An export has the same objects with their `hash`, so any
language with SHA-256 can check one.

A head is an event's number and hash, signed with Ed25519 (RFC 8032) over the canonical form of

    {"format":"anzoth.audit.head.1","hash":…,"seq":…,"signed_at":…,"tenant_id":…}

What cannot be seen: that events after the last head were cut off; that whoever has both the
database and the signing key wrote everything anew; and, where heads lie only beside the events,
that both were removed together. A head that was kept elsewhere shows all three.

Does not know: databases, or who may write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from anzoth.db.store.audit_rows import AuditHead, AuditRow

FORMAT = "anzoth.audit.1"
HEAD_FORMAT = "anzoth.audit.head.1"
GENESIS = bytes(32)
"""What the first event of a chain follows."""
CREATED_TENANT = "tenant.created"
"""In the installation's chain it says which other chains there must be."""

_FIELDS = frozenset(
    ("actor", "at", "details", "format", "id", "previous", "project_id", "request_id", "seq")
    + ("target", "tenant_id", "type", "hash")
)
_HEAD_FIELDS = ("format", "tenant_id", "seq", "hash", "signed_at")

JsonObject = Mapping[str, Any]


@dataclass(slots=True, frozen=True)
class Problem:
    """The first thing that is wrong with a chain."""

    tenant_id: str | None
    """None: the installation's chain."""
    seq: int | None
    """Of the first bad event; None: not about one."""
    id: str | None
    reason: str


@dataclass(slots=True, frozen=True)
class Report:
    """What a verification found."""

    num_chains: int
    num_events: int
    num_heads: int
    num_after_heads: int
    """Events that no head covers yet: cutting those off would not be seen."""
    public_keys: list[str]
    """Of the heads."""
    problems: list[Problem]


def canonical(value: JsonObject) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def content(row: AuditRow) -> dict[str, Any]:
    """What is hashed of an event."""
    return {
        "format": FORMAT,
        "tenant_id": _text(row.tenant_id),
        "seq": row.seq,
        "id": str(row.id),
        "at": stamp(row.at),
        "type": row.type,
        "actor": {"kind": row.actor_kind, "id": row.actor_id, "ip": row.actor_ip},
        "project_id": _text(row.project_id),
        "target": row.target,
        "details": row.details,
        "request_id": row.request_id,
        "previous": row.previous.hex(),
    }


def digest(event: JsonObject) -> bytes:
    return hashlib.sha256(canonical(event)).digest()


def exported(row: AuditRow) -> dict[str, Any]:
    """An event as exports show it and as it is verified."""
    return {**content(row), "hash": row.hash.hex()}


def head_content(
    tenant_id: UUID | None, seq: int, hash: bytes, signed_at: datetime
) -> dict[str, Any]:
    """What is signed of a head."""
    return {
        "format": HEAD_FORMAT,
        "tenant_id": _text(tenant_id),
        "seq": seq,
        "hash": hash.hex(),
        "signed_at": stamp(signed_at),
    }


def exported_head(head: AuditHead) -> dict[str, Any]:
    """A head as exports show it and as it is verified."""
    return {
        **head_content(head.tenant_id, head.seq, head.hash, head.signed_at),
        "public_key": head.public_key.hex(),
        "signature": head.signature.hex(),
    }


@dataclass(slots=True)
class _Chain:
    """What was seen of a chain so far."""

    seq: int = 0
    hash: str = GENESIS.hex()
    num_after_head: int = 0


class Verifier:
    """Takes all heads, then events one by one, then says what is wrong: memory for heads only."""

    def __init__(self, heads: Iterable[JsonObject], trusted: Collection[bytes] | None) -> None:
        """`trusted`: the public keys that may have signed; None: whichever did."""
        self._chains: dict[str | None, _Chain] = {}
        self._problems: dict[str | None, Problem] = {}
        self._heads: dict[str | None, dict[int, str]] = {}
        self._created: set[str] = set()
        self._public_keys: dict[str, None] = {}
        self._num_events = 0
        self._num_heads = 0
        for head in heads:
            self._add_head(head, trusted)

    def add(self, event: object) -> None:
        """The next event: of any chain, but within each in order."""
        self._num_events += 1
        if not isinstance(event, dict) or not _has_form(event):
            where = f"the event that came as number {self._num_events}"
            self.complain(None, None, None, f"{where} is not in the format {FORMAT}")
            return
        tenant_id, seq, id = event["tenant_id"], event["seq"], event["id"]
        chain = self._chains.setdefault(tenant_id, _Chain())
        if tenant_id in self._problems:
            return
        if (reason := self._fault(chain, event)) is not None:
            self.complain(tenant_id, seq, id, reason)
            return
        chain.seq, chain.hash = seq, event["hash"]
        chain.num_after_head += 1
        if (signed := self._heads.get(tenant_id, {}).get(seq)) is not None:
            chain.num_after_head = 0
            if signed != chain.hash:
                self.complain(tenant_id, seq, id, "its signed head has another hash")
        if tenant_id is None and event["type"] == CREATED_TENANT:
            self._created.add(event["target"]["id"])

    def complain(self, tenant_id: str | None, seq: int | None, id: str | None, reason: str) -> None:
        """Only the first problem of a chain is kept."""
        self._problems.setdefault(tenant_id, Problem(tenant_id, seq, id, reason))

    def finish(self, *, is_complete: bool) -> Report:
        """`is_complete`: the events were those of every chain that there is."""
        for tenant_id, heads in self._heads.items():
            last = self._chains.get(tenant_id, _Chain()).seq
            if (signed := max(heads)) > last:
                self.complain(
                    tenant_id,
                    last + 1,
                    None,
                    f"it is missing: a signed head says that the chain reached event {signed}",
                )
        if is_complete:
            for tenant_id in self._created - self._chains.keys():
                reason = "the whole chain is missing: the installation's says that there is one"
                self.complain(tenant_id, 1, None, reason)
        return Report(
            num_chains=len(self._chains),
            num_events=self._num_events,
            num_heads=self._num_heads,
            num_after_heads=sum(chain.num_after_head for chain in self._chains.values()),
            public_keys=list(self._public_keys),
            problems=sorted(self._problems.values(), key=lambda p: p.tenant_id or ""),
        )

    def _fault(self, chain: _Chain, event: dict[str, Any]) -> str | None:
        seq = event["seq"]
        if seq != chain.seq + 1:
            return f"event {chain.seq + 1} was expected here"
        if event["previous"] != chain.hash:
            return "it does not follow from the event before it: `previous` is another hash"
        try:
            hash = digest({name: value for name, value in event.items() if name != "hash"}).hex()
        except (TypeError, ValueError):  # orjson's error is a TypeError
            return "its content has no canonical form"
        return None if hash == event["hash"] else "its content is not what was hashed"

    def _add_head(self, head: JsonObject, trusted: Collection[bytes] | None) -> None:
        """Complains about a head that proves nothing."""
        self._num_heads += 1
        try:
            signed = {name: head[name] for name in _HEAD_FIELDS}
            public_key = bytes.fromhex(head["public_key"])
            is_good = _is_signed(public_key, bytes.fromhex(head["signature"]), canonical(signed))
        except (KeyError, TypeError, ValueError):
            is_good, signed, public_key = False, {}, b""
        if not _has_head_form(signed):
            where = f"the signed head that came as number {self._num_heads}"
            self.complain(None, None, None, f"{where} is not in the format {HEAD_FORMAT}")
            return
        tenant_id, seq, hash = signed["tenant_id"], signed["seq"], signed["hash"]
        self._public_keys[public_key.hex()] = None
        if trusted is not None and public_key not in trusted:
            self.complain(tenant_id, seq, None, "its head is signed with a key that is not trusted")
        elif not is_good:
            self.complain(tenant_id, seq, None, "the signature of its head is wrong")
        elif self._heads.setdefault(tenant_id, {}).setdefault(seq, hash) != hash:
            self.complain(tenant_id, seq, None, "two signed heads name different hashes")


def _is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    # Here, because the gateway appends to chains and has no use for it.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _has_form(event: dict[str, Any]) -> bool:
    """Whether an event can be looked at; its hash says the rest."""
    return (
        event.keys() == _FIELDS
        and isinstance(event["target"], dict)
        and event["format"] == FORMAT
        and isinstance(event["tenant_id"], str | None)
        and isinstance(event["id"], str)
        and type(event["seq"]) is int
        and (event["type"] != CREATED_TENANT or isinstance(event["target"].get("id"), str))
    )


def _has_head_form(signed: JsonObject) -> bool:
    return (
        signed.get("format") == HEAD_FORMAT
        and isinstance(signed["tenant_id"], str | None)
        and type(signed["seq"]) is int
        and isinstance(signed["hash"], str)
    )


def _text(id: UUID | None) -> str | None:
    return None if id is None else str(id)
