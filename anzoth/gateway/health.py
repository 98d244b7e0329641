"""Can this gateway serve, and if not, which part is missing?

    ready     every model's engine answers, the database answers, usage can be written down, nobody
              asked us to stop
    degraded  (database) it is away: keys that are already known still work, usage waits in the
              journal, and other gateways would be no better off
              (another server that aliases lead to) it fails: everything else is served
              (retriever) it is away or starting: no knowledge base can be searched

Liveness is another question: a process that can answer at all is alive.

Does not know: HTTP, or what will be done about it.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Literal

from anzoth.db.errors import DatabaseDown
from anzoth.db.pool import Database
from anzoth.gateway.backends import Backends
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.models import ModelRegistry
from anzoth.gateway.retriever_client import RetrieverClient

_PROBE_INTERVAL_S = 1.0
"""However often somebody asks, the database is not asked more often."""

ComponentState = Literal["ready", "connecting", "warming", "degraded", "unavailable", "draining"]


@dataclasses.dataclass(slots=True, frozen=True)
class Component:
    """One part's state, with a few public facts about it."""

    state: ComponentState
    facts: dict[str, object] = dataclasses.field(default_factory=dict)


class Health:
    """What `/readyz` reports. One per gateway."""

    def __init__(
        self,
        models: ModelRegistry,
        database: Database,
        ledger: Ledger,
        backends: Backends,
        retriever: RetrieverClient,
    ) -> None:
        self._models = models
        self._backends = backends
        self._database = database
        self._ledger = ledger
        self._retriever = retriever
        self._database_is_up = False
        self._probed_at_s = float("-inf")
        self.is_draining = False

    async def components(self) -> dict[str, Component]:
        """By name: the gateway, the database, the usage journal, the retriever, each engine and
        each backend."""
        ledger = self._ledger
        found = {
            "gateway": Component("draining" if self.is_draining else "ready"),
            "database": Component("ready" if await self._probe_database() else "degraded"),
            "journal": Component(
                "ready" if ledger.is_accepting else "unavailable",
                {"backlog_bytes": ledger.backlog_bytes, "unshipped_rows": ledger.num_unshipped},
            ),
        }
        stats = self._retriever.last_stats if self._retriever.healthy else None
        found["retriever"] = Component(
            "ready" if self._retriever.healthy else "degraded",
            {} if stats is None else {"loaded_bytes": stats.loaded_bytes},
        )
        for engine in self._models.engines:
            facts: dict[str, object] = {}
            if engine.hello is not None and engine.state == "ready":
                facts = {
                    "device": engine.hello.device,
                    "dtype": engine.hello.dtype,
                    "max_model_tokens": engine.hello.max_model_tokens,
                }
            found[f"engine {engine.model}"] = Component(engine.state, facts)
        for backend in self._backends:
            states = {model: breaker.state for model, breaker in backend.breakers.items()}
            is_well = all(state == "closed" for state in states.values())
            component = Component("ready" if is_well else "degraded", {"breakers": states})
            found[f"backend {backend.config.name}"] = component
        return found

    async def _probe_database(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._probed_at_s >= _PROBE_INTERVAL_S:
            self._probed_at_s = now_s
            try:
                await self._database.ping()
            except DatabaseDown:
                self._database_is_up = False
            else:
                self._database_is_up = True
        return self._database_is_up
