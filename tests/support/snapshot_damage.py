"""What somebody with the disk in his hands does to the snapshots of an index between two starts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

Kept = Mapping[str, bytes]
"""Names and contents of a store's files."""


def keep(folder: Path) -> Kept:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.sealed"))}


def generation_of(kept: Kept) -> int:
    """The newest; 0: there is none."""
    numbers = [int(name.partition(".")[0]) for name in kept if ".manifest." in name]
    return max(numbers, default=0)


def put_back(folder: Path, kept: Kept) -> None:
    """In the place of what is there."""
    for path in folder.glob("*.sealed"):
        path.unlink()
    for name, content in kept.items():
        (folder / name).write_bytes(content)


def _change(path: Path, other: Path | None, source: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[source.randrange(len(content))] ^= 1 << source.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, other: Path | None, source: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: source.randrange(len(content))])


def _take_away(path: Path, other: Path | None, source: random.Random) -> None:
    path.unlink()


def _exchange(path: Path, other: Path | None, source: random.Random) -> None:
    """For the file of the same kind of another store, whoever's; without one, it is changed."""
    if other is None:
        _change(path, other, source)
        return
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


DAMAGES: Mapping[str, Callable[[Path, Path | None, random.Random], None]] = {
    "changed": _change,
    "cut": _cut,
    "taken away": _take_away,
    "exchanged": _exchange,
}


def try_damage(how: str, folder: Path, others: list[Path], seed: int) -> bool:
    """One file of the newest generation. `others`: folders of other stores. False: nothing is taken
    away, for there is only the manifest, without which there would be no snapshot."""
    source = random.Random(seed)
    newest = f"{generation_of(keep(folder)):016d}."
    files = sorted(folder.glob(f"{newest}*.sealed"))
    if how == "taken away":
        files = [path for path in files if ".manifest." not in path.name]
    if not files:
        return False
    path = source.choice(files)
    kind = path.name.partition(".")[2]
    alike = [found for other in others for found in sorted(other.glob(f"*.{kind}"))]
    DAMAGES[how](path, source.choice(alike) if alike else None, source)
    return True
