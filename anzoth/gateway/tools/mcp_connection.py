"""What becomes of one connection to an MCP server, from its first message to its end?

The SDK speaks the protocol, of both eras. The connection belongs to one task, which opens it, keeps
it while it is used, and closes it; calls run in the tasks of their callers, so that ending one ends
its call at the server. A server may ask us for nothing: no model, no person, no folder is offered.

Does not know: which tools were approved, or who calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anzoth.gateway.egress.allowance import Allowance
from anzoth.gateway.egress.failures import EgressFailure
from anzoth.gateway.tools import mcp_content
from anzoth.gateway.tools.definitions import ToolDefinition, ToolFailure, ToolResult, ToolServer
from anzoth.gateway.tools.mcp_watch import Watch, watching

if TYPE_CHECKING:
    from mcp.client._transport import Transport
    from mcp.client.client import Client
    from mcp.client.session import ClientSession, IncomingMessage
    from mcp_types import Tool
    from pydantic import TypeAdapter

_logger = logging.getLogger(__name__)

LISTING_BYTES = 1 << 20
"""Of all pages of a listing together."""
_MAX_PAGES = 32
_LISTING_AGE_S = 60.0
_CONNECT_TIMEOUT_S = 20.0
"""A server of the older era may let the SDK wait for ten before it is asked in its own way."""
_CONNECT_BYTES = 262_144
_CONNECT_EXCHANGES = 8
_CALL_EXCHANGES = 4
_LATER_S = 1.0
"""After whoever waits for an answer has given up, and the server was told so: it is not read."""
_IDLE_S = 300.0
_MAX_AGE_S = 3600.0


class SessionGone(Exception):
    """The server has forgotten this connection; nothing was called."""


def wire_bytes(max_result_bytes: int) -> int:
    """How much may come for a result of that size: its text may stand there twice, escaped."""
    return 4 * max_result_bytes + 65_536


def failure_of(failure: EgressFailure) -> ToolFailure:
    kind = "egress_refused" if failure.kind == "refused" else failure.kind
    return ToolFailure(kind, str(failure))


class McpConnection:
    """One connection, opened by being made. Whoever asks something of it is among its callers."""

    def __init__(
        self,
        server: ToolServer,
        transport: Transport,
        lost: Callable[[], EgressFailure | None] = lambda: None,
    ) -> None:
        """`lost`: why the other side is gone, where that can be known without asking it."""
        loop = asyncio.get_running_loop()
        self.num_callers = 0
        self.last_used_s = self._opened_s = loop.time()
        self._server = server
        self._lost = lost
        self._client: asyncio.Future[Client] = loop.create_future()
        self._closing = asyncio.Event()
        self._is_retired = False
        self._listing = asyncio.Lock()
        self._listed_s: float | None = None
        self._definitions: Mapping[str, ToolDefinition] = {}
        self.task = loop.create_task(self._keep(transport))  # ended by `close`, of its owner

    @property
    def is_usable(self) -> bool:
        age_s = asyncio.get_running_loop().time() - self._opened_s
        over = self._is_retired or self.task.done() or self._lost() is not None
        return not over and age_s < _MAX_AGE_S

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        self.num_callers += 1
        try:
            yield
        finally:
            self.num_callers -= 1
            self.last_used_s = asyncio.get_running_loop().time()
            if self._is_retired:
                self.retire()

    def retire(self) -> None:
        """Nobody new; it ends when the last of its callers has gone. Idempotent."""
        self._is_retired = True
        if not self.num_callers:
            self.end()

    def end(self) -> None:
        """Now, whoever waits."""
        self._is_retired = True
        self._closing.set()
        if not self._client.done():
            self.task.cancel()  # it is being opened, for nobody

    async def definitions(self, *, is_fresh: bool = False) -> Mapping[str, ToolDefinition]:
        """What the server lists, by name: as it was a minute ago, where it did not say that this
        has changed, or as it is now. Raises ToolFailure and SessionGone."""
        loop = asyncio.get_running_loop()
        async with self._listing:
            listed_s = self._listed_s
            if is_fresh or listed_s is None or loop.time() - listed_s > _LISTING_AGE_S:
                self._listed_s = loop.time()  # a notification meanwhile is of the next listing
                try:
                    self._definitions = await self._list()
                except BaseException:
                    self._listed_s = None
                    raise
            return self._definitions

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Raises ToolFailure and SessionGone. The caller's end is the call's at the server."""
        from mcp.shared.exceptions import MCPError
        from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult

        max_result_bytes = self._server.limits.max_result_bytes
        request = CallToolRequest(
            params=CallToolRequestParams(name=name, arguments=dict(arguments))
        )
        watch = self._watch(wire_bytes(max_result_bytes), _CALL_EXCHANGES)
        # Not the session's `call_tool`: it checks results against a schema of the server's, whose
        # patterns may run for longer than anybody lives.
        try:
            answer = await self._asked(
                watch, lambda session: session.send_request(request, _any_result())
            )
        except MCPError as error:  # the server's own
            return mcp_content.error_of(error, max_result_bytes, watch.allowance.num_bytes)
        if not isinstance(answer, CallToolResult):
            raise ToolFailure("protocol", "The tool wants to ask somebody, which it cannot here.")
        return mcp_content.result_of(answer, max_result_bytes, watch.allowance.num_bytes)

    async def _list(self) -> Mapping[str, ToolDefinition]:
        from mcp.shared.exceptions import MCPError

        try:
            tools = await self._asked(self._watch(LISTING_BYTES, _MAX_PAGES + 1), _all_pages)
        except MCPError:  # its own error: no other reason is left
            raise ToolFailure("protocol", "The server does not list its tools.") from None
        return mcp_content.definitions_of(tools)

    def _watch(self, max_bytes: int, max_exchanges: int) -> Watch:
        timeout_s = self._server.limits.timeout_s + _LATER_S
        return Watch(Allowance.of(max_bytes, timeout_s, max_exchanges))

    async def _asked(self, watch: Watch, ask: Callable[[ClientSession], Awaitable[Any]]) -> Any:
        """Raises ToolFailure, SessionGone, and MCPError for an error that the server answered."""
        from mcp.shared.exceptions import MCPError
        from mcp_types import CONNECTION_CLOSED, PARSE_ERROR, REQUEST_TIMEOUT

        client = await asyncio.shield(self._client)
        try:
            with watching(watch):
                return await ask(client.session)
        except MCPError as error:
            if watch.is_session_gone:
                raise SessionGone from None
            failure = watch.failure or self._lost()
            if failure is not None:
                raise failure_of(failure) from None
            if error.code == CONNECTION_CLOSED:
                raise ToolFailure("unreachable", "The connection to the tool broke.") from None
            if error.code == REQUEST_TIMEOUT:
                raise ToolFailure("timeout", "The tool did not answer in time.") from None
            if error.code == PARSE_ERROR:
                raise _not_understood() from None
            raise
        except ToolFailure:
            raise
        except Exception as error:  # noqa: BLE001  # the edge: a stranger's bytes in a library
            _logger.warning(
                "server %s: %s while it was asked", self._server.label, type(error).__name__
            )
            raise _not_understood() from None

    async def _keep(self, transport: Transport) -> None:
        from mcp.client.client import Client
        from mcp_types import Implementation

        watch = Watch(Allowance.of(_CONNECT_BYTES, _CONNECT_TIMEOUT_S, _CONNECT_EXCHANGES))
        failure: ToolFailure | None = None
        try:
            async with contextlib.AsyncExitStack() as stack:
                client = Client(
                    transport,
                    cache=None,
                    client_info=Implementation(name="anzoth", version="1"),
                    message_handler=self._heard,
                )
                with watching(watch):
                    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                        await stack.enter_async_context(client)
                if not self._client.done():
                    self._client.set_result(client)
                await self._until_over()
        except TimeoutError:
            failure = ToolFailure("timeout", "The server did not answer in time.")
        except EgressFailure as error:
            failure = failure_of(error)
        except Exception as error:  # noqa: BLE001  # the edge: a stranger's bytes in a library
            _logger.warning("server %s: connection: %s", self._server.label, type(error).__name__)
            failure = ToolFailure("protocol", "The server does not speak MCP as it should.")
        finally:
            self._is_retired = True
            if not self._client.done():
                why = watch.failure or self._lost()
                gone = ToolFailure("unreachable", "The connection to the tool was given up.")
                self._client.set_exception(failure_of(why) if why else failure or gone)
                self._client.exception()  # retrieved, also where nobody waits any more

    async def _until_over(self) -> None:
        """It was ended, or nobody has used it for a while."""
        loop = asyncio.get_running_loop()
        while not self._closing.is_set():
            idle_until_s = self.last_used_s + _IDLE_S
            if loop.time() >= idle_until_s:
                self.retire()
                idle_until_s = loop.time() + _IDLE_S  # of the callers that are still there
            try:
                async with asyncio.timeout_at(idle_until_s):
                    await self._closing.wait()
            except TimeoutError:
                pass

    async def _heard(self, message: IncomingMessage) -> None:
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            self._listed_s = None


async def _all_pages(session: ClientSession) -> Sequence[Tool]:
    """Raises ToolFailure where there are too many."""
    from mcp_types import PaginatedRequestParams

    tools: list[Tool] = []
    page = await session.list_tools()
    for _ in range(_MAX_PAGES):
        tools += page.tools
        if len(tools) > mcp_content.MAX_TOOLS:
            break
        if page.next_cursor is None:
            return tools
        page = await session.list_tools(params=PaginatedRequestParams(cursor=page.next_cursor))
    raise ToolFailure("too_large", "The server lists too many tools.")


def _not_understood() -> ToolFailure:
    return ToolFailure("protocol", "What the server answered is not what MCP says.")


@functools.cache
def _any_result() -> TypeAdapter[Any]:
    from mcp_types import CallToolResult, InputRequiredResult
    from pydantic import TypeAdapter

    return TypeAdapter(CallToolResult | InputRequiredResult)
