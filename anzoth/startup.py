"""What must be true before anything is started: the data directory is ours, the port is free, and
no child will inherit a secret.

Each failure is one sentence that says what to do. Does not know what will be started.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from anzoth.config import Config, ConfigError

_BACKLOG = 1024


def take_secrets(config: Config, environ: MutableMapping[str, str]) -> dict[str, str]:
    """Takes what is secret out of the environment, which every child inherits and `ps` shows: the
    database's URL, and the keys of backends, which are returned by their variables' names."""
    environ.pop("ANZOTH_DATABASE_URL", None)
    names = {name for backend in config.backends if (name := backend.api_key_env) is not None}
    return {name: environ.pop(name) for name in names if name in environ}


@contextlib.contextmanager
def exclusive_data_dir(data_dir: Path) -> Iterator[None]:
    """Makes the directory if needed and holds it against a second `anzoth serve`."""
    # Not 0700 for root: the user that Postgres runs as must be able to pass through.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        data_dir.mkdir(mode=mode, parents=True, exist_ok=True)
        lock_fd = os.open(data_dir / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot use the data directory {data_dir}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another `anzoth serve` is already running on {data_dir}; "
                "stop it, or choose another --data-dir"
            ) from None
        yield
    finally:
        os.close(lock_fd)


@contextlib.contextmanager
def listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """The socket that the gateway will accept on. It outlives a gateway that is started again."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, OverflowError) as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}") from error
    with socket.socket(family, kind, protocol) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            raise ConfigError(_why_not(host, port, error)) from error
        sock.setblocking(False)
        yield sock


def _why_not(host: str, port: int, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return f"port {port} is already in use on {host}; choose another with --port"
    if number == errno.EACCES:
        return f"port {port} needs privileges; choose one above 1023 with --port"
    return f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}"


def url_of(sock: socket.socket) -> str:
    """Where a client on this machine reaches the socket."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def private_folder(path: Path) -> None:
    """Ours alone, for sockets. Under the temp dir somebody else could have made it first."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to somebody else; remove it or choose another data dir")
    path.chmod(0o700)
