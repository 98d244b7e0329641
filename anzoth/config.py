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
import ipaddress
import os
import re
import tempfile
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.account_config import AccountsConfig, OidcConfig, accounts_of, providers_of
from anzoth.backend_config import BackendConfig, backends_of
from anzoth.batch_config import BatchesConfig, batches_of
from anzoth.file_config import FilesConfig, files_of
from anzoth.knowledge_config import KnowledgeConfig, knowledge_of, require_reranker
from anzoth.model_config import EngineConfig, ModelConfig, default_models, models_of
from anzoth.response_config import ResponsesConfig, responses_of
from anzoth.settings import ConfigError, convert, section
from anzoth.tool_config import EgressConfig, ToolsConfig, egress_of, tools_of

_SECTIONS = frozenset(
    (
        *("server", "http", "journal", "engine", "accounts", "oidc", "usage", "files"),
        *("knowledge", "retriever", "responses", "batches", "egress", "tools", "models"),
        "backends",
    )
)
_MAX_RUN_DIR_BYTES = 80


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
class UsageConfig:
    """Section [usage]: how use is counted and priced."""

    currency: str = "usd"
    """ISO 4217, of every price and every cost. Changing it converts nothing."""
    minute_retention_days: int = 30
    """For how long use is also kept by the minute. By the hour and the day it is kept for good."""


@dataclass(slots=True, frozen=True)
class RetrieverConfig:
    """Section [retriever]: the process that searches knowledge bases."""

    memory_mib: int = 1024
    """What indexes in memory may take; beyond it those that nobody used for longest wait on disk.
    A chunk takes about 2 KiB with vectors of 384 numbers, or 4 in stores of more than 10,000."""
    stall_timeout_s: float = 60.0
    """A retriever that says nothing for this long is killed and started again."""


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
    files: FilesConfig = field(default_factory=FilesConfig)
    knowledge: KnowledgeConfig = field(default_factory=KnowledgeConfig)
    retriever: RetrieverConfig = field(default_factory=RetrieverConfig)
    responses: ResponsesConfig = field(default_factory=ResponsesConfig)
    batches: BatchesConfig = field(default_factory=BatchesConfig)
    egress: EgressConfig = field(default_factory=EgressConfig)
    tools: ToolsConfig = field(default_factory=ToolsConfig)
    models: tuple[ModelConfig, ...] = field(default_factory=lambda: default_models())
    backends: tuple[BackendConfig, ...] = ()


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
    models = models_of(
        document.get("models"),
        *(_items(pairs), _items(aliases), engine, server.data_dir),
        embeddings=server.embeddings,
    )
    accounts = accounts_of(document.get("accounts", {}), environ, server.host)
    knowledge = knowledge_of(document.get("knowledge", {}), environ)
    require_reranker(knowledge, models)
    return Config(
        server=server,
        http=section(HttpConfig, document.get("http", {}), {}, environ, "ANZOTH_HTTP_"),
        journal=_journal(document, environ),
        engine=engine,
        accounts=accounts,
        oidc=providers_of(document.get("oidc"), accounts),
        usage=_usage(document, environ),
        files=files_of(document.get("files", {}), environ),
        knowledge=knowledge,
        retriever=_retriever(document, environ),
        responses=responses_of(document.get("responses", {}), environ),
        batches=batches_of(document.get("batches", {}), environ),
        egress=egress_of(document.get("egress", {}), environ),
        tools=tools_of(document.get("tools", {}), environ),
        models=models,
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


def _retriever(document: Mapping[str, typing.Any], environ: Mapping[str, str]) -> RetrieverConfig:
    made = section(RetrieverConfig, document.get("retriever", {}), {}, environ, "ANZOTH_RETRIEVER_")
    for name in ("memory_mib", "stall_timeout_s"):
        if not getattr(made, name):
            raise ConfigError(f"{name} is 0; expected more")
    return made


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


def retriever_socket(run_dir: Path) -> Path:
    """Where the retriever listens."""
    return run_dir / "retriever.sock"


def index_folder(data_dir: Path) -> Path:
    """Where the retriever keeps its files."""
    return data_dir.resolve() / "index"


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


def _items(given: object) -> list[object]:
    return list(given) if isinstance(given, list | tuple) else []
