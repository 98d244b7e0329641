"""The official client of the Model Context Protocol, and what its calls answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import mcp
import orjson
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

VERSIONS = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28"}
"""What each of the client's modes comes to. The last asks nothing before the first call."""


@contextlib.asynccontextmanager
async def connected(url: str, mode: str, key: str) -> AsyncIterator[mcp.Client]:
    """`url`: of the API, with its /v1."""
    headers = {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False, verify=False) as http,
        mcp.Client(
            streamable_http_client(f"{url.removesuffix('/v1')}/mcp", http_client=http), mode=mode
        ) as client,
    ):
        yield client


def rpc(method: str, params: object = None, id: object = 1) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    return message if params is None else {**message, "params": params}


def said(result: CallToolResult) -> dict[str, Any]:
    """What a tool answers: the same as text and as structured content."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert not result.is_error, content.text
    assert orjson.loads(content.text) == result.structured_content
    return orjson.loads(content.text)


def refused(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert (result.is_error, result.structured_content) == (True, None)
    return content.text
