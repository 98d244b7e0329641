"""Do many clients at once, over real connections, ever get more than the limits give?"""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from api_harness import MODEL, running_api
from principals import make_principal

from anzoth.config import HttpConfig
from anzoth.gateway.limit_rules import LimitRule, Limits
from anzoth.http.server import HttpServer

pytestmark = pytest.mark.slow

NUM_CLIENTS = 16
NUM_REQUESTS = 20
RPM, TPM = 90, 700
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}


def test_clients_of_two_keys_never_exceed_burst_and_rate_of_what_they_share(
    checkpoint: Path, tmp_path: Path
) -> None:
    shared = (
        LimitRule("tenant", UUID(int=1), Limits(rpm=RPM)),
        LimitRule("project", UUID(int=3), Limits(tpm=TPM)),
    )
    answers: list[httpx2.Response] = []

    async def client(url: str, key: str) -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
            for _ in range(NUM_REQUESTS):
                headers = {"authorization": f"Bearer {key}"}
                answers.append(await http.post("/v1/chat/completions", json=BODY, headers=headers))

    async def main() -> float:
        async with running_api(checkpoint, tmp_path / "s") as api:
            for number, key in enumerate(("a", "b")):
                api.keys.principals[key] = make_principal(
                    key_id=UUID(int=10 + number), limits=shared
                )
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            server = HttpServer(api.app, HttpConfig())
            await server.start(listener)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            began_s = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for number in range(NUM_CLIENTS):
                    group.create_task(client(url, "ab"[number % 2]))
            elapsed_s = time.monotonic() - began_s
            await server.drain(0)
            return elapsed_s

    elapsed_s = asyncio.run(main())
    assert {answer.status_code for answer in answers} == {200, 429}
    admitted = [answer.json()["usage"]["total_tokens"] for answer in answers if answer.is_success]
    assert len(admitted) <= RPM + RPM / 60 * elapsed_s
    assert sum(admitted) <= TPM + TPM / 60 * elapsed_s
    # And not much less: what is refused is refused because it is used up.
    largest = max(admitted) + BODY["max_tokens"]
    assert len(admitted) == RPM or sum(admitted) > TPM - NUM_CLIENTS * largest
    for answer in answers:
        if not answer.is_success:
            message = answer.json()["error"]["message"]
            assert "limit.tenant.rpm" in message or "limit.project.tpm" in message
