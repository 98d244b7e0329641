"""Batches under kill -9 of the gateway: OpenAI's SDK makes them and reads what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from anzoth.db import cluster, embedded, pool
from installation import Installation

pytestmark = pytest.mark.slow

LINES, KILLS = 80, 2
CHAT = "/v1/chat/completions"
TIMEOUT_S = 120.0


def test_a_batch_is_answered_once_whatever_gateway_is_killed(fragile_server: Installation) -> None:
    server = fragile_server
    key = server.create_key("kill")
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=key,
        max_retries=20,
        _strict_response_validation=True,
    ) as client:
        file = client.files.create(file=("in.jsonl", input_file()), purpose="batch")
        made = client.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"a": "b"}
        )

        def num_answered() -> int:
            counts = client.batches.retrieve(made.id).request_counts
            assert counts is not None
            return counts.completed + counts.failed

        for kill in range(KILLS):
            # In the middle of it, each time further on.
            least = LINES * (kill + 1) // (KILLS + 2)
            until(server, lambda: num_answered() >= least)  # noqa: B023  # called here
            assert num_answered() < LINES
            kill_gateway(server)
        until(server, lambda: client.batches.retrieve(made.id).completed_at is not None)
        batch = client.batches.retrieve(made.id)
        assert batch.output_file_id is not None
        output = read(client, batch.output_file_id)
        errors = read(client, batch.error_file_id) if batch.error_file_id else []
    assert (batch.status, batch.metadata) == ("completed", {"a": "b"})
    # Each line once, in its order, in the file where it belongs.
    assert [one["custom_id"] for one in output] == [f"{n}" for n in range(LINES) if n % 10]
    assert [one["custom_id"] for one in errors] == [f"{n}" for n in range(LINES) if not n % 10]
    assert {one["response"]["status_code"] for one in output} == {200}
    assert {one["response"]["status_code"] for one in errors} == {400}
    assert batch.request_counts is not None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (LINES, len(output), len(errors))
    reported = {one["response"]["request_id"] for one in (*output, *errors)}
    assert len(reported) == LINES
    usage = [one["response"]["body"]["usage"] for one in output]
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(one["completion_tokens"] for one in usage)
    assert batch.usage.input_tokens == sum(one["prompt_tokens"] for one in usage)
    assert server.stop() == 0  # which ships what is left of the ledger
    asyncio.run(check_ledger(server, reported, batch.usage.output_tokens))


def input_file() -> bytes:
    """One line in ten asks for what nobody can have."""
    lines = []
    for number in range(LINES):
        body = {
            "model": "anzoth-default",
            "messages": [{"role": "user", "content": f"What is Anzoth? Say it {number} times."}],
            "max_tokens": 24,
            "temperature": 0 if number % 10 else 9,
        }
        line = {"custom_id": str(number), "method": "POST", "url": CHAT, "body": body}
        lines.append(json.dumps(line))
    return "\n".join(lines).encode()


def read(client: openai.OpenAI, file_id: str) -> list[dict]:
    return [json.loads(line) for line in client.files.content(file_id).read().splitlines()]


def until(server: Installation, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        # What was killed is starting again.
        with contextlib.suppress(openai.APIConnectionError, openai.InternalServerError):
            if condition():
                return
        assert time.monotonic() < deadline_s, server.log()
        time.sleep(0.02)


def kill_gateway(server: Installation) -> None:
    for pid in server.pids():
        with contextlib.suppress(OSError):
            said = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if "anzoth.server" in said:
                os.kill(pid, signal.SIGKILL)
                return
    raise AssertionError("no gateway runs")


async def check_ledger(server: Installation, reported: set[str], output_tokens: int) -> None:
    """Every request that was reported has its row; what was computed and lost with a gateway has
    one as well, and counts."""
    dsn = cluster.dsn_of(server.data_dir)
    async with embedded.running(server.data_dir), pool.operator(dsn) as connection:
        rows = await connection.fetch("SELECT * FROM anzoth.usage")
        answers = await connection.fetchval("SELECT count(*) FROM anzoth.batch_answers")
    by_id = Counter(row["request_id"] for row in rows)
    assert set(by_id.values()) == {1}
    assert reported <= set(by_id)
    assert all(row["batch"] for row in rows)
    lost = [row for row in rows if row["request_id"] not in reported]
    assert lost  # they ran when their gateway was killed
    assert {row["error_code"] for row in lost} <= {"gateway_crashed", "model_unavailable", None}
    of_reported = sum(row["completion_tokens"] for row in rows if row["request_id"] in reported)
    assert of_reported == output_tokens
    assert answers == 0
