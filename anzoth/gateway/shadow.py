"""What happens to a request that a policy would refuse?

Every refusal by a policy (a scope, a grant, a limit) goes through `Principal.deny`: it raises the
error, or, where the rule is only watched for this key or tenant (`shadow_rules`), notes here that
it would have, and the request goes on. What was noted is written to the request's usage row.

The notes belong to the request and not to the principal, which many requests share; a context
variable carries them, so that no check between the edge and the limiter has to.

Does not know: what a rule means (see `rules`).
"""

from __future__ import annotations

from contextvars import ContextVar

_notes: ContextVar[list[str] | None] = ContextVar("_notes", default=None)


def watch() -> list[str]:
    """The rules that are noted from now on in this task, for one request."""
    notes: list[str] = []
    _notes.set(notes)
    return notes


def note(rule: str) -> None:
    """Once per rule and request. Without effect where nobody watches."""
    notes = _notes.get()
    if notes is not None and rule not in notes:
        notes.append(rule)
