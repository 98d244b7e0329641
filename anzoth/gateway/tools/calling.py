"""May this call of a tool be made, and what comes of it?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from anzoth.gateway.principal import Principal
from anzoth.gateway.tools.definitions import ToolOutcome
from anzoth.gateway.tools.grants import GrantedTool
from anzoth.gateway.tools.taint import Untrusted


@dataclass(slots=True)
class ToolTurn:
    """In which conversation a model calls tools: one for all rounds of a request."""

    principal: Principal
    request_id: str
    ip: str | None
    end_user: str | None
    """Whom the caller acts for (`user`, `safety_identifier`)."""
    model: str
    granted: Mapping[str, GrantedTool]
    untrusted: Untrusted = field(default_factory=Untrusted)
    file_ids: Collection[str] = ()
    """Of the documents that the prompt has passages of."""
    approved: frozenset[str] = frozenset()
    """Ids of calls that a person approved, as they were shown: with these arguments."""
    rejected: frozenset[str] = frozenset()
    """Ids of calls that a person was asked about and did not approve."""


class ToolCaller:
    """One per gateway."""

    async def call(self, turn: ToolTurn, call_id: str, name: str, arguments: str) -> ToolOutcome:
        """Runs the call of the tool `name`, or says why it was not run; never raises for a tool's
        sake. `arguments`: JSON, as the model wrote it.

        The result is added to `turn.untrusted`. Calls that a model made at once are all judged
        before any of them has a result, where they are started before the first is awaited.

        When it is cancelled, so is the call at the server, and that is written down.
        """
        raise NotImplementedError
