"""Which bytes does one token id contribute to the text?

A checkpoint's `tokenizer.json` describes its decoder as a small pipeline. For every decoder that a
causal language model uses, that pipeline is a function of one token at a time (plus the leading
space that some drop from the whole text), so it is compiled here into `id -> bytes`. Text is then
nothing but the concatenation of those bytes read as UTF-8, which is what makes incremental
detokenising exact and cheap (see `detokenizer`).

Does not know: sequences of tokens, streams or stop strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import tokenizers

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")

Transform = Callable[[str], "str | bytes"]


class UnsupportedDecoder(Exception):
    """This checkpoint's decoder does not turn tokens into text one at a time."""


class TokenPieces:
    """The bytes of each token of one tokenizer; computed when first asked for, then kept."""

    __slots__ = (
        "_backend",
        "_literal",
        "_special_ids",
        "_transforms",
        "num_leading_spaces_dropped",
    )

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        decoder: Mapping[str, Any] | None,
        shown: Collection[str] = (),
    ) -> None:
        """`decoder`: that part of tokenizer.json. `shown`: special tokens that are text all the
        same. Raises UnsupportedDecoder.
        """
        self._backend = backend
        self._transforms, self.num_leading_spaces_dropped = _compile(decoder)
        self._special_ids = frozenset(
            token_id
            for token_id, token in backend.get_added_tokens_decoder().items()
            if token.special and token.content not in shown
        )
        self._literal: dict[int, bytes] = {}

    def literal(self, token_id: int) -> bytes:
        """The token's own bytes, special or not; b"" for an id that no token has."""
        piece = self._literal.get(token_id)
        if piece is None:
            piece = self._literal[token_id] = self._compute(token_id)
        return piece

    def rendered(self, token_id: int) -> bytes:
        """What the token adds to the text: special tokens (end of turn and the like) add nothing.

        A model's embedding may be padded beyond the tokenizer; such ids add nothing either.
        """
        return b"" if token_id in self._special_ids else self.literal(token_id)

    def _compute(self, token_id: int) -> bytes:
        token = self._backend.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._special_ids:
            return token.encode()
        for transform in self._transforms:
            result = transform(token)
            if isinstance(result, bytes):
                return result
            token = result
        return token.encode()


def _compile(decoder: Mapping[str, Any] | None) -> tuple[tuple[Transform, ...], int]:
    """The per-token transforms in order, and how many leading spaces the whole text loses."""
    steps = [decoder] if decoder is not None else []
    if decoder is not None and decoder.get("type") == "Sequence":
        steps = list(decoder["decoders"])
    transforms: list[Transform] = []
    num_leading_spaces = 0
    for step in steps:
        compiler = _COMPILERS.get(step.get("type", ""))
        if compiler is None:
            raise UnsupportedDecoder(f"decoder {step.get('type')!r} is not supported")
        transform, spaces = compiler(step)
        num_leading_spaces += spaces
        if transform is not None:
            transforms.append(transform)
    if not steps:
        raise UnsupportedDecoder("the tokenizer has no decoder")
    return tuple(transforms), num_leading_spaces


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's one-character-per-byte alphabet: printable bytes are themselves, others shifted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + position): byte for position, byte in enumerate(others)
    }


_BYTE_ALPHABET = _byte_alphabet()


def _byte_level(step: Mapping[str, Any]) -> tuple[Transform, int]:
    def transform(token: str) -> bytes:
        try:
            return bytes(_BYTE_ALPHABET[character] for character in token)
        except KeyError:  # an added token that was never written in the byte alphabet
            return token.encode()

    return transform, 0


def _byte_fallback(step: Mapping[str, Any]) -> tuple[Transform, int]:
    def transform(token: str) -> str | bytes:
        match = _BYTE_TOKEN.match(token)
        return bytes([int(match[1], 16)]) if match else token

    return transform, 0


def _replace(step: Mapping[str, Any]) -> tuple[Transform, int]:
    old, new = step["pattern"].get("String"), step["content"]
    if not isinstance(old, str):
        raise UnsupportedDecoder("a decoder that replaces by regular expression is not supported")
    return (lambda token: token.replace(old, new)), 0


def _metaspace(step: Mapping[str, Any]) -> tuple[Transform, int]:
    marker = step.get("replacement", "▁")
    return (lambda token: token.replace(marker, " ")), int(step.get("prepend_scheme") != "never")


def _strip(step: Mapping[str, Any]) -> tuple[None, int]:
    # It stands behind `Fuse` in every known file: the start is the start of the whole text.
    if step.get("content") != " " or step.get("stop"):
        raise UnsupportedDecoder("a decoder that strips anything but leading spaces")
    return None, int(step.get("start", 0))


_COMPILERS: Mapping[str, Callable[[Mapping[str, Any]], tuple[Transform | None, int]]] = {
    "ByteLevel": _byte_level,
    "ByteFallback": _byte_fallback,
    "Replace": _replace,
    "Metaspace": _metaspace,
    "Strip": _strip,
    "Fuse": lambda step: (None, 0),
}
