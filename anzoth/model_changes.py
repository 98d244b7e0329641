"""How does the gateway learn which models it serves, at its start and while it runs?

The supervisor says what is served, whole, whenever that changes: in the settings of a gateway that
starts, and on its control socket (`{"do": "serve", "models": […], "drain_s": …}`). The gateway adds
what is new and lets go of what is not named any more. Saying the same twice changes nothing.

Does not know: how an engine is started or stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anzoth.control import Tell
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.models import ModelLoadError, ModelRegistry, ServedModel, load_model
from anzoth.model_config import ModelConfig
from anzoth.price import Price
from anzoth.telemetry import Metrics

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 10.0
_POLL_S = 0.02


@dataclass(slots=True, frozen=True)
class Entry:
    """What the supervisor says of one model."""

    name: str
    path: Path
    socket: Path
    aliases: tuple[str, ...]
    prices: Mapping[str, Price]
    """By name; of what has one."""
    stall_timeout_s: float

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Entry:  # JSON from the supervisor
        return cls(
            name=entry["name"],
            path=Path(entry["path"]),
            socket=Path(entry["socket"]),
            aliases=tuple(entry["aliases"]),
            prices={name: Price(**price) for name, price in entry["prices"].items()},
            stall_timeout_s=entry["stall_timeout_s"],
        )


class ModelChanges:
    """Keeps the registry at what the supervisor said last."""

    def __init__(self, metrics: Metrics) -> None:
        self.registry = ModelRegistry()
        self._metrics = metrics
        self._entries: dict[str, Entry] = {}
        self._changing = asyncio.Lock()

    def begin(self, models: Sequence[Mapping[str, Any]], *, must_load: bool) -> None:
        """At the start. One that cannot be loaded is left out, or raises ModelLoadError."""
        for entry in map(Entry.from_json, models):
            try:
                self._add(entry, self._load(entry))
            except ModelLoadError as error:
                if must_load:
                    raise
                log.error("not served: %s", error)

    async def serve(self, request: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
        """Returns when new models can be asked and old ones have ended their requests."""
        async with self._changing:
            wanted = {entry.name: entry for entry in map(Entry.from_json, request["models"])}
            old = [name for name, entry in self._entries.items() if wanted.get(name) != entry]
            async with asyncio.TaskGroup() as group:
                for name in old:
                    del self._entries[name]
                    group.create_task(self.registry.remove(name, request["drain_s"]))
                await asyncio.sleep(0)  # their names are free now
                failed = await self._add_new(wanted.values())
            return {"failed": failed}

    async def _add_new(self, wanted: Iterable[Entry]) -> dict[str, str]:
        """Why each of those that cannot be served cannot."""
        failed: dict[str, str] = {}
        for entry in wanted:
            if entry.name in self._entries:
                continue
            try:
                model = await asyncio.to_thread(self._load, entry)
            except ModelLoadError as error:
                failed[entry.name] = str(error)
                continue
            self._add(entry, model)
            await _until_connected(model.engine)
        return failed

    def _load(self, entry: Entry) -> ServedModel:
        engine = EngineClient(
            entry.name, entry.socket, self._metrics, stall_timeout_s=entry.stall_timeout_s
        )
        try:
            return load_model(ModelConfig(entry.name, entry.path), engine)
        except ModelLoadError:
            self._metrics.engine_gone(entry.name)
            raise

    def _add(self, entry: Entry, model: ServedModel) -> None:
        self._entries[entry.name] = entry
        model = replace(model, price=entry.prices.get(entry.name))
        self.registry.add(model, entry.aliases, entry.prices)


async def _until_connected(engine: EngineClient) -> None:
    """Its engine runs already, so whoever is told of the model now should not meet a 502."""
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            while not engine.healthy:  # noqa: ASYNC110  # nothing announces it
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        log.warning("the engine of %s does not answer yet", engine.model)
