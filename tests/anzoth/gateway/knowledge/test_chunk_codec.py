"""A chunk comes back as it was, from its own place only; its digest says what is the same."""

from __future__ import annotations

import uuid

import pytest

from anzoth.gateway.knowledge.chunk_codec import DIGEST_BYTES, ChunkCodec, ChunkContent
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import CannotOpen, DataKey, TenantCipher

CONTENT = ChunkContent(
    "The canary sings.", "Birds › Songs", 10, 27, 0, 400, 9, 3, None, ("Birds", "Songs")
)


def codec_of(tenant: int, store_id: str = "vs_1") -> ChunkCodec:
    handle = TenantHandle(uuid.UUID(int=tenant), f"t{tenant}", "salt")
    return ChunkCodec(TenantCipher(handle, DataKey.of(bytes([tenant]) * 32)), store_id)


def test_a_chunk_comes_back_as_it_was() -> None:
    codec = codec_of(1)
    assert codec.open_content(7, codec.seal_content(7, CONTENT)) == CONTENT
    assert codec.open_vector(7, codec.seal_vector(7, b"\0\0\x80?")) == b"\0\0\x80?"
    assert b"canary" not in codec.seal_content(7, CONTENT)
    assert "canary" not in repr(CONTENT)


def test_a_chunk_opens_in_its_own_place_only() -> None:
    codec = codec_of(1)
    content, vector = codec.seal_content(7, CONTENT), codec.seal_vector(7, b"\0\0\x80?")
    for other, number in ((codec, 8), (codec_of(1, "vs_2"), 7), (codec_of(2), 7)):
        with pytest.raises(CannotOpen):
            other.open_content(number, content)
        with pytest.raises(CannotOpen):
            other.open_vector(number, vector)
    with pytest.raises(CannotOpen):
        codec.open_content(7, vector)


def test_a_digest_is_of_the_words_and_of_the_tenant() -> None:
    digest = codec_of(1).digest("the same words")
    assert len(digest) == DIGEST_BYTES
    assert codec_of(1, "vs_2").digest("the same words") == digest
    assert codec_of(1).digest("other words") != digest
    assert codec_of(2).digest("the same words") != digest
