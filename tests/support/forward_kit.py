"""A backend of another server, and an alias that leads to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_harness import Api, running_api
from api_stand_ins import Reply
from openai_peer import (
    KEY_VARIABLE,
    SECRET,
    OpenaiPeer,
    head,
)

from anzoth.gateway.aliases import Target
from anzoth.price import Price

Far = Callable[[Api, OpenaiPeer], Any]
BIG = Target("big", "far")
FAR_PRICE = Price(2_000, 1_000, 10_000)
"""In nano-units a token: 2, 1 cached, 10 of output."""
EVENTS = head(content_type="text/event-stream")


def patience(name: str) -> dict[str, float]:
    """Short where the peer hangs; otherwise a slow machine must not look like a hanging peer."""
    limits = ("first_byte_timeout_s", "chunk_timeout_s", "answer_timeout_s")
    return dict.fromkeys(limits, 0.1 if "hang" in name else 30.0)


def run_far(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """An API with one backend `far`, whose model `big` the alias `smart` leads to."""
    monkeypatch.setenv(KEY_VARIABLE, SECRET)

    def run_scenario(scenario: Far, **config: Any) -> None:
        async def main() -> None:
            async with OpenaiPeer().running() as peer:
                made = peer.config(**config)
                async with running_api(
                    checkpoint, tmp_path / "engine.sock", backends=[made]
                ) as api:
                    api.aliases.add("smart", BIG)
                    await scenario(api, peer)

        asyncio.run(main())

    return run_scenario


def text_of(reply: Reply) -> str:
    return "".join(
        choice["delta"].get("content") or "" for c in reply.chunks for choice in c["choices"]
    )
