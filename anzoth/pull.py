"""How does a checkpoint come from a hub into the data directory, whole or not at all?

    ask for the revision ─▶ choose the files ─▶ fetch each ─▶ verify it ─▶ publish the folder

Only what serving needs is fetched, and weights only as safetensors: a pickle can run code. The
revision is pinned to its commit first. Each file is fetched into a partial one that a later run
goes on with, and counts only when its size and its digest are those that the hub announced; the
folder gets its name when all of them are there.

    models/ORG/NAME/<commit>.partial/   until then

Does not know: how a command shows progress, or what a checkpoint means.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub import errors as hub_errors
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers
from huggingface_hub.utils import logging as hub_logging

from anzoth.pulled import CURRENT, RECORD, HubId, HubNotReached, PullError, folder_of, is_commit

_LIBRARY = "anzoth"
_TIMEOUT_S = 30.0
_CHUNK_BYTES = 4 << 20
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_REQUIRED = ("config.json", "tokenizer.json")
_OPTIONAL = frozenset(
    {
        *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("added_tokens.json", "chat_template.jinja", "chat_template.json"),
        *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    }
)
_MODULE_CONFIG = re.compile(r"\d{1,2}_[A-Za-z]{1,32}/config\.json")
"""Where sentence-transformers keeps the settings of a pooling and the like."""
_SHARD = re.compile(r"[A-Za-z0-9][\w.-]{0,200}\.safetensors", re.ASCII)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


class Progress(Protocol):
    """Whoever shows how far it is."""

    def begin(self, num_bytes: int) -> None: ...

    def doing(self, what: str) -> None: ...

    def advance(self, num_bytes: int) -> None:
        """Negative when a server began a file anew."""
        ...


@dataclass(slots=True, frozen=True)
class PulledFile:
    """One file as the hub announced it."""

    name: str
    num_bytes: int
    sha256: str | None
    """None: a small file, which the hub knows by `blob` only."""
    blob: str | None
    """Its name in git: SHA-1 over a header and the content."""


@dataclass(slots=True, frozen=True)
class Pulled:
    """One revision in the data directory; `pulled.json` in its folder says the same."""

    id: str
    revision: str | None
    """As it was asked for. None: the repository's default branch."""
    commit: str
    endpoint: str
    pulled_at: str
    files: tuple[PulledFile, ...]


def pull(
    data_dir: Path, wanted: HubId, *, endpoint: str | None, token: str | None, progress: Progress
) -> tuple[Path, Pulled]:
    """The folder of the revision, whole and verified.

    Raises PullError, or HubNotReached when trying again later may help: what has arrived is kept.
    """
    hub_logging.set_verbosity_error()  # its warnings hold signed addresses
    with _told(wanted), _alone(folder_of(data_dir, wanted)) as folder:
        hub = _Hub(wanted, endpoint, token)
        progress.doing(f"asking {hub.endpoint}")
        commit, announced = hub.revision()
        partial, final = folder / f"{commit}.partial", folder / commit
        if not final.is_dir():
            partial.mkdir(exist_ok=True)
            files = _choose(hub, commit, announced, partial)
            _require_space(folder, files, partial)
            progress.begin(sum(file.num_bytes for file in files))
            for file in files:
                _fetch(hub, commit, file, partial, progress)
            pulled = Pulled(
                id=wanted.repository,
                revision=wanted.revision,
                commit=commit,
                endpoint=hub.endpoint,
                pulled_at=datetime.now(UTC).isoformat(timespec="seconds"),
                files=tuple(files),
            )
            _write(partial / RECORD, json.dumps(asdict(pulled), indent=1) + "\n")
            partial.rename(final)
        _write(folder / CURRENT, f"{commit}\n")
        return final, read_record(final)


