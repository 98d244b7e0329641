"""May this call of a tool be made, and what comes of it?

Each call is judged anew, by what holds at that moment: a tool that was changed or a key that was
revoked since the request began is refused, whatever the model was shown.

    granted to the request → still in the catalogue, with the same definition → arguments valid
        → approval, as the server and the request ask for → taint → rate
        → key still granted, approval not used before, and the call written down
        → call → outcome written down

Does not know: how a server is spoken to, or how a model is told.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from anzoth.db.pool import Database
from anzoth.errors import DatabaseUnavailable, KeyRevoked
from anzoth.gateway.principal import Principal, TenantHandle
from anzoth.gateway.tenant_crypt import CannotOpen, TenantKeys
from anzoth.gateway.tools.call_audit import Call, CallAudit, NotWritten
from anzoth.gateway.tools.call_rates import CallRates, TooManyCalls
from anzoth.gateway.tools.definitions import (
    Credentials,
    Decision,
    FailureKind,
    GovernedTool,
    ToolFailure,
    ToolOutcome,
    ToolResult,
    ToolServer,
)
from anzoth.gateway.tools.grants import GrantedTool, stricter
from anzoth.gateway.tools.taint import Untrusted
from anzoth.telemetry import Metrics

_GRACE_S = 2.0
"""More than a tool's time: connections keep it themselves, and say better what was late."""
_LAST_WORDS_S = 6.0
"""For what a call ended with to be written although nobody waits: one block of the database."""

_REASONS: Mapping[str, str] = {
    "key.tool": "This key has no access to a tool of that name.",
    "key.revoked": "The API key was revoked.",
    "tool.changed": "The tool was changed or withdrawn, and waits for approval.",
    "tool.arguments": "The arguments are wrong: {}.",
    "tool.approval": "It needs a person's approval.",
    "tool.approval_used": "Its approval was used already, so it is not made again; what came of it "
    "then is not known here.",
    "tool.taint": "It needs a person's approval, because of text that the conversation holds.",
    "tool.rejected": "It was not approved.",
    "tool.rate": "The tool is called too often; it may be called in {}.",
    "server.audit": "It cannot be written down at the moment.",
    "server.database": "The tool cannot be looked up at the moment.",
    "server.internal": "The tool's credentials cannot be used.",
}
"""What the model is told of a call that was not made."""

_log = logging.getLogger(__name__)


class Catalogue(Protocol):
    """See `catalogue.ToolCatalogue`."""

    async def of(self, tenant: TenantHandle) -> Mapping[str, GovernedTool]: ...
    async def credentials(self, tenant: TenantHandle, server: ToolServer) -> Credentials: ...


class Connections(Protocol):
    """See `connections.ToolConnections`."""

    async def call(
        self, tool: GovernedTool, arguments: Mapping[str, Any], credentials: Credentials
    ) -> ToolResult: ...


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
    approved: Mapping[str, str] = field(default_factory=dict)
    """By the id of a call that a person approved, as it was shown (with these arguments): the id of
    the request for that."""
    rejected: frozenset[str] = frozenset()
    """Ids of calls that a person was asked about and did not approve."""


class _Refused(Exception):
    """The call is not made."""

    def __init__(
        self,
        rule: str,
        decision: Decision = "denied",
        *,
        detail: str = "",
        is_written: bool = False,
    ) -> None:
        super().__init__(rule)
        self.rule = rule
        self.decision: Decision = decision
        self.text = f"The call was not made. {_REASONS[rule].format(detail)}"
        self.is_written = is_written


