"""A snapshot opens as what was saved, or is refused: damaged, shortened, exchanged, put back."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.index import sealed, snapshot, vectors
from anzoth.index.coded import CodedVectors
from anzoth.index.collection import Collection
from anzoth.index.dense import FlatVectors, Floats, unit_vectors
from anzoth.index.fusion import Rrf
from anzoth.index.graph import GraphVectors
from anzoth.index.sealed import Label, read_sealed, write_sealed
from anzoth.index.snapshot import (
    Owner,
    SnapshotRefused,
    open_collection,
    prune,
    save_collection,
)

DIMENSIONS = 16
KEY = bytes(range(32))
OWNER = Owner("tenant-a", "store-a", KEY)
CANARY = "zanzibarcanary"


def units(count: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return unit_vectors(rng.standard_normal((count, DIMENSIONS)), DIMENSIONS)


def filled(seed: int = 0) -> Collection:
    made = Collection(DIMENSIONS, "plain")
    for file in range(6):
        numbers = range(10 * file, 10 * file + 4)
        texts = [f"{CANARY} {file} {n}" for n in numbers]
        made.put(file, numbers, texts, units(4, seed + file), {"secretattribute": CANARY})
    made.merge()
    made.put(7, [70, 71], ["late", "later"], units(2, seed + 7), {"late": True, "n": 1.5})
    made.delete(3)
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_collection(filled(), tmp_path / "a", OWNER, 3)
    return tmp_path / "a"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sealed"))


def refused(folder: Path, owner: Owner = OWNER, generation: int = 3) -> None:
    with pytest.raises(SnapshotRefused):
        open_collection(folder, owner, generation)


def test_what_is_opened_is_what_was_saved(saved: Path) -> None:
    before, after = filled(), open_collection(saved, OWNER, 3)
    after.check_integrity()
    assert after.files == before.files
    assert [after.attributes(f) for f in after.files] == [
        before.attributes(f) for f in before.files
    ]
    for seed in range(5):
        query = units(1, 100 + seed)[0]
        assert (
            after.search(query, f"{CANARY} 1", 9).hits
            == before.search(query, f"{CANARY} 1", 9).hits
        )
    after.put(3, [90], ["again"], units(1, 90))
    after.merge()
    assert after.num_chunks == before.num_chunks + 1


def test_an_empty_collection_is_saved_too(tmp_path: Path) -> None:
    save_collection(Collection(DIMENSIONS), tmp_path, OWNER, 1)
    assert open_collection(tmp_path, OWNER, 1).num_chunks == 0


def test_every_file_refuses_a_flipped_bit_anywhere(saved: Path) -> None:
    for path in files(saved):
        whole = path.read_bytes()
        # Each byte of the header and of the tag, and some between.
        places = {*range(64), *range(len(whole) - 20, len(whole)), *range(64, len(whole), 97)}
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            path.write_bytes(damaged)
            refused(saved)
        path.write_bytes(whole)
    open_collection(saved, OWNER, 3)


def test_every_file_refuses_to_be_shorter_longer_or_missing(saved: Path) -> None:
    for path in files(saved):
        whole = path.read_bytes()
        for changed in (b"", whole[:10], whole[:-1], whole[:-16], whole + b"\0", whole + whole):
            path.write_bytes(changed)
            refused(saved)
        path.unlink()
        refused(saved)
        path.write_bytes(whole)
    open_collection(saved, OWNER, 3)


@pytest.mark.parametrize(
    "owner",
    [
        Owner("tenant-b", "store-a", KEY),
        Owner("tenant-a", "store-b", KEY),
        Owner("tenant-astore", "-a", KEY),
        Owner("tenant-a", "store-a", bytes(32)),
    ],
)
def test_nobody_else_opens_it_even_with_the_key(saved: Path, owner: Owner) -> None:
    refused(saved, owner)


def test_no_file_of_another_store_kind_or_save_stands_in(saved: Path, tmp_path: Path) -> None:
    # The same tenant and key, the same content; another store, and the same store saved elsewhere.
    save_collection(filled(), tmp_path / "b", Owner("tenant-a", "store-b", KEY), 3)
    save_collection(filled(), tmp_path / "c", OWNER, 3)
    for path in files(saved):
        whole = path.read_bytes()
        stand_ins = [tmp_path / "b" / path.name, *(p for p in files(saved) if p != path)]
        if "manifest" not in path.name:
            stand_ins.append(tmp_path / "c" / path.name)
        for stand_in in stand_ins:
            shutil.copy(stand_in, path)
            refused(saved)
        path.write_bytes(whole)
    open_collection(saved, OWNER, 3)


def test_an_older_generation_that_is_put_back_is_refused(saved: Path) -> None:
    newer = filled()
    newer.delete(0)
    old = {path.name: path.read_bytes() for path in files(saved)}
    save_collection(newer, saved, OWNER, 4)
    prune(saved, 4)
    assert open_collection(saved, OWNER, 4).files == newer.files
    for name, whole in old.items():
        path = saved / name.replace("3.", "4.", 1)
        newest = path.read_bytes()
        path.write_bytes(whole)
        refused(saved, generation=4)
        path.write_bytes(newest)
    for path in files(saved):
        path.unlink()
    for name, whole in old.items():
        (saved / name).write_bytes(whole)
    refused(saved, generation=4)


def test_generations_only_rise_and_older_ones_stay_until_they_are_pruned(saved: Path) -> None:
    for generation in (2, 3):
        with pytest.raises(ValueError, match="not above"):
            save_collection(filled(), saved, OWNER, generation)
    save_collection(filled(), saved, OWNER, 9)
    open_collection(saved, OWNER, 3)
    (saved / ".0000000000000009.0.rows.sealed.tmp").write_bytes(b"half")
    prune(saved, 9)
    assert {path.name.split(".")[0] for path in saved.iterdir()} == {f"{9:016d}"}
    open_collection(saved, OWNER, 9)


def test_a_save_that_stops_half_way_leaves_the_generation_before(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = len(files(saved)) - 1

    def failing(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealed.os, "fsync", failing)
    with pytest.raises(OSError, match="No space"):
        save_collection(filled(), saved, OWNER, 4)
    monkeypatch.undo()
    refused(saved, generation=4)
    open_collection(saved, OWNER, 3)
    save_collection(filled(), saved, OWNER, 4)
    open_collection(saved, OWNER, 4)


def test_no_word_vector_or_attribute_is_in_the_files(saved: Path) -> None:
    vectors = [part.segment.vectors.matrix for part in filled().state.parts]
    needles = [CANARY.encode(), b"secretattribute", b"later", b"tenant-a", KEY]
    needles += [row.tobytes()[start : start + 8] for m in vectors for row in m for start in (0, 24)]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(saved))
    for path in files(saved):
        whole = path.read_bytes()
        assert not [needle for needle in needles if needle in whole]
    assert KEY.hex() not in repr(OWNER)
    assert str(KEY) not in repr(OWNER)


# --- sealed files of many chunks ----------------------------------------------------------------


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "CHUNK_BYTES", 16)


LABEL = Label("t", "s", 1, "kind")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 32, 100])
def test_any_length_comes_back_and_no_two_files_are_alike(tmp_path: Path, size: int) -> None:
    payload = bytes(size)
    salts = {write_sealed(tmp_path / n, memoryview(payload), KEY, LABEL) for n in ("x", "y")}
    opened = read_sealed(tmp_path / "x", KEY, LABEL)
    assert bytes(opened.payload) == payload
    assert len(salts) == 2
    assert (tmp_path / "x").read_bytes()[56:] != (tmp_path / "y").read_bytes()[56:]


@pytest.mark.usefixtures("small_chunks")
def test_chunks_cannot_be_moved_dropped_repeated_or_mixed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_sealed(path, memoryview(bytes(range(64))), KEY, LABEL)
    whole = path.read_bytes()
    header, body = whole[:56], whole[56:]
    chunks = [body[at : at + 32] for at in range(0, 128, 32)]
    write_sealed(tmp_path / "y", memoryview(bytes(range(64))), KEY, LABEL)
    foreign = (tmp_path / "y").read_bytes()[56:88]

    def shortened(count: int) -> bytes:
        """The header says so too."""
        return sealed._HEADER.pack(b"ANZOTHSF", 1, 16, 16 * count, header[24:56])

    orders = [[1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2], [0, 0, 2, 3], [3, 2, 1, 0]]
    changed = [header + b"".join(chunks[at] for at in order) for order in orders]
    changed += [shortened(n) + b"".join(chunks[:n]) for n in (1, 2, 3)]
    changed += [shortened(3) + b"".join(chunks[1:]), shortened(5) + body + chunks[3]]
    changed += [header + foreign + b"".join(chunks[1:])]
    for data in changed:
        path.write_bytes(data)
        with pytest.raises(SnapshotRefused):
            read_sealed(path, KEY, LABEL)
    path.write_bytes(whole)
    read_sealed(path, KEY, LABEL)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_refused(data: bytes) -> None:
    path = Path(f"/dev/shm/anzoth-test-{os.getpid()}")
    try:
        path.write_bytes(data)
        with pytest.raises(SnapshotRefused):
            read_sealed(path, KEY, LABEL)
    finally:
        path.unlink(missing_ok=True)


def test_a_key_of_another_length_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        write_sealed(tmp_path / "x", memoryview(b""), b"short", LABEL)


# --- codes and graphs ---------------------------------------------------------------------------


def test_codes_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "FLAT_TO", 300)
    monkeypatch.setattr(CodedVectors, "exact_is_cheaper", lambda *_: False)
    if vectors.load_dense() is None:
        pytest.skip("this processor has no kernel for codes")
    before = large()
    save_collection(before, tmp_path, OWNER, 1)
    after = open_collection(tmp_path, OWNER, 1)
    assert isinstance(after.state.parts[0].segment.vectors, CodedVectors)
    for query in units(20, 3):
        found = after.search(query, None, fusion=Rrf())
        assert found.hits == before.search(query, None, fusion=Rrf()).hits
        assert not found.exact

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "load_dense", lambda: None)
        opened = open_collection(tmp_path, OWNER, 1)
    assert isinstance(opened.state.parts[0].segment.vectors, FlatVectors)
    assert opened.merge_due

    codes = tmp_path / f"{1:016d}.0.codes.sealed"
    codes.write_bytes(codes.read_bytes()[:-1])
    refused(tmp_path, generation=1)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs from 300 rows on, and searches use them."""
    pytest.importorskip("hnswlib")
    monkeypatch.setattr(vectors, "FLAT_TO", 300)
    monkeypatch.setattr(vectors, "load_dense", lambda: None)
    monkeypatch.setattr(GraphVectors, "exact_is_cheaper", lambda *_: False)


