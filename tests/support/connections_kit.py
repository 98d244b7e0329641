"""How tests call tools of servers, and what they expect of a call that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcp_kit import Rogue, connecting, limits, rogue_server, server_at, tool_named
from outside_kit import egress_to

from anzoth.gateway.tools.definitions import NO_CREDENTIALS, Credentials, ToolFailure

SECRET = "canary-secret"


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 30))  # type: ignore[arg-type]  # a coroutine


def failing(kind: str, *absent: str) -> Any:
    """The failure is of that kind, and says nothing that is nobody's business."""

    class Failing:
        def __enter__(self) -> None: ...

        def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> bool:
            assert isinstance(error, ToolFailure), error
            assert error.kind == kind, (error.kind, error)
            for text in (SECRET, "rogue words", *absent):
                assert text not in str(error)
            return True

    return Failing()


async def called(rogue: Rogue, credentials: Credentials = NO_CREDENTIALS, **given: Any) -> Any:
    """One call of the tool `say` of a server that misbehaves."""
    async with rogue_server(rogue) as place:
        server = server_at(f"http://{place.address}/mcp", limits=limits(**given))
        async with connecting(egress_to(place)) as (connections, _):
            tool = await approved(connections, server, credentials)
            return await connections.call(tool, {"x": "hello"}, credentials)


async def approved(connections: Any, server: Any, credentials: Any = NO_CREDENTIALS) -> Any:
    return tool_named(server, await connections.list_tools(server, credentials), "say")


def saying(
    said: Callable[[Any, asyncio.StreamWriter], object], method: str = "tools/call"
) -> Rogue:
    async def answer(message: Any, writer: asyncio.StreamWriter) -> object:
        return said(message, writer)

    return Rogue(by_method={method: answer})


def events(writer: asyncio.StreamWriter, then: bytes = b"") -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + then
    )


async def endless_comments(_message: Any, writer: asyncio.StreamWriter) -> object:
    events(writer)
    while True:
        writer.write(b": still here\n\n")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless_events(_message: Any, writer: asyncio.StreamWriter) -> object:
    events(writer)
    while True:
        writer.write(b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n' * 100)
        await writer.drain()
