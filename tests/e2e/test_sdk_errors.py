"""Every documented error, provoked in a real server: which exception the SDKs raise, how often they
try, and whether a promise to wait is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anzoth.model_config import BUNDLED_MODEL_DIR
from client_drivers import command
from installation import Installation, installation

pytestmark = pytest.mark.slow

MODEL = "anzoth-default"
OUT_OF_MEMORY = "{% if messages[0].content == 'too much' %}{{ 'a' * 1000000000000000 }}{% endif %}"
"""In a chat template: something goes wrong in the gateway that is nobody's request's fault."""


class Sdk:
    """One of the SDKs, in a process of its own, and the server that it calls."""

    def __init__(self, command: list[str], server: Installation) -> None:
        self._server = server
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "BASE_URL": f"{server.url}/v1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, key: str, **options: Any) -> tuple[list[Any], int]:
        """What the SDK made of it, and how many requests reached the server."""
        asked = {"key": key, "model": MODEL, "text": "hello", "max_tokens": 4, "max_retries": 2}
        before = self._num_requests()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**asked, **options}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline()), self._num_requests() - before

    def close(self) -> None:
        self._process.communicate(timeout=10)

    def _num_requests(self) -> int:
        with self._server.client(None) as client:
            lines = client.get("/metrics").text.splitlines()
        name = 'anzoth_requests_total{endpoint="/v1/chat/completions"'
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A server in which one request runs and one waits; its second model has a broken template."""
    broken = tmp_path_factory.mktemp("models") / "broken"
    shutil.copytree(BUNDLED_MODEL_DIR, broken)
    described = json.loads((broken / "tokenizer_config.json").read_text())
    template = broken / "chat_template.jinja"
    source = template.read_text() if template.exists() else described["chat_template"]
    template.write_text(OUT_OF_MEMORY + source)
    with installation(
        ANZOTH_ENGINE_MAX_RUNNING_SEQUENCES="1", ANZOTH_ENGINE_MAX_QUEUED_REQUESTS="1"
    ) as server:
        models = ("--model", f"{MODEL}={BUNDLED_MODEL_DIR}", "--model", f"broken={broken}")
        server.start(*models)
        yield server


@pytest.fixture(scope="module", params=["python", "node"])
def sdk(request: pytest.FixtureRequest, crowded: Installation) -> Iterator[Sdk]:
    script = "drive_errors.py" if request.param == "python" else "drive_errors.mjs"
    made = Sdk(command(script), crowded)
    yield made
    made.close()


@pytest.fixture
def key(crowded: Installation, request: pytest.FixtureRequest) -> Callable[..., str]:
    return lambda *options: crowded.create_key(request.node.name[:100], *options)


def test_an_unknown_key_is_told_once(sdk: Sdk) -> None:
    wrong = sdk.call("anz-000000000000_" + "0" * 42)
    assert wrong == (["AuthenticationError", 401, "invalid_api_key"], 1)


def test_what_a_key_may_not_do_is_told_once(sdk: Sdk, key: Callable[..., str]) -> None:
    reader = key("--scope", "models:read")
    assert sdk.call(reader) == (["PermissionDeniedError", 403, "insufficient_scope"], 1)
    other = key("--model", "another")
    assert sdk.call(other) == (["PermissionDeniedError", 403, "model_not_allowed"], 1)


def test_a_limit_is_waited_for_as_long_as_promised(sdk: Sdk, key: Callable[..., str]) -> None:
    once = key("--rpm", "1")
    assert sdk.call(once) == (["ok"], 1)
    refused = sdk.call(once, max_retries=0)
    assert refused == (["RateLimitError", 429, "rate_limit_exceeded"], 1)
    limited = key("--tpm", "1200")
    assert sdk.call(limited, text="token " * 1000) == (["ok"], 1)
    # One wait is enough: what `retry-after-ms` says is exact.
    assert sdk.call(limited, text="token " * 300, max_retries=1) == (["ok"], 2)


def test_a_quota_is_not_waited_for(sdk: Sdk, key: Callable[..., str]) -> None:
    limited = key("--tokens-per-day", "150")
    assert sdk.call(limited, text="token " * 100)[0] == ["ok"]
    assert sdk.call(limited, text="token " * 100) == (
        ["RateLimitError", 429, "insufficient_quota"],
        1,
    )


def test_a_fault_of_ours_says_nothing_of_itself(sdk: Sdk, key: Callable[..., str]) -> None:
    failed, num_requests = sdk.call(key(), model="broken", text="too much")
    assert failed == ["InternalServerError", 500, "internal_error"]
    assert num_requests == 3
    assert sdk.call(key(), model="broken")[0] == ["ok"]


def test_an_engine_that_was_killed_is_waited_for(
    sdk: Sdk, crowded: Installation, key: Callable[..., str]
) -> None:
    usual = key()
    for pid in crowded.pids():
        if b"anzoth.scheduler.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    away = sdk.call(usual, max_retries=0)
    assert away == (["InternalServerError", 502, "model_unavailable"], 1)
    back, num_requests = sdk.call(usual, max_retries=8)
    assert back == ["ok"]
    assert num_requests > 1


def test_a_full_queue_is_503(sdk: Sdk, crowded: Installation, key: Callable[..., str]) -> None:
    usual = key()
    with crowded.client(usual) as client:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 1500,
            "ignore_eos": True,
            "stream": True,
        }
        begun, stop = threading.Semaphore(0), threading.Event()

        def stream() -> None:
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                for _ in answer.iter_lines():
                    begun.release()
                    if stop.is_set():
                        return

        threads = [threading.Thread(target=stream) for _ in range(2)]
        threads[0].start()
        begun.acquire()
        threads[1].start()
        try:
            while sdk.call(usual, max_retries=0) != (
                ["InternalServerError", 503, "capacity_unavailable"],
                1,
            ):
                assert threads[0].is_alive(), "nothing runs any more"
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
    assert sdk.call(usual, max_retries=8)[0] == ["ok"]
