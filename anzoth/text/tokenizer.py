"""How does text become the token ids of one checkpoint, and what does each id stand for?

Reads a checkpoint directory as it comes from the hub: `tokenizer.json` (required),
`tokenizer_config.json` and `special_tokens_map.json` (names of the special tokens),
`chat_template.jinja` or `chat_template.json`. The ids are those of Hugging Face's own code on the
same files: a completion's prompt gets what the file's post-processor adds (a BOS, for some), a
rendered chat template gets nothing, because the template writes its own BOS.

Does not know: models, requests, or what a chat template means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import tokenizers

from anzoth.text import reasoning
from anzoth.text.control_tokens import ControlTokens
from anzoth.text.detokenizer import detokenize
from anzoth.text.pieces import TokenPieces, UnsupportedDecoder
from anzoth.text.tool_calls import format_of

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")

_ANY_TEXT = "a"


class TokenizerError(Exception):
    """The checkpoint's tokenizer cannot be used: a message for whoever starts the server."""


class Tokenizer:
    """One checkpoint's tokenizer. Safe to use from several threads."""

    __slots__ = (
        "_added",
        "_backend",
        "_decoder",
        "_literal",
        "_pieces",
        "chat_template",
        "control_tokens",
        "file",
        "special_tokens",
    )

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        decoder: Mapping[str, Any] | None,
        special_tokens: Mapping[str, str],
        chat_template: str | None,
        file: Path | None = None,
    ) -> None:
        # A file may carry the padding and truncation of its training run. Prompts must keep both
        # ends, so neither survives here.
        backend.no_padding()
        backend.no_truncation()
        self._backend = backend
        self._decoder = decoder
        self._pieces: TokenPieces | None = None
        self._literal: tokenizers.Tokenizer | None = None
        added = backend.get_added_tokens_decoder()
        self._added = {token.content: token_id for token_id, token in added.items()}
        self.control_tokens = ControlTokens(
            token.content for token in added.values() if token.special
        )
        self.special_tokens = dict(special_tokens)
        """`bos_token` and so on, as chat templates read them."""
        self.chat_template = chat_template
        self.file = file
        """Its tokenizer.json, for processes that read it themselves."""

    @classmethod
    def load(cls, directory: Path) -> Tokenizer:
        """The tokenizer of the checkpoint in `directory`. Raises TokenizerError."""
        file = directory / "tokenizer.json"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise TokenizerError(f"cannot read {file}: {error.strerror}") from error
        document = _parse(file, content)
        try:
            backend = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the binding raises nothing narrower
            raise TokenizerError(f"{file} is not a tokenizer: {error}") from error
        config = _read(directory / "tokenizer_config.json")
        special = _special_tokens(_read(directory / "special_tokens_map.json"), config)
        template = _chat_template(directory, config)
        return cls(backend, document.get("decoder"), special, template, file)

    @property
    def vocab_size(self) -> int:
        """With added tokens. The model's own vocabulary may be larger (padding)."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @property
    def pieces(self) -> TokenPieces:
        """The bytes of each token. Raises TokenizerError for one that only encodes."""
        if self._pieces is None:
            try:
                self._pieces = TokenPieces(self._backend, self._decoder, self._markers())
            except UnsupportedDecoder as error:
                raise TokenizerError(f"this tokenizer cannot produce text: {error}") from error
        return self._pieces

    def _markers(self) -> frozenset[str]:
        """Special tokens that are a part of the text: something is read between them."""
        template = self.chat_template or ""
        calls = format_of(template)
        markers = calls.markers if calls is not None else frozenset()
        return markers | reasoning.MARKERS if reasoning.has_reasoning(template) else markers

    def added_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        """The ids of those of `texts` that are one token each, apart from the vocabulary."""
        return {text: self._added[text] for text in texts if text in self._added}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of `text`; other threads run meanwhile (the binding's batch call drops the GIL).

        `add_special_tokens`: True for plain text, False for a rendered chat template.
        """
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return encoding.ids

    def encode_pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """The ids of two texts put together with the special tokens, and the token type of each."""
        (encoding,) = self._backend.encode_batch_fast([(first, second)], add_special_tokens=True)
        return encoding.ids, encoding.type_ids

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before a text, and those behind it."""
        encoding = self._backend.encode(_ANY_TEXT)
        own = [index for index, text in enumerate(encoding.sequence_ids) if text is not None]
        return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]

    @property
    def pair_frame(self) -> tuple[int, int]:
        """How many special tokens stand behind the second text of a pair, and how many in all."""
        encoding = self._backend.encode(_ANY_TEXT, _ANY_TEXT)
        texts = encoding.sequence_ids[::-1]
        return next(i for i, text in enumerate(texts) if text is not None), texts.count(None)

    def encode_literally(self, text: str) -> list[int]:
        """The ids of `text` as ordinary text, whatever control tokens it spells."""
        if self._literal is None:  # a second object, because other threads may be encoding
            self._literal = tokenizers.Tokenizer.from_str(self._backend.to_str())
            self._literal.encode_special_tokens = True
        return self._literal.encode(text, add_special_tokens=False).ids

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of `token_ids`, without special tokens."""
        return detokenize(self.pieces, token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one token stands for; they need not be whole characters."""
        return self.pieces.literal(token_id)


def _read(file: Path) -> dict[str, Any]:
    """An optional JSON object of the checkpoint; {} when there is no such file."""
    try:
        return _parse(file, file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TokenizerError(f"cannot read {file}: {error.strerror}") from error


def _parse(file: Path, content: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise TokenizerError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise TokenizerError(f"{file} does not hold a JSON object")
    return document


def _special_tokens(*documents: Mapping[str, Any]) -> dict[str, str]:
    """Each special token's text; later documents win. A token is a string or {"content": …}."""
    tokens: dict[str, str] = {}
    for document in documents:
        for name in _SPECIAL_NAMES:
            value = document.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                tokens[name] = text
    return tokens


def _chat_template(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The newest of the three places that hold one: own file, JSON file, tokenizer_config."""
    try:
        return (directory / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"cannot read {directory / 'chat_template.jinja'}: {error}") from error
    found = _read(directory / "chat_template.json").get("chat_template")
    found = config.get("chat_template") if found is None else found
    if isinstance(found, list):  # several named templates; `default` is the ordinary one
        named = {entry.get("name"): entry.get("template") for entry in found}
        found = named.get("default")
    if found is not None and not isinstance(found, str):
        raise TokenizerError(f"the chat template in {directory} is not text")
    return found