class ToolCaller:
    """One per gateway."""

    def __init__(
        self,
        database: Database,
        tenant_keys: TenantKeys,
        catalogue: Catalogue,
        connections: Connections,
        metrics: Metrics,
        *,
        keeps_arguments: bool = False,
        rates: CallRates | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keeps_arguments`: see [tools] keep_arguments in the settings."""
        self._catalogue = catalogue
        self._connections = connections
        self._metrics = metrics
        self._audit = CallAudit(database, tenant_keys, keeps_arguments=keeps_arguments)
        self._rates = rates or CallRates()
        self._clock = clock

    async def call(self, turn: ToolTurn, call_id: str, name: str, arguments: str) -> ToolOutcome:
        """Runs the call of the tool `name`, or says why it was not run; never raises for a tool's
        sake. `arguments`: JSON, as the model wrote it.

        The result is added to `turn.untrusted`. Calls that a model made at once are all judged by
        what it had read then, if they are started before the first of them is awaited.

        When it is cancelled, so is the call at the server, and that is written down.
        """
        seen = turn.untrusted.snapshot()
        call = Call(
            id=call_id,
            name=name,
            arguments=arguments,
            principal=turn.principal,
            request_id=turn.request_id,
            ip=turn.ip,
            end_user=turn.end_user,
            model=turn.model,
            file_ids=turn.file_ids,
            approval_id=turn.approved.get(call_id),
        )
        try:
            tool = await self._current(turn, call)
            is_decided = call_id in turn.approved or call_id in turn.rejected
            ready = await asyncio.to_thread(_checked, tool, arguments, None if is_decided else seen)
            call.arguments = ready.arguments
            rule = _allowing_rule(turn, call_id, tool, ready.taint)
            self._take(tool.tool)
            credentials = await self._credentials(turn.principal.tenant, tool.tool.server)
            await self._begin(call, tool.tool, rule)
        except _Refused as refusal:
            return await self._refuse(call, refusal)
        outcome = await self._run(call, tool.tool, ready.arguments, credentials, rule)
        if outcome.failure is None:
            turn.untrusted.add(outcome.text)
        return outcome

    # --- whether it is made ---------------------------------------------------------------------

    async def _current(self, turn: ToolTurn, call: Call) -> GrantedTool:
        """The tool as it is now. Raises _Refused."""
        shown = turn.granted.get(call.name)
        if shown is None:
            raise _Refused("key.tool")
        call.tool = shown.tool
        try:
            catalogue = await self._catalogue.of(turn.principal.tenant)
        except DatabaseUnavailable:
            raise _Refused("server.database") from None
        tool = catalogue.get(call.name)
        if tool is None or tool.definition.digest != shown.tool.definition.digest:
            raise _Refused("tool.changed")
        call.tool = tool
        return GrantedTool(tool, stricter(tool.server.approval, shown.approval))

    def _take(self, tool: GovernedTool) -> None:
        try:
            self._rates.take(tool)
        except TooManyCalls as error:
            detail = f"{math.ceil(error.retry_after_ms / 1000)} s"
            raise _Refused("tool.rate", detail=detail) from None

    async def _credentials(self, tenant: TenantHandle, server: ToolServer) -> Credentials:
        try:
            return await self._catalogue.credentials(tenant, server)
        except DatabaseUnavailable:
            raise _Refused("server.database") from None
        except KeyRevoked:
            raise _Refused("key.revoked") from None
        except CannotOpen as error:
            _log.error("the credentials of a tool server cannot be opened: %s", error)
            raise _Refused("server.internal") from None

    async def _begin(self, call: Call, tool: GovernedTool, rule: str) -> None:
        """Raises _Refused."""
        writing = asyncio.ensure_future(self._audit.begin(call, tool, rule))
        try:
            refusal = await asyncio.shield(writing)
        except NotWritten:
            raise _Refused("server.audit", is_written=True) from None
        except asyncio.CancelledError:
            await asyncio.wait({writing}, timeout=_LAST_WORDS_S)
            if writing.done() and writing.exception() is None and writing.result() is None:
                await self._end(call, "cancelled", self._clock(), 0)  # before it was made
            raise
        if refusal is not None:
            raise _Refused(refusal, is_written=True)

    async def _refuse(self, call: Call, refusal: _Refused) -> ToolOutcome:
        self._metrics.tool_refused(refusal.decision, refusal.rule)
        if not refusal.is_written:
            try:
                await self._audit.refused(call, refusal.decision, refusal.rule)
            except NotWritten:
                pass  # it is in the log of this process, and the call is not made anyway
        return ToolOutcome(
            call.id, call.name, refusal.decision, refusal.rule, refusal.text, is_error=True
        )

    # --- what comes of it -----------------------------------------------------------------------

    async def _run(
        self,
        call: Call,
        tool: GovernedTool,
        arguments: Mapping[str, Any],
        credentials: Credentials,
        rule: str,
    ) -> ToolOutcome:
        began_s = self._clock()
        failure: FailureKind | None = None
        try:
            async with asyncio.timeout(tool.server.limits.timeout_s + _GRACE_S):
                result = await self._connections.call(tool, arguments, credentials)
        except ToolFailure as error:
            failure = error.kind
            result = ToolResult(str(error), is_error=True)
        except TimeoutError:
            failure = "timeout"
            result = ToolResult("The tool did not answer in time.", is_error=True)
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            await self._end(call, "cancelled" if is_cancelled else "broken", began_s, 0)
            raise
        ending = failure or ("tool_error" if result.is_error else "ok")
        latency_ms = await self._end(call, ending, began_s, result.num_bytes)
        return ToolOutcome(
            call_id=call.id,
            tool_name=call.name,
            decision="allowed",
            rule=rule,
            text=result.text,
            is_error=result.is_error,
            failure=failure,
            latency_ms=latency_ms,
            num_bytes=result.num_bytes,
        )

    async def _end(self, call: Call, outcome: str, began_s: float, num_bytes: int) -> int:
        """Written down to its end, also where nobody waits for the call any more. The call cannot
        be undone: where this cannot be written, `tool.called` stands alone, and the log of this
        process says so. How long the call took, in ms."""
        after_s = self._clock() - began_s
        self._metrics.tool_called(outcome, after_s)
        latency_ms = round(after_s * 1000)
        writing = asyncio.ensure_future(self._write_end(call, outcome, latency_ms, num_bytes))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing}, timeout=_LAST_WORDS_S)
            raise
        return latency_ms

    async def _write_end(self, call: Call, outcome: str, latency_ms: int, num_bytes: int) -> None:
        try:
            await self._audit.completed(call, outcome, latency_ms, num_bytes)
        except NotWritten:
            pass


@dataclass(slots=True, frozen=True)
class _Checked:
    """Arguments that the tool's schema allows."""

    arguments: Mapping[str, Any] = field(repr=False)
    taint: str | None
    """Which rule makes the call need approval because of what was read."""


def _checked(tool: GrantedTool, arguments: str, seen: Untrusted | None) -> _Checked:
    """Not on the event loop: it takes milliseconds. `seen`: None where a person has decided, and
    what was read does not matter. Raises _Refused."""
    # Here, because it takes a quarter of a second to import, and most gateways call no tools.
    from anzoth.gateway.tools.arguments import BadArguments, parse

    try:
        parsed = parse(tool.tool.definition.input_schema, arguments)
    except BadArguments as error:
        raise _Refused("tool.arguments", detail=str(error)) from None
    return _Checked(parsed, None if seen is None else seen.rule(tool, parsed))


def _allowing_rule(turn: ToolTurn, call_id: str, tool: GrantedTool, taint: str | None) -> str:
    """Raises _Refused for what a person must approve and did not."""
    if call_id in turn.rejected:
        raise _Refused("tool.rejected", "rejected")
    if call_id in turn.approved:
        return "tool.approved"
    if tool.needs_approval:
        raise _Refused("tool.approval", "needs_approval")
    if taint is not None:
        raise _Refused(taint, "needs_approval")
    return "tool.granted"
