"""How are a tenant's documents encrypted, and with what?

Each tenant has a data key of its own, made when it is first needed. The database holds it wrapped
by the installation's master key, which is a file of the data directory and in no database: whoever
takes the database, or a backup of it, can read nothing. Deleting a tenant destroys its key, and so
all that it encrypted, wherever that was copied to; what is left is to destroy database backups that
are older, for they hold the wrapped key (of use only with the master key).

    master key ──wraps──▶ data key of a tenant ──seals──▶ pieces of files, names, chunks, vectors
    DATA_DIR/master_key   anzoth.tenant_keys              bytea columns, snapshots of indexes

What is sealed says by its additional data whose it is, of which object, which piece and of what
kind: moved anywhere else, cut or changed, it does not open. AES-256-GCM with random nonces of 96
bits: one key may seal some four billion (2³²) times (NIST SP 800-38D §8.3).

Does not know: what is encrypted, or where it is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from anzoth.db.listen import listen
from anzoth.db.pool import Connection, Database
from anzoth.db.store import tenant_key_rows, tenant_rows
from anzoth.db.store.tenant_key_rows import WrappedKey
from anzoth.errors import KeyRevoked
from anzoth.gateway import secret_file
from anzoth.gateway.principal import TenantHandle

TENANTS_CHANNEL = "anzoth_tenants"
MASTER_KEY_FILE = "master_key"
OVERHEAD_BYTES = 1 + 12 + 16
"""By how much what is sealed is longer: format, nonce, tag."""

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_KEY_BYTES = 32
_MAX_KNOWN = 4096
"""Tenants whose keys are in memory: about a kilobyte each."""


class CannotOpen(Exception):
    """Something sealed is damaged, was moved or exchanged, or its key is not the right one."""


@dataclass(slots=True, frozen=True)
class Label:
    """What a sealed text belongs to: it opens with the same label only."""

    kind: str
    object_id: str
    piece: int = 0
    part: int = 0

    def encode(self, tenant_id: UUID) -> bytes:
        """Unambiguous: fixed lengths, or a length in front."""
        texts = (self.kind.encode(), self.object_id.encode())
        numbers = (self.part, self.piece)
        return b"".join(
            (
                b"anzoth.sealed.1",
                tenant_id.bytes,
                *(len(text).to_bytes(4) + text for text in texts),
                *(number.to_bytes(8) for number in numbers),
            )
        )


@dataclass(slots=True, frozen=True)
class DataKey:
    """A tenant's key, as `TenantKeys` has it in memory."""

    secret: bytes = field(repr=False)
    aead: AESGCM = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> DataKey:
        return cls(secret, AESGCM(secret))


@dataclass(slots=True, frozen=True)
class TenantCipher:
    """Seals and opens for one tenant. Made by `TenantKeys` alone."""

    tenant: TenantHandle
    _key: DataKey = field(repr=False)

    def seal(self, plain: bytes | bytearray | memoryview, label: Label) -> bytes:
        """About a millisecond for a mebibyte; longer by OVERHEAD_BYTES."""
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._key.aead.encrypt(nonce, plain, label.encode(self.tenant.id))

    def open(self, sealed: bytes, label: Label) -> bytes:
        """Raises CannotOpen."""
        if sealed[:1] != _FORMAT or len(sealed) < OVERHEAD_BYTES:
            raise CannotOpen("this is not in a form that this version knows")
        nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._key.aead.decrypt(nonce, rest, label.encode(self.tenant.id))
        except InvalidTag:
            raise CannotOpen(f"a {label.kind} is damaged, or not what it should be") from None

    def subkey(self, purpose: str) -> bytes:
        """32 bytes that are the tenant's own for one purpose, and say nothing of its data key
        (HKDF-Expand with SHA-256, RFC 5869)."""
        info = b"anzoth.subkey.1" + self.tenant.id.bytes + purpose.encode()
        return HKDFExpand(hashes.SHA256(), _KEY_BYTES, info).derive(self._key.secret)


