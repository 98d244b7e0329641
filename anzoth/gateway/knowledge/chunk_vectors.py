"""Where do the vectors of a store's chunks come from?

Words that the tenant has in any of its stores, embedded by the same model, are not embedded again:
their vector is taken from there. What is left goes to the embedding engine, in the background. An
engine that is away for a moment is waited for.

Does not know: files, positions, or what is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from anzoth.db.pool import Database
from anzoth.db.store import ingestion_rows
from anzoth.db.store.ingestion_rows import ClaimRow
from anzoth.errors import CapacityUnavailable, ModelUnavailable
from anzoth.gateway.knowledge.chunk_codec import ChunkCodec
from anzoth.gateway.models import ModelRegistry, ServedModel
from anzoth.gateway.tenant_crypt import TenantCipher
from anzoth.ingest.limits import UnreadableFile
from anzoth.text.embedding_text import EmbeddingText

MAX_WAIT_S = 60.0
"""For an engine that is away, or full."""
_PAUSE_S = 0.5
_FLOAT_BYTES = 4


class ModelAway(Exception):
    """The store's embedding model is not there, or its engine was away for too long."""


@dataclass(slots=True, frozen=True)
class Vectors:
    """What `ChunkVectors.of` found and made."""

    by_digest: Mapping[bytes, bytes] = field(repr=False)
    """Each float32, little-endian."""
    num_embedded: int
    num_tokens: int
    """That the engine computed."""


class ChunkVectors:
    """For the chunks of one claimed file."""

    def __init__(
        self, database: Database, models: ModelRegistry, cipher: TenantCipher, claim: ClaimRow
    ) -> None:
        self._database = database
        self._models = models
        self._cipher = cipher
        self._claim = claim

    def model(self) -> ServedModel:
        """Raises ModelAway, and UnreadableFile where it can never make vectors for this store."""
        claim = self._claim
        model = self._models.find(claim.model)
        if model is None or model.embedding is None or model.engine.hello is None:
            raise ModelAway
        hello = model.engine.hello
        if hello.dimensions != claim.dimensions or claim.vector_space not in (
            None,
            hello.vector_space,
        ):
            raise UnreadableFile(
                "server_error",
                f"The model '{claim.model}', which made the vectors in this vector store, was "
                "replaced by another one of that name, whose vectors cannot be compared with "
                "those. Make a new vector store of the files, or have the operator of this server "
                "serve the former model again.",
            )
        return model

    async def of(self, texts: Mapping[bytes, str]) -> Vectors:
        """The vectors of texts by their digests. Raises ModelAway, UnreadableFile, DatabaseDown,
        CannotOpen, KeyRevoked, and AnzothError for what the model cannot compute."""
        found = await self._known(list(texts))
        missing = [digest for digest in texts if digest not in found]
        if not missing:
            return Vectors(found, 0, 0)
        made, num_tokens = await self._embed([texts[digest] for digest in missing])
        found.update(zip(missing, made, strict=True))
        return Vectors(found, len(missing), num_tokens)

    async def _known(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        async with self._database.tenant(self._cipher.tenant) as connection:
            known = await ingestion_rows.known_vectors(connection, self._claim, digests)

        def opened() -> dict[bytes, bytes]:
            return {
                one.digest: ChunkCodec(self._cipher, one.store_id).open_vector(
                    one.number, one.vector
                )
                for one in known
            }

        return await asyncio.to_thread(opened) if known else {}

    async def _embed(self, texts: Sequence[str]) -> tuple[list[bytes], int]:
        """The vectors, and how many tokens were computed for them."""
        loop = asyncio.get_running_loop()
        gives_up_at_s = loop.time() + MAX_WAIT_S
        while True:
            try:
                model = self.model()
                assert model.embedding is not None
                limit = model.engine.require_ready().max_model_tokens
                inputs = await asyncio.to_thread(tokens_of, texts, model.embedding, limit)
                vectors = await model.engine.embed(
                    inputs, dimensions=None, tenant=self._cipher.tenant, background=True
                )
                break
            except (ModelAway, ModelUnavailable, CapacityUnavailable):
                if loop.time() > gives_up_at_s:
                    raise ModelAway from None
                await asyncio.sleep(_PAUSE_S)
        if any(len(vector) != self._claim.dimensions * _FLOAT_BYTES for vector in vectors):
            raise ModelAway  # it has just been replaced by another
        return vectors, sum(map(len, inputs))


def tokens_of(texts: Sequence[str], text: EmbeddingText, limit: int) -> list[Sequence[int]]:
    """Of each text at most `limit` tokens: of one that is longer, the beginning."""
    _, behind = text.tokenizer.frame
    return [
        ids if len(ids) <= limit else [*ids[: limit - len(behind)], *behind]
        for ids in text.encode(texts, "document")
    ]


def max_chunk_tokens(text: EmbeddingText, limit: int) -> int:
    """How many tokens of a chunk the model reads, of the `limit` that it takes in all."""
    (empty,) = text.encode([""], "document")
    return limit - len(empty)
