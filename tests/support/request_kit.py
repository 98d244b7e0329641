"""Bodies of requests to generate, as little as one can say, and what they are read as."""

from __future__ import annotations

from typing import Any

from anzoth.api.requests import (
    ChatRequest,
    parse_chat,
    parse_completion,
)

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ChatRequest:
    return parse_chat({"model": "m", "messages": MESSAGES, **fields})


def completion(**fields: Any) -> Any:
    return parse_completion({"model": "m", "prompt": "hi", **fields})


TOOL = {"type": "function", "function": {"name": "f"}}


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


def file_search(**fields: Any) -> dict[str, Any]:
    return {"type": "file_search", "vector_store_ids": ["vs_1"], **fields}


def json_schema(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", **fields}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
