"""What became of the calls of tools that were made for a request?

Does not know: where the events are (see `call_audit` for what they are), or who may ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from anzoth.db.store.audit_rows import AuditRow


@dataclass(slots=True, frozen=True)
class PastCall:
    """One call, or one that was refused."""

    id: str
    name: str | None
    """None: what the model wrote is no name of a tool."""
    server_id: str | None
    digest: str | None
    """Of the definition, in hexadecimal digits. None, as the server: it was shown no such tool."""
    at: datetime
    decision: str
    rule: str
    outcome: str | None = None
    """`ok`, `tool_error`, a kind of failure, `cancelled` or `broken`. None: the call was not made,
    or nobody knows what came of it, or not yet."""
    latency_ms: int | None = None
    num_bytes: int | None = None


def past_calls(events: Iterable[AuditRow]) -> list[PastCall]:
    """`events`: of one request, in the order of the log."""
    calls: list[PastCall] = []
    for event in events:
        if event.type == "tool.completed":
            _complete(calls, event)
            continue
        target = event.target
        calls.append(
            PastCall(
                id=target["id"],
                name=target["name"],
                server_id=target.get("server_id"),
                digest=target.get("digest"),
                at=event.at,
                decision=event.details["decision"],
                rule=event.details["rule"],
            )
        )
    return calls


def _complete(calls: list[PastCall], event: AuditRow) -> None:
    """Of calls with one id, which a model may write twice, the first that is still open."""
    for place, call in enumerate(calls):
        if call.id == event.target["id"] and call.decision == "allowed" and call.outcome is None:
            details = event.details
            calls[place] = replace(
                call,
                outcome=details["outcome"],
                latency_ms=details["latency_ms"],
                num_bytes=details["bytes"],
            )
            return
