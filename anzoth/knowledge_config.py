"""Section [knowledge]: what makes the vectors of knowledge bases, and how much may be in one?

Does not know: how anything is stored or searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anzoth.settings import ConfigError, section


@dataclass(slots=True, frozen=True)
class KnowledgeConfig:
    """Section [knowledge]."""

    embedding_model: str | None = None
    """Of new stores, where whoever makes one does not say. None: the first that is served."""
    tenant_stores: int = 10_000
    """How many stores one tenant may have."""
    store_files: int = 10_000
    """How many files may be in one store (OpenAI: 10,000)."""
    ingestions: int = 2
    """How many files each gateway reads at the same time; each may take a gibibyte of memory."""


def knowledge_of(document: Mapping[str, Any], environ: Mapping[str, str]) -> KnowledgeConfig:
    """Raises ConfigError."""
    made = section(KnowledgeConfig, document, {}, environ, "ANZOTH_KNOWLEDGE_")
    for name in ("tenant_stores", "store_files", "ingestions"):
        if getattr(made, name) < 1:
            raise ConfigError(f"{name} is {getattr(made, name)}; expected at least 1")
    return made
