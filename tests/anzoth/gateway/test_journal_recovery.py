"""Does every request have exactly one end, wherever the last process was cut off?"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from usage_journal import intent, settle, settled, write_segment

from anzoth.gateway.journal import segment_path
from anzoth.gateway.journal_format import (
    HEADER_BYTES,
    Kind,
    encode_frame,
    encode_settlement,
    read_frames,
)
from anzoth.gateway.journal_recovery import Recovered, recover

PROGRESS = encode_frame(Kind.PROGRESS, 0, b"[[1,10,4,20,18],[2,5,0,1,0]]")


def settle_what_is_open(folder: Path, recovered: Recovered) -> bytes:
    """Writes it as the ledger does; the frames."""
    frames = b"".join(
        encode_frame(Kind.SETTLE, end.entry, encode_settlement(end.row, end.delivered_tokens))
        for end in recovered.settlements
    )
    write_segment(folder, recovered.next_number, frames)
    return frames


def test_what_was_running_is_settled_at_its_last_progress(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, intent(1, "a"), intent(2, "b"), PROGRESS, settle(2, "b"))
    write_segment(tmp_path, 2, intent(3, "c"))
    recovered = recover(tmp_path, {})
    assert recovered.next_number == 3
    assert recovered.num_settled == {1: 1, 2: 0}
    first, second = recovered.settlements
    assert (first.entry, first.row.request_id, first.delivered_tokens) == (1, "a", 18)
    assert (first.row.prompt_tokens, first.row.cached_tokens) == (10, 4)
    assert (first.row.completion_tokens, first.row.finish_reason) == (20, "crashed")
    assert (first.row.status, first.row.error_code) == (200, "gateway_crashed")
    assert first.row.end_user == "ü"
    assert (second.entry, second.row.completion_tokens, second.row.status) == (3, 0, 500)


def test_what_was_running_costs_what_was_computed_at_the_price_of_its_beginning(
    tmp_path: Path,
) -> None:
    prices = {"input_price": 150_000, "cached_input_price": 75_000, "output_price": 600_000}
    write_segment(tmp_path, 1, intent(1, "a", **prices), PROGRESS)
    (end,) = recover(tmp_path, {}).settlements
    costs = (end.row.input_cost, end.row.cached_input_cost, end.row.output_cost)
    assert costs == (6 * 150, 4 * 75, 20 * 600)


def test_the_live_counts_come_before_the_last_progress(tmp_path: Path) -> None:
    write_segment(tmp_path, 1, intent(1, "a"), intent(2, "b"), PROGRESS)
    recovered = recover(tmp_path, {1: (10, 4, 23, 23), 9: (1, 1, 1, 1)})
    assert [end.row.completion_tokens for end in recovered.settlements] == [23, 1]


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: thousands of files are cut in it."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="anzoth-test-", dir=memory if memory.is_dir() else None))
    yield made
    shutil.rmtree(made)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.slow
def test_cut_at_every_byte_each_written_request_ends_once(folder: Path) -> None:
    frames = [intent(1, "a"), intent(2, "b"), PROGRESS, settle(2, "b"), intent(3, "c")]
    whole = write_segment(folder, 1, *frames).read_bytes()
    for cut in range(len(whole) + 1):
        empty(folder)
        segment_path(folder, 1).write_bytes(whole[:cut])
        begun, _ = read_frames(whole[:cut], HEADER_BYTES)
        asked = {frame.entry for frame in begun if frame.kind is Kind.INTENT}
        recovered = recover(folder, {})
        settle_what_is_open(folder, recovered)
        ended = Counter(row.request_id for row in settled(folder))
        assert ended == Counter("abc"[entry - 1] for entry in asked), cut
        assert not list(folder.glob("*.damaged"))
        again = recover(folder, {})
        assert again.settlements == []


@pytest.mark.slow
def test_a_crash_at_every_byte_of_the_recovery_changes_nothing(folder: Path) -> None:
    before = intent(1, "a"), PROGRESS, intent(2, "b")
    write_segment(folder, 1, *before)
    settle_what_is_open(folder, recover(folder, {}))
    expected = settled(folder)
    whole = segment_path(folder, 2).read_bytes()
    for cut in range(len(whole) + 1):
        empty(folder)
        write_segment(folder, 1, *before)
        segment_path(folder, 2).write_bytes(whole[:cut])
        settle_what_is_open(folder, recover(folder, {}))
        assert sorted(settled(folder), key=lambda row: row.request_id) == expected, cut


def test_an_intent_that_stands_twice_is_settled_once(tmp_path: Path) -> None:
    """After a file that failed, what was not durable in it is written again to the next."""
    write_segment(tmp_path, 1, intent(1, "a"), settle(1, "a"), intent(2, "b"))
    write_segment(tmp_path, 2, intent(1, "a"), intent(2, "b"), settle(2, "b"))
    assert recover(tmp_path, {}).settlements == []


def test_damage_is_cut_off_and_kept_for_a_person(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_segment(tmp_path, 1, intent(1, "a"), settle(1, "a"), intent(2, "b"))
    data = bytearray(path.read_bytes())
    begin = HEADER_BYTES + len(intent(1, "a"))
    data[begin + 30] ^= 4
    path.write_bytes(data)
    recovered = recover(tmp_path, {})
    assert [end.entry for end in recovered.settlements] == [1]
    assert path.stat().st_size == begin
    (kept,) = tmp_path.glob("*.damaged")
    assert kept.read_bytes() == data[begin:]
    assert "damaged" in caplog.text
    assert recover(tmp_path, {}).next_number == 2


def test_a_file_that_is_no_segment_is_put_aside_and_its_number_not_used_again(
    tmp_path: Path,
) -> None:
    segment_path(tmp_path, 5).write_bytes(b"x" * 100)
    segment_path(tmp_path, 6).write_bytes(b"anz")
    recovered = recover(tmp_path, {})
    assert recovered.segments == {}
    assert recovered.next_number == 7
    assert [path.name for path in tmp_path.iterdir()] == ["000000000005.journal.damaged"]