class MasterKey:
    """The installation's. Its id says which one it is and nothing about it."""

    def __init__(self, secret: bytes) -> None:
        self.id = hashlib.sha256(b"anzoth master key id:" + secret).hexdigest()[:12]
        self._aead = AESGCM(secret)

    def wrap(self, key: bytes, tenant_id: UUID) -> WrappedKey:
        nonce = os.urandom(_NONCE_BYTES)
        return WrappedKey(nonce + self._aead.encrypt(nonce, key, _wrapped(tenant_id)), self.id)

    def unwrap(self, wrapped: WrappedKey, tenant_id: UUID) -> bytes:
        """Raises CannotOpen."""
        if wrapped.master_key_id != self.id:
            raise CannotOpen(
                f"the data key of tenant {tenant_id} was wrapped with the master key "
                f"{wrapped.master_key_id}, and this gateway's is {self.id}: all gateways of one "
                f"database need the same DATA_DIR/{MASTER_KEY_FILE}"
            )
        nonce, rest = wrapped.wrapped[:_NONCE_BYTES], wrapped.wrapped[_NONCE_BYTES:]
        try:
            return self._aead.decrypt(nonce, rest, _wrapped(tenant_id))
        except (InvalidTag, ValueError):
            raise CannotOpen(f"the data key of tenant {tenant_id} is damaged") from None


def load_master_key(data_dir: Path) -> MasterKey:
    """Reads DATA_DIR/master_key, which is made (readable by its owner only) when there is none.

    Raises OSError, and ValueError when the file is not a key.
    """
    return MasterKey(secret_file.load(data_dir / MASTER_KEY_FILE))


class TenantKeys:
    """The data keys of tenants. One per gateway; `run` must be running for ends to be heard of."""

    def __init__(self, database: Database, dsn: str, master: MasterKey) -> None:
        self._database = database
        self._dsn = dsn
        self._master = master
        self._known: OrderedDict[UUID, DataKey] = OrderedDict()
        self._reading: weakref.WeakValueDictionary[UUID, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._num_forgotten = 0
        """Grows with each end: what was read before one may be of a tenant that is gone."""

    async def run(self) -> None:
        """Forgets the keys of deleted tenants, until cancelled."""
        await listen(self._dsn, TENANTS_CHANNEL, lambda id: self._forget(UUID(id)), self._forget)

    async def cipher(self, tenant: TenantHandle) -> TenantCipher:
        """With the tenant's key, which is made where there is none.

        Raises KeyRevoked for a tenant that was deleted, CannotOpen and DatabaseDown.
        """
        key = self._known.get(tenant.id)
        if key is None:
            lock = self._reading.setdefault(tenant.id, asyncio.Lock())
            async with lock:
                key = self._known.get(tenant.id) or await self._read(tenant)
        else:
            self._known.move_to_end(tenant.id)
        return TenantCipher(tenant, key)

    async def _read(self, tenant: TenantHandle) -> DataKey:
        num_forgotten = self._num_forgotten
        async with self._database.tenant(tenant) as connection:
            wrapped = await tenant_key_rows.find_key(connection, tenant.id)
            if wrapped is None:
                wrapped = await self._make(connection, tenant)
        key = DataKey.of(self._master.unwrap(wrapped, tenant.id))
        if num_forgotten == self._num_forgotten:
            self._known[tenant.id] = key
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return key

    async def _make(self, connection: Connection, tenant: TenantHandle) -> WrappedKey:
        # The deletion of a tenant holds this lock, too: no key comes into being behind its back.
        await tenant_rows.lock_directory(connection)
        fresh = self._master.wrap(os.urandom(_KEY_BYTES), tenant.id)
        made = await tenant_key_rows.try_insert_key(connection, tenant.id, fresh)
        made = made or await tenant_key_rows.find_key(connection, tenant.id)
        if made is None:
            raise KeyRevoked("This tenant was deleted.")
        return made

    def _forget(self, tenant_id: UUID | None = None) -> None:
        """None: an end may have been missed."""
        self._num_forgotten += 1
        if tenant_id is None:
            self._known.clear()
        else:
            self._known.pop(tenant_id, None)


def _wrapped(tenant_id: UUID) -> bytes:
    return b"anzoth.tenant_key.1" + tenant_id.bytes
