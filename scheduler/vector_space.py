"""Can two vectors be compared: were they made by the same model?

By the same weights, from the same tokens, pooled in the same way. The number type that a model is
computed in, the code that does it, and how many texts it reads at once change a vector by less than
retrieval can tell; they do not count, and neither does what only describes a checkpoint (who saved
it, with which library).

Does not know: tensors, or what vectors are kept.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from anzoth.scheduler.checkpoint import sample_weights

_DESCRIPTIONS = frozenset(
    {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache", "__version__"}
)
"""Fields of JSON files of which no vector depends."""
_PAGES = 1024
"""Of each file of weights: a tensor that is a thousandth of its file is not missed."""


def vector_space(directory: Path) -> str:
    """A short name for the vectors that the checkpoint in `directory`, which was loaded, makes."""
    digest = hashlib.sha256()
    paths = [str(module["path"]) for module in _read(directory / "modules.json") or ()]
    folders = [path for path in paths if path and Path(path).name == path]
    for name in (
        "config.json",
        "modules.json",
        "config_sentence_transformers.json",
        *(f"{folder}/config.json" for folder in folders),
    ):
        said = json.dumps(_without_descriptions(_read(directory / name)), sort_keys=True)
        digest.update(f"{name}\0{said}\0".encode())
    tokenizer = directory / "tokenizer.json"
    digest.update(tokenizer.read_bytes() if tokenizer.is_file() else b"")
    for part in sample_weights(directory, _PAGES):
        digest.update(part)
    return f"space-{digest.hexdigest()[:24]}"


def _read(file: Path) -> Any:  # JSON
    """None: there is no such file."""
    return json.loads(file.read_bytes()) if file.is_file() else None


def _without_descriptions(value: Any) -> Any:  # JSON
    if isinstance(value, dict):
        kept = ((name, entry) for name, entry in value.items() if name not in _DESCRIPTIONS)
        return {name: _without_descriptions(entry) for name, entry in kept}
    if isinstance(value, list):
        return [_without_descriptions(entry) for entry in value]
    return value
