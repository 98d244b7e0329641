"""How are the calls of one turn made: together, in time, and no more than there may be?

Whatever comes of a call is an outcome, which the model reads; only the end of the request itself
(its deadline, its client) is raised. Calls beyond the bounds are outcomes too.

Does not know: whether a call is allowed (`gateway.tools.calling`), or what the model says next.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from anzoth.api.call import Call
from anzoth.api.call_ids import new_ids, prompt_id
from anzoth.api.messages import Message, arguments_of, result_of_server
from anzoth.api.timeout import deadline_s
from anzoth.errors import DeadlineExceeded
from anzoth.gateway.generation import GenerationCancelled
from anzoth.gateway.tools.calling import ToolTurn
from anzoth.gateway.tools.definitions import SEPARATOR, ToolOutcome
from anzoth.gateway.tools.grants import GrantedTool
from anzoth.text.tool_calls import ToolCall

MAX_CALLS, TIMEOUT = "tools.max_calls", "tools.timeout"
"""Rules of calls that were not made."""


@dataclass(slots=True, frozen=True)
class ServerCall:
    """A call of a tool of a server."""

    id: str
    label: str
    """Of the server."""
    tool_name: str
    """As the server calls it."""
    arguments: str = field(repr=False)
    """JSON, as the model wrote it."""
    approval_id: str | None = None
    """Of the request for approval that was answered."""
    is_approved: bool = False
    remark: str = field(default="", repr=False)
    """What was said with the answer, for the model."""

    @property
    def name(self) -> str:
        """In which the model calls it."""
        return f"{self.label}{SEPARATOR}{self.tool_name}"

    @property
    def prompt_id(self) -> str:
        """Under which the model reads it."""
        return prompt_id(self.id)


class Watcher(Protocol):
    """Is told what happens between the texts of an answer."""

    def turn_ended(self) -> None:
        """What the model said is over, and calls follow."""
        ...

    def call_began(self, call: ServerCall) -> None: ...

    def call_ended(self, call: ServerCall, outcome: ToolOutcome) -> None:
        """Of each call, also of those that never began because they were refused."""
        ...


class Nobody:
    """The watcher of answers that show text alone."""

    def turn_ended(self) -> None: ...

    def call_began(self, call: ServerCall) -> None: ...

    def call_ended(self, call: ServerCall, outcome: ToolOutcome) -> None: ...


class ServerCalls:
    """All calls of one answer."""

    def __init__(
        self, call: Call, turn: ToolTurn, max_calls: int | None, *, asks_approval: bool
    ) -> None:
        """`max_calls`: what the request allows. `asks_approval`: somebody can be asked, so a call
        that needs approval is no result for the model."""
        config = call.services.tools.config
        self.trace: list[dict[str, Any]] = []
        """JSON: the calls, without what was given or answered."""
        self.wants_approval = False
        """There is a call about which a person has to be asked."""
        self.ended_by: str | None = None
        """Which bound was met. None: none."""
        self._call = call
        self._turn = turn
        self._left = config.max_calls if max_calls is None else min(config.max_calls, max_calls)
        self._time_left_s = config.timeout_s
        self._was_told = False
        """The model, that it may call no more."""
        self._asks_approval = asks_approval
        self._running: list[asyncio.Task[None]] = []
        self._is_cancelled = False

    def cancel(self) -> None:
        """The client is gone: what runs is ended, and then `make`."""
        self._is_cancelled = True
        for task in self._running:
            task.cancel()

    @property
    def is_used_up(self) -> bool:
        """The model was told that it may call no more."""
        return self._was_told and not self._left

    async def make(
        self, calls: Sequence[ServerCall], round: int, watcher: Watcher
    ) -> list[ToolOutcome]:
        """All of them at once: a model that may not call several has called one.

        Raises DeadlineExceeded or GenerationCancelled.
        """
        allowed = calls[: self._left]
        self._left -= len(allowed)
        outcomes: dict[str, ToolOutcome] = {}

        def end(call: ServerCall, outcome: ToolOutcome) -> None:
            outcomes[call.id] = outcome
            if outcome.decision == "needs_approval" and self._asks_approval:
                self.wants_approval = True
            watcher.call_ended(call, outcome)

        about_to_ask = await self._about_to_ask(allowed)
        if self._is_cancelled:
            raise GenerationCancelled()

        async def one(call: ServerCall) -> None:
            if call.id not in about_to_ask:
                watcher.call_began(call)
            caller = self._call.services.tools.caller
            end(call, await caller.call(self._turn, call.id, call.name, call.arguments))

        await self._in_time([one(call) for call in allowed])
        for call in calls[len(allowed) :]:
            self._was_told = True
            end(call, _refused(call, MAX_CALLS, "no further call of a tool is possible"))
        for call in allowed:
            if call.id not in outcomes:
                end(call, _refused(call, TIMEOUT, "the time for tools is over"))
        self.trace += [_traced(call, outcomes[call.id], round) for call in calls]
        return [outcomes[call.id] for call in calls]

    async def _in_time(self, made: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Runs them together, for as long as there is time.

        Raises DeadlineExceeded or GenerationCancelled.
        """
        began_s = time.monotonic()
        until_s = deadline_s(self._call.request) or math.inf
        left_s = min(self._time_left_s, until_s - began_s)
        try:
            async with asyncio.timeout(left_s), asyncio.TaskGroup() as group:
                self._running = [group.create_task(one) for one in made]
        except TimeoutError:
            if time.monotonic() >= until_s:
                raise DeadlineExceeded() from None
            self.ended_by = TIMEOUT
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._running = []
            self._time_left_s -= time.monotonic() - began_s
        if self._is_cancelled:
            raise GenerationCancelled()

    async def _about_to_ask(self, calls: Sequence[ServerCall]) -> frozenset[str]:
        """Ids of those about which a person will be asked, as far as it can be told before they
        are made; so what is not made does not begin."""
        if not self._asks_approval or all(call.approval_id is not None for call in calls):
            return frozenset()
        asked = await asyncio.to_thread(lambda: list(filter(self._needs_approval, calls)))
        return frozenset(call.id for call in asked)

    def _needs_approval(self, call: ServerCall) -> bool:
        tool = self._turn.granted.get(call.name)
        if tool is None or call.approval_id is not None:
            return False
        arguments = arguments_of(call.arguments)
        known = arguments if isinstance(arguments, dict) else {}
        return tool.needs_approval or self._turn.untrusted.rule(tool, known) is not None


