"""How does an engine process begin and end?

    python -m anzoth.scheduler.process

Settings come from the supervisor (see `anzoth.child`): `model`, `path`, `socket`, `engine`,
`log_level`, and the token ids of `shared_prompts`, if there are any. What the checkpoint is decides
whether text is generated, embeddings are made or documents are ranked. The model is loaded first
and the socket is bound afterwards, so a gateway that can connect will be served. The end is one of:

    0    SIGTERM, or the supervisor is gone
    78   the model, the settings or the socket's path are impossible: trying again will not help
    70   a step failed, or the bookkeeping contradicts itself: a fresh process starts clean

Does not know: requests, or what a step is.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from anzoth import child
from anzoth.config import ConfigError, from_json
from anzoth.model_config import EngineConfig
from anzoth.model_kind import ModelKind, model_kind
from anzoth.scheduler import embedding_server, server
from anzoth.scheduler.constraint import GrammarCompiler
from anzoth.scheduler.embedding_engine import EmbeddingEngine
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.priority import lower_priority
from anzoth.scheduler.runner import Runner
from anzoth.unix_socket import listen

log = logging.getLogger(__name__)

EXIT_ENGINE_FAILED = 70  # EX_SOFTWARE of sysexits.h


def main() -> None:
    """Loads the model, serves until told to stop, and exits with one of the codes above."""
    settings = child.begin("engine")
    # Raised wherever the main thread is, after the native call it is in: a step is not waited for,
    # since the gateways' streams are already ended or will end with this process.
    signal.signal(signal.SIGTERM, _terminate)
    model = str(settings["model"])
    path = Path(str(settings["path"]))
    socket_path = Path(str(settings["socket"]))
    try:
        config = from_json(EngineConfig, settings["engine"])  # type: ignore[arg-type]  # JSON object
        prompts = _token_ids(settings.get("shared_prompts", []))
        serve = _PREPARATIONS[model_kind(path)](model, path, config, prompts)
        listener = listen(str(socket_path))
    except (ConfigError, OSError) as error:
        reason = f"model {model} cannot be served: {error}"
        raise child.fail_config("engine", reason, settings) from error
    try:
        _freeze_garbage_collector()
        log.info("model %s is served on %s", model, socket_path)
        serve(listener)
        log.info("the supervisor is gone")
    except Exception:
        log.exception("the engine failed; all its sequences are lost")
        raise SystemExit(EXIT_ENGINE_FAILED) from None
    finally:
        listener.close()
        socket_path.unlink(missing_ok=True)


def num_physical_cores() -> int:
    """Cores that this process may use, hyper-threads of one core counted once.

    Matrix products gain nothing from a second thread on the same core's arithmetic units.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores: set[str] = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


# --- one function per kind of model: it loads, and returns what serves ------------------------

Serve = Callable[[socket.socket], None]


def _prepare_generation(
    model: str, path: Path, config: EngineConfig, shared_prompts: list[list[int]]
) -> Serve:
    runner = _load(model, path, config)
    engine = Engine(runner, config, time.monotonic, shared_prompts)
    compiler = GrammarCompiler(
        path / "tokenizer.json", runner.spec.vocab_size, runner.spec.eos_token_ids
    )
    return lambda listener: server.serve(
        engine, model, listener, child.parent_fd(), compiler=compiler
    )


def _prepare_embedding(
    model: str, path: Path, config: EngineConfig, _shared_prompts: list[list[int]]
) -> Serve:
    lower_priority(config.embedding_nice)  # loading included
    started_s = _before_loading(model, path, config)
    from anzoth.scheduler.embedding_runner import EmbeddingRunner

    runner = EmbeddingRunner.load(path, config)
    log.info(
        "model %s is ready after %.1f s: %s on %s, vectors of %d numbers, at most %d tokens a text",
        model,
        time.monotonic() - started_s,
        runner.dtype,
        runner.device,
        runner.dimensions,
        runner.max_model_tokens,
    )
    engine = EmbeddingEngine(runner, config, time.monotonic)
    return lambda listener: embedding_server.serve(engine, model, listener, child.parent_fd())


_PREPARATIONS: dict[ModelKind, Callable[[str, Path, EngineConfig, list[list[int]]], Serve]] = {
    "generation": _prepare_generation,
    "embedding": _prepare_embedding,
    "rerank": _prepare_embedding,
}


def _token_ids(prompts: object) -> list[list[int]]:
    assert isinstance(prompts, list), "the supervisor sends lists of token ids"
    return prompts


def _load(model: str, path: Path, config: EngineConfig) -> Runner:
    started_s = _before_loading(model, path, config)
    from anzoth.scheduler.model_runner import ModelRunner

    runner = ModelRunner.load(path, config)
    log.info(
        "model %s is ready after %.1f s: %s on %s, %d KV blocks of %d tokens, at most %d tokens a "
        "sequence",
        model,
        time.monotonic() - started_s,
        runner.dtype,
        runner.device,
        runner.num_blocks,
        runner.block_size_tokens,
        runner.max_model_tokens,
    )
    return runner


def _before_loading(model: str, path: Path, config: EngineConfig) -> float:
    """What must be set before torch is imported. Returns the time."""
    num_threads = config.num_threads or num_physical_cores()
    # OpenMP reads this once, when the first library that uses it is loaded: not after the import.
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    # By default a thread that waits for the others spins, and beside a busy neighbour (here at
    # least the gateway) it spins away the core that they need: bundled model, one stream, 2 cores,
    # one of them busy: 164 ms a step spinning, 2.3 ms sleeping. The price on an idle machine:
    # 1.1 -> 1.5 ms.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log.info("loading model %s from %s (%d threads)", model, path, num_threads)
    return time.monotonic()


def _freeze_garbage_collector() -> None:
    """What exists now lives as long as the process: the collector need not walk through it.

    With 60,000 blocks and 256 sequences (2-core EPYC, 2026-11, bench/test_engine_step.py's engine)
    the longest of 2,000 steps fell from 79 ms to 17-26 ms; the median stayed at 0.4 ms.
    """
    gc.collect()
    gc.freeze()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    main()
