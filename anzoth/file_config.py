"""Section [files]: how much may tenants store, and how much of it at once?

Does not know: how anything is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from anzoth.settings import ConfigError, section

MIB = 1 << 20


@dataclass(slots=True, frozen=True)
class FilesConfig:
    """Section [files]."""

    max_file_mib: int = 512
    """Of one file that is sent at once (OpenAI: 512 MB)."""
    max_upload_mib: int = 8192
    """Of one file that comes in parts of up to 64 MiB through /v1/uploads (OpenAI: 8 GB)."""
    tenant_mib: int = 10240
    """Of all files of one tenant together, those included that still come in."""
    tenant_files: int = 100_000
    """How many files one tenant may have."""
    max_transfers: int = 64
    """How many files are sent or fetched at the same time; each takes a few mebibytes of memory."""
    tenant_transfers: int = 16
    """The same of one tenant."""


def files_of(document: Mapping[str, Any], environ: Mapping[str, str]) -> FilesConfig:
    """Raises ConfigError."""
    made = section(FilesConfig, document, {}, environ, "ANZOTH_FILES_")
    for field in fields(made):
        if not getattr(made, field.name):
            raise ConfigError(f"{field.name} is 0; expected at least 1")
    return made