def of_turn(calls: Sequence[ToolCall], granted: Mapping[str, GrantedTool]) -> list[ServerCall]:
    """What a model wrote at once, each a call of one of its tools."""
    made: list[ServerCall] = []
    for id, call in zip(new_ids(len(calls)), calls, strict=True):
        tool = granted[call.name].tool
        made.append(ServerCall(id, tool.server.label, tool.definition.name, call.arguments))
    return made


def shown_call(call: ServerCall) -> dict[str, Any]:
    """As templates take it."""
    function = {"name": call.name, "arguments": arguments_of(call.arguments)}
    return {"type": "function", "function": function, "id": call.prompt_id}


def result_message(call: ServerCall, outcome: ToolOutcome) -> Message:
    """In which the model reads what came of it."""
    text = f"{outcome.text} {call.remark}" if call.remark else outcome.text
    return result_of_server(call.prompt_id, call.name, text)


def _refused(call: ServerCall, rule: str, why: str) -> ToolOutcome:
    text = f"This call was not made or has no result: {why}. Answer with what you have."
    return ToolOutcome(call.id, call.name, "denied", rule, text, is_error=True)


def _traced(call: ServerCall, outcome: ToolOutcome, round: int) -> dict[str, Any]:
    return {
        "id": call.id,
        "round": round,
        "server_label": call.label,
        "name": call.tool_name,
        "decision": outcome.decision,
        "rule": outcome.rule,
        "is_error": outcome.is_error,
        "latency_ms": outcome.latency_ms,
        "num_bytes": outcome.num_bytes,
    }
