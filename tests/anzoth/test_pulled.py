"""Which directory a hub id means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from anzoth.pulled import CURRENT, RECORD, HubId, folder_of, try_find, try_parse

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Two revisions of one repository: `main` was at OLD first and moved to NEW."""
    folder = folder_of(tmp_path, HubId("org", "name"))
    for age_s, commit in ((100, OLD), (50, NEW)):
        (folder / commit).mkdir(parents=True)
        record = folder / commit / RECORD
        record.write_text(json.dumps({"revision": "main"}))
        os.utime(record, (1e9 - age_s, 1e9 - age_s))
    (folder / "unfinished").mkdir()
    (folder / CURRENT).write_text(f"{OLD}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("org/name", HubId("org", "name")),
        ("Qwen/Qwen2.5-0.5B", HubId("Qwen", "Qwen2.5-0.5B")),
        ("org/name@refs/pr/1", HubId("org", "name", "refs/pr/1")),
        ("org/name@v1.0", HubId("org", "name", "v1.0")),
        ("name", None),
        ("/org/name", None),
        ("./org/name", None),
        ("org/name/file", None),
        ("../name", None),
        ("org/..", None),
        ("org/name@../../x", None),
        ("org/name@", None),
        ("org/na me", None),
    ],
)
def test_only_an_id_is_taken_for_one(text: str, parsed: HubId | None) -> None:
    assert try_parse(text) == parsed
    if parsed is not None:
        assert str(parsed) == text


def test_without_a_revision_the_last_pulled_is_meant(data_dir: Path) -> None:
    found = try_find(data_dir, HubId("org", "name"))
    assert found is not None
    assert found.name == OLD


@pytest.mark.parametrize(
    ("revision", "commit"),
    [("main", NEW), (OLD, OLD), (NEW[:7], NEW), (NEW[:6], None), ("other", None)],
)
def test_a_revision_is_a_branch_or_the_beginning_of_a_commit(
    data_dir: Path, revision: str, commit: str | None
) -> None:
    found = try_find(data_dir, HubId("org", "name", revision))
    assert (found and found.name) == commit


@pytest.mark.parametrize("pointer", ["", "../../..", "c" * 40])
def test_a_damaged_pointer_means_nothing(data_dir: Path, pointer: str) -> None:
    (folder_of(data_dir, HubId("org", "name")) / CURRENT).write_text(pointer)
    assert try_find(data_dir, HubId("org", "name")) is None


def test_what_was_never_pulled_is_not_found(data_dir: Path) -> None:
    assert try_find(data_dir, HubId("org", "another")) is None
    assert try_find(data_dir, HubId("org", "another", "main")) is None
