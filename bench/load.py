"""How does a running OpenAI-compatible server behave under load?

    python bench/load.py --url http://127.0.0.1:8000 --key anz-… --rate 4 --seconds 30
    python bench/load.py --url … --key … --concurrency 16 --requests 64

Open loop (`--rate`): requests start at Poisson times whatever the server does, as customers do;
time to first token counts from the intended start. Closed loop (`--concurrency`): that many
clients, each asking again when it was answered; good for peak throughput, blind to queueing.
Failures are counted, never dropped. Prompts are token ids, so that every server computes the same
number of tokens, and `ignore_eos` fixes the output length. The last line is one JSON object.

Raw asyncio streams instead of an HTTP library: the generator must cost less than the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Outcome:
    """What one request saw. Times are seconds from its intended start."""

    ttft_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    duration_s: float = 0.0
    error: str | None = None


@dataclass(slots=True, frozen=True)
class Load:
    """One kind of request, sent again and again."""

    url: str
    key: str
    model: str = "anzoth-default"
    prompt_tokens: int = 128
    max_tokens: int = 64
    vocab_size: int = 1000
    seed: int = 0

    def body(self, index: int) -> bytes:
        """Distinct prompts: a prefix cache must not make the numbers prettier than they are."""
        ids = random.Random(self.seed * 1_000_003 + index)
        return json.dumps(
            {
                "model": self.model,
                "prompt": [ids.randrange(300, self.vocab_size) for _ in range(self.prompt_tokens)],
                "max_tokens": self.max_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()


async def send(load: Load, index: int) -> Outcome:
    """One streamed completion on a connection of its own. Never raises for a server's failure."""
    outcome = Outcome()
    started_s = previous_s = time.perf_counter()
    address = urlsplit(load.url)
    try:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
    except OSError as error:
        outcome.error = type(error).__name__
        return outcome
    try:
        body = load.body(index)
        writer.write(
            f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {load.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        status = (await reader.readline()).split(b" ", 2)[1]
        if status != b"200":
            outcome.error = f"HTTP {status.decode()}"
            return outcome
        async for line in reader:
            if line.startswith(b"data: {"):
                now_s = time.perf_counter()
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    outcome.error = chunk["error"]["code"]
                elif chunk.get("usage"):
                    outcome.num_tokens = chunk["usage"]["completion_tokens"]
                elif outcome.ttft_s is None:
                    outcome.ttft_s = now_s - started_s
                else:
                    outcome.gaps_s.append(now_s - previous_s)
                previous_s = now_s
            elif line.startswith(b"data: [DONE]"):
                break
        else:
            outcome.error = outcome.error or "cut off"
    except (OSError, IndexError, json.JSONDecodeError) as error:
        outcome.error = type(error).__name__
    finally:
        outcome.duration_s = time.perf_counter() - started_s
        writer.close()
    return outcome


async def open_loop(load: Load, rate_per_s: float, seconds: float) -> list[Outcome]:
    """Poisson arrivals at `rate_per_s` for `seconds`; waits for the last answer."""
    arrivals = random.Random(load.seed)
    started_s = time.perf_counter()
    due_s = 0.0
    async with asyncio.TaskGroup() as group:
        tasks = []
        while (due_s := due_s + arrivals.expovariate(rate_per_s)) < seconds:
            await asyncio.sleep(max(0.0, started_s + due_s - time.perf_counter()))
            tasks.append(group.create_task(send(load, len(tasks))))
    return [task.result() for task in tasks]


async def closed_loop(load: Load, concurrency: int, requests: int) -> list[Outcome]:
    """`concurrency` clients share `requests` requests."""
    indexes = iter(range(requests))

    async def client() -> list[Outcome]:
        return [await send(load, index) for index in indexes]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client()) for _ in range(concurrency)]
    return [outcome for task in tasks for outcome in task.result()]


def summary(outcomes: list[Outcome], wall_s: float) -> dict[str, object]:
    """Throughput, and p50/p99 of time to first token and of the gap between tokens."""
    good = [outcome for outcome in outcomes if outcome.error is None]
    first = [outcome.ttft_s for outcome in good if outcome.ttft_s is not None]
    gaps = [gap for outcome in good for gap in outcome.gaps_s]
    errors: dict[str, int] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            errors[outcome.error] = errors.get(outcome.error, 0) + 1
    return {
        "requests": len(outcomes),
        "failed": errors,
        "output_tokens_per_s": round(sum(outcome.num_tokens for outcome in good) / wall_s, 1),
        "ttft_ms": _percentiles_ms(first),
        "inter_token_ms": _percentiles_ms(gaps),
        "wall_s": round(wall_s, 2),
    }


def _percentiles_ms(values_s: list[float]) -> dict[str, float] | None:
    if len(values_s) < 2:
        return {"p50": round(values_s[0] * 1e3, 2)} if values_s else None
    cuts = statistics.quantiles(values_s, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1e3, 2), "p99": round(cuts[98] * 1e3, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", default="anzoth-default")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--vocab-size", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, help="open loop: requests per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="open loop: for how long")
    parser.add_argument("--concurrency", type=int, default=1, help="closed loop: clients")
    parser.add_argument("--requests", type=int, default=16, help="closed loop: requests in all")
    given = parser.parse_args()
    load = Load(
        given.url,
        given.key,
        given.model,
        given.prompt_tokens,
        given.max_tokens,
        given.vocab_size,
        given.seed,
    )
    started_s = time.perf_counter()
    if given.rate:
        outcomes = asyncio.run(open_loop(load, given.rate, given.seconds))
    else:
        outcomes = asyncio.run(closed_loop(load, given.concurrency, given.requests))
    print(json.dumps(summary(outcomes, time.perf_counter() - started_s)))


if __name__ == "__main__":
    main()
