"""How are bytes kept in a file so that nobody reads, changes, shortens or exchanges them unnoticed?

A sealed file is a header and numbered chunks, each encrypted and authenticated by itself with
AES-256-GCM (after STREAM: Hoang, Reyhanitabar, Rogaway and Vizár, "Online authenticated-encryption
and its nonce-reuse misuse-resistance", 2015):

    header    magic, version, bytes of a chunk, bytes of the payload, salt (32 random bytes)
    key       HKDF-SHA-256(data key, salt, purpose): this file's own, and only this file's
    nonce     number of the chunk (8 bytes), 1 for the last and 0 for the others (4 bytes)
    AAD       the header and the label: what the file is, given by whoever opens it

So a nonce is used once: a key has one file, and a file is written once, from a fresh salt. (Two
equal salts would break that; with n files the odds are n² / 2²⁵⁷.) Chunks that are changed,
missing, moved, or of another file do not authenticate, nor does anything under another label or
data key.

What it does not do: hide the length of the payload; tell an older file with the same label from a
newer one (labels name a generation, and the manifest names the salts); keep memory out of swap.

Does not know: what is in the files, or where the data key is kept.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
_HEADER = struct.Struct("<8sIIQ32s")
_MAGIC = b"ANZOTHSF"
_VERSION = 1
_PURPOSE = b"anzoth sealed file 1"


class SnapshotRefused(Exception):
    """A file of an index is missing, damaged, or not what it should be. Nothing of it was used."""


@dataclass(slots=True, frozen=True)
class Label:
    """What a file is. A file opens only under the label that it was written with."""

    tenant: str
    store: str
    generation: int
    kind: str

    def encoded(self) -> bytes:
        # Lengths in front: no two labels are written alike.
        parts = [part.encode() for part in (self.tenant, self.store, self.kind)]
        lengths = struct.pack("<QIII", self.generation, *map(len, parts))
        return lengths + b"".join(parts)


@dataclass(slots=True, frozen=True)
class Sealed:
    """The bytes of an opened file, and the salt that tells it from all others."""

    payload: memoryview = field(repr=False)
    salt: bytes


def write_sealed(path: Path, payload: memoryview, data_key: bytes, label: Label) -> bytes:
    """Writes the file and returns its salt. It is there as a whole or not at all, and stays when
    the folder was synced (`sync_folder`). Raises OSError."""
    salt = os.urandom(32)
    payload = payload.cast("B")
    header = _HEADER.pack(_MAGIC, _VERSION, CHUNK_BYTES, len(payload), salt)
    aead, aad = _aead(data_key, salt), header + label.encoded()
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(header)
        for nonce, start, end in _chunks(len(payload), CHUNK_BYTES):
            file.write(aead.encrypt(nonce, payload[start:end], aad))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return salt


def read_sealed(path: Path, data_key: bytes, label: Label, salt: bytes | None = None) -> Sealed:
    """The payload, all of it authenticated. `salt`: of the one file that will do.

    Raises SnapshotRefused.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotRefused(f"{path.name}: {error.strerror}") from None
    view = memoryview(data)
    if len(data) < _HEADER.size:
        raise SnapshotRefused(f"{path.name}: shorter than its header")
    magic, version, chunk_bytes, num_bytes, its_salt = _HEADER.unpack_from(data)
    if (magic, version, chunk_bytes) != (_MAGIC, _VERSION, CHUNK_BYTES):
        raise SnapshotRefused(f"{path.name}: not a sealed file of version {_VERSION}")
    num_chunks = max(1, -(-num_bytes // CHUNK_BYTES))
    if len(data) != _HEADER.size + num_bytes + num_chunks * _TAG_BYTES:
        raise SnapshotRefused(f"{path.name}: not as long as its header says")
    if salt is not None and its_salt != salt:
        raise SnapshotRefused(f"{path.name}: not the file that the manifest names")
    aead, aad = _aead(data_key, its_salt), data[: _HEADER.size] + label.encoded()
    payload = np.empty(num_bytes, np.uint8)  # aligned, as arrays in it must be
    at = _HEADER.size
    for nonce, start, end in _chunks(num_bytes, CHUNK_BYTES):
        sealed = view[at : at + end - start + _TAG_BYTES]
        try:
            opened = aead.decrypt(nonce, sealed, aad)
        except InvalidTag:
            raise SnapshotRefused(f"{path.name}: does not authenticate") from None
        payload[start:end] = np.frombuffer(opened, np.uint8)
        at += len(sealed)
    payload.flags.writeable = False
    return Sealed(payload.data, its_salt)


def sync_folder(folder: Path) -> None:
    """What was renamed in the folder stays so, whatever happens to the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aead(data_key: bytes, salt: bytes) -> AESGCM:
    if len(data_key) != KEY_BYTES:
        raise ValueError(f"a data key has {KEY_BYTES} bytes, not {len(data_key)}")
    return AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, salt, _PURPOSE).derive(data_key))


def _chunks(num_bytes: int, chunk_bytes: int) -> Iterator[tuple[bytes, int, int]]:
    """Nonce, start and end of each; of an empty payload, one that is empty."""
    last = max(0, num_bytes - 1) // chunk_bytes
    for number in range(last + 1):
        start = number * chunk_bytes
        nonce = struct.pack(">QI", number, number == last)
        yield nonce, start, min(start + chunk_bytes, num_bytes)
