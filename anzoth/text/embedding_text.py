"""How does a text become the tokens that an embedding model makes a vector of?

Some models were trained with a few words before each text that say what it is for, "query: " and
"passage: " for example; `config_sentence_transformers.json` names them, and the vectors are worse
without. The same file says which of them, if any, is meant when nobody asks. What `config.json`
promises about shorter vectors is read here too: only a caller can ask for either.

Does not know: models, requests, or how long a text may be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from anzoth.text.tokenizer import Tokenizer

InputType = Literal["query", "document"]

_PROMPT_NAMES: Mapping[InputType, Sequence[str]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus"),
}
"""What prompts for each type are called: of several, sentence-transformers takes the first."""


class EmbeddingTextError(Exception):
    """The checkpoint's description cannot be used: a message for whoever starts the server."""


class UnframedTokens(Exception):
    """Token ids that do not begin and end as this model's texts do."""


@dataclass(slots=True, frozen=True)
class EmbeddingText:
    """What is done to texts before one model sees them."""

    tokenizer: Tokenizer
    prompts: Mapping[InputType, str]
    """What stands before a text of each type. Empty: the model makes no difference."""
    default_prompt: str
    """What stands before a text of no stated type."""
    shorter_dimensions: Collection[int] | None
    """The sizes to which vectors may be cut. None: any. Empty: none."""

    @classmethod
    def load(cls, directory: Path, tokenizer: Tokenizer) -> EmbeddingText:
        """Raises EmbeddingTextError."""
        described = _read(directory / "config_sentence_transformers.json")
        named = described.get("prompts") or {}
        default = described.get("default_prompt_name")
        if not isinstance(named, dict) or not all(isinstance(p, str) for p in named.values()):
            raise EmbeddingTextError(f"the prompts in {directory} are not texts by name")
        if default is not None and default not in named:
            raise EmbeddingTextError(f"default_prompt_name in {directory} names no prompt")
        prompts: dict[InputType, str] = {}
        for input_type, names in _PROMPT_NAMES.items():
            if found := [named[name] for name in names if name in named]:
                prompts[input_type] = found[0]
        return cls(
            tokenizer,
            prompts,
            "" if default is None else named[default],
            _shorter_dimensions(_read(directory / "config.json")),
        )

    def encode(
        self, inputs: Sequence[str | Sequence[int]], input_type: InputType | None
    ) -> list[Sequence[int]]:
        """The tokens of each input. Token ids stay as they are; they need their special tokens.

        Raises UnframedTokens. Its argument is the input's index.
        """
        prompt = self.default_prompt
        if input_type is not None:
            prompt = self.prompts.get(input_type, prompt)
        before, behind = self.tokenizer.frame
        encoded: list[Sequence[int]] = []
        for index, entry in enumerate(inputs):
            if isinstance(entry, str):
                encoded.append(self.tokenizer.encode(prompt + entry, add_special_tokens=True))
            elif _is_framed(entry, before, behind):
                encoded.append(entry)
            else:
                raise UnframedTokens(index)
        return encoded


def _is_framed(entry: Sequence[int], before: list[int], behind: list[int]) -> bool:
    first, rest = list(entry[: len(before)]), entry[len(before) :]
    return first == before and list(rest[max(len(rest) - len(behind), 0) :]) == behind


def _shorter_dimensions(config: Mapping[str, Any]) -> Collection[int] | None:
    """Only a model that was trained for it (Matryoshka) gives vectors that may be cut."""
    sizes = config.get("matryoshka_dimensions")
    if isinstance(sizes, list) and all(type(size) is int for size in sizes):
        return frozenset(sizes)
    return None if config.get("is_matryoshka") is True else frozenset()


def _read(file: Path) -> dict[str, Any]:
    """An optional JSON object; {} when there is no such file."""
    try:
        document = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError) as error:
        raise EmbeddingTextError(f"cannot read {file}: {error}") from error
    if not isinstance(document, dict):
        raise EmbeddingTextError(f"{file} does not hold a JSON object")
    return document
