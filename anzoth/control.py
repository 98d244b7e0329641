"""How does one process of an installation tell another what to do?

    request = one line of JSON: {"do": name, …}
    answer  = lines of JSON: any number of {"event": …}, then {"done": …} or {"error": "sentence"}

over a Unix socket in the run directory. Only the user that serves (or root) may connect: the
socket's mode says so, and the kernel is asked who the peer is. A peer that goes away ends what it
asked for, unless the handler protects itself from that.

Does not know: what can be asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 1 << 20
_REQUEST_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 16
_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid

Fields = Mapping[str, Any]  # JSON; whoever reads a field checks it
Tell = Callable[[Fields], None]
"""Sends an event to whoever asked. Never blocks."""
Handler = Callable[[Fields, Tell], Awaitable[Fields]]
"""Returns what was done. Raises ControlError."""


class ControlError(Exception):
    """What was asked for cannot be done: a sentence for whoever asked."""


class NotReached(ControlError):
    """Nobody listens on the socket, or the answer broke off."""


@contextlib.asynccontextmanager
async def serving(path: Path, handlers: Mapping[str, Handler]) -> AsyncIterator[None]:
    """Answers requests on `path` for the duration of the block; then running ones are cancelled."""
    async with asyncio.TaskGroup() as group:
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(connections) >= _MAX_CONNECTIONS or not _is_ours(writer):
                writer.close()
                return
            task = group.create_task(_connection(reader, writer, handlers))
            connections.add(task)
            task.add_done_callback(connections.discard)

        listener = _private_socket(path)
        server = await asyncio.start_unix_server(connected, sock=listener, limit=_MAX_REQUEST_BYTES)
        try:
            yield
        finally:
            server.close()
            _remove(path)
            for task in connections:
                task.cancel()
    await server.wait_closed()
    await asyncio.sleep(0)  # in which the transports of cancelled connections end


async def ask(path: Path, request: Fields, on_event: Tell | None = None) -> Fields:
    """What was done. Waits for as long as it takes; raises ControlError or NotReached."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=_MAX_REQUEST_BYTES)
    except OSError as error:
        raise NotReached(f"{path}: {error.strerror}") from error
    try:
        writer.write(orjson.dumps(request) + b"\n")
        await writer.drain()
        while line := await reader.readline():
            answer = orjson.loads(line)
            if "done" in answer:
                return answer["done"]
            if "error" in answer:
                raise ControlError(answer["error"])
            if on_event is not None:
                on_event(answer["event"])
    except (OSError, ValueError, KeyError) as error:
        raise NotReached(f"{path}: the answer broke off") from error
    finally:
        await _close(writer)
    raise NotReached(f"{path}: the answer broke off")


async def _connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Mapping[str, Handler]
) -> None:
    """One connection: one request."""
    try:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                line = await reader.readline()
            request = orjson.loads(line)
            handler = handlers[request["do"]]
        except (OSError, ValueError, KeyError, TypeError):  # TimeoutError is an OSError
            refusal = "that is no request of this version; is the server another one?"
            _send(writer, {"error": refusal})
        else:
            await _answer(request, handler, reader, writer)
    finally:
        await _close(writer)


async def _answer(
    request: Fields, handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Does what is asked for, as long as the peer is there."""

    def tell(event: Fields) -> None:
        _send(writer, {"event": event})

    working = asyncio.ensure_future(handler(request, tell))
    leaving = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            _send(writer, {"done": working.result()})
    except ControlError as error:
        _send(writer, {"error": str(error)})
    except Exception:  # the edge: whatever failed, the next request finds this process working
        log.exception("the request %r failed", request["do"])
        _send(writer, {"error": "the server failed to do this; its log says why"})
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def _send(writer: asyncio.StreamWriter, answer: Fields) -> None:
    if not writer.is_closing():
        writer.write(orjson.dumps(answer) + b"\n")


async def _close(writer: asyncio.StreamWriter) -> None:
    """When the peer has what was written, or does not take it."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await writer.wait_closed()
    except OSError:  # it went away; TimeoutError is an OSError
        pass
    finally:
        writer.transport.abort()


def _private_socket(path: Path) -> socket.socket:
    """Bound with its mode, so that there is no moment in which others could connect."""
    _remove(path)  # of an earlier process, which is gone: the data directory is locked
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # not Linux: the socket's mode and its folder's stand alone
    peer = writer.get_extra_info("socket")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return _PEER_CREDENTIALS.unpack(raw)[1] in (os.geteuid(), 0)
