"""`anzoth models` explains itself, and sends what was typed; tests/e2e drives it for real."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import hub as hubs
from anzoth import cli, control
from anzoth import config as configuration
from anzoth.control import ControlError, Fields, Tell
from anzoth.model_config import BUNDLED_MODEL_DIR

MODEL: dict[str, Any] = {
    "name": "m",
    "state": "ready",
    "origin": "configured",
    "path": "/m",
    "aliases": ["[bold]alias[/]"],
    "weights_bytes": 3 << 20,
    "kv_cache_bytes": 2 << 20,
    "resident_bytes": 5 << 20,
    "error": None,
    "engine": {"device": "cpu", "dtype": "bfloat16", "max_model_tokens": 77, "dimensions": None},
}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.build(), ["models", *arguments])


@contextmanager
def supervisor(data_dir: Path, answer: control.Handler) -> Iterator[None]:
    """Answers every request of the commands with `answer`."""
    path = configuration.control_socket(configuration.run_dir(data_dir))
    path.parent.mkdir(parents=True)
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with control.serving(path, dict.fromkeys(("list", "load", "unload"), answer)):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.mark.parametrize("name", ["list", "load", "unload", "pull", "check"])
def test_each_command_has_help_with_an_example(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0
    assert f"Example: anzoth models {name}" in " ".join(done.output.split())


def test_what_was_typed_is_what_is_asked_for(tmp_path: Path) -> None:
    asked: list[Fields] = []

    async def answer(request: Fields, tell: Tell) -> Fields:
        asked.append(request)
        tell({"state": "loading", "weights_bytes": 1})
        tell({"state": "loading", "progress": 0.5})
        return MODEL

    (tmp_path / "checkpoint").mkdir()
    with supervisor(tmp_path, answer):
        where = ("--data-dir", str(tmp_path))
        done = run(
            *("load", f"m={tmp_path}/checkpoint", "--alias", "a", "--alias", "b", *where),
            *("--kv-cache-mib", "5", "--dtype", "float32", "--num-threads", "1"),
        )
        assert done.exit_code == 0, done.output
        assert "m is ready after" in done.stdout
        assert run("load", "m=org/name", *where).exit_code == 0
        priced = (
            *("--alias", "b:c", "--price", "input=0.15,output=0.6"),
            *("--alias-price", "b:c:input=1,cached_input=0.5,output=2"),
        )
        assert run("load", "m=org/name", *priced, *where).exit_code == 0
        for wrong in ("input", "input=", "=1", "input=1,"):
            assert "expected such as input=" in run("load", "m=n", "--price", wrong, *where).stderr
        assert run("unload", "m", "--drain-s", "2.5", *where).exit_code == 0
    settings = {"kv_cache_mib": 5, "dtype": "float32", "num_threads": 1}
    path = str(tmp_path / "checkpoint")
    assert asked == [
        {"do": "load", "table": {"name": "m", "path": path, "aliases": ["a", "b"], **settings}},
        {"do": "load", "table": {"name": "m", "path": "org/name", "aliases": []}},
        {
            "do": "load",
            "table": {
                "name": "m",
                "path": "org/name",
                "aliases": ["b:c"],
                "price": {"input": "0.15", "output": "0.6"},
                "alias_prices": {"b:c": {"input": "1", "cached_input": "0.5", "output": "2"}},
            },
        },
        {"do": "unload", "model": "m", "drain_s": 2.5},
    ]


def test_the_list_shows_names_as_they_are_and_why_a_model_failed(tmp_path: Path) -> None:
    async def answer(_request: Fields, _tell: Tell) -> Fields:
        failed = {**MODEL, "name": "n", "state": "failed", "engine": None, "error": "no memory"}
        return {"models": [MODEL, failed]}

    with supervisor(tmp_path, answer):
        output = run("list", "--data-dir", str(tmp_path)).stdout
    assert "[bold]" in output
    assert "n: no memory" in output


def test_a_refusal_and_a_missing_server_have_different_statuses(tmp_path: Path) -> None:
    async def answer(_request: Fields, _tell: Tell) -> Fields:
        raise ControlError("it cannot be")

    where = ("--data-dir", str(tmp_path / "data"))
    with supervisor(tmp_path / "data", answer):
        done = run("unload", "m", *where)
        assert (done.exit_code, done.stderr) == (1, "anzoth: it cannot be\n")
    done = run("unload", "m", *where)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "anzoth serve" in done.stderr


# --- pull ---------------------------------------------------------------------------------------


def test_a_pulled_model_is_told_with_its_commit_and_found_by_its_id(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}
    with hubs.serving(files) as hub:
        told = run("pull", "org/tiny@main", "--endpoint", hub.url, *where)
        assert told.exit_code == 0, told.output
        assert hubs.COMMIT[:12] in told.stdout
        assert "anzoth serve --model NAME=org/tiny@main" in told.stdout
        pulled = json.loads(run("pull", "org/tiny", "--endpoint", hub.url, *where, "--json").stdout)
        hub.refusal = (403, "GatedRepo")
        refused = run("pull", "org/tiny", "--endpoint", hub.url, *where)
    assert (pulled["commit"], pulled["num_bytes"]) == (hubs.COMMIT, 11)
    found = configuration.load(None, {"data_dir": tmp_path, "models": ["m=org/tiny"]}, {})
    assert str(found.models[0].path) == pulled["path"]
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("anzoth: cannot pull org/tiny: access to it is restricted")
    lost = run("pull", "org/tiny", "--endpoint", hub.url, *where)
    assert (lost.exit_code, lost.stdout) == (3, "")
    assert "expected ORG/NAME" in run("pull", "../tiny", *where).stderr


def test_the_token_comes_from_the_environment_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b"weights"}
    with hubs.serving(files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.token = "hf_secret"
        done = run("pull", "org/tiny", "--data-dir", str(tmp_path))
        assert done.exit_code == 0, done.output
        hub.token = "hf_another"
        refused = run("pull", "org/tiny", "--data-dir", str(tmp_path))
    assert refused.exit_code == 1
    assert "hf_secret" not in done.output + refused.output


@pytest.mark.slow
@pytest.mark.parametrize("module", ["anzoth.commands.models", "anzoth.server", "anzoth.supervisor"])
def test_only_a_pull_imports_the_client_of_the_hub(module: str) -> None:
    code = f"import sys, {module}; print({{'huggingface_hub', 'httpx2'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


# --- check --------------------------------------------------------------------------------------


def test_the_bundled_model_is_described_and_would_be_served() -> None:
    done = run("check", str(BUNDLED_MODEL_DIR), "--json")
    assert done.exit_code == 0, done.output
    checked = json.loads(done.stdout)
    assert checked["problem"] is None
    assert (checked["kind"], checked["architecture"]) == ("generation", "LlamaForCausalLM")
    assert (checked["stored_as"], checked["max_model_tokens"]) == (["BF16"], 2048)
    assert checked["parameters"] * 2 == pytest.approx(
        (BUNDLED_MODEL_DIR / "model.safetensors").stat().st_size, rel=0.01
    )
    assert (checked["has_chat_template"], checked["tool_calls"]) == (True, "hermes")
    assert checked["needs_bytes"] > checked["parameters"] * 2
    assert "yes" in run("check", str(BUNDLED_MODEL_DIR)).stdout.splitlines()[-1]


def test_what_would_not_be_served_is_told_with_what_is_known(tmp_path: Path) -> None:
    directory = Path(shutil.copytree(BUNDLED_MODEL_DIR, tmp_path / "broken"))
    (directory / "tokenizer.json").unlink()
    done = run("check", str(directory))
    assert done.exit_code == 1
    assert "2048 tokens" in done.stdout
    assert "no: model broken: " in done.stdout
    (directory / "config.json").write_text('{"architectures": ["Unheard"]}')
    checked = json.loads(run("check", str(directory), "--json").stdout)
    assert checked["architecture"] == "Unheard"
    assert "'Unheard' is not supported" in checked["problem"]
    nothing = run("check", str(tmp_path))
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "has no config.json" in nothing.stderr


def test_the_present_settings_decide_whether_it_fits(tmp_path: Path) -> None:
    file = tmp_path / "anzoth.toml"
    file.write_text("[engine]\nkv_cache_mib = 1000000000\n")
    done = run("check", str(BUNDLED_MODEL_DIR), "--config", str(file), "--json")
    assert done.exit_code == 1
    assert "MiB are left for it" in json.loads(done.stdout)["problem"]
