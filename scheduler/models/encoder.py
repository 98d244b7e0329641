"""What does an encoder of the BERT family compute, and what is one text's vector, or pair's score?

    x = norm(word[tokens] + position[0…] + type[0, or 1 in a pair's second text])
    per layer:  x = norm(x + output(attention(q, k, v))),  qkv from x
                x = norm(x + down(activation(up(x))))
    vector = mean of x over the text's tokens, or x of its first;  perhaps scaled to length 1
    score  = outer(tanh(inner(x of the first)));  perhaps squeezed into 0…1

Every token of a text sees every other, so there is no cache and nothing to continue. Texts are laid
end to end, sorted by length; those of equal length attend as one tensor. So nothing is padded,
nothing needs a mask, and a text's vector does not depend on the texts beside it. Sums and norms are
float32 whatever the type of the products, and so is all of the score. It is a vector of one number.

Does not know: checkpoints (see `encoder_loading`), tokenizers, or who asks.

Shape suffixes: T token rows · E model width · H heads · D head dimension · B texts of equal length
· L their tokens · V vocabulary · P positions · K token types
· Q = K·P places · N texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import torch
import torch.nn.functional as F

from anzoth.kernels.dispatch import Kernels
from anzoth.kernels.paging import padded_rows
from anzoth.scheduler.models.encoder_spec import Activation, EncoderSpec
from anzoth.scheduler.models.feed_forward import Linear
from anzoth.scheduler.texts import Text


@dataclass(slots=True, frozen=True, eq=False)
class Norm:
    """A layer norm's weights, float32."""

    weight_E: torch.Tensor
    bias_E: torch.Tensor


@dataclass(slots=True, frozen=True, eq=False)
class EncoderLayer:
    """The weights of one layer. Linear weights are functions (kernels/dispatch.py)."""

    qkv: Linear
    output: Linear
    norm_after_attention: Norm
    up: Linear
    down: Linear
    norm_after_feed_forward: Norm


@dataclass(slots=True, frozen=True, eq=False)
class Classifier:
    """What makes a score of a vector."""

    inner: Linear
    outer: Linear
    is_sigmoid: bool

    def __call__(self, vectors_NE: torch.Tensor) -> torch.Tensor:
        """[N, 1]. Rows are padded, so that a score does not depend on how many there are."""
        num_rows = vectors_NE.shape[0]
        x_NE = F.pad(vectors_NE, (0, 0, 0, padded_rows(num_rows) - num_rows))
        scores_N1 = self.outer(torch.tanh(self.inner(x_NE)))[:num_rows]
        return torch.sigmoid(scores_N1) if self.is_sigmoid else scores_N1


@dataclass(slots=True, frozen=True)
class _Run:
    """Texts of equal length: rows [first, first + num_texts · length)."""

    first: int
    num_texts: int
    length: int

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + self.num_texts * self.length)


_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class Encoder:
    """The weights of one model and its forward pass."""

    def __init__(
        self,
        spec: EncoderSpec,
        kernels: Kernels,
        *,
        word_VE: torch.Tensor,
        place_KPE: torch.Tensor,
        norm: Norm,
        layers: Sequence[EncoderLayer],
        classifier: Classifier | None,
    ) -> None:
        """`place_KPE`: float32, token type and position, from a text's first position on."""
        self._spec = spec
        self._kernels = kernels
        self._word_VE = word_VE
        self._num_positions = place_KPE.shape[1]
        self._place_QE = place_KPE.flatten(0, 1)
        self._norm = norm
        self._layers = tuple(layers)
        self._classifier = classifier
        self._activate = _ACTIVATIONS[spec.activation]

    def embed(self, texts: Sequence[Text]) -> torch.Tensor:
        """One vector per text, float32: [N, E], or [N, 1] with a classifier."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        runs = _runs([len(texts[index]) for index in order])
        x_TE = self._embed_tokens([texts[index] for index in order])
        for layer in self._layers:
            y_TE = layer.output(self._attend(layer.qkv(self._narrow(x_TE)), runs))
            x_TE = self._normalise(x_TE + y_TE, layer.norm_after_attention)
            y_TE = layer.down(self._activate(layer.up(self._narrow(x_TE))))
            x_TE = self._normalise(x_TE + y_TE, layer.norm_after_feed_forward)
        sorted_NE = torch.cat([self._pool(x_TE, run) for run in runs])
        vectors_NE = torch.empty_like(sorted_NE)
        vectors_NE[order] = sorted_NE
        return vectors_NE if self._classifier is None else self._classifier(vectors_NE)

    def _embed_tokens(self, texts: Sequence[Text]) -> torch.Tensor:
        token_ids = list(chain.from_iterable(text.token_ids for text in texts))
        places = list(chain.from_iterable(map(self._places, texts)))
        # Rows past the texts keep the linears' arithmetic the same for any number of rows.
        padding = [0] * (padded_rows(len(token_ids)) - len(token_ids))
        word_TE = self._word_VE[torch.tensor(token_ids + padding)]
        place_TE = self._place_QE[torch.tensor(places + padding)]
        return self._normalise(word_TE.float() + place_TE, self._norm)

    def _places(self, text: Text) -> Iterator[int]:
        """Rows of the table of places, one per token."""
        second_at = len(text) if text.second_at is None else text.second_at
        offset = self._num_positions
        return chain(range(second_at), range(offset + second_at, offset + len(text)))

    def _attend(self, qkv_TX: torch.Tensor, runs: Sequence[_Run]) -> torch.Tensor:
        heads, head_dim = self._spec.num_heads, self._spec.head_dim
        attended_TE = qkv_TX.new_zeros(qkv_TX.shape[0], heads * head_dim)
        for run in runs:
            qkv_BL3HD = qkv_TX[run.rows].view(run.num_texts, run.length, 3, heads, head_dim)
            q_BHLD, k_BHLD, v_BHLD = qkv_BL3HD.transpose(1, 3).unbind(2)
            out_BHLD = F.scaled_dot_product_attention(q_BHLD, k_BHLD, v_BHLD)
            attended_TE[run.rows] = out_BHLD.transpose(1, 2).reshape(-1, heads * head_dim)
        return attended_TE

    def _pool(self, x_TE: torch.Tensor, run: _Run) -> torch.Tensor:
        x_BLE = x_TE[run.rows].view(run.num_texts, run.length, -1)
        pooling = self._spec.pooling
        vectors_BE = x_BLE[:, 0] if pooling.mode == "cls" else x_BLE.mean(dim=1)
        return F.normalize(vectors_BE, dim=1) if pooling.is_normalised else vectors_BE

    def _normalise(self, x_TE: torch.Tensor, norm: Norm) -> torch.Tensor:
        return F.layer_norm(x_TE, x_TE.shape[-1:], norm.weight_E, norm.bias_E, self._spec.norm_eps)

    def _narrow(self, x_TE: torch.Tensor) -> torch.Tensor:
        """In the type that the linears take."""
        return x_TE.to(self._kernels.dtype)


def _runs(lengths: Sequence[int]) -> list[_Run]:
    """Of sorted lengths."""
    runs: list[_Run] = []
    first = 0
    for length, group in groupby(lengths):
        runs.append(_Run(first, len(list(group)), length))
        first += runs[-1].num_texts * length
    return runs
