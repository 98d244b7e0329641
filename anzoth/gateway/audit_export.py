"""What is an audit log outside of its database?

JSON lines: first what the export is, then the signed heads, then the events, chain by chain:

    {"export":{"format":"anzoth.audit.1","exported_at":…,"public_key":…,"tenant_id":…}}
    {"head":{…}}
    {"event":{…}}

`public_key` is the exporting installation's, and `tenant_id` null for all chains. The objects are
those that `audit_chain` describes, and each line is written in the canonical form.

Does not know: what makes a chain right (see `audit_chain`).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import orjson

from anzoth.db.pool import Connection
from anzoth.db.store import audit_rows
from anzoth.gateway import audit_chain
from anzoth.gateway.audit_chain import Report, Verifier


class NotAnExport(ValueError):
    """The file is no export of an audit log; the message is one sentence."""


async def write(
    connection: Connection, chain: uuid.UUID | None, public_key: bytes, file: IO[bytes]
) -> int:
    """Writes one chain, or all, and returns how many events that were."""
    about = {
        "format": audit_chain.FORMAT,
        "exported_at": audit_chain.stamp(datetime.now(UTC)),
        "public_key": public_key.hex(),
        "tenant_id": None if chain is None else str(chain),
    }
    file.write(_line({"export": about}))
    # Before the events: a head that is signed meanwhile must not name one that is not here.
    for head in await audit_rows.list_heads(connection, chain):
        file.write(_line({"head": audit_chain.exported_head(head)}))
    num_events = 0
    async for row in audit_rows.all_events(connection, chain):
        file.write(_line({"event": audit_chain.exported(row)}))
        num_events += 1
    return num_events


async def verify_database(
    connection: Connection,
    chain: uuid.UUID | None,
    trusted: Collection[bytes] | None,
    earlier: Path | None = None,
) -> Report:
    """`earlier`: an export whose heads must still be led to. Raises NotAnExport."""
    heads = [audit_chain.exported_head(h) for h in await audit_rows.list_heads(connection, chain)]
    verifier = Verifier([*heads, *_heads_of(earlier, chain)], trusted)
    async for row in audit_rows.all_events(connection, chain):
        verifier.add(audit_chain.exported(row))
    return verifier.finish(is_complete=chain is None)


def verify_file(
    path: Path, trusted: Collection[bytes] | None, earlier: Path | None = None
) -> Report:
    """Needs neither database nor server. Raises NotAnExport and OSError."""
    lines = _lines(path)
    _, first = next(lines, (0, {}))
    about = first.get("export") if isinstance(first, dict) else None
    if not isinstance(about, dict) or about.get("format") != audit_chain.FORMAT:
        raise NotAnExport(f"{path} does not begin like an export of the format anzoth.audit.1")
    chain = None if about.get("tenant_id") is None else uuid.UUID(about["tenant_id"])
    verifier = Verifier([*_heads_of(path, None), *_heads_of(earlier, chain)], trusted)
    for number, line in lines:
        match line:
            case {"event": event}:
                verifier.add(event)
            case {"head": _}:
                pass
            case _:
                reason = f"line {number} is neither an event nor a head in canonical form"
                verifier.complain(None, None, None, reason)
    return verifier.finish(is_complete=chain is None)


def _heads_of(path: Path | None, chain: uuid.UUID | None) -> Iterator[Any]:
    """Those of an export, or of one chain in it."""
    if path is None:
        return
    wanted = None if chain in (None, audit_rows.INSTALLATION) else str(chain)
    for _, line in _lines(path):
        match line:
            case {"head": {"tenant_id": tenant_id} as head} if chain is None or tenant_id == wanted:
                yield head


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """Numbers and objects; None for a line that is not in canonical form."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                value = orjson.loads(line)
                is_canonical = _line(value) == line
            except ValueError:  # JSONDecodeError is one
                value, is_canonical = None, False
            yield number, value if is_canonical else None


def _line(value: Any) -> bytes:  # JSON
    return audit_chain.canonical(value) + b"\n"
