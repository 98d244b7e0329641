"""Batches over real HTTP and a real database, worked on by as many gateways as a test likes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from api_harness import MODEL
from files_kit import FileServer
from openai.types import Batch

from anzoth.api.batch_lines import BatchLines
from anzoth.batch_config import BatchesConfig
from anzoth.db import pool
from anzoth.gateway.batches.answers import Ask
from anzoth.gateway.batches.claims import BatchClaims
from anzoth.gateway.batches.running import Parts
from anzoth.gateway.batches.worker import BatchWorker
from anzoth.gateway.keys import Pepper

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
FIRST = UUID(int=71)
"""A gateway."""
ENDED = ("failed", "completed", "expired", "cancelled")

Scenario = Callable[[FileServer], Awaitable[None]]


def chat_body(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **more}


def line(custom_id: str, body: Any = None, url: str = CHAT, **more: Any) -> dict[str, Any]:
    body = chat_body() if body is None else body
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **more}


def lines(count: int) -> list[dict[str, Any]]:
    return [line(f"line {number}") for number in range(1, count + 1)]


def grant_all(server: FileServer) -> None:
    """Both tenants' keys may do everything that infers."""
    for name, principal in server.api.keys.principals.items():
        server.api.keys.principals[name] = replace(principal, scopes=frozenset({"all"}))


async def upload(server: FileServer, content: Sequence[Any] | bytes, key: str = "good") -> str:
    """The id of an input file."""
    if not isinstance(content, bytes):
        content = b"\n".join(json.dumps(one).encode() for one in content)
    made = await server.sdk(key).files.create(file=("in.jsonl", content), purpose="batch")
    return made.id


async def create(
    server: FileServer,
    content: Sequence[Any] | bytes,
    endpoint: Any = CHAT,
    key: str = "good",
    **more: Any,
) -> Batch:
    file_id = await upload(server, content, key)
    return await server.sdk(key).batches.create(
        input_file_id=file_id, endpoint=endpoint, completion_window="24h", **more
    )


async def until_status(
    server: FileServer, id: str, *statuses: str, key: str = "good", timeout_s: float = 30
) -> Batch:
    async with asyncio.timeout(timeout_s):
        while True:
            batch = await server.sdk(key).batches.retrieve(id)
            if batch.status in statuses:
                return batch
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """For what nothing announces."""
    async with asyncio.timeout(30):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.005)


async def ended(server: FileServer, id: str, key: str = "good") -> Batch:
    """It has its files, and its answers are nowhere else."""
    batch = await until_status(server, id, *ENDED, key=key)

    async def is_closed() -> bool:
        return not await server.count("batches", f"id = '{id}' AND closed_at IS NULL")

    await until(is_closed)
    assert await server.count("batch_answers", f"batch_id = '{id}'") == 0
    return batch


async def until_num_answered(server: FileServer, id: str, least: int) -> None:
    async def are_there() -> bool:
        return await server.count("batch_answers", f"batch_id = '{id}'") >= least

    await until(are_there)


async def read_file(server: FileServer, id: str | None, key: str = "good") -> list[dict[str, Any]]:
    if id is None:
        return []
    content = (await server.sdk(key).files.content(id)).read()
    return [json.loads(text) for text in content.splitlines()]


async def results(
    server: FileServer, batch: Batch, key: str = "good"
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Of both files: what stands there, by `custom_id`, each of which is there once."""
    output = await read_file(server, batch.output_file_id, key)
    errors = await read_file(server, batch.error_file_id, key)
    all_of_them = [one["custom_id"] for one in (*output, *errors)]
    assert len(set(all_of_them)) == len(all_of_them)
    assert batch.request_counts is not None
    counts = batch.request_counts
    assert (counts.completed, counts.failed) == (len(output), len(errors))
    return {one["custom_id"]: one for one in output}, {one["custom_id"]: one for one in errors}


def make_worker(
    server: FileServer, gateway: UUID = FIRST, ask: Ask | None = None, **config: int
) -> BatchWorker:
    services = server.api.services
    parts = Parts(
        server.database,
        services.files,
        BatchClaims(server.database, gateway, Pepper("pepper", bytes(32))),
        services.authenticator,
        ask or BatchLines(server.api.app).ask,
        BatchesConfig(**config),
        services.metrics,
    )
    return BatchWorker(parts, server.dsn)


@contextlib.asynccontextmanager
async def working(
    server: FileServer,
    gateway: UUID = FIRST,
    ask: Ask | None = None,
    *,
    dies: bool = False,
    **config: int,
) -> AsyncIterator[BatchWorker]:
    """`dies`: at the end it leaves its claims behind, as after kill -9."""
    worker = make_worker(server, gateway, ask, **config)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        if dies:

            async def never(*_: object, **__: object) -> None: ...

            worker._parts.claims.let_go = never
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()) is not None:
            raise error


async def change(server: FileServer, statement: str, *values: object) -> None:
    """Of the table of batches, as its tenant."""
    async with server.database.tenant(server.one.tenant) as connection:
        await connection.execute(statement, *values)


async def row(server: FileServer, id: str) -> Mapping[str, Any]:
    async with pool.operator(server.dsn) as connection:
        return dict(await connection.fetchrow("SELECT * FROM anzoth.batches WHERE id = $1", id))


def other_gateway() -> UUID:
    return uuid.uuid4()
