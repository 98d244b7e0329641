"""What are knowledge bases made of in a gateway, and what of it must be running?

Does not know: how any of its parts does its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anzoth.db.pool import Database
from anzoth.gateway.files import Files
from anzoth.gateway.keys import Pepper
from anzoth.gateway.knowledge.claims import Claims
from anzoth.gateway.knowledge.file_ingestion import Parts, tokenizers_of
from anzoth.gateway.knowledge.grounding import Grounding
from anzoth.gateway.knowledge.index_cleanup import IndexCleanup
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway.knowledge.ingestion import Ingestion
from anzoth.gateway.knowledge.searching import Searcher
from anzoth.gateway.knowledge.store_cleanup import StoreCleanup
from anzoth.gateway.knowledge.stores import VectorStores
from anzoth.gateway.ledger import Ledger
from anzoth.gateway.models import ModelRegistry
from anzoth.gateway.retriever_client import RetrieverClient
from anzoth.ingest.host import ParserHost
from anzoth.knowledge_config import KnowledgeConfig
from anzoth.telemetry import Metrics


class Running(Protocol):
    async def run(self) -> None: ...


@dataclass(slots=True, frozen=True)
class Knowledge:
    """Knowledge bases of all tenants. Every one of `parts` must be running, and `parsers` closed
    behind them."""

    stores: VectorStores
    searcher: Searcher
    grounding: Grounding
    retriever: RetrieverClient
    parsers: ParserHost
    parts: Sequence[Running]


def build(
    database: Database,
    dsn: str,
    files: Files,
    models: ModelRegistry,
    ledger: Ledger,
    pepper: Pepper,
    metrics: Metrics,
    config: KnowledgeConfig,
    *,
    retriever_socket: Path,
    index_folder: Path,
) -> Knowledge:
    """`index_folder`: where the retriever of this node keeps its snapshots."""
    indexes = Indexes(database, files.keys, retriever_socket, ledger.writer)
    retriever = indexes.client
    metrics.retriever(lambda: retriever.last_stats if retriever.healthy else None)
    index_cleanup = IndexCleanup(database, dsn, indexes, index_folder)
    store_cleanup = StoreCleanup(database, index_cleanup.gone)
    parsers = ParserHost(tokenizers_of(models), config.ingestions)
    claims = Claims(database, ledger.writer, pepper)
    ingesting = Parts(database, files, parsers, models, claims, metrics)
    ingestion = Ingestion(ingesting, dsn, config.ingestions, indexes.on_change)
    searcher = Searcher(database, files.keys, models, indexes, metrics)
    stores = VectorStores(database, files.keys, models, config, store_cleanup, indexes.on_change)
    parts = (indexes, index_cleanup, store_cleanup, ingestion)
    return Knowledge(stores, searcher, Grounding(searcher), retriever, parsers, parts)