def read_record(directory: Path) -> Pulled:
    """Where the files of a pulled revision came from. Raises PullError."""
    try:
        values = json.loads((directory / RECORD).read_bytes())
        files = tuple(PulledFile(**file) for file in values.pop("files"))
        return Pulled(**values, files=files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PullError(f"{directory / RECORD} is damaged; delete {directory}") from error


class _Hub:
    """One repository of one hub."""

    def __init__(self, wanted: HubId, endpoint: str | None, token: str | None) -> None:
        # Nothing but what was given: no token of a login, which another user may have made.
        self._credential = token or False
        self._version = importlib.metadata.version(_LIBRARY)
        self._api = HfApi(
            endpoint=endpoint and endpoint.rstrip("/"),
            token=self._credential,
            library_name=_LIBRARY,
            library_version=self._version,
        )
        self._wanted = wanted
        self.endpoint = str(self._api.endpoint)
        if not self.endpoint.startswith(("https://", "http://")):
            raise PullError(f"the endpoint is {endpoint!r}; expected an address with https://")

    def revision(self) -> tuple[str, dict[str, RepoSibling]]:
        """The commit, and its files by name."""
        try:
            info = self._api.model_info(
                self._wanted.repository,
                revision=self._wanted.revision,
                files_metadata=True,
                timeout=_TIMEOUT_S,
            )
        except (hub_errors.HfHubHTTPError, hub_errors.HFValidationError):
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PullError(f"{self.endpoint} does not answer as a hub does") from error
        if info.sha is None or not is_commit(info.sha):
            raise PullError(f"{self.endpoint} names no commit; is it a hub?")
        return info.sha, {sibling.rfilename: sibling for sibling in info.siblings or []}

    def fetch(
        self, commit: str, name: str, into: Path, num_bytes: int, tick: Callable[[int], None]
    ) -> None:
        """Goes on with what is in `into` already."""
        headers = build_hf_headers(
            token=self._credential, library_name=_LIBRARY, library_version=self._version
        )
        headers["Accept-Encoding"] = "identity"  # a part of something packed is of no use
        with into.open("ab") as stream:
            if stream.tell() > num_bytes:
                stream.seek(0)
                stream.truncate()
            if stream.tell() == num_bytes:
                tick(num_bytes)
                return
            http_get(
                hf_hub_url(self._wanted.repository, name, revision=commit, endpoint=self.endpoint),
                stream,
                resume_size=stream.tell(),
                headers=headers,
                expected_size=num_bytes,
                displayed_filename=name,
                tqdm_class=_ticking(tick),
            )


# --- which files -------------------------------------------------------------------------------


def _choose(
    hub: _Hub, commit: str, announced: dict[str, RepoSibling], partial: Path
) -> list[PulledFile]:
    """Raises PullError when the repository lacks what serving needs."""
    for name in _REQUIRED:
        if name not in announced:
            raise PullError(f"the repository has no {name}, which this server needs")
    names = [*_REQUIRED, *sorted(n for n in announced if _is_wanted(n))]
    if _INDEX in announced:
        index = _file(announced, _INDEX)
        _fetch(hub, commit, index, partial, _Silent())
        return [_file(announced, name) for name in (*names, _INDEX, *_shards(partial / _INDEX))]
    if _SINGLE in announced:
        return [_file(announced, name) for name in (*names, _SINGLE)]
    if any(name.endswith(_PICKLES) for name in announced):
        raise PullError(
            "the repository has no safetensors, only weights in forms that can run code when they "
            "are loaded; those are never fetched. Look for a conversion to safetensors"
        )
    raise PullError(f"the repository has neither {_SINGLE} nor {_INDEX}")


def _is_wanted(name: str) -> bool:
    return name in _OPTIONAL or _MODULE_CONFIG.fullmatch(name) is not None


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PullError(f"the repository's {_INDEX} is damaged") from None
    for name in names:
        if not isinstance(name, str) or _SHARD.fullmatch(name) is None:
            raise PullError(f"the repository's {_INDEX} names {name!r}, which is no shard")
    return names


def _file(announced: dict[str, RepoSibling], name: str) -> PulledFile:
    sibling = announced.get(name)
    if sibling is None:
        raise PullError(f"the repository's {_INDEX} names {name}, which is not there")
    sha256 = None if sibling.lfs is None else sibling.lfs.sha256
    if sibling.size is None or (sha256 is None and sibling.blob_id is None):
        raise PullError(f"the hub announces no size or no digest of {name}")
    return PulledFile(name, sibling.size, sha256, None if sha256 else sibling.blob_id)


# --- one file ----------------------------------------------------------------------------------


def _fetch(hub: _Hub, commit: str, file: PulledFile, partial: Path, progress: Progress) -> None:
    """A file under its own name was verified before it got it."""
    target = partial / file.name
    if target.is_file():
        progress.advance(file.num_bytes)
        return
    target.parent.mkdir(exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    progress.doing(file.name)
    hub.fetch(commit, file.name, part, file.num_bytes, progress.advance)
    progress.doing(f"verifying {file.name}")
    if not _is_right(part, file):
        part.unlink()
        raise PullError(
            f"{file.name} arrived with another content than the hub announced, and was deleted; "
            "try again"
        )
    part.rename(target)


def _is_right(part: Path, file: PulledFile) -> bool:
    if part.stat().st_size != file.num_bytes:
        return False
    if file.sha256 is not None:
        return _digest(part, hashlib.sha256()) == file.sha256
    header = b"blob %d\0" % file.num_bytes
    return _digest(part, hashlib.sha1(header, usedforsecurity=False)) == file.blob


def _digest(path: Path, digest: Any) -> str:  # hashlib's objects have no public type
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class _Silent:
    """For a file that is read before the whole is known."""

    def begin(self, num_bytes: int) -> None: ...

    def doing(self, what: str) -> None: ...

    def advance(self, num_bytes: int) -> None: ...


def _ticking(tick: Callable[[int], None]) -> type[Any]:
    """What the hub's client takes for a progress bar of tqdm."""

    class Ticking:
        def __init__(self, *_args: object, initial: int = 0, **_kwargs: object) -> None:
            tick(initial)

        def update(self, num_bytes: int) -> None:
            tick(num_bytes)

        def __enter__(self) -> Ticking:
            return self

        def __exit__(self, *_error: object) -> None: ...

    return Ticking


# --- around it ---------------------------------------------------------------------------------


def _require_space(folder: Path, files: list[PulledFile], partial: Path) -> None:
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    needed = sum(file.num_bytes for file in files) - there
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PullError(
            f"it needs {-(-needed >> 20)} MiB more, but {folder} has {free >> 20} MiB of free disk"
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The repository's folder, held against a second pull of it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock_fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise PullError("another command is pulling it at this moment") from None
    finally:
        os.close(lock_fd)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(text)
    fresh.rename(path)


@contextlib.contextmanager
def _told(wanted: HubId) -> Iterator[None]:
    """What the hub's client raises, as one sentence. Its own messages quote addresses."""
    try:
        yield
    except PullError as error:
        raise type(error)(f"cannot pull {wanted}: {error}") from error
    except (hub_errors.GatedRepoError, hub_errors.DisabledRepoError) as error:
        raise PullError(_RESTRICTED.format(wanted)) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise PullError(
            f"cannot pull {wanted}: the hub has no such model, or it is private; then set HF_TOKEN "
            "to a token that may read it"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise PullError(f"cannot pull {wanted}: the repository has no such revision") from error
    except hub_errors.EntryNotFoundError as error:
        raise PullError(f"cannot pull {wanted}: the hub lacks a file that it announced") from error
    except hub_errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PullError(_RESTRICTED.format(wanted)) from error
        kind = HubNotReached if status == 429 or status >= 500 else PullError
        raise kind(f"cannot pull {wanted}: the hub answers with status {status}") from error
    except (hub_errors.HFValidationError, httpx2.InvalidURL) as error:
        raise PullError(f"cannot pull {wanted}: that cannot be the name of a model") from error
    except httpx2.HTTPError as error:
        raise HubNotReached(_BROKE_OFF.format(wanted, type(error).__name__)) from error
    except hub_errors.OfflineModeIsEnabled as error:
        raise HubNotReached(f"cannot pull {wanted}: HF_HUB_OFFLINE is set") from error
    except OSError as error:
        if error.errno is None:  # the client's own, when a file ended too early
            raise HubNotReached(_BROKE_OFF.format(wanted, "the file ended early")) from error
        raise PullError(f"cannot pull {wanted}: {error.strerror}") from error


_RESTRICTED = (
    "cannot pull {}: access to it is restricted; accept its terms on the hub, and set HF_TOKEN to "
    "a token that may read it"
)
_BROKE_OFF = (
    "cannot pull {}: the connection to the hub failed ({}); what has arrived is kept, so the same "
    "command goes on from there"
)