def large() -> Collection:
    made = Collection(DIMENSIONS, "plain")
    made.put(1, range(500), ["wing"] * 500, units(500, 1))
    return made


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
def test_a_graph_comes_back_and_was_never_on_disk(tmp_path: Path) -> None:
    before = large()
    save_collection(before, tmp_path, OWNER, 1)
    after = open_collection(tmp_path, OWNER, 1)
    assert isinstance(after.state.parts[0].segment.vectors, GraphVectors)
    for query in units(20, 3):
        found = after.search(query, None, fusion=Rrf())
        assert found.hits == before.search(query, None, fusion=Rrf()).hits
        assert not found.exact
    (graph,) = tmp_path.glob("*.graph.sealed")
    whole = graph.read_bytes()
    assert not [1 for row in units(500, 1) if row.tobytes()[:8] in whole]
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    graph.write_bytes(damaged)
    refused(tmp_path, generation=1)


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("missing", ["memfd when saving", "memfd", "hnswlib", "its version"])
def test_without_its_graph_a_collection_is_exact_until_it_is_merged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: str,
) -> None:
    with monkeypatch.context() as patched:
        if missing == "memfd when saving":
            patched.delattr(os, "memfd_create")
        save_collection(large(), tmp_path, OWNER, 1)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        if missing == "memfd":
            patched.delattr(os, "memfd_create")
        elif missing == "hnswlib":
            patched.setattr(snapshot, "load_hnswlib", lambda: None)
        elif missing == "its version":
            patched.setattr(snapshot, "version", lambda name: "0.7.0")
        opened = open_collection(tmp_path, OWNER, 1)
    assert isinstance(opened.state.parts[0].segment.vectors, FlatVectors)
    assert opened.search(units(1, 5)[0]).exact
    assert opened.merge_due
    opened.merge()
    assert isinstance(opened.state.parts[0].segment.vectors, GraphVectors)
    assert not opened.merge_due
