"""What is this encoder, and what is made of its token states?

Does not know: tensors, texts, or what a description of sentence-transformers looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anzoth.model_kind import EMBEDDING_ARCHITECTURES, RERANK_ARCHITECTURES
from anzoth.scheduler.models.config_json import Config
from anzoth.scheduler.models.head_spec import (
    Pooling,
    Scoring,
    most_tokens,
    read_pooling,
    read_scoring,
)

Activation = Literal["gelu", "gelu_tanh", "relu"]

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_BERT = frozenset({"BertModel", "BertForSequenceClassification"})
"""The others are RoBERTa's heirs: they number positions from `pad_token_id` + 1, and the two texts
of a pair have the same token type."""
_CLASSIFIERS = {
    True: ("bert.", "bert.pooler.dense", "classifier"),
    False: ("roberta.", "classifier.dense", "classifier.out_proj"),
}
"""For BERT, and for the others: the prefix of the encoder's tensors beside a classifier, and the
classifier's two linear layers."""

# What transformers assumes where config.json is silent.
_DEFAULTS = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "max_position_embeddings": 512,
}


@dataclass(slots=True, frozen=True)
class EncoderSpec:
    """One encoder of the BERT family, and what follows it."""

    prefix: str
    """Of the encoder's tensors in the checkpoint."""
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
    scoring: Scoring | None
    """What makes one number of the pooled state. None: that state is the vector."""

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads


def is_encoder(architectures: list[str]) -> bool:
    return not (EMBEDDING_ARCHITECTURES | RERANK_ARCHITECTURES).isdisjoint(architectures)


def read_encoder_spec(directory: Path) -> EncoderSpec:
    """The model in `directory`. Raises CheckpointError."""
    config = Config.read(directory / "config.json").with_defaults(_DEFAULTS)
    architecture = _architecture(config)
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
    is_bert = architecture in _BERT
    num_positions = config.positive("max_position_embeddings")
    first = 0 if is_bert else _padding(config) + 1
    if first >= num_positions:
        config.fail(f"max_position_embeddings is {num_positions}; expected more than {first}")
    if architecture in RERANK_ARCHITECTURES:
        prefix, inner, outer = _CLASSIFIERS[is_bert]
        pooling = Pooling("cls", is_normalised=False)
        scoring = read_scoring(directory, config, inner, outer)
    else:
        prefix, pooling, scoring = "", read_pooling(directory, ("mean", "cls")), None
    return EncoderSpec(
        prefix=prefix,
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
        max_tokens=min(num_positions - first, most_tokens(directory) or num_positions),
        pooling=pooling,
        scoring=scoring,
    )


def _architecture(config: Config) -> str:
    supported = EMBEDDING_ARCHITECTURES | RERANK_ARCHITECTURES
    names = config.optional("architectures", list) or []
    found = next((name for name in names if name in supported), None)
    if found is None:
        expected = ", ".join(sorted(supported))
        config.fail(f"architectures is {names!r}; expected one of {expected}")
    return found


def _padding(config: Config) -> int:
    padding = config.optional("pad_token_id", int)
    return 1 if padding is None else padding
