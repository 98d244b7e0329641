"""When do engines forget what they computed from the text of a file?

When it is not searched any more: it was deleted or taken out of a store, or its store has ended. Of
a file that is in another store as well, too: that costs computing its text once more.

Each time is written down in the transaction of the change. A gateway hears of it, and has the
engines of its node forget (see `purging`). What it may have missed it looks up: all of the last
days at its start, for engines may outlive a gateway, and every few seconds what is new, so that a
connection that died without a word delays nothing by more than that.

Does not know: what an engine is, or how a file goes.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from anzoth.db.listen import listen
from anzoth.db.pool import Database
from anzoth.db.store import gone_file_rows
from anzoth.gateway.keys import Pepper
from anzoth.gateway.purging import Purges
from anzoth.gateway.sweeping import sweep_for_ever

CHANNEL = "anzoth_gone_files"
REMEMBERED_S = 7 * 86_400.0
"""A gateway that was away for longer, while its engines were not, misses what went before."""
_LOOK_S = 5.0
_CLEAN_UP_S = 3600.0
_OVERLAP_S = 60.0
"""A transaction may be that old when what it wrote is seen."""


class GoneFiles:
    """One per gateway. `run` must be running."""

    def __init__(self, database: Database, dsn: str, pepper: Pepper, purges: Purges) -> None:
        self._database = database
        self._dsn = dsn
        self._pepper = pepper
        self._purges = purges
        self._must_look = asyncio.Event()
        self._looked_at: datetime | None = None
        """By the database's clock."""
        self._known: set[int] = set()
        """Those of the last look."""

    async def run(self) -> None:
        """Hears, looks and has forgotten, for ever."""
        wake = self._must_look.set
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(self._dsn, CHANNEL, lambda _: wake(), wake))
            group.create_task(
                sweep_for_ever(
                    self.look,
                    self._must_look,
                    every_s=_LOOK_S,
                    if_not="files that engines must forget were not looked for",
                )
            )
            group.create_task(
                sweep_for_ever(
                    self.clean_up,
                    asyncio.Event(),
                    every_s=_CLEAN_UP_S,
                    if_not="files that went long ago were not forgotten",
                )
            )

    async def look(self) -> None:
        """Has every file forgotten that went since the last look. Raises DatabaseDown."""
        async with self._database.outdated_stores() as connection:
            now, gone = await gone_file_rows.gone_files(connection, self._looked_at, _OVERLAP_S)
        fresh = [file for file in gone if file.number not in self._known]
        if fresh:
            salts = {id: self._pepper.cache_salt(id) for id in {file.tenant_id for file in fresh}}
            self._purges.forget_files((salts[file.tenant_id], file.file_id) for file in fresh)
        self._looked_at, self._known = now, {file.number for file in gone}

    async def clean_up(self) -> None:
        """Deletes what is older than any gateway asks for. Raises DatabaseDown."""
        async with self._database.outdated_stores() as connection:
            await gone_file_rows.forget_gone_files(connection, REMEMBERED_S)
