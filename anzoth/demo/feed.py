"""How do training rows get made without the trainer waiting? Also: `python -m anzoth.demo.feed`.

Lessons are pure Python: one core draws and tokenizes about as much text as two cores can learn, and
a GPU learns a hundred times faster. `Feed` spreads the groups of steps over processes, group g to
process g mod N, and hands the steps out in order: which rows a step sees depends on the seed alone,
whatever N is. A process is told its job in one line of JSON and answers on its standard output.

    frame     num_words, then that many int32 of this machine: a group
    group     for each step: num_batches, then the batches
    batch     num_rows, width, num_places, num_tokens, num_targets, ids, branches, places, targets

Does not know: what is in a lesson, or the model.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import IO

from tokenizers import Tokenizer

from anzoth.demo.batches import Batch, Batches, Plan
from anzoth.demo.curriculum import example

_AHEAD = 2
"""Groups that are kept ready for each process."""
_WORD = array("i").itemsize
_HEADER = 5
"""Words before a batch's own."""


class FeedError(Exception):
    """A process that makes training rows has stopped."""


class Feed:
    """`feed[step]`, asked for in order, from `num_workers` processes; with none, made here."""

    def __init__(self, tokenizer: Tokenizer, plan: Plan, num_workers: int = 0) -> None:
        self._tokenizer, self._plan, self._num_workers = tokenizer, plan, num_workers
        self._here = Batches(tokenizer, example, plan)
        self._workers: list[_Worker] = []
        self._group: tuple[int, list[list[Batch]]] = (-1, [])

    def __getitem__(self, step: int) -> list[Batch]:
        if not self._num_workers:
            return self._here[step]
        number, place = divmod(step, self._plan.steps_per_group)
        if not self._workers:
            self._start(number)
        if self._group[0] != number:
            self._group = (number, self._workers[number % self._num_workers].next_group())
        return self._group[1][place]

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _start(self, first_group: int) -> None:
        for worker in range(self._num_workers):
            first = first_group + (worker - first_group) % self._num_workers
            self._workers.append(_Worker(self._tokenizer, self._plan, first, self._num_workers))


class _Worker:
    """A process and the thread that reads it."""

    def __init__(self, tokenizer: Tokenizer, plan: Plan, first: int, stride: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "anzoth.demo.feed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ready: queue.Queue[list[list[Batch]] | None] = queue.Queue(_AHEAD)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        job = {"plan": asdict(plan), "first": first, "stride": stride}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**job, "tokenizer": tokenizer.to_str()}).encode())
        self._process.stdin.close()
        self._thread.start()

    def next_group(self) -> list[list[Batch]]:
        """Raises FeedError."""
        if (group := self._ready.get()) is None:
            raise FeedError("a process that makes training rows has stopped: see its message above")
        return group

    def close(self) -> None:
        self._is_closed.set()
        self._process.terminate()
        while self._thread.is_alive():  # it may be waiting for room
            try:
                self._ready.get(timeout=0.01)
            except queue.Empty:
                continue
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while not self._is_closed.is_set():
                self._ready.put(group := read_group(stream))
                if group is None:
                    return


def write_group(stream: IO[bytes], group: Sequence[Sequence[Batch]]) -> None:
    words = array("i")
    for batches in group:
        words.append(len(batches))
        for batch in batches:
            words.extend((batch.num_rows, batch.width, batch.num_places))
            words.extend((batch.num_tokens, batch.num_targets))
            words.extend(batch.words)
    stream.write(array("i", [len(words)]).tobytes())
    stream.write(words.tobytes())
    stream.flush()


def read_group(stream: IO[bytes]) -> list[list[Batch]] | None:
    """What `write_group` has written; None where the stream ends."""
    if len(length := stream.read(_WORD)) < _WORD:
        return None
    (num_words,) = array("i", length)
    if len(data := stream.read(num_words * _WORD)) < num_words * _WORD:
        return None
    return list(_steps(array("i", data)))


def _steps(words: array[int]) -> Iterator[list[Batch]]:
    at = 0
    while at < len(words):
        num_batches, at = words[at], at + 1
        batches: list[Batch] = []
        for _ in range(num_batches):
            rows, width, places, num_tokens, num_targets = words[at : at + _HEADER]
            at += _HEADER
            end = at + 2 * (rows * width + places)
            batches.append(Batch(words[at:end], rows, width, places, num_tokens, num_targets))
            at = end
        yield batches


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    batches = Batches(Tokenizer.from_str(job["tokenizer"]), example, Plan(**job["plan"]))
    number = job["first"]
    while True:
        try:
            write_group(sys.stdout.buffer, batches.group(number))
        except BrokenPipeError:
            os._exit(0)  # the trainer has gone: nothing is left to be flushed
        number += job["stride"]


if __name__ == "__main__":
    main()
