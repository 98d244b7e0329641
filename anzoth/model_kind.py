"""What can be asked of a checkpoint: text, vectors of texts, or which documents answer a query?

Both the gateway and the engine process must know before they load anything, and must agree.

Does not know: whether the checkpoint can be served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

ModelKind = Literal["generation", "embedding", "rerank"]

# As `architectures` in config.json names them. The engine has an encoder for each of them.
EMBEDDING_ARCHITECTURES = frozenset(
    {"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"}
)
RERANK_ARCHITECTURES = frozenset(
    {
        "BertForSequenceClassification",
        "RobertaForSequenceClassification",
        "XLMRobertaForSequenceClassification",
        "CamembertForSequenceClassification",
    }
)
_KINDS: Mapping[str, ModelKind] = {
    **dict.fromkeys(EMBEDDING_ARCHITECTURES, "embedding"),
    **dict.fromkeys(RERANK_ARCHITECTURES, "rerank"),
}


def model_kind(directory: Path) -> ModelKind:
    """From the checkpoint's files; one that cannot be read is refused by its loader.

    A decoder makes embeddings if sentence-transformers' description of a pooling lies beside it.
    """
    for name in architectures(directory):
        if name in _KINDS:
            return _KINDS[name]
    return "embedding" if (directory / "modules.json").is_file() else "generation"


def has_token_types(directory: Path) -> bool:
    """Whether this reranker tells a query's tokens from a document's: RoBERTa's heirs do not."""
    return "BertForSequenceClassification" in architectures(directory)


def architectures(directory: Path) -> list[str]:
    """What config.json says it is; nothing if that cannot be read."""
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    names = config.get("architectures") if isinstance(config, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
