"""Which chunks of a project's stores answer a query?

    stores checked, heads read ─▶ queries embedded ─▶ the retriever asked ─▶ rows read and opened
    one transaction               by each model       each store and query    further ones
                                                                                      │
                                                      ranked anew, where that is asked ◀

A search sees every change that was committed before it began, whichever gateway made it: it names
the heads that it has read. A chunk whose file was taken out meanwhile is left out, as is one that
says what a better one says; then more are asked for, so that as many stay as were wanted.

Where no embedder answers the words alone decide; the trace says so (`degraded`).

Does not know: HTTP, what a search costs (see `query_vectors`), or how the retriever finds anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from anzoth.db.pool import Database
from anzoth.db.store import chunk_rows
from anzoth.db.store.chunk_rows import FoundRow, IndexedStore, Maker
from anzoth.errors import AnzothError, DeadlineExceeded, InvalidValue, VectorStoreNotFound
from anzoth.gateway.files import FileOwner, open_name
from anzoth.gateway.knowledge import spans
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec
from anzoth.gateway.knowledge.found import Found, FoundChunk, SearchRequest
from anzoth.gateway.knowledge.indexing import Indexes
from anzoth.gateway.knowledge.query_vectors import Embed, QueryVectors, embed_queries, uncounted
from anzoth.gateway.knowledge.rerankers import Reranking
from anzoth.gateway.knowledge.reranking import MOST_S, NUM_CANDIDATES, PART_OF_TIME, Outcome, rerank
from anzoth.gateway.knowledge.spans import Part, Span
from anzoth.gateway.knowledge.store_access import expired_store, touch
from anzoth.gateway.knowledge.store_attributes import open_attributes
from anzoth.gateway.models import ModelRegistry
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import CannotOpen, TenantCipher, TenantKeys
from anzoth.index_frames import MAX_HITS, HitRow, Hits
from anzoth.telemetry import Metrics

_SPARE = 10
"""Asked for beyond what is wanted: some may have been taken out, or say the same."""
_MORE = 4
"""By how much more is asked for when that was too few."""
_INLINE_CHUNKS = 64
"""Opened on the loop, in about a millisecond."""

_log = logging.getLogger(__name__)


_Place = tuple[str, int]
"""Store and number of a chunk."""


class Searcher:
    """Searches for callers. One per gateway."""

    def __init__(
        self,
        database: Database,
        keys: TenantKeys,
        models: ModelRegistry,
        indexes: Indexes,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._keys = keys
        self.models = models
        self._indexes = indexes
        self._metrics = metrics

    async def search(
        self,
        owner: FileOwner,
        store_ids: Sequence[str],
        request: SearchRequest,
        *,
        key_id: UUID | None,
        timeout_ms: int | None = None,
        embed: Embed | None = None,
        reranking: Reranking | None = None,
    ) -> Found:
        """The best chunks of these stores together. `embed` None: by the engine, uncounted.
        `reranking` None: in the order of the fusion.

        Grants are the caller's matter. Raises VectorStoreNotFound (for every store that is not the
        project's), InvalidValue (naming `filters`, or a store that has expired),
        RetrieverUnavailable, DeadlineExceeded, KeyRevoked, DatabaseDown and what `embed` raises.
        """
        until_s = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        ids = list(dict.fromkeys(store_ids))
        search = _Search(self, owner, ids, request, self._metrics, reranking, until_s)
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                return await search.run(embed or uncounted(owner.tenant, key_id))
        except TimeoutError:
            raise DeadlineExceeded() from None

    async def spans(self, owner: FileOwner, wanted: Sequence[Span]) -> list[str]:
        """The text of each span, as long as the span is: see `spans`. '' for a span of a file that
        is not searched (any more), or not the project's. Raises CannotOpen and DatabaseDown."""
        cipher = await self._keys.cipher(owner.tenant)
        found: list[str] = []
        for span in wanted:
            async with self._database.tenant(owner.tenant) as connection:
                found.append(await spans.read(connection, cipher, owner.project_id, span))
        return found

    async def part(self, owner: FileOwner, span: Span) -> Part | None:
        """What a document says there, no longer than it is. None: there is no such file, it is not
        searched (any more), or it ends before. Raises CannotOpen and DatabaseDown."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            return await spans.read_part(connection, cipher, owner.project_id, span)

    # --- steps of a search ------------------------------------------------------------------------

    async def check(
        self, owner: FileOwner, store_ids: Collection[str]
    ) -> tuple[TenantCipher, dict[str, IndexedStore]]:
        """The stores as they are now. Raises VectorStoreNotFound, InvalidValue (expired)."""
        cipher = await self._keys.cipher(owner.tenant)
        async with self._database.tenant(owner.tenant) as connection:
            tenant_id = owner.tenant.id
            found = await chunk_rows.find_stores(
                connection, tenant_id, owner.project_id, store_ids, self._indexes.gateway
            )
            if not store_ids or len(found) < len(store_ids):
                raise VectorStoreNotFound()
            for store in found.values():
                if store.is_expired:
                    raise expired_store()
                if store.is_quiet:
                    await touch(connection, tenant_id, store.id)
        return cipher, {id: found[id] for id in store_ids}

    async def hits(
        self,
        tenant: TenantHandle,
        store: IndexedStore,
        query: str,
        vector: bytes | None,
        k: int,
        request: SearchRequest,
    ) -> Hits:
        """Raises InvalidValue, naming `filters`; see `retriever_client` for others."""
        async with self._indexes.opened(tenant, store) as opened:
            try:
                return await opened.search(
                    store.head,
                    vector=vector,
                    text=query,
                    k=k,
                    filters=request.filters,
                    fusion=request.fusion,
                )
            except InvalidValue as refused:
                if request.filters is None:
                    _log.error("the retriever refused a search without filters")
                    raise AnzothError() from None
                raise InvalidValue(refused.message, param="filters") from None

    async def rows(self, owner: FileOwner, places: Collection[_Place]) -> dict[_Place, FoundRow]:
        """Those whose files are there."""
        found: dict[_Place, FoundRow] = {}
        async with self._database.tenant(owner.tenant) as connection:
            for store_id in dict.fromkeys(store_id for store_id, _ in places):
                numbers = [number for of, number in places if of == store_id]
                for row in await chunk_rows.found_chunks(
                    connection, owner.tenant.id, owner.project_id, store_id, numbers
                ):
                    found[store_id, row.number] = row
        return found


@dataclass(slots=True)
class _Search:
    """One search on its way."""

    searcher: Searcher
    owner: FileOwner
    store_ids: Sequence[str]
    request: SearchRequest
    metrics: Metrics
    reranking: Reranking | None
    until_s: float | None
    """When the request's time is over, by the monotonic clock."""
    times_ms: dict[str, float] = field(default_factory=dict)
    rows: dict[_Place, FoundRow | None] = field(default_factory=dict)
    """That were read. None: its file is not there."""
    num_duplicates: int = 0

    async def run(self, embed: Embed) -> Found:
        began_s = time.monotonic()
        with _timed(self.times_ms, "check"):
            cipher, stores = await self.searcher.check(self.owner, self.store_ids)
        with _timed(self.times_ms, "embed"):
            vectors = await embed_queries(
                self.searcher.models, stores.values(), self.request.queries, embed
            )
        asked = self.num_wanted + _SPARE
        num_rounds = 0
        while True:
            num_rounds += 1
            k = min(asked, MAX_HITS)
            with _timed(self.times_ms, "index"):
                answers = await self._ask(stores, vectors, k)
            best = self._best(answers)
            with _timed(self.times_ms, "read"):
                await self._read(best)
            chosen = self._chosen(best)
            if len(chosen) >= self.num_wanted or k == MAX_HITS or not self._has_more(answers, k):
                break
            asked *= _MORE
        with _timed(self.times_ms, "read"):
            chunks = await self._open(cipher, best, chosen)
        best_score = chunks[0].score if chunks else None
        outcome = await self._rerank(chunks)
        if outcome is not None:
            chunks = outcome.chunks[: self.request.max_results]
        self.times_ms["all"] = 1000 * (time.monotonic() - began_s)
        self.metrics.searched(
            self.times_ms,
            is_degraded=bool(vectors.degraded),
            is_reranking_skipped=outcome is not None and outcome.is_skipped,
        )
        trace = self._trace(stores, vectors.degraded, answers, num_rounds)
        trace["rerank"] = outcome and outcome.trace
        return Found(
            tuple(chunks),
            all(hits.exact for hits in answers.values()),
            vectors.num_tokens,
            trace,
            best_score,
            outcome.num_tokens if outcome is not None else 0,
        )

    @property
    def num_wanted(self) -> int:
        """How many chunks: the results, or the candidates from which a reranker takes them."""
        most = self.request.max_results
        return most if self.reranking is None else max(most, NUM_CANDIDATES)

    async def _ask(
        self,
        stores: Mapping[str, IndexedStore],
        vectors: QueryVectors,
        k: int,
    ) -> dict[tuple[str, int], Hits]:
        """By store and query."""
        asked = [
            (store, at) for store in stores.values() for at in range(len(self.request.queries))
        ]

        def vector(store: IndexedStore, at: int) -> bytes | None:
            made = vectors.by_maker.get(store.maker)
            return None if made is None else made[at]

        answers = await asyncio.gather(
            *(
                self.searcher.hits(
                    *(self.owner.tenant, store, self.request.queries[at], vector(store, at), k),
                    self.request,
                )
                for store, at in asked
            )
        )
        return {(store.id, at): hits for (store, at), hits in zip(asked, answers, strict=True)}

    def _best(self, answers: Mapping[tuple[str, int], Hits]) -> dict[_Place, HitRow]:
        """Each chunk once, with its best score; best first, and those of the first store first."""
        best: dict[_Place, HitRow] = {}
        for (store_id, _), hits in answers.items():
            for row in hits.rows:
                if row.score < self.request.score_threshold:
                    break
                before = best.get((store_id, row.number))
                if before is None or before.score < row.score:
                    best[store_id, row.number] = row
        # Sorting keeps the order of equals, which is that of stores and then of their ranks.
        return dict(sorted(best.items(), key=lambda item: -item[1].score))

    def _has_more(self, answers: Mapping[tuple[str, int], Hits], k: int) -> bool:
        return any(
            len(hits.rows) == k and hits.rows[-1].score >= self.request.score_threshold
            for hits in answers.values()
        )

    async def _read(self, best: Mapping[_Place, HitRow]) -> None:
        unread = [place for place in best if place not in self.rows]
        if unread:
            found = await self.searcher.rows(self.owner, unread)
            self.rows |= {place: found.get(place) for place in unread}

    def _chosen(self, best: Mapping[_Place, HitRow]) -> list[_Place]:
        """As many as are wanted, of those that are there; of chunks that say the same the best."""
        chosen: dict[bytes, _Place] = {}
        self.num_duplicates = 0
        for place in best:
            row = self.rows[place]
            if row is None:
                continue
            if row.digest in chosen:
                self.num_duplicates += 1
            elif len(chosen) < self.num_wanted:
                chosen[row.digest] = place
        return list(chosen.values())

    async def _open(
        self, cipher: TenantCipher, best: Mapping[_Place, HitRow], chosen: Sequence[_Place]
    ) -> list[FoundChunk]:
        def open_all() -> list[FoundChunk]:
            opened = (self._opened(cipher, place, best[place]) for place in chosen)
            return [chunk for chunk in opened if chunk is not None]

        if len(chosen) <= _INLINE_CHUNKS:
            return open_all()
        return await asyncio.to_thread(open_all)

    async def _rerank(self, candidates: Sequence[FoundChunk]) -> Outcome | None:
        """None: nothing was to rank."""
        if self.reranking is None:
            return None
        most_s = MOST_S
        if self.until_s is not None:
            most_s = min(most_s, PART_OF_TIME * (self.until_s - time.monotonic()))
        with _timed(self.times_ms, "rerank"):
            return await rerank(self.reranking, self.request.queries, candidates, most_s)

    def _opened(self, cipher: TenantCipher, place: _Place, hit: HitRow) -> FoundChunk | None:
        """None: its row is damaged, which the log says."""
        row, store_id = self.rows[place], place[0]
        assert row is not None
        try:
            return FoundChunk(
                store_id=store_id,
                file_id=row.file_id,
                filename=open_name(cipher, row.file_id, row.filename),
                attributes=open_attributes(cipher, store_id, row.file_id, row.attributes),
                number=row.number,
                position=row.position,
                content=ChunkCodec(cipher, store_id).open_content(row.number, row.content),
                score=hit.score,
                dense_rank=hit.dense_rank,
                dense_score=hit.dense_score,
                sparse_rank=hit.sparse_rank,
                sparse_score=hit.sparse_score,
            )
        except CannotOpen as error:
            _log.error("chunk %d of store %s is left out: %s", row.number, store_id, error)
            return None

    def _trace(
        self,
        stores: Mapping[str, IndexedStore],
        degraded: Mapping[Maker, str],
        answers: Mapping[tuple[str, int], Hits],
        num_rounds: int,
    ) -> dict[str, Any]:
        return {
            "times_ms": {name: round(spent, 3) for name, spent in self.times_ms.items()},
            "stores": [
                {
                    "id": store_id,
                    "query": at,
                    "head": stores[store_id].head,
                    "seq": hits.seq,
                    "exact": hits.exact,
                    "degraded": degraded.get(stores[store_id].maker),
                    **hits.trace,
                }
                for (store_id, at), hits in answers.items()
            ],
            "rounds": num_rounds,
            "removed": sum(row is None for row in self.rows.values()),
            "duplicates": self.num_duplicates,
            "degraded": "; ".join(dict.fromkeys(degraded.values())) or None,
        }


@contextmanager
def _timed(times_ms: dict[str, float], stage: str) -> Iterator[None]:
    began_s = time.perf_counter()
    try:
        yield
    finally:
        times_ms[stage] = times_ms.get(stage, 0.0) + 1000 * (time.perf_counter() - began_s)
