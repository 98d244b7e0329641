"""What do all commands share: the options that find an installation, and how errors are shown.

Does not know: any command.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import asyncpg
import orjson
import typer

from anzoth import config as configuration
from anzoth.config import Config, ConfigError
from anzoth.control import ControlError, NotReached
from anzoth.db import cluster, embedded, migrate
from anzoth.db.errors import DatabaseError
from anzoth.gateway import keys
from anzoth.gateway.directory_checks import DirectoryError
from anzoth.gateway.keys import Pepper
from anzoth.pulled import HubNotReached, PullError

if TYPE_CHECKING:
    from anzoth.gateway.audit_heads import SigningKey
    from anzoth.gateway.tenant_crypt import MasterKey

T = TypeVar("T")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The installation's data directory.", show_default=False),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Its configuration file (anzoth.toml).", show_default=False),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="A PostgreSQL server to use instead of the embedded one.",
        show_default=False,
    ),
]
_INSTALLATION_OPTIONS: dict[str, Any] = {
    "data_dir": DataDir,
    "config": ConfigFile,
    "database_url": DatabaseUrl,
}
_BY_NAME = inspect.Parameter.POSITIONAL_OR_KEYWORD
EXIT_NOT_REACHED = 3
"""The command is right, but the server (or the hub) does not answer: try again later."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@dataclass(slots=True, frozen=True)
class Installation:
    """Which installation a command was told to work on."""

    config: Config

    @classmethod
    def find(
        cls, data_dir: Path | None, config: Path | None, database_url: str | None
    ) -> Installation:
        """Raises ConfigError."""
        given = {"data_dir": data_dir, "database_url": database_url}
        return cls(configuration.load(config, given))

    def pepper(self) -> Pepper:
        """Made when there is none. Raises ConfigError."""
        return self._secret("pepper", keys.load_pepper)

    def audit_key(self) -> SigningKey:
        """Made when there is none. Raises ConfigError."""
        # Here, because few commands have use for it.
        from anzoth.gateway import audit_heads

        return self._secret("audit key", audit_heads.load_key)

    def master_key(self) -> MasterKey:
        """Made when there is none. Raises ConfigError."""
        from anzoth.gateway import tenant_crypt

        return self._secret("master key", tenant_crypt.load_master_key)

    @contextlib.asynccontextmanager
    async def database(self, *, migrated: bool = True) -> AsyncIterator[str]:
        """The DSN of its database, running server or not. Raises DatabaseError.

        With `migrated`, its schema is current: the embedded one is migrated on the way, somebody's
        own must have been (`anzoth migrate`).
        """
        server = self.config.server
        if server.database_url is not None:
            if migrated:
                await migrate.require_current(server.database_url)
            yield server.database_url
            return
        async with embedded.running(server.data_dir) as dsn:
            if migrated:
                await migrate.migrate(dsn)
            yield dsn

    def _secret(self, name: str, load: Callable[[Path], T]) -> T:
        data_dir = self.config.server.data_dir
        try:
            cluster.make_data_dir(data_dir)
            return load(data_dir)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"cannot use the {name} in {data_dir}: {reason}") from error


def command(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an async command; see `foreseen_errors`.

    A parameter `installation: Installation` becomes the options that find one. It stands first,
    because it has no default; in the help, its options stand last but for `--json`.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters = list(signature.parameters.values())
    finds_installation = any(p.annotation is Installation for p in parameters)
    if finds_installation:
        parameters = [p for p in parameters if p.annotation is not Installation]
        at = len(parameters)
        if parameters and parameters[-1].name == "as_json":
            at -= 1
        parameters[at:at] = [
            inspect.Parameter(name, _BY_NAME, default=None, annotation=annotation)
            for name, annotation in _INSTALLATION_OPTIONS.items()
        ]

    def run(**given: Any) -> None:
        with foreseen_errors():
            if finds_installation:
                where = {name: given.pop(name) for name in _INSTALLATION_OPTIONS}
                given["installation"] = Installation.find(**where)
            asyncio.run(function(**given))

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what typer reads
    return run


@contextlib.contextmanager
def foreseen_errors() -> Iterator[None]:
    """A foreseen error is one sentence on standard error and status 1, or 3 where somebody whom the
    command needs does not answer.
    """
    try:
        yield
    except (NotReached, HubNotReached) as error:
        fail(str(error), EXIT_NOT_REACHED)
    except (ConfigError, ControlError, DatabaseError, DirectoryError, PullError) as error:
        fail(str(error))
    except asyncpg.PostgresError as error:
        # For example a right that somebody took away. The message quotes no row: DETAIL does.
        fail(f"the database refuses this command: {error}")


def fail(message: str, status: int = 1) -> NoReturn:
    print(f"anzoth: {keys.redact(message)}", file=sys.stderr)  # it may quote an argument
    raise typer.Exit(status)


def print_json(value: object) -> None:
    """Dates as ISO 8601 in UTC, ids as text."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z
    print(orjson.dumps(value, default=_id_as_text, option=options).decode())


def _id_as_text(value: object) -> str:
    if isinstance(value, UUID):  # asyncpg's subclass, which orjson does not know
        return str(value)
    raise TypeError(type(value).__name__)
