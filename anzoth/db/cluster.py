"""Where does the embedded Postgres live, and with which settings does it run?

One installation's cluster is a folder:

    DATA_DIR/postgres/
        data/      PGDATA; made under another name and renamed, so that half of one never counts
        run/       the Unix socket (a short path under the temp dir when this one is too long)
        lock       held by the warden and by every Postgres process
        log        what Postgres says
        hba.conf, ident.conf   rewritten at each start

Where the user that Postgres runs as may not go (DATA_DIR under a closed home, started by root), the
cluster lives under /var/lib/anzoth-postgres instead, and DATA_DIR/postgres.location says where.

Everything here blocks. Does not know: which user that is and where the programs come from (see
`programs`), or who starts and watches Postgres (see `warden`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from anzoth.db.errors import DatabaseUnusable
from anzoth.db.programs import INSTEAD, MAJOR_VERSION, Programs, find, shared_base

_log = logging.getLogger(__name__)

DATABASE = "anzoth"
EXIT_LOCKED = 75
"""A warden's exit status (sysexits' EX_TEMPFAIL): another one still runs on this data dir."""

_MAX_SOCKET_PATH_BYTES = 107
"""What `sockaddr_un` holds on Linux, without its final NUL."""
_MAX_LOG_BYTES = 4 * 1024 * 1024
_SOCKET_NAME = ".s.PGSQL.5432"

SETTINGS = {
    "listen_addresses": "",  # no TCP: the socket's folder and `peer` say who may come in
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "superuser_reserved_connections": "0",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "fsync": "on",
    "synchronous_commit": "on",
    "io_method": "sync",  # no I/O worker processes on a small machine
    "max_parallel_workers_per_gather": "0",  # and no /dev/shm, which containers keep small
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    # Terse: the DETAIL of an error would quote rows.
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}

# The session user is neither superuser nor exempt from row-level security, as with a server of
# one's own; it may create the two roles that it acts as, and databases for tests.
_BOOTSTRAP = (
    "CREATE ROLE anzoth LOGIN CREATEROLE CREATEDB;\n"
    f"CREATE DATABASE {DATABASE} OWNER anzoth;\n"
    f"ALTER DATABASE {DATABASE} SET search_path TO anzoth, public;\n"
)


@dataclass(slots=True, frozen=True)
class Cluster:
    """A folder prepared for Postgres, and the programs to run on it."""

    folder: Path
    programs: Programs

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"


def folder_of(data_dir: Path) -> Path:
    """The cluster's folder. Readable by every command; changes nothing."""
    try:
        return Path((data_dir / "postgres.location").read_text().strip())
    except FileNotFoundError:
        return data_dir / "postgres"


def socket_folder_of(folder: Path) -> Path:
    """Beside the data, or (deterministic) under the temp dir when that path is too long."""
    beside = folder / "run"
    if len(os.fsencode(beside / _SOCKET_NAME)) <= _MAX_SOCKET_PATH_BYTES:
        return beside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:20]
    return Path(tempfile.gettempdir()) / f"anzoth-{name}"


def dsn_of(data_dir: Path, database: str = DATABASE) -> str:
    """Holds no secret: the operating system vouches for the user (`peer`)."""
    folder = socket_folder_of(folder_of(data_dir.absolute()))
    return f"postgresql://anzoth@/{database}?host={quote(str(folder), safe='')}&port=5432"


def has_socket(data_dir: Path) -> bool:
    """Whether somebody may be listening. False also when the socket's folder is not the cluster's.

    The folder's owner is compared, because under the temp dir anyone could have made it.
    """
    folder = folder_of(data_dir.absolute())
    sockets = socket_folder_of(folder)
    try:
        return (
            (sockets / _SOCKET_NAME).is_socket()
            and sockets.lstat().st_uid == folder.stat().st_uid
            and stat.S_ISDIR(sockets.lstat().st_mode)
        )
    except OSError:
        return False


