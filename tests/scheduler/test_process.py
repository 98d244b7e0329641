"""The engine as a process of its own: how it starts, and that it ends as its parent expects.

The model is a fake: the child is told to use it by a program text here, not by a setting.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from anzoth.child import EXIT_CONFIG
from anzoth.config import to_json
from anzoth.frames import (
    Decoder,
    Embed,
    Embedded,
    Hello,
    SamplingParams,
    Step,
    Submit,
    encode,
    pack_token_ids,
)
from anzoth.model_config import EngineConfig
from anzoth.scheduler.process import EXIT_ENGINE_FAILED, num_physical_cores
from fake_runner import continuation

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[1] / "support"
DEADLINE_S = 30.0

WITH_FAKE_MODEL = """
from fake_runner import FakeRunner
from anzoth.scheduler import process

def explode(step):
    if {explodes}:
        raise RuntimeError("device lost")

process._load = lambda model, path, config: FakeRunner(before_step=explode)
process.main()
"""
STUCK_IN_LOADING = """
import time
from anzoth.scheduler import process

def load(model, path, config):
    process.log.info("loading")
    time.sleep(1000)

process._load = load
process.main()
"""

Child = subprocess.Popen[bytes]
Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an engine process and waits for the log line that contains `ready`."""
    children: list[Child] = []

    def start_one(
        program: str = WITH_FAKE_MODEL.format(explodes=False),
        ready: bytes | None = b"is served on",
        **changes: object,
    ) -> Child:
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SUPPORT)},
            cwd=tmp_path,
        )
        children.append(child)
        assert child.stdin is not None
        assert child.stderr is not None
        settings: dict[str, object] = {
            "model": "m",
            "path": str(tmp_path),
            "socket": str(tmp_path / "engine.sock"),
            "engine": to_json(EngineConfig()),
            "log_level": "info",
        }
        child.stdin.write(orjson.dumps({**settings, **changes}) + b"\n")
        child.stdin.flush()
        if ready is not None:
            assert any(ready in line for line in child.stderr), "ended before it was ready"
        return child

    yield start_one
    for child in children:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stderr):
            if pipe is not None:
                pipe.close()


def connect(tmp_path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE_S)
    client.connect(str(tmp_path / "engine.sock"))
    return client


def close_stdin(child: Child) -> None:
    assert child.stdin is not None
    child.stdin.close()


def stderr_of(child: Child) -> str:
    assert child.stderr is not None
    return child.stderr.read().decode()


def test_process_serves_and_ends_with_its_parents_pipe(start: Start, tmp_path: Path) -> None:
    child = start()
    tokens: list[int | None] = []
    with connect(tmp_path) as client:
        submit = Submit(1, "salt", "t", 1, 5, SamplingParams(ignore_eos=True))
        client.sendall(encode(submit, pack_token_ids([5, 6])))
        decoder = Decoder()
        messages = []
        while len(tokens) < 5:
            for message, _ in decoder.feed(client.recv(65536)):
                messages.append(message)
                if isinstance(message, Step):
                    tokens += [row.token for row in message.rows]
    assert isinstance(messages[0], Hello)
    assert tokens == continuation([5, 6], 5, SamplingParams(ignore_eos=True))
    close_stdin(child)
    assert child.wait(DEADLINE_S) == 0
    assert not (tmp_path / "engine.sock").exists()


def write_encoder(directory: Path) -> None:
    """A tiny embedding checkpoint."""
    import safetensors.torch
    import torch

    from anzoth.scheduler.models.encoder_loading import wanted_parts
    from anzoth.scheduler.models.encoder_spec import read_encoder_spec

    config = {
        "architectures": ["BertModel"],
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 30,
    }
    (directory / "config.json").write_bytes(orjson.dumps(config))
    parts = wanted_parts(read_encoder_spec(directory))
    tensors = {part.name: torch.full(part.shape, 0.1) for part in parts}
    safetensors.torch.save_file(tensors, directory / "model.safetensors")


def weights(pid: int | str) -> tuple[int, int | None]:
    """How nice the process is, and its session where there is such a thing."""
    autogroup = Path(f"/proc/{pid}/autogroup")
    words = autogroup.read_text().split() if autogroup.exists() else []
    session = int(words[-1]) if words else None  # some kernels show an empty file
    return os.getpriority(os.PRIO_PROCESS, 0 if pid == "self" else int(pid)), session


