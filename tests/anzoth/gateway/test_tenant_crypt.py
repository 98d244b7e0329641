"""A tenant's key opens what it sealed, where that belongs, and nothing else; destroyed, nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import stat
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anzoth.db import pool
from anzoth.db.pool import Database
from anzoth.db.store import audit_rows
from anzoth.errors import KeyRevoked
from anzoth.gateway import directory, tenant_crypt
from anzoth.gateway.principal import TenantHandle
from anzoth.gateway.tenant_crypt import (
    OVERHEAD_BYTES,
    CannotOpen,
    DataKey,
    Label,
    MasterKey,
    TenantCipher,
    TenantKeys,
)

MASTER = MasterKey(bytes(range(32)))
LABEL = Label("file.piece", "file-1", piece=2, part=3)


def handle_of(number: int) -> TenantHandle:
    return TenantHandle(uuid.UUID(int=number), f"t{number}", "salt")


def cipher_of(number: int, key: bytes = bytes(32)) -> TenantCipher:
    return TenantCipher(handle_of(number), DataKey.of(key))


def test_what_is_sealed_opens_with_its_own_label_only() -> None:
    cipher = cipher_of(1)
    sealed = cipher.seal(b"canary", LABEL)
    assert cipher.open(sealed, LABEL) == b"canary"
    assert len(sealed) == len(b"canary") + OVERHEAD_BYTES
    assert sealed != cipher.seal(b"canary", LABEL)
    assert b"canary" not in sealed
    for field, value in (("kind", "file.name"), ("object_id", "file-2"), ("piece", 3), ("part", 2)):
        with pytest.raises(CannotOpen):
            cipher.open(sealed, dataclasses.replace(LABEL, **{field: value}))
    for other in (cipher_of(2), cipher_of(1, b"\1" * 32)):  # the same key, and the same tenant
        with pytest.raises(CannotOpen):
            other.open(sealed, LABEL)
    assert "canary" not in repr(cipher)


def test_a_subkey_is_of_one_tenant_one_purpose_and_one_key() -> None:
    keys = [
        cipher_of(1).subkey("index"),
        cipher_of(1).subkey("digest"),
        cipher_of(2).subkey("index"),
        cipher_of(1, b"\1" * 32).subkey("index"),
    ]
    assert len({bytes(32), *keys}) == 5
    assert all(len(key) == 32 for key in keys)
    assert cipher_of(1).subkey("index") == keys[0]
    assert repr(bytes(32)) not in repr(cipher_of(1))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=40), at=st.integers(0, 200), change=st.integers(1, 255))
def test_any_changed_or_missing_byte_is_noticed(content: bytes, at: int, change: int) -> None:
    cipher = cipher_of(1)
    sealed = cipher.seal(content, LABEL)
    at %= len(sealed)
    changed = bytearray(sealed)
    changed[at] ^= change
    for bad in (bytes(changed), sealed[:at], sealed + b"\0"):
        with pytest.raises(CannotOpen):
            cipher.open(bad, LABEL)


@settings(max_examples=200, deadline=None)
@given(
    labels=st.lists(
        st.builds(
            Label, st.text("ab\0", max_size=3), st.text("ab\0", max_size=3), st.integers(0, 2)
        ),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_different_labels_are_different_bytes(labels: list[Label]) -> None:
    first, second = (label.encode(uuid.UUID(int=1)) for label in labels)
    assert first != second


def test_a_wrapped_key_opens_for_its_tenant_with_its_master_key_only() -> None:
    tenant, other = handle_of(1).id, handle_of(2).id
    wrapped = MASTER.wrap(b"k" * 32, tenant)
    assert MASTER.unwrap(wrapped, tenant) == b"k" * 32
    assert b"kkkk" not in wrapped.wrapped
    with pytest.raises(CannotOpen, match="damaged"):
        MASTER.unwrap(wrapped, other)
    stranger = MasterKey(b"x" * 32)
    with pytest.raises(CannotOpen, match=f"with the master key {MASTER.id}.*is {stranger.id}"):
        stranger.unwrap(wrapped, tenant)
    with pytest.raises(CannotOpen, match="damaged"):
        stranger.unwrap(dataclasses.replace(wrapped, master_key_id=stranger.id), tenant)
    with pytest.raises(CannotOpen, match="damaged"):
        MASTER.unwrap(dataclasses.replace(wrapped, wrapped=b"short"), tenant)


def test_the_master_key_is_a_file_of_its_owner(tmp_path: Path) -> None:
    made = tenant_crypt.load_master_key(tmp_path)
    assert tenant_crypt.load_master_key(tmp_path).id == made.id
    file = tmp_path / tenant_crypt.MASTER_KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("too short")
    with pytest.raises(ValueError, match=r"non-hexadecimal|must hold"):
        tenant_crypt.load_master_key(tmp_path)


# --- with a database -----------------------------------------------------------------------------


def run(dsn: str, scenario: Callable[[Database, TenantHandle], Awaitable[None]]) -> None:
    async def main() -> None:
        tenant = await directory.create_tenant(dsn, "acme")
        database = await Database.open(dsn)
        try:
            await scenario(database, TenantHandle(tenant.id, "acme", "salt"))
        finally:
            await database.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_key_is_made_once_whoever_asks_first(dsn: str) -> None:
    async def scenario(database: Database, tenant: TenantHandle) -> None:
        gateways = [TenantKeys(database, dsn, MASTER) for _ in range(4)]
        ciphers = await asyncio.gather(*(keys.cipher(tenant) for keys in gateways * 2))
        sealed = ciphers[0].seal(b"text", LABEL)
        assert all(cipher.open(sealed, LABEL) == b"text" for cipher in ciphers)
        later = await TenantKeys(database, dsn, MASTER).cipher(tenant)
        assert later.open(sealed, LABEL) == b"text"
        with pytest.raises(CannotOpen, match="same DATA_DIR/master_key"):
            await TenantKeys(database, dsn, MasterKey(b"x" * 32)).cipher(tenant)

    run(dsn, scenario)


@pytest.mark.slow
def test_the_key_goes_with_its_tenant_from_everywhere_and_stays_gone(dsn: str) -> None:
    async def scenario(database: Database, tenant: TenantHandle) -> None:
        keys = TenantKeys(database, dsn, MASTER)
        listening = asyncio.create_task(keys.run())
        try:
            await keys.cipher(tenant)
            async with asyncio.timeout(10):
                while keys._num_forgotten == 0:  # noqa: ASYNC110  # it listens
                    await asyncio.sleep(0.01)
            await keys.cipher(tenant)
            assert (await directory.delete_tenant(dsn, "acme")).key_destroyed
            async with asyncio.timeout(10):
                while keys._known:  # noqa: ASYNC110  # it has heard
                    await asyncio.sleep(0.01)
        finally:
            listening.cancel()
        for asked in (keys, TenantKeys(database, dsn, MASTER)):
            with pytest.raises(KeyRevoked):
                await asked.cipher(tenant)
        async with pool.operator(dsn) as connection:
            assert await connection.fetchval("SELECT count(*) FROM anzoth.tenant_keys") == 0
            events = [row async for row in audit_rows.all_events(connection, tenant.id)]
        assert events[-1].type == "tenant.deleted"
        assert events[-1].details["key_destroyed"] is True

    run(dsn, scenario)


@pytest.mark.slow
def test_no_key_comes_into_being_beside_the_deletion_of_its_tenant(dsn: str) -> None:
    async def scenario(database: Database, tenant: TenantHandle) -> None:
        await asyncio.gather(
            *(TenantKeys(database, dsn, MASTER).cipher(tenant) for _ in range(4)),
            directory.delete_tenant(dsn, "acme"),
            *(TenantKeys(database, dsn, MASTER).cipher(tenant) for _ in range(4)),
            return_exceptions=True,
        )
        async with pool.operator(dsn) as connection:
            assert await connection.fetchval("SELECT count(*) FROM anzoth.tenant_keys") == 0

    run(dsn, scenario)


@pytest.mark.slow
def test_keys_in_memory_are_bounded(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(database: Database, tenant: TenantHandle) -> None:
        monkeypatch.setattr(tenant_crypt, "_MAX_KNOWN", 2)
        keys = TenantKeys(database, dsn, MASTER)
        sealed = (await keys.cipher(tenant)).seal(b"text", LABEL)
        for name in ("two", "three", "four"):
            other = await directory.create_tenant(dsn, name)
            await keys.cipher(TenantHandle(other.id, name, "salt"))
        assert len(keys._known) == 2
        assert (await keys.cipher(tenant)).open(sealed, LABEL) == b"text"

    run(dsn, scenario)
