"""Does the time to the first token tell one tenant what another has cached?

A victim's prompt is computed; then an attacker sends either the very same prompt or another one of
the same length, in random order. AUC is how well the attacker's times tell the two apart: 0.5 is
guessing, 1.0 is certainty (published for engines that share prefixes between users: 0.99 from eight
tokens on, research/engine §6). The control is the attacker's own prompt, cached or not: it shows
what a hit is worth, and that a difference would have been seen.

The work behind these times is compared to the token in tests/scheduler/test_isolation.py; this is
about what that comparison cannot see: clocks, caches of the processor, the cost of look-ups.
"""

from __future__ import annotations

import random
import time

from pytest_benchmark.fixture import BenchmarkFixture

from anzoth.frames import SamplingParams, Submit
from anzoth.model_config import BUNDLED_MODEL_DIR, EngineConfig
from anzoth.scheduler.engine import Engine
from anzoth.scheduler.model_runner import ModelRunner

NUM_ROUNDS = 40
NUM_TOKENS = 256
ONE_TOKEN = SamplingParams(temperature=0.0, ignore_eos=True)


def auc(first: list[float], second: list[float]) -> float:
    """The chance that a time of `second` is longer than one of `first`, ties counted half."""
    wins = sum((b > a) + (b == a) / 2 for a in first for b in second)
    return wins / (len(first) * len(second))


def test_time_to_first_token_of_a_probe(benchmark: BenchmarkFixture) -> None:
    config = EngineConfig(num_blocks=4096, num_threads=1)
    runner = ModelRunner.load(BUNDLED_MODEL_DIR, config)
    engine = Engine(runner, config, time.monotonic)
    random_ = random.Random(1)

    def text() -> list[int]:
        return [random_.randrange(10, runner.spec.vocab_size) for _ in range(NUM_TOKENS)]

    def ask(tenant: str, prompt: list[int]) -> float:
        started_s = time.perf_counter()
        engine.submit(Submit(0, f"secret of {tenant}", tenant, 1, 1, ONE_TOKEN), prompt)
        while engine.has_work:
            engine.step()
        return time.perf_counter() - started_s

    def compare(owner: str) -> tuple[list[float], list[float]]:
        """The attacker's times for what `owner` has just asked, and for what nobody has."""
        known_s: list[float] = []
        unknown_s: list[float] = []
        for _ in range(NUM_ROUNDS):
            known, unknown = text(), text()
            ask(owner, known)
            probes = [(known, known_s), (unknown, unknown_s)]
            random_.shuffle(probes)
            for prompt, times_s in probes:
                times_s.append(ask("attacker", prompt))
        return known_s, unknown_s

    for _ in range(5):
        ask("victim", text())
    across, own = auc(*compare("victim")), auc(*compare("attacker"))
    print(f"\nAUC of the time to the first token: victim's prompts {across:.3f}, own {own:.3f}")
    benchmark.extra_info.update({"AUC, victim's prompts": across, "AUC, own prompts": own})
    assert abs(across - 0.5) < 0.2  # three standard errors of an AUC from so few rounds
    assert own > 0.9
    benchmark.pedantic(lambda: ask("attacker", text()), rounds=5)