def test_an_encoders_checkpoint_is_served_as_an_embedding_model(
    start: Start, tmp_path: Path
) -> None:
    write_encoder(tmp_path)
    our_weights = weights("self")
    child = start("from anzoth.scheduler import process; process.main()")
    assert weights("self") == our_weights  # the session, too: it is not the child's own
    vectors: dict[tuple[int, ...], bytes] = {}
    with connect(tmp_path) as client:
        client.sendall(encode(Embed(1, "t", (2, 1)), pack_token_ids([5, 6, 7])))
        decoder = Decoder()
        messages = []
        while not vectors:
            for message, payload in decoder.feed(client.recv(65536)):
                messages.append(message)
                if isinstance(message, Embedded):
                    vectors[message.inputs] = payload
    assert isinstance(messages[0], Hello)
    assert messages[0].dimensions == 8
    assert {inputs: len(payload) for inputs, payload in vectors.items()} == {(0, 1): 2 * 8 * 4}
    close_stdin(child)
    assert child.wait(DEADLINE_S) == 0


def test_engines_of_embeddings_step_back_from_the_processor_and_others_do_not(
    start: Start, tmp_path: Path
) -> None:
    chat = start()
    usual, _ = weights(chat.pid)
    close_stdin(chat)
    assert chat.wait(DEADLINE_S) == 0
    assert usual == os.getpriority(os.PRIO_PROCESS, 0)
    write_encoder(tmp_path)
    program = "import os; os.setsid()\nfrom anzoth.scheduler import process; process.main()"
    child = start(program, engine=to_json(EngineConfig(embedding_nice=2)))
    lowered = min(usual + 2, 19)
    assert weights(child.pid) in ((lowered, lowered), (lowered, None))
    for task in Path(f"/proc/{child.pid}/task").iterdir():
        assert os.getpriority(os.PRIO_PROCESS, int(task.name)) == lowered


def test_sigterm_ends_the_process_with_0_and_without_its_socket(
    start: Start, tmp_path: Path
) -> None:
    child = start()
    with connect(tmp_path):
        child.send_signal(signal.SIGTERM)
        assert child.wait(DEADLINE_S) == 0
    assert not (tmp_path / "engine.sock").exists()


def test_sigterm_ends_the_process_while_it_is_loading(start: Start) -> None:
    child = start(STUCK_IN_LOADING, ready=b"loading")
    child.send_signal(signal.SIGTERM)
    assert child.wait(DEADLINE_S) == 0


def test_failed_step_ends_the_process_with_a_failure(start: Start, tmp_path: Path) -> None:
    child = start(WITH_FAKE_MODEL.format(explodes="step == 3"))
    with connect(tmp_path) as client:
        submit = Submit(1, "salt-of-tenant", "t", 1, 5, SamplingParams(ignore_eos=True))
        client.sendall(encode(submit, pack_token_ids([51, 52, 53])))
        while client.recv(65536):
            pass
    assert child.wait(DEADLINE_S) == EXIT_ENGINE_FAILED
    log = stderr_of(child)
    assert "device lost" in log
    assert "salt-of-tenant" not in log
    assert "51, 52" not in log


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"engine": {"block_size_tokens": "x"}}, "block_size_tokens"),
        ({"socket": "/proc/nowhere/engine.sock"}, "m cannot be served"),
        ({"socket": "/tmp/" + "x" * 200}, "m cannot be served"),
    ],
)
def test_impossible_settings_end_the_start_with_one_sentence(
    start: Start, changes: dict[str, object], named: str
) -> None:
    child = start(ready=None, **changes)
    assert child.wait(DEADLINE_S) == EXIT_CONFIG
    (line,) = stderr_of(child).splitlines()
    assert named in line


def test_an_impossible_priority_ends_the_start(start: Start, tmp_path: Path) -> None:
    write_encoder(tmp_path)
    child = start(
        "from anzoth.scheduler import process; process.main()",
        ready=None,
        engine=to_json(EngineConfig(embedding_nice=20)),
    )
    assert child.wait(DEADLINE_S) == EXIT_CONFIG
    assert "embedding_nice is 20" in stderr_of(child)


def test_number_of_cores_is_within_what_the_process_may_use() -> None:
    assert 1 <= num_physical_cores() <= (os.cpu_count() or 1)
