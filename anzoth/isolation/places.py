"""What of a tenant stands in clear where somebody with the disk or the database could read it?

Files of the data directory that were written since the verification began, the database's own among
them, and every row of the tenant. What documents and conversations say must stand nowhere, nor may
a secret; names that the database holds as they are (of keys, aliases, projects) only there. They
are also the proof that the search sees: if they were not found, nothing would be worth finding.

What is compressed, or still in memory alone, is not seen.

Does not know: what the tenant did.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.db import pool
from anzoth.db.store import isolation_rows
from anzoth.isolation.belongings import Owner
from anzoth.isolation.canaries import Needles
from anzoth.isolation.report import Check, failed, passed

AREA = "data at rest"
_LABEL = "the canary in names"
_DOCUMENT = "the canary in documents"
_HOLDS_NAMES = frozenset({"postgres", "journal"})
"""Folders of the data directory."""
_CLOCKS_S = 2.0
"""By how much the time of a file may be older than ours."""
_READ_TIMEOUT_S = 3600


@dataclass(slots=True)
class _Found:
    """What a search saw."""

    num_files: int = 0
    num_rows: int = 0
    labels_in: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)


@dataclass(slots=True, frozen=True)
class Places:
    """Where an installation keeps things."""

    dsn: str
    data_dir: Path
    is_embedded: bool
    """Its database is in the data directory."""
    since_s: float

    async def search(self, owners: Sequence[Owner], when: str, metrics: bytes) -> list[Check]:
        """`when`: for the name of the check. `metrics`: the text of /metrics."""
        needles = needles_of(owners)
        found = _Found()
        try:
            await asyncio.to_thread(self._search_files, needles, found)
        except PermissionError as error:
            reason = f"{error.filename} cannot be read: run this as the user that serves, or root"
            return [failed(AREA, f"files {when}", reason)]
        for owner in owners:
            await self._search_rows(owner, needles, found)
        found.wrong |= {f"/metrics shows {name}" for name in needles.within(metrics)}
        counts = {"num_files": found.num_files, "num_rows": found.num_rows}
        name = f"nothing that documents or keys say stands in clear, {when}"
        if found.wrong:
            return [failed(AREA, name, "; ".join(sorted(found.wrong)), **counts)]
        return [passed(AREA, name, **counts), *self._control(found, when)]

    def _control(self, found: _Found, when: str) -> Iterator[Check]:
        wanted = {"rows", "files"} if self.is_embedded else {"rows"}
        name = f"the search finds what stands there in clear by design (names), {when}"
        if missing := wanted - found.labels_in:
            yield failed(AREA, name, f"nothing of it is in the {', '.join(sorted(missing))}")
        else:
            yield passed(AREA, name, found_in=sorted(found.labels_in))
        if not self.is_embedded:
            reason = "the files of a database of one's own are not here; its rows were searched"
            yield Check(AREA, f"the database's files, {when}", "left out", reason)

    def _search_files(self, needles: Needles, found: _Found) -> None:
        for path in sorted(self.data_dir.rglob("*")):
            try:
                status = path.lstat()
                if not stat.S_ISREG(status.st_mode) or status.st_mtime < self.since_s - _CLOCKS_S:
                    continue
                with path.open("rb") as file:
                    names = needles.within_file(file)
            except FileNotFoundError:
                continue  # a database removes some while we look
            found.num_files += 1
            inside = path.relative_to(self.data_dir)
            if inside.parts[0] in _HOLDS_NAMES and inside.parts[-1] != "log":
                if len(wrong := _without_labels(names)) < len(names):
                    found.labels_in.add("files")
                names = wrong
            found.wrong |= {f"{inside} holds {name}" for name in names}

    async def _search_rows(self, owner: Owner, needles: Needles, found: _Found) -> None:
        tenant_id = owner.party.id
        async with pool.operator(self.dsn, timeout_s=_READ_TIMEOUT_S) as connection:
            for table in await isolation_rows.tables_of_tenants(connection):
                async for row in isolation_rows.rows_of(connection, table, tenant_id):
                    found.num_rows += 1
                    names = needles.within(row.encode())
                    if len(wrong := _without_labels(names)) < len(names):
                        found.labels_in.add("rows")
                    found.wrong |= {f"a row of {table} holds {name}" for name in wrong}


def needles_of(owners: Sequence[Owner]) -> Needles:
    wanted: dict[str, str] = {}
    for owner in owners:
        of = f"of tenant {owner.party.side}"
        wanted |= {f"{name} {of}": text for name, text in owner.secrets.items()}
        wanted[f"{_DOCUMENT} {of}"] = owner.canaries.document
        wanted[f"{_LABEL} {of}"] = owner.canaries.label
    return Needles(wanted)


def _without_labels(names: Collection[str]) -> set[str]:
    return {name for name in names if not name.startswith(_LABEL)}
