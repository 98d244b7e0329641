"""Section [knowledge]: what makes the vectors of knowledge bases, what ranks what is found in them,
and how much may be in one?

Does not know: how anything is stored or searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from anzoth.model_config import ModelConfig
from anzoth.model_kind import model_kind
from anzoth.settings import ConfigError, section


@dataclass(slots=True, frozen=True)
class KnowledgeConfig:
    """Section [knowledge]."""

    embedding_model: str | None = None
    """Of new stores, where whoever makes one does not say. None: the first that is served."""
    reranker: str | None = None
    """The model that ranks what a search has found, where the request does not say otherwise: one
    that is served and ranks documents. None: none does."""
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


def require_reranker(config: KnowledgeConfig, models: Iterable[ModelConfig]) -> None:
    """Raises ConfigError where `reranker` names none of `models`, or one that does not rank."""
    name = config.reranker
    if name is None:
        return
    kinds = {known: model_kind(model.path) for model in models for known in model.names}
    if kinds.get(name) != "rerank":
        what = "no model is called that" if name not in kinds else "that model ranks nothing"
        known = ", ".join(sorted(one for one, kind in kinds.items() if kind == "rerank"))
        raise ConfigError(
            f"reranker of [knowledge] is {name!r}, but {what}; expected a model that ranks "
            f"documents, of which there is {known or 'none'}"
        )
