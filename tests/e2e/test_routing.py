"""One Anzoth in front of another: aliases, the SDK through both, a backend that dies, and why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from installation import Installation, installation

pytestmark = pytest.mark.slow

QUESTION: Any = [{"role": "user", "content": "What is Anzoth?"}]


@pytest.fixture(scope="module")
def behind() -> Iterator[Installation]:
    """The server that is asked by the other. One test ends it."""
    with installation() as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def front(behind: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    file: Path = tmp_path_factory.mktemp("config") / "anzoth.toml"
    file.write_text(
        f'[[backends]]\nname = "far"\nbase_url = "{behind.url}/v1"\n'
        'models = ["anzoth-default"]\napi_key_env = "KEY_OF_FAR"\n'
    )
    with installation(KEY_OF_FAR=behind.create_key("front")) as made:
        made.start("--config", str(file))
        shared = ("--tenant", "default", "--config", str(file))
        made.cli(
            *("aliases", "create", "far-only", "--target", "far:anzoth-default"),
            *("--default", "temperature=0", *shared),
        )
        made.cli(
            *("aliases", "create", "both", "--target", "far:anzoth-default=1"),
            *("--target", "anzoth-default=0", "--default", "temperature=0", *shared),
        )
        yield made


def client_of(server: Installation, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def until_explained(client: httpx2.Client, id: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + 20
    while (answer := client.get(f"/v1/requests/{id}")).status_code == 404:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return answer.json()


def test_the_sdk_gets_the_same_text_streamed_whole_and_from_the_server_behind(
    front: Installation, behind: Installation
) -> None:
    client = client_of(front, front.create_key("sdk"))
    ask: dict[str, Any] = {"messages": QUESTION, "max_tokens": 24}
    whole = client.chat.completions.create(model="far-only", **ask)
    chunks = list(
        client.chat.completions.create(
            model="far-only", stream=True, stream_options={"include_usage": True}, **ask
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == text
    direct = client_of(behind, behind.create_key("direct")).chat.completions.create(
        model="anzoth-default", temperature=0, **ask
    )
    assert direct.choices[0].message.content == text
    assert whole.usage is not None
    assert direct.usage is not None
    assert chunks[-1].usage is not None
    counted = [usage.completion_tokens for usage in (whole.usage, direct.usage, chunks[-1].usage)]
    assert len(set(counted)) == 1
    assert {whole.model, *(chunk.model for chunk in chunks)} == {"far-only"}
    completed = client.completions.create(model="far-only", prompt="Anzoth", max_tokens=4)
    assert completed.choices[0].text
    assert {"far-only", "both"} <= {model.id for model in client.models.list()}


def test_a_request_through_an_alias_is_explained(front: Installation) -> None:
    with front.client(front.create_key("why")) as client:
        body = {"model": "both", "messages": QUESTION, "max_tokens": 4}
        answer = client.post("/v1/chat/completions", json=body)
        explained = until_explained(client, answer.headers["x-request-id"])
        assert explained["target"] == "far:anzoth-default"
        assert explained["attempts"] == [{"target": "far:anzoth-default", "outcome": "ok"}]
        assert (
            explained["usage"]["completion_tokens"] == (answer.json()["usage"]["completion_tokens"])
        )
        assert client.get("/readyz").json()["components"]["backend far"]["state"] == "ready"


def test_a_backend_that_dies_leaves_the_alias_with_its_other_target(
    front: Installation, behind: Installation
) -> None:
    behind.stop()
    with front.client(front.create_key("fallback")) as client:
        body = {"model": "both", "messages": QUESTION, "max_tokens": 4}
        answers = [client.post("/v1/chat/completions", json=body) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 6
        explained = until_explained(client, answers[-1].headers["x-request-id"])
        assert [attempt["outcome"] for attempt in explained["attempts"]] == ["paused", "ok"]
        alone = client.post("/v1/chat/completions", json={**body, "model": "far-only"})
        assert (alone.status_code, alone.json()["error"]["code"]) == (502, "model_unavailable")
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["components"]["backend far"]["state"] == "degraded"
