"""What did the last process leave in the journal, and how do the requests end that it never ended?

A segment counts up to the first thing in it that is no whole, valid frame, and is cut there. A
request with an INTENT and no SETTLE was running when the process died. It is settled as `crashed`,
with the counts of the file that is mapped into memory, if the machine has been up since, else with
those of its last PROGRESS. Doing this again, after a crash in the middle of it, does the same: what
was settled already is found settled.

Does not know: how settlements are written (see `ledger`), or who reads them.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from anzoth.db.store.usage_rows import UsageRow
from anzoth.gateway.journal import segment_numbers, segment_path
from anzoth.gateway.journal_counts import CACHED, COMPLETION, DELIVERED, PROMPT
from anzoth.gateway.journal_format import (
    HEADER_BYTES,
    Frame,
    Kind,
    NotASegment,
    decode_header,
    decode_row,
    is_torn,
    read_frames,
)
from anzoth.gateway.usage_cost import with_cost

CRASHED = "crashed"
"""Finish reason of a request that ended with the gateway process."""
CRASHED_CODE = "gateway_crashed"
DAMAGED_SUFFIX = ".damaged"

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Settlement:
    """How a request ended whose process died."""

    entry: int
    row: UsageRow
    delivered_tokens: int


@dataclass(slots=True)
class Recovered:
    """What the folder holds."""

    segments: dict[int, int] = field(default_factory=dict)
    """Number -> bytes, each a whole number of valid frames; in order."""
    num_settled: dict[int, int] = field(default_factory=dict)
    """Number -> SETTLE frames in it."""
    settlements: list[Settlement] = field(default_factory=list)
    """Still to be written."""
    next_number: int = 1
    """For the next segment: higher than any that was ever here."""


@dataclass(slots=True)
class _Requests:
    """Of all segments so far."""

    intents: dict[int, bytes] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    progress: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def add(self, frames: Iterable[Frame]) -> int:
        """Returns how many of them settle something."""
        num_settled = 0
        for frame in frames:
            match frame.kind:
                case Kind.INTENT:
                    self.intents[frame.entry] = frame.payload
                case Kind.PROGRESS:
                    for entry, *counts in orjson.loads(frame.payload):
                        self.progress[entry] = tuple(counts)
                case Kind.SETTLE:
                    self.settled.add(frame.entry)
                    num_settled += 1
        return num_settled


def recover(folder: Path, live: Mapping[int, Sequence[int]]) -> Recovered:
    """Reads and cuts the segments. `live`: the counts that outlived the process. Raises OSError."""
    recovered, requests = Recovered(), _Requests()
    numbers = segment_numbers(folder)
    for number in numbers:
        frames = _read_and_cut(segment_path(folder, number))
        if frames is None:
            continue
        recovered.segments[number] = frames[-1].end if frames else HEADER_BYTES
        recovered.num_settled[number] = requests.add(frames)
    aside = [int(path.name.partition(".")[0]) for path in folder.glob(f"*{DAMAGED_SUFFIX}")]
    recovered.next_number = max([0, *numbers, *aside]) + 1
    for entry, intent in requests.intents.items():
        if entry not in requests.settled:
            counts = live.get(entry) or requests.progress.get(entry) or (0, 0, 0, 0)
            recovered.settlements.append(_settlement(entry, intent, counts))
    return recovered


def _settlement(entry: int, intent: bytes, counts: Sequence[int]) -> Settlement:
    delivered = counts[DELIVERED]
    row = replace(
        decode_row(intent),
        prompt_tokens=counts[PROMPT],
        cached_tokens=counts[CACHED],
        completion_tokens=counts[COMPLETION],
        finish_reason=CRASHED,
        # What is known: a client that got tokens had got a 200.
        status=200 if delivered else 500,
        error_code=CRASHED_CODE,
    )
    return Settlement(entry, with_cost(row), delivered)


def _read_and_cut(path: Path) -> list[Frame] | None:
    """None: it is no segment, and was put aside or, where it is only begun, removed."""
    data = path.read_bytes()
    try:
        decode_header(data)
    except NotASegment as error:
        if len(data) < HEADER_BYTES:
            path.unlink()  # killed before its first record
        else:
            _log.error("the usage journal's file %s is put aside: %s", path.name, error)
            path.rename(path.with_name(path.name + DAMAGED_SUFFIX))
        return None
    frames, end = read_frames(data, HEADER_BYTES)
    if end < len(data):
        if not is_torn(data[end:]):
            _keep_aside(path, end, data[end:])
        os.truncate(path, end)
    return frames


def _keep_aside(path: Path, end: int, rest: bytes) -> None:
    """What is cut off but was once whole may hold usage: a person may still want to look at it."""
    aside = path.with_name(f"{path.stem}.from-{end}-{uuid.uuid4().hex[:8]}{DAMAGED_SUFFIX}")
    _log.error(
        "the usage journal's file %s is damaged at byte %d: %d bytes are kept in %s",
        path.name,
        end,
        len(rest),
        aside.name,
    )
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(rest)
