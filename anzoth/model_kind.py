"""What can be asked of a checkpoint: text, or vectors of texts?

Both the gateway and the engine process must know before they load anything, and must agree.

Does not know: whether the checkpoint can be served.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

ModelKind = Literal["generation", "embedding"]

EMBEDDING_ARCHITECTURES = frozenset(
    {"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"}
)
"""As `architectures` in config.json names them. The engine has an encoder for each of them."""


def model_kind(directory: Path) -> ModelKind:
    """From the checkpoint's config.json; one that cannot be read is refused by its loader."""
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return "generation"
    names = config.get("architectures") if isinstance(config, dict) else None
    is_encoder = isinstance(names, list) and not EMBEDDING_ARCHITECTURES.isdisjoint(map(str, names))
    return "embedding" if is_encoder else "generation"
