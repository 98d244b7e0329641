"""Models come and go in a running server, and none harms another."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import hub as hubs
from anzoth import config as configuration
from anzoth import control
from anzoth.model_config import BUNDLED_MODEL_DIR
from installation import Installation, alive, installation

pytestmark = pytest.mark.slow

LONG = {
    "messages": [{"role": "user", "content": "Tell me about Anzoth."}],
    "max_tokens": 400,
    "ignore_eos": True,
    "stream": True,
}
CHECKPOINT_FILES = [path for path in BUNDLED_MODEL_DIR.iterdir() if path.suffix != ".py"]
SHORT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def server() -> Iterator[Installation]:
    """One that serves the bundled model as `first`, also known as `gpt-4o-mini`."""
    with installation() as made:
        file = made.data_dir / "anzoth.toml"
        file.write_text(
            f"[[models]]\nname = 'first'\npath = '{BUNDLED_MODEL_DIR}'\n"
            "aliases = ['gpt-4o-mini']\nkv_cache_mib = 48\nmax_model_tokens = 1024\n"
        )
        made.start("--config", str(file))
        yield made


@pytest.fixture(scope="module")
def client(server: Installation) -> Iterator[httpx2.Client]:
    with server.client(server.create_key("models")) as made:
        yield made


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may damage."""
    return Path(shutil.copytree(BUNDLED_MODEL_DIR, tmp_path / "checkpoint"))


@pytest.fixture(autouse=True)
def _the_first_model_is_served_all_the_time(client: httpx2.Client) -> Iterator[None]:
    """Before and after each test, the server is ready and `first` answers."""
    assert client.get("/readyz").status_code == 200
    assert chat(client, "first") == 200
    yield
    assert client.get("/readyz").status_code == 200
    assert chat(client, "first") == 200


def chat(client: httpx2.Client, model: str) -> int:
    return client.post("/v1/chat/completions", json={"model": model, **SHORT}).status_code


