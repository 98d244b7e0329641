"""How does one file become chunks of a store?

    pieces ─▶ a process that parses and cuts ─▶ groups of chunks ─▶ vectors ─▶ rows

None of them is searched before the file is said to be completed. Until then each group of chunks is
written as soon as it has its vectors, so that whoever goes on with the file after a crash finds
them: a chunk that is there and says the same stays as it is, any other at its position is replaced,
and what is behind the last one is deleted.

Does not know: whose turn it is, and what happens to a file that is whole, or cannot be read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from anzoth.db.pool import Database
from anzoth.db.store import ingestion_rows
from anzoth.db.store.chunk_rows import ChunkRow
from anzoth.db.store.ingestion_rows import ChunkSums, ClaimRow, StoredChunk
from anzoth.gateway import audit
from anzoth.gateway.claimed_work import ClaimLost
from anzoth.gateway.files import FileOwner, Files
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec, ChunkContent
from anzoth.gateway.knowledge.chunk_vectors import ChunkVectors, max_chunk_tokens
from anzoth.gateway.knowledge.claims import Claims
from anzoth.gateway.models import ModelRegistry, ServedModel
from anzoth.index_frames import MAX_FILE_CHUNKS
from anzoth.ingest.chunks import Chunk, Rules, Static, Structural
from anzoth.ingest.host import ParserHost
from anzoth.ingest.limits import Limits, UnreadableFile
from anzoth.ingest.wire import Job, Parsed
from anzoth.telemetry import Metrics

GROUP_CHUNKS = 64
"""Embedded and written together: some 20,000 tokens, and a transaction of tens of milliseconds."""
SLICE_S = 60.0
"""After that long a file makes room for others that wait, if it was not mostly read until then."""
_READING_SHARE = 4

_LIMITS = Limits()


class GaveWay(Exception):
    """Others wait. What was written stays, and the file goes on when it is its turn again."""


@dataclass(slots=True, frozen=True)
class Parts:
    """What ingestions work with."""

    database: Database
    files: Files
    host: ParserHost
    models: ModelRegistry
    claims: Claims
    metrics: Metrics


@dataclass(slots=True, frozen=True)
class _Wanted:
    """A chunk as it should be."""

    position: int
    digest: bytes
    content: ChunkContent = field(repr=False)


class FileIngestion:
    """Of one claimed file."""

    def __init__(
        self, parts: Parts, claim: ClaimRow, must_give_way: Callable[[], bool] = lambda: False
    ) -> None:
        """`must_give_way`: whether nobody is free to read another file."""
        self._parts = parts
        self._claim = claim
        self._must_give_way = must_give_way
        self._clock = asyncio.get_running_loop().time

    async def run(self) -> ChunkSums:
        """Returns when all chunks are there, and no others.

        Raises ClaimLost, GaveWay, ModelAway, UnreadableFile, NotFound where the file is gone,
        KeyRevoked where the tenant is, DatabaseDown, CannotOpen, and AnzothError for what the model
        cannot compute.
        """
        parts, claim = self._parts, self._claim
        cipher = await parts.files.keys.cipher(parts.claims.handle_of(claim))
        vectors = ChunkVectors(parts.database, parts.models, cipher, claim)
        codec = ChunkCodec(cipher, claim.store_id)
        model = vectors.model()
        began_s = self._clock()
        with self._timed("read"):
            parsed = await self._read(model)
        read_s = self._clock() - began_s
        gives_way_at_s = self._clock() + max(SLICE_S, _READING_SHARE * read_s)
        has_progress = False  # without it two files could make room for each other for ever
        for start in range(0, len(parsed.chunks), GROUP_CHUNKS):
            is_over = has_progress and self._clock() > gives_way_at_s and self._must_give_way()
            if is_over and await parts.claims.do_others_wait(claim):
                raise GaveWay
            has_progress |= await self._write_group(parsed, start, codec, vectors)
        return await self._finish(len(parsed.chunks))

    async def _read(self, model: ServedModel) -> Parsed:
        parts, claim = self._parts, self._claim
        assert model.embedding is not None
        assert model.engine.hello is not None
        owner = FileOwner(parts.claims.handle_of(claim), claim.project_id, audit.SYSTEM)
        file, pieces = await parts.files.content(owner, claim.file_id)
        limit = max_chunk_tokens(model.embedding, model.engine.hello.max_model_tokens)
        job = Job(
            file.filename,
            _LIMITS,
            rules_of(claim.chunking, limit),
            model.name,
            PurePath(file.filename).stem or None,
        )
        parts.host.tokenizers = tokenizers_of(parts.models)
        parsed = await parts.host.read(job, pieces, file.bytes)
        num_chunks = len(parsed.chunks)
        if num_chunks > MAX_FILE_CHUNKS:
            raise UnreadableFile(
                "invalid_file",
                f"The file makes {num_chunks:,} chunks, and a file may make at most "
                f"{MAX_FILE_CHUNKS:,}. Split it, or choose larger chunks.",
            )
        return parsed

    # --- chunks -------------------------------------------------------------------------------

    async def _write_group(
        self, parsed: Parsed, start: int, codec: ChunkCodec, vectors: ChunkVectors
    ) -> bool:
        """False when all of it was there."""
        parts, claim = self._parts, self._claim
        chunks = parsed.chunks[start : start + GROUP_CHUNKS]
        async with parts.database.tenant(parts.claims.handle_of(claim)) as connection:
            there = await ingestion_rows.chunks_at(connection, claim, start, start + len(chunks))
        wanted, stale = await asyncio.to_thread(_differences, parsed, chunks, start, there, codec)
        num_kept = len(chunks) - len(wanted)
        parts.metrics.chunks_ingested("kept", num_kept)
        if not wanted:
            return False
        with self._timed("embed"):
            made = await vectors.of({one.digest: one.content.indexed for one in wanted})
        with self._timed("write"):
            async with parts.database.tenant(parts.claims.handle_of(claim)) as connection:
                numbers = await ingestion_rows.try_take_chunk_numbers(
                    connection, claim, len(wanted)
                )
            if numbers is None:
                raise ClaimLost  # with its store
            rows = await asyncio.to_thread(_sealed, wanted, numbers, made.by_digest, codec)
            async with parts.claims.holding(claim, made.num_tokens) as connection:
                await ingestion_rows.delete_chunks(connection, claim, stale)
                await ingestion_rows.insert_chunks(connection, claim, rows)
        parts.metrics.chunks_ingested("embedded", made.num_embedded)
        parts.metrics.chunks_ingested("reused", len(wanted) - made.num_embedded)
        return True

    async def _finish(self, num_chunks: int) -> ChunkSums:
        await self._parts.claims.delete_chunks_from(self._claim, num_chunks)
        async with self._parts.claims.holding(self._claim) as connection:
            sums = await ingestion_rows.sum_chunks(connection, self._claim)
        # Nobody else writes while the claim is held, and positions are unique.
        assert sums.num_chunks == num_chunks, (sums.num_chunks, num_chunks)
        return sums

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began_s = self._clock()
        yield
        self._parts.metrics.ingestion_stage(stage, self._clock() - began_s)


def tokenizers_of(models: ModelRegistry) -> dict[str, str]:
    """Those of the embedding models that are served: name → path, for processes that read files."""
    return {
        model.name: str(model.tokenizer.file)
        for model in models
        if model.embedding is not None and model.tokenizer.file is not None
    }


def rules_of(chunking: Mapping[str, Any], limit: int) -> Rules:  # JSON, checked when it came in
    """How a file is cut. `limit`: how many tokens of a chunk its model reads; a static chunk that
    is longer is embedded cut, and searched by all of its words."""
    if chunking["type"] == "static":
        return Static(**chunking["static"])
    usual = Structural()
    return replace(usual, max_tokens=min(usual.max_tokens, limit))


def _differences(
    parsed: Parsed,
    chunks: Sequence[Chunk],
    start: int,
    there: Sequence[StoredChunk],
    codec: ChunkCodec,
) -> tuple[list[_Wanted], list[int]]:
    """Which of `chunks` (of the positions from `start`) must be written, and the numbers of those
    that must go."""
    stored = {chunk.position: chunk for chunk in there}
    wanted: list[_Wanted] = []
    stale: list[int] = []
    for position, chunk in enumerate(chunks, start):
        content = ChunkContent.of(chunk, parsed.document)
        digest = codec.digest(content.indexed)
        old = stored.get(position)
        if old is not None:
            if old.digest == digest and codec.open_content(old.number, old.content) == content:
                continue
            stale.append(old.number)
        wanted.append(_Wanted(position, digest, content))
    return wanted, stale


def _sealed(
    wanted: Sequence[_Wanted],
    numbers: Sequence[int],
    vectors: Mapping[bytes, bytes],
    codec: ChunkCodec,
) -> list[ChunkRow]:
    return [
        ChunkRow(
            number,
            one.position,
            one.digest,
            codec.seal_content(number, one.content),
            codec.seal_vector(number, vectors[one.digest]),
        )
        for number, one in zip(numbers, wanted, strict=True)
    ]
