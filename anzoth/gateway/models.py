"""Which models does this gateway serve, and what does serving one take?

A model is listed from the start, before its engine is up: a request to it then gets
`model_unavailable`, which says "wait", and not `model_not_found`, which says "you made a mistake".

Does not know: who may use a model, or how its engine process is kept alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anzoth.config import ModelConfig
from anzoth.errors import AnzothError, ModelNotFound
from anzoth.gateway.engine_client import EngineClient
from anzoth.model_kind import model_kind
from anzoth.text.chat_template import ChatTemplate, ChatTemplateError
from anzoth.text.embedding_text import EmbeddingText, EmbeddingTextError
from anzoth.text.tokenizer import Tokenizer, TokenizerError
from anzoth.text.tool_calls import ToolCallFormat, format_of


class ModelLoadError(Exception):
    """A configured model cannot be served: a message for whoever starts the server."""


@dataclass(slots=True, frozen=True)
class ServedModel:
    """One model: the gateway's half (text) and the way to its engine's (tokens)."""

    name: str
    created: int
    """Unix time of the checkpoint: what `GET /v1/models` reports."""
    tokenizer: Tokenizer
    template: ChatTemplate | None
    """None: the checkpoint has none, so the model completes text but does not chat."""
    engine: EngineClient
    tool_calls: ToolCallFormat | None = None
    """How the model writes tool calls. None: in no way that this server can read."""
    embedding: EmbeddingText | None = None
    """How texts are prepared for its vectors. None: the model generates text instead."""


def load_model(config: ModelConfig, engine: EngineClient) -> ServedModel:
    """Reads what the gateway needs of a checkpoint. Raises ModelLoadError."""
    try:
        tokenizer = Tokenizer.load(config.path)
        if model_kind(config.path) == "embedding":
            text = EmbeddingText.load(config.path, tokenizer)
            created = _created(config.path)
            return ServedModel(config.name, created, tokenizer, None, engine, embedding=text)
        _ = tokenizer.pieces  # an encoder-only tokenizer is refused now, not by the first request
        source = tokenizer.chat_template
        template = ChatTemplate(source, tokenizer.special_tokens) if source is not None else None
    except (TokenizerError, ChatTemplateError, EmbeddingTextError) as error:
        raise ModelLoadError(f"model {config.name}: {error}") from error
    calls = format_of(source) if source is not None else None
    return ServedModel(config.name, _created(config.path), tokenizer, template, engine, calls)


def _created(directory: Path) -> int:
    try:
        return int((directory / "config.json").stat().st_mtime)
    except OSError as error:
        raise ModelLoadError(f"cannot read {directory / 'config.json'}: {error.strerror}") from None


class ModelRegistry:
    """All served models, in the order in which they were configured."""

    __slots__ = ("_models",)

    def __init__(self, models: tuple[ServedModel, ...]) -> None:
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str) -> ServedModel:
        """Raises ModelNotFound."""
        try:
            return self._models[name]
        except KeyError:
            raise ModelNotFound(param="model") from None

    def end_all(self, error: AnzothError) -> None:
        """Ends every running request of every model with `error`."""
        for model in self:
            model.engine.end_all(error)

    async def run(self) -> None:
        """Keeps a connection to every engine until cancelled."""
        async with asyncio.TaskGroup() as group:
            for model in self:
                group.create_task(model.engine.run())