def make_data_dir(data_dir: Path) -> None:
    """Idempotent. Root's can be passed through, not listed, by the user that Postgres runs as."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    data_dir.mkdir(mode=mode, parents=True, exist_ok=True)


def prepare(data_dir: Path) -> Cluster:
    """Makes the folder, finds the programs and the user. Idempotent. Raises DatabaseUnusable."""
    data_dir = data_dir.absolute()
    try:
        make_data_dir(data_dir)
        folder = folder_of(data_dir)
        programs = find(owner_of=folder)
        if folder.parent == data_dir and not programs.can_run_in(data_dir):
            folder = _relocate(data_dir, folder)
        cluster = Cluster(folder, programs)
        _make_folders(cluster)
    except OSError as error:
        raise DatabaseUnusable(
            f"cannot prepare a place for Postgres: {error.filename or data_dir}: "
            f"{error.strerror}; choose another --data-dir {INSTEAD}"
        ) from error
    return cluster


def initialise(cluster: Cluster) -> None:
    """Makes the database files unless they exist. Idempotent. Raises DatabaseUnusable."""
    version_file = cluster.data / "PG_VERSION"
    if version_file.exists():
        if (found := version_file.read_text().strip()) != MAJOR_VERSION:
            raise DatabaseUnusable(
                f"{cluster.data} was made by PostgreSQL {found}, and this is {MAJOR_VERSION}; "
                f"move its contents with pg_dump {INSTEAD}"
            )
        return
    fresh = cluster.folder / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)  # an earlier attempt was cut short
    run = cluster.programs.check
    run(
        ["initdb", f"--pgdata={fresh}", "--username=postgres", "--auth=peer", "--encoding=UTF8"]
        + ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        + ["--no-instructions"],
        cluster.folder,
    )
    run(["postgres", "--single", "-D", str(fresh), "postgres"], cluster.folder, _BOOTSTRAP)
    fresh.rename(cluster.data)
    folder_fd = os.open(cluster.folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def start(cluster: Cluster, lock_fd: int) -> subprocess.Popen[bytes]:
    """Postgres as a child of this process. All its processes hold `lock_fd` open.

    It gets SIGINT, its fast shutdown, when this process is gone.
    """
    _write_access_rules(cluster)
    if cluster.log.exists() and cluster.log.stat().st_size > _MAX_LOG_BYTES:
        cluster.log.unlink()
    settings = {
        **SETTINGS,
        "unix_socket_directories": f'"{socket_folder_of(cluster.folder)}"',
        "hba_file": str(cluster.folder / "hba.conf"),
        "ident_file": str(cluster.folder / "ident.conf"),
    }
    command = ["postgres", "-D", str(cluster.data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    with cluster.log.open("ab") as log:
        return cluster.programs.popen(
            command,
            cwd=cluster.folder,
            death_signal=signal.SIGINT,
            output=log.fileno(),
            pass_fds=(lock_fd,),
        )


def last_words(cluster: Cluster) -> str:
    """The newest FATAL or PANIC line of Postgres' log, for an error message."""
    try:
        lines = cluster.log.read_text(errors="replace").splitlines()[-200:]
    except OSError:
        return ""
    return next((line for line in reversed(lines) if "FATAL" in line or "PANIC" in line), "")


def _relocate(data_dir: Path, folder: Path) -> Path:
    """A place that Postgres' user may enter, written down in the data dir."""
    if (folder / "data").exists():
        raise DatabaseUnusable(
            f"the user that owns {folder} may no longer enter it; "
            f"open the folders above it (chmod o+x) {INSTEAD}"
        )
    name = hashlib.sha256(os.fsencode(data_dir) + os.urandom(16)).hexdigest()[:16]
    elsewhere = shared_base() / name
    (data_dir / "postgres.location").write_text(f"{elsewhere}\n")
    _log.warning("Postgres' user may not enter %s; its files are in %s", data_dir, elsewhere)
    return elsewhere


def _make_folders(cluster: Cluster) -> None:
    sockets = socket_folder_of(cluster.folder)
    account = cluster.programs.account
    owner = account.uid if account is not None else os.geteuid()
    for path in (cluster.folder, sockets):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
            raise DatabaseUnusable(f"{path} belongs to a stranger; remove it {INSTEAD}")
        if account is not None:
            os.chown(path, account.uid, account.gid)
        path.chmod(0o700)


def _write_access_rules(cluster: Cluster) -> None:
    """Only the operating system user that starts Anzoth comes in, and only as `anzoth`."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    rules = {
        "hba.conf": "local all anzoth peer map=anzoth\n",
        "ident.conf": f'anzoth "{me}" anzoth\n',
    }
    for name, text in rules.items():
        path = cluster.folder / name
        path.write_text(text)
        path.chmod(0o644)  # inside a folder that only Postgres' user enters
