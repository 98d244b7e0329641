"""The position in a log of changes: right in any order, and never too far."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from anzoth.index.log_position import LogPosition

CHANGES = st.lists(st.integers(1, 5), min_size=1, max_size=20)
"""The file of each change; the first is number 1."""


def apply(position: LogPosition, contents: dict[int, int], file: int, seq: int) -> None:
    if position.is_news(file, seq):
        contents[file] = seq
    position.note(file, seq)


@given(files=CHANGES, order=st.randoms(use_true_random=False), repeats=st.integers(0, 10))
def test_any_order_and_any_repetition_leads_to_the_latest_of_every_file(
    files: list[int], order: random.Random, repeats: int
) -> None:
    log = list(enumerate(files, 1))
    arriving = log + order.choices(log, k=repeats)
    order.shuffle(arriving)
    position, contents = LogPosition(), {}
    seen: set[int] = set()
    for seq, file in arriving:
        apply(position, contents, file, seq)
        seen.add(seq)
        complete = next(n for n in range(len(log) + 1) if n + 1 not in seen)
        assert position.seq == complete
    assert contents == {file: seq for seq, file in log}


@given(files=CHANGES, known=st.integers(0, 20), order=st.randoms(use_true_random=False))
def test_a_replay_beside_changes_as_they_happen_ends_where_both_have_come(
    files: list[int], known: int, order: random.Random
) -> None:
    """The replay was read in the middle; what changed since arrives among it."""
    log = list(enumerate(files, 1))
    known = min(known, len(log))
    read_at = order.randint(known, len(log))
    position = LogPosition(known)
    contents = {file: seq for seq, file in log[:known]}
    replayed = {file: seq for seq, file in log[:read_at] if seq > known}
    arriving = [(seq, file) for file, seq in replayed.items()] + log[read_at:]
    order.shuffle(arriving)
    for seq, file in arriving:
        apply(position, contents, file, seq)
    position.advance(known, read_at)
    assert position.seq == len(log)
    assert contents == {file: seq for seq, file in log}


def test_the_end_of_a_replay_that_began_too_late_moves_nothing() -> None:
    position = LogPosition(3)
    position.advance(4, 9)
    assert position.seq == 3
    position.advance(2, 5)
    assert position.seq == 5
    position.advance(2, 4)
    assert position.seq == 5
