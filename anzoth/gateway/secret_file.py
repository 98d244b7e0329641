"""How does a secret of the installation come into being, and into a process?

A file in the data directory, made where there is none, readable by its owner only: complete or
absent, never half; where two processes make it at once, both use the first one.

Does not know: what a secret is for.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

NUM_BYTES = 32


def load(path: Path) -> bytes:
    """Raises OSError, and ValueError when the file holds something else."""
    if not path.exists():
        _create(path)
    secret = bytes.fromhex(path.read_text().strip())
    if len(secret) != NUM_BYTES:
        raise ValueError(f"{path} must hold {NUM_BYTES} bytes as hexadecimal digits")
    return secret


def _create(path: Path) -> None:
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "w") as file:
            file.write(secrets.token_hex(NUM_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # unlike a rename, this fails when somebody was faster
        except FileExistsError:
            pass
    finally:
        fresh.unlink()
