"""A model comes from a hub whole and verified, or it is not there; over real HTTP."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

import hub as hubs
from anzoth import pull as pulling
from anzoth.pulled import HubId, HubNotReached, PullError, try_find
from hub import COMMIT, Hub

WEIGHTS = random.Random(1).randbytes(100_000)
SECRET = "hf_secretsecretsecret"
SINGLE = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b"{}" * 500,
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": WEIGHTS,
    "README.md": b"not needed",
    "pytorch_model.bin": b"never",
    "original/consolidated.safetensors": b"not needed either",
    "consolidated.safetensors": b"nor this",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "onnx/config.json": b"no",
}
NEEDED = {
    *("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("model.safetensors", "1_Pooling/config.json"),
}


class Counted:
    """Counts what it is shown."""

    def __init__(self) -> None:
        self.total = self.num_bytes = 0
        self.lines: list[str] = []

    def begin(self, num_bytes: int) -> None:
        self.total = num_bytes

    def doing(self, what: str) -> None:
        self.lines.append(what)

    def advance(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hubs.serving(dict(SINGLE)) as made:
        yield made


@pytest.fixture(autouse=True)
def _the_client_takes_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes what came in pieces of 10 MB, and pauses before it goes on after a cut."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _s: None)


def pull(
    hub: Hub, data_dir: Path, revision: str | None = None, token: str | None = None
) -> tuple[Path, pulling.Pulled, Counted]:
    counted = Counted()
    wanted = HubId("org", "tiny", revision)
    path, record = pulling.pull(data_dir, wanted, endpoint=hub.url, token=token, progress=counted)
    return path, record, counted


def fetched(hub: Hub, name: str) -> list[str | None]:
    """The ranges in which a file was asked for."""
    return [asked for path, asked in hub.requests if path == f"/content/{COMMIT}/{name}"]


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "pulled.json"
    }


def test_what_serving_needs_is_fetched_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    path, record, counted = pull(hub, tmp_path)
    assert path == tmp_path / "models" / "org" / "tiny" / COMMIT
    assert contents(path) == {name: SINGLE[name] for name in NEEDED}
    assert try_find(tmp_path, HubId("org", "tiny")) == path
    assert (record.id, record.commit, record.revision) == ("org/tiny", COMMIT, None)
    assert counted.num_bytes == counted.total == sum(len(SINGLE[name]) for name in NEEDED)
    digests = {file.name: file.sha256 for file in record.files}
    assert digests["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert pulling.read_record(path) == record
    assert {entry.name for entry in path.parent.iterdir()} == {COMMIT, "current", ".lock"}


def test_the_revision_is_pinned_to_its_commit(hub: Hub, tmp_path: Path) -> None:
    path, record, _ = pull(hub, tmp_path, "v1")
    assert (path.name, record.revision) == (COMMIT, "v1")
    assert try_find(tmp_path, HubId("org", "tiny", "v1")) == path
    assert all(COMMIT in asked for asked, _ in hub.requests[1:])
    hub.commit = "2" * 40
    newer, _, _ = pull(hub, tmp_path)
    assert newer.name == hub.commit
    assert try_find(tmp_path, HubId("org", "tiny")) == newer
    assert try_find(tmp_path, HubId("org", "tiny", "v1")) == path


def test_shards_are_those_that_the_index_names(hub: Hub, tmp_path: Path) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": WEIGHTS[:i] for i in (1, 2)}
    index = {"weight_map": dict(zip("abc", [*shards, *shards], strict=False))}
    del hub.files["model.safetensors"]
    hub.files |= {"model.safetensors.index.json": json.dumps(index).encode(), **shards}
    path, _, counted = pull(hub, tmp_path)
    assert {name for name in contents(path) if "safetensors" in name} == {
        "model.safetensors.index.json",
        *shards,
    }
    assert counted.num_bytes == counted.total


def test_what_is_there_already_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    pull(hub, tmp_path)
    hub.requests.clear()
    path, record, _ = pull(hub, tmp_path)
    assert path.is_dir()
    assert record.commit == COMMIT
    assert len(hub.requests) == 1


def test_a_cut_connection_is_taken_up_again(hub: Hub, tmp_path: Path) -> None:
    hub.cuts["model.safetensors"] = [60_000]
    path, _, counted = pull(hub, tmp_path)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    first, second = fetched(hub, "model.safetensors")
    assert (first, second) == (None, "bytes=60000-")
    assert counted.num_bytes == counted.total


@pytest.mark.parametrize("ignores_range", [False, True])
def test_an_interrupted_pull_goes_on_in_the_next_one(
    hub: Hub, tmp_path: Path, ignores_range: bool
) -> None:
    hub.cuts["model.safetensors"] = [60_000] + [0] * 10
    with pytest.raises(HubNotReached, match="what has arrived is kept"):
        pull(hub, tmp_path)
    assert try_find(tmp_path, HubId("org", "tiny")) is None
    hub.cuts.clear()
    hub.requests.clear()
    hub.ignores_range = ignores_range
    path, _, counted = pull(hub, tmp_path)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    (asked,) = fetched(hub, "model.safetensors")
    assert asked == "bytes=60000-"
    assert fetched(hub, "config.json") == []
    assert counted.num_bytes == counted.total


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_content_than_announced_is_refused_and_deleted(
    hub: Hub, tmp_path: Path, name: str
) -> None:
    right = hub.files[name]
    hub.announced[name] = right[:-1] + b"!"
    with pytest.raises(PullError, match=f"{name} arrived with another content"):
        pull(hub, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(name)]
    hub.announced.clear()
    path, _, _ = pull(hub, tmp_path)
    assert (path / name).read_bytes() == right


def test_what_a_part_has_too_much_is_not_kept(hub: Hub, tmp_path: Path) -> None:
    partial = tmp_path / "models" / "org" / "tiny" / f"{COMMIT}.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors.part").write_bytes(WEIGHTS + b"more")
    path, _, counted = pull(hub, tmp_path)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert counted.num_bytes == counted.total


def test_a_file_that_is_shorter_than_announced_is_never_taken(hub: Hub, tmp_path: Path) -> None:
    hub.announced["model.safetensors"] = WEIGHTS + b"more"
    with pytest.raises(PullError):
        pull(hub, tmp_path)
    assert try_find(tmp_path, HubId("org", "tiny")) is None


@pytest.mark.parametrize(
    ("without", "more", "says"),
    [
        ({"model.safetensors"}, {}, "only weights in forms that can run code"),
        ({"model.safetensors", "pytorch_model.bin"}, {}, "neither model.safetensors nor"),
        ({"config.json"}, {}, "no config.json"),
        ({"tokenizer.json"}, {}, "no tokenizer.json"),
        (set(), {"model.safetensors.index.json": b"[]"}, "is damaged"),
        (
            set(),
            {"model.safetensors.index.json": b'{"weight_map": {"a": "../x.safetensors"}}'},
            "which is no shard",
        ),
        (
            set(),
            {"model.safetensors.index.json": b'{"weight_map": {"a": "x.bin"}}'},
            "which is no shard",
        ),
        (
            set(),
            {"model.safetensors.index.json": b'{"weight_map": {"a": "x.safetensors"}}'},
            "names x.safetensors, which is not there",
        ),
    ],
)
def test_a_repository_that_cannot_be_served_is_refused(
    hub: Hub, tmp_path: Path, without: set[str], more: dict[str, bytes], says: str
) -> None:
    hub.files = {n: c for n, c in hub.files.items() if n not in without} | more
    with pytest.raises(PullError, match=f"cannot pull org/tiny: .*{says}"):
        pull(hub, tmp_path)
    assert fetched(hub, "model.safetensors") == fetched(hub, "pytorch_model.bin") == []


@pytest.mark.parametrize(
    ("refusal", "kind", "says"),
    [
        ((401, "RepoNotFound"), PullError, "no such model, or it is private"),
        ((404, "RepoNotFound"), PullError, "no such model, or it is private"),
        ((403, "GatedRepo"), PullError, "accept its terms on the hub"),
        ((403, ""), PullError, "accept its terms on the hub"),
        ((404, "RevisionNotFound"), PullError, "no such revision"),
        ((500, ""), HubNotReached, "status 500"),
        ((429, ""), HubNotReached, "status 429"),
        ((200, ""), PullError, "does not answer as a hub does"),
    ],
)
def test_what_a_hub_refuses_is_one_sentence(
    hub: Hub, tmp_path: Path, refusal: tuple[int, str], kind: type[Exception], says: str
) -> None:
    hub.refusal = refusal
    with pytest.raises(PullError, match=says) as caught:
        pull(hub, tmp_path, token=SECRET)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_announced_and_missing_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.missing.add("tokenizer.json")
    with pytest.raises(PullError, match="lacks a file that it announced"):
        pull(hub, tmp_path)


def test_a_hub_that_is_not_there_is_told(tmp_path: Path) -> None:
    with hubs.serving({}) as gone:
        pass
    with pytest.raises(HubNotReached, match="the connection to the hub failed"):
        pull(gone, tmp_path)
    for url in ("nonsense", "file:///etc"):
        gone.url = url
        with pytest.raises(PullError, match="expected an address with https://"):
            pull(gone, tmp_path)


def test_the_token_opens_a_private_repository_and_no_other_is_sent(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = SECRET
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(PullError, match="private"):
        pull(hub, tmp_path)
    assert hub.tokens_seen == {None}
    path, record, counted = pull(hub, tmp_path, token=SECRET)
    assert SECRET not in repr(record) + "".join(counted.lines)
    assert SECRET.encode() not in (path / "pulled.json").read_bytes()


@pytest.mark.parametrize("commit", ["../../../etc", "main", ""])
def test_a_hub_cannot_choose_the_folder(hub: Hub, tmp_path: Path, commit: str) -> None:
    hub.commit = commit
    with pytest.raises(PullError, match="names no commit"):
        pull(hub, tmp_path)


def test_a_full_disk_is_told_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = pulling.shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(pulling.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(PullError, match="it needs 1 MiB more"):
        pull(hub, tmp_path)
    assert len(hub.requests) == 1


def test_two_pulls_of_one_repository_do_not_mix(hub: Hub, tmp_path: Path) -> None:
    with (
        pulling._alone(tmp_path / "models" / "org" / "tiny"),
        pytest.raises(PullError, match="another command is pulling it"),
    ):
        pull(hub, tmp_path)
