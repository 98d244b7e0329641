"""What `kill_ledger.py` runs: gateways that start quickly, and an engine that is a witness."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine_peer import EnginePeer, stats

from anzoth import server
from anzoth.frames import Step, Submit, encode

TOKEN_S = 0.002
_DIGITS, _BASE, _FIRST_ID = 4, 200, 50
_IDLE_S = 10.0
_SETTINGS_FD = 0


class Nursery:
    """A process that has imported the gateway and forks one when asked."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            with contextlib.suppress(BaseException):
                _nurse(theirs)
            os._exit(0)
        theirs.close()
        self._socket = ours

    def start(self, settings: dict[str, Any]) -> int:
        """The new gateway's process id; the one before it was killed, and is gone now."""
        self._socket.send(json.dumps(settings).encode())
        return int(self._socket.recv(64))

    def close(self) -> None:
        self._socket.close()
        os.waitpid(self.pid, 0)


def _nurse(control: socket.socket) -> None:
    child, keep = 0, -1
    while settings := control.recv(1 << 16):
        if child:
            os.waitpid(child, 0)
            os.close(keep)
        readable, keep = os.pipe()
        os.write(keep, settings + b"\n")
        child = os.fork()
        if not child:
            os.close(keep)
            os.dup2(readable, _SETTINGS_FD)
            control.close()
            server.main()
            os._exit(0)
        os.close(readable)
        control.send(str(child).encode())
    if child:
        os.close(keep)
        os.waitpid(child, 0)


class Witness(EnginePeer):
    """Counts what it samples, by the number that stands in the prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sampled: Counter[int] = Counter()
        self.asked: set[int] = set()
        self.num_running = 0

    async def _generate(
        self, writer: asyncio.StreamWriter, submit: Submit, prompt: list[int]
    ) -> None:
        self.submits.clear()
        number = number_of(prompt)
        self.asked.add(number)
        self.num_running += 1
        try:
            for position, said in enumerate(self.script(submit, prompt, 0)):
                if writer.is_closing():  # the gateway is gone
                    return
                self.sampled[number] += 1
                row = self._row(submit.request, 0, position, said)
                writer.write(encode(Step(stats(position + 1), (row,))))
                await asyncio.sleep(TOKEN_S)
        finally:
            self.num_running -= 1

    async def busy(self) -> None:
        """Returns when a request runs, or after a while without any."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE_S):
                while not self.num_running:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)


def prompt_of(number: int) -> list[int]:
    return [_FIRST_ID + number // _BASE**digit % _BASE for digit in range(_DIGITS)]


def number_of(prompt: Sequence[int]) -> int:
    return sum((token - _FIRST_ID) * _BASE**digit for digit, token in enumerate(prompt))
