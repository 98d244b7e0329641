"""What must each engine still forget, and until when is it asked?

An engine that is away is asked when it is back: if only the connection was lost, its cache is still
there. One whose model is not served any more is asked no more: its process ends.

Does not know: why something has to go, or what a cache is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice

from anzoth.errors import CapacityUnavailable, ModelUnavailable
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import ServedModel

_RETRY_S = 0.25
_MAX_FILES = 4096
"""In one frame: some 200 KiB."""

_log = logging.getLogger(__name__)

File = tuple[str, str]
"""The tenant's cache salt, and the id."""


@dataclass(slots=True)
class _Owed:
    """What one engine still has to forget."""

    salts: set[str] = field(default_factory=set, repr=False)
    """Of tenants, of whom everything goes."""
    files: set[File] = field(default_factory=set, repr=False)
    is_asked: bool = False
    """Somebody asks for it."""


class Purges:
    """One per gateway. `run` must be running."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        """`models`: those that are served now, whenever it is looked at."""
        self._models = models
        self._owed: dict[EngineClient, _Owed] = {}
        self._wanted = asyncio.Event()

    def engines(self) -> Collection[EngineClient]:
        """Of the models that are served now, each once: they come and go."""
        return {model.engine: None for model in self._models}.keys()

    def forget_tenants(self, salts: Iterable[str]) -> None:
        """Every engine shall forget all that it computed for these. Never waits.

        What was sent to an engine before is ended before it is asked.
        """
        salts = set(salts)
        for engine in self.engines():
            self._owed.setdefault(engine, _Owed()).salts |= salts
        self._wanted.set()

    def forget_files(self, files: Iterable[File]) -> None:
        """Every engine shall forget what it computed from the text of these. Never waits."""
        files = set(files)
        for engine in self.engines():
            self._owed.setdefault(engine, _Owed()).files |= files
        self._wanted.set()

    async def run(self) -> None:
        """Asks for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                for engine, owed in self._owed.items():
                    if not owed.is_asked:
                        owed.is_asked = True
                        group.create_task(self._ask(engine, owed))

    async def _ask(self, engine: EngineClient, owed: _Owed) -> None:
        """Until it has forgotten all."""
        while owed.salts or owed.files:
            try:
                await (_tenants(engine, owed) if owed.salts else _files(engine, owed))
            except (ModelUnavailable, CapacityUnavailable):
                if engine not in self.engines():
                    break
                await asyncio.sleep(_RETRY_S)
        del self._owed[engine]


async def _tenants(engine: EngineClient, owed: _Owed) -> None:
    salts = frozenset(owed.salts)
    purged = await engine.purge(salts)
    owed.salts -= salts
    _log.info(
        "engine %s forgot %d deleted tenant(s): %d KV blocks zeroed, %d still in use",
        *(engine.model, len(salts), purged.num_blocks, purged.num_blocks_in_use),
    )


async def _files(engine: EngineClient, owed: _Owed) -> None:
    files = frozenset(islice(owed.files, _MAX_FILES))
    purged = await engine.purge({salt for salt, _ in files}, {id for _, id in files})
    owed.files -= files
    _log.info(
        "engine %s forgot %d file(s): %d KV blocks zeroed, %d still in use",
        *(engine.model, len(files), purged.num_blocks, purged.num_blocks_in_use),
    )