def command(server: Installation, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "anzoth.cli", "models", *arguments]
        + ["--data-dir", str(server.data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(server: Installation, request: dict[str, Any]) -> dict[str, Any]:
    """As a command does, without the time that a process of its own takes."""
    path = configuration.control_socket(configuration.run_dir(server.data_dir))
    return dict(asyncio.run(control.ask(path, request)))


def refused_load(server: Installation, name: str, path: object, **settings: object) -> str:
    table = {"name": name, "path": str(path), **settings}
    with pytest.raises(control.ControlError) as caught:
        ask(server, {"do": "load", "table": table})
    return str(caught.value)


def refused(server: Installation, *arguments: str, status: int = 1) -> str:
    """The sentence of a command that must fail."""
    process = command(server, *arguments)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (status, ""), error
    assert error.startswith("anzoth: ")
    assert error.count("\n") == 1
    return error


def listed(server: Installation) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in ask(server, {"do": "list"})["models"]}


def engines(server: Installation) -> set[int]:
    module = "anzoth.scheduler.process"
    return {
        pid
        for pid in server.pids()
        if module in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    }


def until(true: Callable[[], bool], what: str, timeout_s: float = 40) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


def test_a_model_has_the_settings_of_its_own_table(server: Installation) -> None:
    first = listed(server)["first"]
    assert first["aliases"] == ["gpt-4o-mini"]
    assert first["engine"]["max_model_tokens"] == 1024
    assert 47 << 20 < first["kv_cache_bytes"] <= 48 << 20
    assert (first["state"], first["origin"]) == ("ready", "configured")
    assert first["resident_bytes"] > first["weights_bytes"]


def test_a_pulled_model_is_served_under_all_its_names_until_it_is_unloaded(
    server: Installation, client: httpx2.Client
) -> None:
    with hubs.serving({path.name: path.read_bytes() for path in CHECKPOINT_FILES}) as hub:
        pulled = server.cli("models", "pull", "org/tiny", "--endpoint", hub.url)
    before = engines(server)
    loaded = server.cli(
        *("models", "load", "second=org/tiny", "--alias", "small"),
        *("--kv-cache-mib", "32", "--max-model-tokens", "512"),
    )
    assert loaded["path"] == pulled["path"]
    assert (loaded["state"], loaded["engine"]["max_model_tokens"]) == ("ready", 512)
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert names == ["first", "gpt-4o-mini", "second", "small"]
    assert "engine second" in client.get("/readyz").json()["components"]
    answer = client.post("/v1/chat/completions", json={"model": "small", **SHORT}).json()
    assert answer["model"] == "small"
    (engine,) = engines(server) - before

    server.cli("models", "unload", "second")
    assert not alive({engine})
    assert [chat(client, name) for name in ("second", "small", "gpt-4o-mini")] == [404, 404, 200]
    assert "engine second" not in client.get("/readyz").json()["components"]
    assert list(listed(server)) == ["first"]


def test_unloading_lets_running_requests_end_and_refuses_new_ones(
    server: Installation, client: httpx2.Client
) -> None:
    server.cli("models", "load", f"leaving={BUNDLED_MODEL_DIR}", "--kv-cache-mib", "32")
    payloads: list[str] = []
    began = threading.Event()

    def read() -> None:
        body = {"model": "leaving", **LONG, "max_tokens": 1900, "n": 2}  # longer than a command
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    payloads.append(line.removeprefix("data: "))
                    began.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert began.wait(30)
    unloading = command(server, "unload", "leaving")
    until(lambda: chat(client, "leaving") == 404, "new requests are refused")
    was_running = reader.is_alive()
    assert unloading.wait(60) == 0
    unloading.communicate()
    reader.join(60)
    assert was_running, "the stream was too short to tell"
    assert payloads[-1] == "[DONE]"


def test_a_load_that_cannot_be_is_refused_with_its_reason(
    server: Installation, checkpoint: Path
) -> None:
    bundled = BUNDLED_MODEL_DIR
    assert "is there already" in refused(server, "load", f"first={bundled}")
    assert "expected NAME=PATH" in refused(server, "load", str(bundled))
    assert "two models are called" in refused_load(server, "gpt-4o-mini", bundled)
    assert "anzoth models pull org/name" in refused_load(server, "x", "org/name")
    said = refused_load(server, "x", bundled, kv_cache_mib=10**9)
    assert "MiB of KV cache" in said
    assert "MiB are left for it" in said
    # Known to the engine only.
    said = refused_load(server, "x", bundled, dtype="float17")
    assert "dtype 'float17' is not one of" in said
    # Known to the gateway only, when the engine is ready.
    (checkpoint / "tokenizer_config.json").write_text('{"chat_template": "{% for %}"}')
    assert "chat template" in refused_load(server, "x", checkpoint)
    (checkpoint / "model.safetensors").write_bytes(b"cut off")
    assert "not a safetensors file" in refused_load(server, "x", checkpoint)
    assert list(listed(server)) == ["first"]
    assert len(engines(server)) == 1


def test_an_interrupted_load_is_undone(server: Installation) -> None:
    path = configuration.control_socket(configuration.run_dir(server.data_dir))
    table = {"name": "never", "path": str(BUNDLED_MODEL_DIR), "kv_cache_mib": 32}

    async def interrupt() -> None:
        began = asyncio.Event()
        asking = asyncio.create_task(
            control.ask(path, {"do": "load", "table": table}, lambda _event: began.set())
        )
        await began.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(interrupt())
    until(lambda: list(listed(server)) == ["first"], "it is not listed")
    until(lambda: len(engines(server)) == 1, "its engine is gone")


def test_what_cannot_be_unloaded_is_told(server: Installation) -> None:
    assert "no model is called nothing" in refused(server, "unload", "nothing")
    with pytest.raises(control.ControlError, match="is an alias of the model first"):
        ask(server, {"do": "unload", "model": "gpt-4o-mini"})


def test_a_loaded_model_survives_the_gateway_and_its_own_end_harms_no_other(
    server: Installation, client: httpx2.Client, checkpoint: Path
) -> None:
    before = engines(server)
    server.cli("models", "load", f"hardy={checkpoint}", "--kv-cache-mib", "32")
    (gateway,) = [
        pid
        for pid in server.pids()
        if b"anzoth.server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    os.kill(gateway, signal.SIGKILL)

    def answers() -> bool:
        try:
            return chat(client, "hardy") == 200
        except httpx2.TransportError:
            return False

    until(answers, "the gateway is back and serves it")
    until(lambda: chat(client, "first") == 200, "and the first one")

    # What has become impossible is given up, and the others are served all the same.
    weights = checkpoint / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:1000])
    (engine,) = engines(server) - before
    os.kill(engine, signal.SIGKILL)
    until(lambda: listed(server)["hardy"]["state"] == "failed", "it is given up")
    assert "model.safetensors" in listed(server)["hardy"]["error"]
    until(lambda: chat(client, "hardy") == 404, "it is not served")
    assert client.get("/readyz").status_code == 200

    weights.write_bytes(good)
    server.cli("models", "load", f"hardy={checkpoint}", "--kv-cache-mib", "32")
    assert chat(client, "hardy") == 200
    server.cli("models", "unload", "hardy", "--drain-s", "1")


def test_without_a_server_the_status_says_that_nobody_answers(tmp_path: Path) -> None:
    nobody = Installation(tmp_path / "data")
    said = refused(nobody, "list", status=3)
    assert f"anzoth serve --data-dir {tmp_path / 'data'}" in said


def test_json_is_all_that_is_printed_with_json(server: Installation) -> None:
    process = command(server, "list", "--json")
    output, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
    assert json.loads(output)[0]["name"] == "first"
