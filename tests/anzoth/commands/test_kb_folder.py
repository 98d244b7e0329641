"""Adding a folder again adds what is new, replaces what has changed and leaves the rest alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anzoth.commands import kb_folder
from anzoth.commands.kb_folder import PATH, SHA256, Known


def folder_of(tmp_path: Path, **files: bytes) -> Path:
    folder = tmp_path / "handbook"
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def stored(plans: list[kb_folder.Plan]) -> list[dict[str, Any]]:
    """The store's list of files after these were added."""
    return [
        {
            "id": f"file-{number}",
            "status": "completed",
            "attributes": {PATH: plan.candidate.name, SHA256: plan.sha256},
        }
        for number, plan in enumerate(plans)
    ]


def test_a_folder_gives_its_readable_files_by_their_paths(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, b_md=b"b", a__c_pdf=b"c", _hidden_md=b"h", logo_png=b"p", a__README=b"r"
    )
    (folder / "loop").symlink_to(folder)
    found, num_skipped = kb_folder.candidates([folder])
    assert [candidate.name for candidate in found] == ["handbook/a/c.pdf", "handbook/b.md"]
    assert num_skipped == 2  # the picture, and what has no ending


def test_a_file_that_is_named_is_taken_whatever_its_ending(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, logo_png=b"p")
    found, num_skipped = kb_folder.candidates([folder / "logo.png"])
    assert ([candidate.name for candidate in found], num_skipped) == (["logo.png"], 0)
    assert found[0].num_bytes == 1


def test_again_nothing_is_added(tmp_path: Path) -> None:
    found, _ = kb_folder.candidates([folder_of(tmp_path, a_md=b"a", b_md=b"b")])
    first = list(kb_folder.plan(found, {}))
    assert [(p.candidate.name, p.replaces) for p in first] == [
        ("handbook/a.md", None),
        ("handbook/b.md", None),
    ]
    assert list(kb_folder.plan(found, kb_folder.known(stored(first)))) == []


def test_what_has_changed_replaces_its_older_content(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a_md=b"a", b_md=b"b")
    found, _ = kb_folder.candidates([folder])
    in_store = kb_folder.known(stored(list(kb_folder.plan(found, {}))))
    (folder / "b.md").write_bytes(b"changed")
    (again,) = kb_folder.plan(kb_folder.candidates([folder])[0], in_store)
    assert (again.candidate.name, again.replaces) == ("handbook/b.md", "file-1")


def test_what_failed_is_tried_again_and_strangers_are_not_touched(tmp_path: Path) -> None:
    found, _ = kb_folder.candidates([folder_of(tmp_path, a_md=b"a")])
    (first,) = kb_folder.plan(found, {})
    in_store = {"handbook/a.md": Known("file-1", first.sha256, "failed")}
    assert [p.replaces for p in kb_folder.plan(found, in_store)] == ["file-1"]
    assert kb_folder.known([{"id": "x", "status": "completed", "attributes": None}]) == {}
