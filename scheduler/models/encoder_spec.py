"""What is this embedding model: its encoder, and how token states become one vector?

    config.json               the encoder
    modules.json              what follows it: a pooling, perhaps a normalisation
    1_Pooling/config.json     which pooling
    sentence_bert_config.json the most tokens that the model was made for

The last three are how sentence-transformers describes a model; without them it takes the mean of
all tokens, and so do we. Whatever would change the vectors and is not computed here is refused by
name, never ignored.

Does not know: tensors, texts, or the prefixes that some models want before a text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from anzoth.model_kind import EMBEDDING_ARCHITECTURES
from anzoth.scheduler.checkpoint import CheckpointError
from anzoth.scheduler.models.config_json import Config

Activation = Literal["gelu", "gelu_tanh", "relu"]
PoolingMode = Literal["mean", "cls"]

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_POSITIONS_START_AFTER_PADDING = EMBEDDING_ARCHITECTURES - {"BertModel"}
"""RoBERTa's heirs number positions from `pad_token_id` + 1."""

# What transformers assumes where config.json is silent.
_DEFAULTS = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "max_position_embeddings": 512,
}


@dataclass(slots=True, frozen=True)
class Pooling:
    """How the states of a text's tokens become its vector."""

    mode: PoolingMode
    is_normalised: bool
    """Scaled to length 1."""


@dataclass(slots=True, frozen=True)
class EncoderSpec:
    """One encoder of the BERT family, and its pooling."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    vocab_size: int
    num_token_types: int
    num_positions: int
    """Rows of the table of positions."""
    first_position: int
    """The row of a text's first token."""
    norm_eps: float
    activation: Activation
    max_tokens: int
    """Of one text, special tokens included."""
    pooling: Pooling

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads


def read_encoder_spec(directory: Path) -> EncoderSpec:
    """The model in `directory`. Raises CheckpointError."""
    config = Config.read(directory / "config.json").with_defaults(_DEFAULTS)
    architectures = config.optional("architectures", list) or []
    architecture = next((name for name in architectures if name in EMBEDDING_ARCHITECTURES), None)
    if architecture is None:
        expected = ", ".join(sorted(EMBEDDING_ARCHITECTURES))
        config.fail(f"architectures is {architectures!r}; expected one of {expected}")
    kind = config.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        config.fail(f"position_embedding_type {kind!r} is not supported, only 'absolute'")
    config.refuse("is_decoder", "causal encoders")
    activation = _ACTIVATIONS.get(str(config.get("hidden_act")))
    if activation is None:
        config.fail(f"hidden_act {config.get('hidden_act')!r} is not supported")
    width, heads = config.positive("hidden_size"), config.positive("num_attention_heads")
    if width % heads:
        config.fail(f"hidden_size is {width}; expected a multiple of {heads} attention heads")
    num_positions = config.positive("max_position_embeddings")
    first = 0
    if architecture in _POSITIONS_START_AFTER_PADDING:
        first = _padding(config) + 1
    if first >= num_positions:
        config.fail(f"max_position_embeddings is {num_positions}; expected more than {first}")
    return EncoderSpec(
        hidden_size=width,
        intermediate_size=config.positive("intermediate_size"),
        num_layers=config.positive("num_hidden_layers"),
        num_heads=heads,
        vocab_size=config.positive("vocab_size"),
        num_token_types=config.positive("type_vocab_size"),
        num_positions=num_positions,
        first_position=first,
        norm_eps=config.number("layer_norm_eps"),
        activation=activation,
        max_tokens=min(num_positions - first, _most_tokens(directory) or num_positions),
        pooling=_read_pooling(directory),
    )


def _padding(config: Config) -> int:
    padding = config.optional("pad_token_id", int)
    return 1 if padding is None else padding


def _most_tokens(directory: Path) -> int | None:
    file = directory / "sentence_bert_config.json"
    return Config.read(file).positive_or_none("max_seq_length") if file.is_file() else None


def _read_pooling(directory: Path) -> Pooling:
    """What modules.json says, in its order: the encoder, a pooling, perhaps a normalisation."""
    file = directory / "modules.json"
    if not file.is_file():
        return Pooling("mean", is_normalised=False)
    modules = [(_class_name(entry), entry["path"]) for entry in _read_modules(file)]
    match [name for name, _ in modules]:
        case ["Transformer", "Pooling", *rest] if rest in ([], ["Normalize"]):
            mode = _pooling_mode(directory, str(modules[1][1]))
            return Pooling(mode, is_normalised=bool(rest))
        case names:
            raise CheckpointError(
                f"{file}: the modules {', '.join(names)} are not supported; expected Transformer, "
                f"Pooling and perhaps Normalize"
            )


def _read_modules(file: Path) -> list[dict[str, str]]:
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
    return modules


def _class_name(module: dict[str, str]) -> str:
    """Where a class lives changed between versions of sentence-transformers; its name did not."""
    return module["type"].rpartition(".")[2]


def _pooling_mode(directory: Path, folder: str) -> PoolingMode:
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
    if mode not in get_args(PoolingMode):
        config.fail(
            f"pooling {mode!r} is not supported, only {' and '.join(get_args(PoolingMode))}"
        )
    return cast(PoolingMode, mode)  # checked in the line above
