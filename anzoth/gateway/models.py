"""Which models does this gateway serve, and what does serving one take?

A model is listed from the start, before its engine is up: a request to it then gets
`model_unavailable`, which says "wait", and not `model_not_found`, which says "you made a mistake".
Models come and go while the server runs (see `anzoth.model_changes`).

Does not know: who may use a model, or how its engine process is kept alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import orjson

from anzoth.errors import AnzothError, ModelNotFound, ModelUnavailable
from anzoth.gateway.engine_client import EngineClient
from anzoth.gateway.sampling_defaults import (
    NOTHING_RECOMMENDED,
    SamplingDefaults,
    SamplingDefaultsError,
)
from anzoth.model_config import ModelConfig
from anzoth.model_kind import ModelKind, has_token_types, model_kind
from anzoth.price import Price
from anzoth.text.chat_template import ChatTemplate, ChatTemplateError
from anzoth.text.embedding_text import EmbeddingText, EmbeddingTextError
from anzoth.text.passages import LAYOUTS, Layout
from anzoth.text.rerank_text import RerankText, RerankTextError
from anzoth.text.tokenizer import Tokenizer, TokenizerError
from anzoth.text.tool_calls import ToolCallFormat, format_of

_DRAIN_POLL_S = 0.05
_UNREADABLE = (
    *(TokenizerError, ChatTemplateError, EmbeddingTextError, RerankTextError),
    SamplingDefaultsError,
)


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
    """How texts are prepared for its vectors. None: it makes none."""
    rerank: RerankText | None = None
    """How queries and documents are prepared for its scores. None: it makes none."""
    price: Price | None = None
    """Under this name. None: its use costs nothing."""
    target: str | None = None
    """The served model's own name where `name` is an alias of a tenant."""
    passage_layout: Layout = "marked"
    """How it is shown passages of documents."""
    sampling: SamplingDefaults = NOTHING_RECOMMENDED
    """Where requests say nothing."""

    @property
    def kind(self) -> ModelKind:
        """What it is for."""
        if self.embedding is not None:
            return "embedding"
        return "generation" if self.rerank is None else "rerank"

    @property
    def label(self) -> str:
        """Its name in metrics, which hold nothing of a tenant's."""
        return self.target or self.name


def load_model(config: ModelConfig, engine: EngineClient) -> ServedModel:
    """Reads what the gateway needs of a checkpoint. Raises ModelLoadError."""
    kind = model_kind(config.path)
    try:
        tokenizer = Tokenizer.load(config.path)
        if kind != "generation":
            served = ServedModel(config.name, _created(config.path), tokenizer, None, engine)
            if kind == "embedding":
                return replace(served, embedding=EmbeddingText.load(config.path, tokenizer))
            typed = has_token_types(config.path)
            text = RerankText.load(config.path, tokenizer, has_token_types=typed)
            return replace(served, rerank=text)
        _ = tokenizer.pieces  # an encoder-only tokenizer is refused now, not by the first request
        source = tokenizer.chat_template
        template = ChatTemplate(source, tokenizer.special_tokens) if source is not None else None
        sampling = SamplingDefaults.read(config.path)
    except _UNREADABLE as error:
        raise ModelLoadError(f"model {config.name}: {error}") from error
    calls = format_of(source) if source is not None else None
    return ServedModel(
        config.name,
        _created(config.path),
        tokenizer,
        template,
        engine,
        calls,
        passage_layout=_passage_layout(config),
        sampling=sampling,
    )


def _passage_layout(config: ModelConfig) -> Layout:
    """What the checkpoint was trained on, where it says so. Raises ModelLoadError."""
    file = config.path / "tokenizer_config.json"
    try:
        given = orjson.loads(file.read_bytes()).get("passage_layout", "marked")
    except FileNotFoundError:
        return "marked"
    if given not in LAYOUTS:
        raise ModelLoadError(
            f"model {config.name}: passage_layout in {file} is {given!r}; expected one of "
            f"{', '.join(LAYOUTS)}"
        )
    return given


def _created(directory: Path) -> int:
    try:
        return int((directory / "config.json").stat().st_mtime)
    except OSError as error:
        raise ModelLoadError(f"cannot read {directory / 'config.json'}: {error.strerror}") from None


class ModelRegistry:
    """All served models under all their names, in the order in which they came.

    An alias is a model of its own that shares its engine and its text with another: whoever asks
    for it is answered, granted and counted under the name that was asked for.
    """

    __slots__ = ("_group", "_models", "_running")

    def __init__(self, models: Iterable[ServedModel] = ()) -> None:
        self._models: dict[str, ServedModel] = {}
        self._running: dict[EngineClient, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        for model in models:
            self.add(model)

    def __iter__(self) -> Iterator[ServedModel]:
        """Aliases among them."""
        return iter(self._models.values())

    @property
    def engines(self) -> list[EngineClient]:
        """Each once, however many names it has."""
        return list({model.engine: None for model in self})

    def get(self, name: str) -> ServedModel:
        """Raises ModelNotFound."""
        try:
            return self._models[name]
        except KeyError:
            raise ModelNotFound(param="model") from None

    def find(self, name: str) -> ServedModel | None:
        return self._models.get(name)

    def add(
        self,
        model: ServedModel,
        aliases: Iterable[str] = (),
        prices: Mapping[str, Price] = MappingProxyType({}),
    ) -> None:
        """Serves it from now on. None of its names may be in use.

        An alias costs what `prices` says by name, else what the model costs.
        """
        others = (replace(model, name=a, price=prices.get(a, model.price)) for a in aliases)
        for named in (model, *others):
            assert named.name not in self._models, named.name
            self._models[named.name] = named
        self._connect(model.engine)

    async def remove(self, name: str, drain_s: float) -> None:
        """Its names mean nothing from now on. Returns when its requests have ended: by themselves,
        or after `drain_s` with an error.
        """
        engine = self._models[name].engine
        self._models = {n: model for n, model in self._models.items() if model.engine is not engine}
        try:
            async with asyncio.timeout(drain_s):
                # At least one pause: a request that is just being prepared is not live yet.
                await asyncio.sleep(_DRAIN_POLL_S)
                while engine.num_live_requests:  # noqa: ASYNC110  # nothing announces the last one
                    await asyncio.sleep(_DRAIN_POLL_S)
        except TimeoutError:
            engine.end_all(ModelUnavailable("The model was unloaded while it answered."))
        finally:
            task = self._running.pop(engine, None)
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    def end_all(self, error: AnzothError) -> None:
        """Ends every running request of every model with `error`."""
        for engine in (*self.engines, *self._running):
            engine.end_all(error)

    async def run(self) -> None:
        """Keeps a connection to every engine until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for engine in self.engines:
                self._connect(engine)
            await asyncio.get_running_loop().create_future()

    def _connect(self, engine: EngineClient) -> None:
        if self._group is not None:
            self._running[engine] = self._group.create_task(engine.run())
