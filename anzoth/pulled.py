"""Where do checkpoints from a hub lie in the data directory, and which one does an id mean?

    models/ORG/NAME/<commit>/          the files of one revision; whole and verified, or not there
    models/ORG/NAME/<commit>/pulled.json   where they came from, with sizes and digests
    models/ORG/NAME/current            one line: the commit that was pulled last

Does not know: how they are fetched (see `pull`), or what is in them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

RECORD = "pulled.json"
CURRENT = "current"
_ID = re.compile(
    r"(?P<org>[A-Za-z0-9][\w.-]{0,95})/(?P<name>[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>[\w][\w./-]{0,127}))?",
    re.ASCII,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MIN_COMMIT_PREFIX = 7


class PullError(Exception):
    """A checkpoint cannot be pulled: a sentence for whoever asked."""


class HubNotReached(PullError):
    """The hub does not answer, or the answer broke off: trying again later may help."""


@dataclass(slots=True, frozen=True)
class HubId:
    """ORG/NAME, perhaps @REVISION: a branch, a tag or a commit."""

    org: str
    name: str
    revision: str | None = None

    @property
    def repository(self) -> str:
        return f"{self.org}/{self.name}"

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def try_parse(text: str) -> HubId | None:
    """None: that is no hub id."""
    match = _ID.fullmatch(text)
    if match is None or ".." in text or "--" in text.partition("@")[0]:
        return None
    return HubId(match["org"], match["name"], match["revision"])


def is_commit(text: str) -> bool:
    """Whether it is the full name of a commit, and so safe as the name of a folder."""
    return _COMMIT.fullmatch(text) is not None


def folder_of(data_dir: Path, wanted: HubId) -> Path:
    """Of all revisions of one repository."""
    return data_dir / "models" / wanted.org / wanted.name


def try_find(data_dir: Path, wanted: HubId) -> Path | None:
    """The directory of a revision that was pulled: the wanted one, or else the last one."""
    folder = folder_of(data_dir, wanted)
    if wanted.revision is None:
        try:
            commit = (folder / CURRENT).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        return folder / commit if is_commit(commit) and (folder / commit).is_dir() else None
    revision = wanted.revision
    directories = [path for path in folder.glob("*") if is_commit(path.name)]
    if len(revision) >= _MIN_COMMIT_PREFIX:
        found = [path for path in directories if path.name.startswith(revision)]
        if len(found) == 1:
            return found[0]
    named = [path for path in directories if _revision_of(path) == revision]
    return max(named, key=lambda path: (path / RECORD).stat().st_mtime, default=None)


def _revision_of(directory: Path) -> str | None:
    """What was asked for when it was pulled: a branch moves, so several may answer to it."""
    try:
        record = json.loads((directory / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return record.get("revision") if isinstance(record, dict) else None
