"""How is a request made as one of the parties, timed, and its answer watched?

Nothing is retried and no cookie is kept: what is asked is what was written down. Requests go one
after the other over one connection.

Does not know: what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import orjson

from anzoth.isolation.comparing import Answer
from anzoth.isolation.tenants import Party
from anzoth.server_over_http import client_of, send


@dataclass(slots=True, frozen=True)
class Content:
    """What a request says beside its path."""

    json: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    file: tuple[str, str, bytes] | None = None
    """Of a form: the field's name, the file's name, its content."""
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def said(self) -> bytes:
        """All of it: what an answer may repeat."""
        parts = [orjson.dumps(self.json), orjson.dumps(dict(self.query))]
        if self.file is not None:
            parts += [self.file[1].encode(), self.file[2]]
        return b"\n".join(parts)


EMPTY = Content()


@dataclass(slots=True, frozen=True)
class Credentials:
    """Headers that say who asks."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


NOBODY = Credentials()


def with_key(key: str) -> Credentials:
    return Credentials({"authorization": f"Bearer {key}"})


def with_session(party: Party, public_url: str | None) -> Credentials:
    """`public_url`: as browsers know the server; its cookies have another name over https."""
    prefix = ""
    headers = {"x-csrf-token": party.session.csrf_token}
    if public_url is not None:
        headers |= {"origin": public_url, "host": urlsplit(public_url).netloc}
        prefix = "__Host-" if urlsplit(public_url).scheme == "https" else ""
    headers["cookie"] = f"{prefix}anzoth-session={party.session.token}"
    return Credentials(headers)


class AsksServer:
    """A server, as a client of its API sees it. Use it as a context manager."""

    def __init__(self, url: str) -> None:
        """`url` with its `/v1`."""
        self.url = url
        self._client = client_of(
            url.rstrip("/").removesuffix("/v1"),
            limits=httpx2.Limits(max_connections=1, keepalive_expiry=60),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ask(
        self, who: Credentials, method: str, path: str, content: Content = EMPTY
    ) -> Answer:
        """`path`: as in the table of routes. Raises NotReached."""
        request = self._client.build_request(
            method,
            path,
            params=content.query or None,
            json=content.json,
            files=_files(content),
            data=dict(content.form) or None,
            headers=dict(who.headers),
        )
        began_ns = time.perf_counter_ns()
        response = await send(self._client, request)
        elapsed_us = (time.perf_counter_ns() - began_ns) // 1000
        self._client.cookies.clear()
        headers = tuple((name.lower(), value) for name, value in response.headers.multi_items())
        return Answer(response.status_code, headers, response.content, elapsed_us)


def _files(content: Content) -> Sequence[tuple[str, tuple[str, bytes]]] | None:
    if content.file is None:
        return None
    field_name, filename, data = content.file
    return [(field_name, (filename, data))]
