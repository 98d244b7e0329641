"""How do the states of a text's tokens become its vector, or the score of a pair?

    modules.json               for embeddings: a pooling, perhaps a normalisation
    1_Pooling/config.json      which pooling
    sentence_bert_config.json  the most tokens that the model was made for,
    tokenizer_config.json      or else that its tokenizer was
    config.json and config_sentence_transformers.json
                               for rerankers: what is done to the number that the classifier gives

These are how sentence-transformers describes a model; where it assumes something, so do we.
Whatever would change the numbers and is not computed here is refused by name, never ignored.

Does not know: tensors, texts, or the prefixes that some models want before a text.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from anzoth.scheduler.checkpoint import CheckpointError
from anzoth.scheduler.models.config_json import Config

PoolingMode = Literal["mean", "cls", "lasttoken"]


@dataclass(slots=True, frozen=True)
class Pooling:
    """How the states of a text's tokens become its vector."""

    mode: PoolingMode
    is_normalised: bool
    """Scaled to length 1."""


@dataclass(slots=True, frozen=True)
class Scoring:
    """What makes one number of a pair's first token: tanh between two linear layers."""

    inner: str
    outer: str
    """The checkpoint's names of the two."""
    is_sigmoid: bool
    """The number is squeezed into 0…1."""


def most_tokens(directory: Path) -> int | None:
    """Of one text, special tokens included; None where nobody says."""
    for name, field in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        file = directory / name
        # Read as a number: tokenizers that know no limit write 1e30.
        if file.is_file() and (limit := Config.read(file).number_or_none(field)) is not None:
            return int(limit)
    return None


# --- embeddings ----------------------------------------------------------------------------------


def read_pooling(directory: Path, supported: Collection[PoolingMode]) -> Pooling:
    """What modules.json says, in its order: the model, a pooling, perhaps a normalisation.

    Without one it is the mean of all tokens. Raises CheckpointError.
    """
    file = directory / "modules.json"
    if not file.is_file():
        return Pooling("mean", is_normalised=False)
    modules = _read_modules(file)
    match [name for name, _ in modules]:
        case ["Transformer", "Pooling", *rest] if rest in ([], ["Normalize"]):
            mode = _pooling_mode(directory, modules[1][1], supported)
            return Pooling(mode, is_normalised=bool(rest))
        case names:
            raise CheckpointError(
                f"{file}: the modules {', '.join(names)} are not supported; expected Transformer, "
                f"Pooling and perhaps Normalize"
            )


def _read_modules(file: Path) -> list[tuple[str, str]]:
    """Class and folder of each. Where a class lives changed between versions; its name did not."""
    try:
        modules = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise CheckpointError(f"{file} is not valid JSON") from None
    if not isinstance(modules, list) or not all(
        isinstance(entry, dict)
        and isinstance(entry.get("type"), str)
        and isinstance(entry.get("path"), str)
        for entry in modules
    ):
        raise CheckpointError(f"{file} is not a list of modules, each with a type and a path")
    return [(entry["type"].rpartition(".")[2], entry["path"]) for entry in modules]


def _pooling_mode(directory: Path, folder: str, supported: Collection[PoolingMode]) -> PoolingMode:
    if Path(folder).name != folder:
        raise CheckpointError(f"{directory / 'modules.json'} names a folder outside: {folder!r}")
    config = Config.read(directory / folder / "config.json")
    if config.get("include_prompt") is False:
        config.fail("include_prompt is false; poolings without the prompt are not supported")
    mode = config.get("pooling_mode")
    if mode is None:
        flags = {
            "cls": "pooling_mode_cls_token",
            "mean": "pooling_mode_mean_tokens",
            "max": "pooling_mode_max_tokens",
            "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
            "weightedmean": "pooling_mode_weightedmean_tokens",
            "lasttoken": "pooling_mode_lasttoken",
        }
        modes = [name for name, flag in flags.items() if config.flag(flag)] or ["mean"]
        mode = modes[0] if len(modes) == 1 else modes
    if mode not in supported:
        config.fail(
            f"pooling {mode!r} is not supported for this architecture, only "
            f"{' and '.join(supported)}"
        )
    return cast(PoolingMode, mode)  # checked in the line above


# --- rerankers -----------------------------------------------------------------------------------


def read_scoring(directory: Path, config: Config, inner: str, outer: str) -> Scoring:
    """`inner` and `outer`: the checkpoint's names of the two linear layers.

    Raises CheckpointError.
    """
    labels = config.optional("id2label", dict)
    # transformers leaves the usual number of labels out.
    num_labels = len(labels) if labels is not None else config.positive("num_labels", 2)
    if num_labels != 1:
        config.fail(f"the classifier has {num_labels} labels; a reranker has 1, the relevance")
    file = directory / "modules.json"
    if file.is_file() and (names := [name for name, _ in _read_modules(file)]) != ["Transformer"]:
        raise CheckpointError(f"{file}: the modules {', '.join(names)} are not supported")
    file = directory / "config_sentence_transformers.json"
    described = Config.read(file) if file.is_file() else Config(file, {})
    described.refuse("default_prompt_name", "prompts of rerankers")
    return Scoring(inner, outer, _is_sigmoid(config, described))


def _is_sigmoid(config: Config, described: Config) -> bool:
    """The activation has been stored in three places; without any it is a sigmoid."""
    section = config.section("sentence_transformers") or Config(config.file, {})
    for source, field in (
        (described, "activation_fn"),
        (section, "activation_fn"),
        (config, "sbert_ce_default_activation_function"),
    ):
        if (name := source.optional(field, str)) is not None:
            short = name.rpartition(".")[2]
            if short not in ("Sigmoid", "Identity"):
                source.fail(f"{field} is {name!r}; supported are Sigmoid and Identity")
            return short == "Sigmoid"
    return True
