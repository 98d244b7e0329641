"""A budget through the whole server, also one that is killed: locally and at another server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from anzoth.model_config import BUNDLED_MODEL_DIR
from installation import Installation, installation

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {
    "model": "anzoth-default",
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 4,
    "temperature": 0,
}
BUDGET = Decimal("0.002")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    file: Path = tmp_path_factory.mktemp("config") / "anzoth.toml"
    file.write_text(
        f'[[models]]\nname = "anzoth-default"\npath = "{BUNDLED_MODEL_DIR}"\n'
        'price = { input = "10", cached_input = "1", output = "100" }\n'
    )
    with installation() as made:
        made.start("--config", str(file))
        yield made


def until_refused(client: httpx2.Client) -> httpx2.Response:
    for _ in range(40):
        answer = client.post(CHAT, json=BODY)
        if answer.status_code != 200:
            return answer
    raise AssertionError("the budget is never spent")


def first_answer(client: httpx2.Client) -> httpx2.Response:
    """Of a gateway that is coming back."""
    deadline_s = time.monotonic() + 60
    while True:
        try:
            answer = client.post(CHAT, json=BODY)
            if answer.status_code not in (502, 503):
                return answer
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def gateway_pid(server: Installation) -> int:
    for pid in server.pids():
        if b"\0anzoth.server\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("there is no gateway")


def test_a_spent_budget_refuses_also_after_the_gateway_was_killed(server: Installation) -> None:
    made = server.cli(
        *("keys", "create", "--tenant", "default", "--name", "poor"),
        *("--budget-per-month", str(BUDGET)),
    )
    assert made["budget_per_month"] == str(BUDGET)
    with server.client(made["key"]) as client:
        refused = until_refused(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert "(limit.key.budget_per_month)" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert int(refused.headers["retry-after-ms"]) > 0
        sdk = openai.OpenAI(base_url=f"{server.url}/v1", api_key=made["key"], max_retries=2)
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(**BODY)
        assert caught.value.code == "insufficient_quota"
        os.kill(gateway_pid(server), signal.SIGKILL)
        again = first_answer(client)
        assert (again.status_code, again.json()["error"]["code"]) == (429, "insufficient_quota")
        used = client.get("/v1/usage").json()
        assert used["limits"][0]["budget_per_month"] == {"value": float(BUDGET), "currency": "usd"}
    with server.client(server.create_key("rich")) as client:
        assert client.post(CHAT, json=BODY).status_code == 200
    (line,) = [
        line for line in server.cli("usage", "--by", "key") if line["id"] == made["id"]
    ]  # as the ledger has it
    assert BUDGET - Decimal("0.0008") < Decimal(line["cost"]) <= BUDGET
    assert server.cli("usage", "verify")["is_right"] is True
