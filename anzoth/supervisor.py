"""What does `anzoth serve` start, in which order, and what happens when a part of it ends?

    supervisor ─┬─ engine, one per model            started first: loading weights takes longest;
                │   (see model_host)                those of embedding models when a chat can begin
                ├─ postgres warden ── postgres      (unless --database-url)
                ├─ gateway                          started when the database is migrated
                └─ retriever                        when the gateway is ready: no chat waits for it

Every child gets its settings on standard input and dies with this process (see anzoth.child). A
child that ends by itself is started again, with a growing pause if it keeps ending; one that says
its settings are impossible ends the start. An engine that stops making progress is killed, which
ends its streams with an error and brings a fresh one.

Stopping (SIGTERM, Ctrl-C): the gateway drains within `drain_s`, then the retriever (which writes
down what changed), Postgres and the engines stop.
A second signal ends the drain at once; a signal during the start undoes the start.

While it serves, `anzoth models` reaches it over a control socket in the run directory.

Does not know: HTTP beyond one readiness probe, keys, tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import orjson

from anzoth import config as configuration
from anzoth import control, index_frames, model_commands
from anzoth.config import Config, ConfigError
from anzoth.db import cluster, embedded, migrate
from anzoth.db.errors import DatabaseDown, DatabaseError
from anzoth.gateway import audit_heads, directory, keys
from anzoth.gateway.accounts import people
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway_settings import gateway_settings
from anzoth.model_config import ModelConfig
from anzoth.model_host import ModelHost
from anzoth.model_kind import model_kind
from anzoth.processes import Child, EngineWatch
from anzoth.startup import exclusive_data_dir, listening_socket, private_folder, url_of
from anzoth.terminal import FirstSecrets, Terminal

_POLL_S = 0.05
_RETRY_S = 0.5
_DATABASE_STOP_S = 30.0
_DATABASE_START_S = 120.0
_RETRIEVER_STOP_S = 30.0
"""For its snapshots. What they lack is replayed from the database."""
_GATEWAY_MARGIN_S = 5.0
"""What stopping the gateway may take beyond its drain: flushing the ledger, closing the pool."""


class Supervisor:
    """One running installation."""

    def __init__(self, config: Config, terminal: Terminal, backend_keys: Mapping[str, str]) -> None:
        """`backend_keys`: by the variables that the configuration names."""
        self._config = config
        self._backend_keys = backend_keys
        self._terminal = terminal
        self._stop = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self._run_dir = configuration.run_dir(config.server.data_dir)
        self._gateway: Child | None = None

    async def run(self) -> None:
        """Serves until a signal says stop.

        Raises ConfigError or DatabaseError, in one sentence, if this start is impossible.
        """
        server = self._config.server
        with (
            exclusive_data_dir(server.data_dir),
            listening_socket(server.host, server.port) as sock,
        ):
            private_folder(self._run_dir)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)
            version = importlib.metadata.version("anzoth")
            self._terminal.start(version, url_of(sock), server.data_dir)
            self._starting = asyncio.current_task()
            host = ModelHost(
                self._config.models,
                run_dir=self._run_dir,
                drain_s=server.drain_s,
                log_level=server.log_level,
                log=self._terminal.event,
            )
            try:
                async with asyncio.TaskGroup() as group:
                    await self._serve(group, sock, host)
            except* (ConfigError, DatabaseError) as errors:
                raise errors.exceptions[0] from None
            except* asyncio.CancelledError:
                pass

    async def _serve(self, group: asyncio.TaskGroup, sock: socket.socket, host: ModelHost) -> None:
        """Starts the parts, waits for the signal, stops them in order."""
        started_s = time.monotonic()
        url = url_of(sock)
        first, later = _by_urgency(self._config.models)
        async with host.running(group):  # to the end: the gateway drains through the engines
            host.start(first)
            async with self._database(group) as dsn:
                fresh = await self._prepare_database(dsn)
                async with (
                    self._signing(group, dsn),
                    contextlib.AsyncExitStack() as outlasting,
                    self._serving_gateway(group, dsn, sock, host),
                ):
                    not_awaited = {f"engine {name}" for name in later} | {"retriever"}
                    await self._until_ready(url, without=not_awaited)
                    self._starting = None
                    host.must_load = False
                    host.start(later)
                    await outlasting.enter_async_context(self._retrieving(group))
                    handlers = model_commands.handlers(host, self._config, dsn)
                    async with control.serving(
                        configuration.control_socket(self._run_dir), handlers
                    ):
                        with self._state_file(url):
                            model = self._config.models[0].name
                            after_s = time.monotonic() - started_s
                            self._terminal.ready(url, model, fresh, after_s)
                            await self._stop.wait()
                    sock.close()  # the gateway closes its own: whoever comes now is refused at once
                    self._terminal.event(
                        f"stopping; requests may take {self._drain_s:g} s to finish"
                    )
        self._terminal.event("stopped")

    def _on_signal(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        elif self._stop.is_set() and self._gateway is not None:
            self._gateway.terminate()  # the second signal: it ends its drain
        self._stop.set()

    @property
    def _drain_s(self) -> float:
        return self._config.server.drain_s

    # --- the parts ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _database(self, group: asyncio.TaskGroup) -> AsyncIterator[str]:
        """The DSN of a database that answers. The embedded one is one more watched child."""
        server = self._config.server
        if server.database_url is not None:
            yield server.database_url
            return
        child = Child(
            name="database",
            module="anzoth.db.warden",
            settings=lambda: {
                "data_dir": str(server.data_dir.resolve()),
                "log_level": server.log_level,
            },
            log=self._terminal.event,
        )
        async with child.running(group, _DATABASE_STOP_S):
            with self._terminal.step("database", "embedded PostgreSQL"):
                dsn = await self._until_database_answers()
            yield dsn

    @contextlib.asynccontextmanager
    async def _serving_gateway(
        self, group: asyncio.TaskGroup, dsn: str, sock: socket.socket, host: ModelHost
    ) -> AsyncIterator[None]:
        def settings() -> Mapping[str, object]:
            return gateway_settings(
                self._config,
                listen_fd=sock.fileno(),
                control_socket=host.gateway_socket,
                dsn=dsn,
                models=host.offered(),
                models_must_load=host.must_load,
                backend_keys=self._backend_keys,
            )

        self._gateway = Child(
            name="gateway",
            module="anzoth.server",
            settings=settings,
            log=self._terminal.event,
            pass_fds=(sock.fileno(),),
        )
        async with self._gateway.running(group, self._drain_s + _GATEWAY_MARGIN_S):
            yield

    @contextlib.asynccontextmanager
    async def _retrieving(self, group: asyncio.TaskGroup) -> AsyncIterator[None]:
        """The retriever runs; the gateway drains through it."""
        config, server = self._config.retriever, self._config.server
        socket_path = configuration.retriever_socket(self._run_dir)
        child = Child(
            name="retriever",
            module="anzoth.index.process",
            settings=lambda: {
                "socket": str(socket_path),
                "folder": str(configuration.index_folder(server.data_dir)),
                "memory_bytes": config.memory_mib << 20,
                "log_level": server.log_level,
            },
            log=self._terminal.event,
        )
        watch = EngineWatch(
            child, socket_path, config.stall_timeout_s, new_decoder=index_frames.Decoder
        )
        watching = group.create_task(watch.run())
        try:
            async with child.running(group, _RETRIEVER_STOP_S):
                yield
        finally:
            watching.cancel()

    @contextlib.asynccontextmanager
    async def _signing(self, group: asyncio.TaskGroup, dsn: str) -> AsyncIterator[None]:
        """The audit log's heads are signed daily. Raises ConfigError."""
        data_dir = self._config.server.data_dir
        try:
            key = audit_heads.load_key(data_dir)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot use the audit key in {data_dir}: {error}") from error
        signing = group.create_task(audit_heads.sign_daily(dsn, key))
        try:
            yield
        finally:
            signing.cancel()

    async def _prepare_database(self, dsn: str) -> FirstSecrets:
        """Migrates; on the very first start also makes a tenant with its first key, and until there
        is an operator a token that makes one.

        Tries again while the database is away: what answered may have been the Postgres of a
        command that was just ending, and ours comes next.
        """
        pepper = keys.load_pepper(self._config.server.data_dir)
        deadline_s = time.monotonic() + _DATABASE_START_S
        is_first_try = True
        with self._terminal.step("schema", "migrations"):
            while True:
                try:
                    await migrate.migrate(dsn)
                    key = await directory.ensure_default_tenant_and_key(dsn, pepper)
                    token = await people.ensure_operator_can_be_made(dsn, Vault(pepper))
                    return FirstSecrets(key, None if token is None else token.token)
                except DatabaseDown as error:
                    if time.monotonic() > deadline_s:
                        raise
                    if is_first_try:
                        self._terminal.waiting(f"{error}; trying for {_DATABASE_START_S:g} s")
                    is_first_try = False
                    await asyncio.sleep(_RETRY_S)

    # --- waiting ------------------------------------------------------------------------------

    async def _until_database_answers(self) -> str:
        dsn = cluster.dsn_of(self._config.server.data_dir)
        deadline_s = time.monotonic() + _DATABASE_START_S
        while not await embedded.can_connect(dsn):
            if time.monotonic() > deadline_s:
                raise ConfigError(f"the database did not answer within {_DATABASE_START_S:g} s")
            await asyncio.sleep(_POLL_S)
            dsn = cluster.dsn_of(
                self._config.server.data_dir
            )  # a first start may place it elsewhere
        return dsn

    async def _until_ready(self, url: str, without: Collection[str]) -> None:
        """Polls `/readyz`; says what is still missing. Components in `without` may be."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        said = None
        while missing := [
            name
            for name in await _probe_readiness(host.strip("[]"), int(port))
            if name not in without
        ]:
            if missing != said:
                self._terminal.waiting(", ".join(missing))
                said = missing
            await asyncio.sleep(_POLL_S)

    @contextlib.contextmanager
    def _state_file(self, url: str):
        """`server.json`: how scripts learn that this installation serves, and where."""
        path = self._config.server.data_dir / "server.json"
        fresh = path.with_suffix(".tmp")
        fresh.write_bytes(orjson.dumps({"pid": os.getpid(), "url": url}))
        fresh.rename(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _by_urgency(models: Sequence[ModelConfig]) -> tuple[list[str], list[str]]:
    """Names of the models to wait for, and of those that must not hold up a chat's first answer.

    On two cores every further process that loads torch delays the others by about its own time.
    """
    names = [model.name for model in models]
    chat = [model.name for model in models if model_kind(model.path) == "generation"]
    return (chat, [name for name in names if name not in chat]) if chat else (names, [])


async def _probe_readiness(host: str, port: int) -> list[str]:
    """The components that are not ready; empty when the server is."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(
                    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                body = (await reader.read()).partition(b"\r\n\r\n")[2]
            finally:
                writer.close()
        components = orjson.loads(body)["components"]
    except (OSError, ValueError, KeyError):  # TimeoutError is an OSError
        return ["gateway"]
    return [name for name, component in components.items() if component["state"] != "ready"]
