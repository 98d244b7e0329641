"""How does a command talk to a running server, as any client of its API does?

For commands that anybody with a key may use, from any machine. The key comes from the environment
or an option; it is sent to the address that was given and nowhere else.

Does not know: any endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from anzoth.control import ControlError
from anzoth.server_over_http import client_of, send

if TYPE_CHECKING:
    import httpx2

Json = dict[str, Any]

Url = Annotated[
    str,
    typer.Option(
        "--url", envvar=["ANZOTH_URL", "OPENAI_BASE_URL"], help="The server's address, with /v1."
    ),
]
Key = Annotated[
    str,
    typer.Option(
        "--key",
        envvar=["ANZOTH_API_KEY", "OPENAI_API_KEY"],
        help="An API key. Better in the environment: others on this machine see options.",
        show_default=False,
    ),
]
DEFAULT_URL = "http://127.0.0.1:8000/v1"

_TRIES = 5
_RETRIED = frozenset({429, 500, 502, 503, 504})
_MAX_WAIT_S = 30.0
_PAGE = 100


class ApiError(ControlError):
    """The server refuses: its own sentence."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiClient:
    """A server's API with one key. Use it as a context manager."""

    def __init__(self, url: str, key: str) -> None:
        self._client = client_of(url.rstrip("/"), headers={"authorization": f"Bearer {key}"})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Json:
        """Raises ApiError, NotReached. So do all others."""
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: Json | None = None) -> Json:
        return await self._ask("POST", path, json=body or {})

    async def delete(self, path: str) -> Json:
        return await self._ask("DELETE", path)

    async def upload(self, path: Path, name: str) -> Json:
        """A file of the project, for knowledge bases."""
        with path.open("rb") as content:
            return await self._ask(
                "POST",
                "/files",
                files={"file": (name, content)},
                data={"purpose": "assistants"},
            )

    async def pages(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> AsyncIterator[Json]:
        """What a list holds, page by page."""
        asked = {"limit": _PAGE, "order": "asc", **(params or {})}
        while True:
            page = await self.get(path, asked)
            for item in page["data"]:
                yield item
            if not page["has_more"]:
                return
            asked["after"] = page["last_id"]

    async def _ask(self, method: str, path: str, **content: Any) -> Json:
        """What cannot be repeated without doing it twice is refused before it is done: a status
        that asks for a retry means that nothing happened."""
        num_tries = 0
        while True:
            num_tries += 1
            for _, stream in (content.get("files") or {}).values():
                stream.seek(0)
            request = self._client.build_request(method, path, **content)
            response = await send(self._client, request)
            if response.is_success:
                return response.json()
            if num_tries == _TRIES or not _asks_for_retry(response):
                raise ApiError(_message(response), response.status_code)
            await asyncio.sleep(_wait_s(response))


def _asks_for_retry(response: httpx2.Response) -> bool:
    is_told_not_to = response.headers.get("x-should-retry") == "false"
    return response.status_code in _RETRIED and not is_told_not_to


def _wait_s(response: httpx2.Response) -> float:
    try:
        wait_s = float(response.headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        wait_s = 1.0
    return min(wait_s, _MAX_WAIT_S)


def _message(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered with status {response.status_code}"
