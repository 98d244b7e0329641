"""Section [batches]: how large may batches be, and how many of their requests run at once?

Does not know: how one is worked on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from anzoth.settings import ConfigError, section


@dataclass(slots=True, frozen=True)
class BatchesConfig:
    """Section [batches]."""

    concurrency: int = 8
    """How many requests of batches a gateway runs at the same time, of all tenants together."""
    max_requests: int = 50_000
    """In one batch (OpenAI: 50,000)."""
    max_mib: int = 200
    """Of one input file (OpenAI: 200 MB)."""
    tenant_batches: int = 100
    """How many batches of one tenant may be unfinished."""


def batches_of(document: Mapping[str, Any], environ: Mapping[str, str]) -> BatchesConfig:
    """Raises ConfigError."""
    made = section(BatchesConfig, document, {}, environ, "ANZOTH_BATCHES_")
    for field in fields(made):
        if not getattr(made, field.name):
            raise ConfigError(f"{field.name} is 0; expected at least 1")
    return made
