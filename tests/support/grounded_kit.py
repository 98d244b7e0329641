"""Chats from knowledge bases over a scripted engine and an in-memory search."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from api_harness import Api, running_api
from api_stand_ins import Reply
from engine_peer import HELLO
from listed_searcher import ListedSearcher
from openai_peer import KEY_VARIABLE, SECRET, OpenaiPeer

Scenario = Callable[[Api, ListedSearcher], Any]
Run = Callable[[Scenario], None]

PUMP = "The X200 pump runs on water at 3.5 bar.\nIts warranty lasts 24 months."
FAN = "The fan moves air with a motor of 40 W."
QUESTION = "what does the pump run on"
ANSWER = "The X200 pump runs on water [1]."


def run_grounded(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Scenario], None]:
    """With the stores `vs_1` (a pump) and `vs_2` (a fan), and the backend `far`."""
    monkeypatch.setenv(KEY_VARIABLE, SECRET)

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            searcher = ListedSearcher()
            searcher.add("vs_1", "file-pump", PUMP)
            searcher.add("vs_2", "file-fan", FAN)
            searcher.add("vs_foreign", "file-x", FAN, UUID(int=99))
            async with (
                OpenaiPeer().running() as peer,
                running_api(
                    checkpoint,
                    tmp_path / "engine.sock",
                    hello=replace(HELLO, max_model_tokens=4096),
                    searcher=searcher,
                    backends=[peer.config()],
                ) as api,
            ):
                api.saying = [ANSWER]
                searcher.peer = peer  # type: ignore[attr-defined]  # for scenarios with `far`
                await scenario(api, searcher)

        asyncio.run(main())

    return run_scenario


def search_in(*store_ids: str, **fields: Any) -> dict[str, Any]:
    return {"type": "file_search", "vector_store_ids": [*store_ids], **fields}


def says(content: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


async def ask(api: Api, question: str = QUESTION, *before: Any, **fields: Any) -> Reply:
    return await api.chat(messages=[*before, says(question)], **fields)


def prompts(api: Api) -> list[str]:
    return [api.model.tokenizer.decode(prompt) for _, prompt in api.peer.submits]


def citations(reply: Reply) -> list[dict[str, Any]]:
    """Of the first choice, whole or streamed."""
    return [made for part in _parts(reply) for made in part.get("annotations", [])]


def unknown_citations(reply: Reply) -> list[dict[str, Any]]:
    """Of the first choice, whole or streamed."""
    extensions = [part.get("x_anzoth", {}) for part in _parts(reply)]
    return [made for each in extensions for made in each.get("unknown_citations", [])]


def _parts(reply: Reply) -> list[dict[str, Any]]:
    """The message, or the deltas that it is made of."""
    if "choices" in (reply.json if reply.body[:1] == b"{" else {}):
        return [reply.json["choices"][0]["message"]]
    return [choice["delta"] for chunk in reply.chunks for choice in chunk["choices"]]
