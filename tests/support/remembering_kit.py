"""A gateway that remembers what is said: its clients, what it asked its engine, what it refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from engine_peer import HELLO
from files_kit import FileServer, run_files

from anzoth.db.errors import DatabaseDown

MODEL = "org/tiny"


def run_chatting(
    dsn: str, folder: Path, checkpoint: Path, scenario: Callable[[FileServer], Any]
) -> None:
    """A scenario with a gateway, its database and two tenants who may chat."""

    async def chatting(server: FileServer) -> None:
        keys = server.api.keys.principals
        server.one, server.two = (
            replace(who, scopes=who.scopes | {"chat"}) for who in (server.one, server.two)
        )
        keys |= {"good": server.one, "foreign": server.two}
        await scenario(server)

    hello = replace(HELLO, max_model_tokens=2048)
    run_files(dsn, folder, checkpoint, chatting, hello=hello)


def strict(server: FileServer, key: str = "good") -> Any:
    """The SDK, which checks what it is told."""
    sdk = server.sdk(key)
    sdk._strict_response_validation = True
    return sdk


def prompt(server: FileServer, number: int = -1) -> str:
    """What the engine was asked, the last time unless `number` says otherwise."""
    return server.api.model.tokenizer.decode(server.api.peer.submits[number][1])


@contextmanager
def refused(status: int, code: str, param: str | None) -> Iterator[None]:
    with pytest.raises(openai.APIStatusError) as caught:
        yield
    error = caught.value
    assert (error.status_code, error.code, error.param) == (status, code, param)


class Away:
    """A database that is."""

    def tenant(self, handle: object) -> Any:
        raise DatabaseDown("away")
