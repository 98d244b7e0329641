"""Files through the Python SDK in a real installation: kill -9, memory, nothing in clear."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from installation import Installation

pytestmark = pytest.mark.slow

MIB = 1 << 20
CANARY = b"canary-6f1d"


def client_of(server: Installation, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def gateway_pid(server: Installation) -> int:
    for pid in server.pids():
        if b"anzoth.server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    raise LookupError("there is no gateway")


def memory_mib(pid: int, which: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{which}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def until(true: Callable[[], Any], what: str) -> None:
    deadline_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def holds(folder: Path, text: bytes) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and text in path.read_bytes():
                found.append(path)
        except FileNotFoundError:  # a database deletes files
            continue
    return found


def test_a_gateway_killed_within_an_upload_leaves_nothing_to_be_seen(
    fragile_server: Installation,
) -> None:
    server = fragile_server
    key = server.create_key("files")
    client = client_of(server, key)
    kept = client.files.create(file=("canary-name.txt", CANARY * 1000), purpose="assistants")
    address = urlsplit(server.url)
    before = gateway_pid(server)
    with socket.create_connection((address.hostname, address.port)) as sending:
        sending.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 104857600\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="canary-half"\r\n\r\n'
            % key.encode()
        )
        for _ in range(8):
            sending.sendall((CANARY * (MIB // len(CANARY) + 1))[:MIB])
        time.sleep(0.5)  # some pieces are stored, or are not: either must be right

        os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        try:
            return client.files.list().data[0].id == kept.id
        except openai.APIError:
            return False

    until(is_back, "the gateway answers again")
    assert gateway_pid(server) != before
    assert [file.id for file in client.files.list()] == [kept.id]
    # The new process has the same master key.
    assert client.files.content(kept.id).read() == CANARY * 1000
    for text in (CANARY, b"canary-name", b"canary-half"):
        assert holds(server.data_dir, text) == []


def test_a_large_file_takes_little_memory_both_ways(server: Installation, key: str) -> None:
    client, pid = client_of(server, key), gateway_pid(server)
    small = client.files.create(file=("small", b"x"), purpose="user_data")
    before_mib = memory_mib(pid, "VmRSS")
    content = bytes(range(256)) * (64 * MIB // 256)
    made = client.files.create(file=("large", content), purpose="user_data")
    assert client.files.content(made.id).read() == content
    assert memory_mib(pid, "VmHWM") - before_mib < 24
    for file in (small, made):
        client.files.delete(file.id)


def test_the_sdk_uploads_a_file_in_parts_from_the_disk(
    server: Installation, key: str, tmp_path: Path
) -> None:
    client = client_of(server, key)
    path = tmp_path / "report.txt"
    path.write_bytes(b"0123456789" * (300 * 1024))
    upload = client.uploads.upload_file_chunked(
        file=path, mime_type="text/plain", purpose="assistants", part_size=MIB
    )
    assert upload.file is not None
    assert (upload.file.filename, upload.file.bytes) == ("report.txt", path.stat().st_size)
    assert client.files.content(upload.file.id).read() == path.read_bytes()
    client.files.delete(upload.file.id)


def test_the_operator_sees_that_a_deleted_tenant_s_key_is_gone(server: Installation) -> None:
    server.cli("tenants", "create", "leaving-files")
    key = server.cli("keys", "create", "--tenant", "leaving-files", "--name", "k")["key"]
    client = client_of(server, key)
    client.files.create(file=("a.txt", b"text"), purpose="assistants")
    assert server.cli("tenants", "delete", "leaving-files")["key_destroyed"] is True
    with pytest.raises(openai.AuthenticationError):
        client.files.list()
    with httpx2.Client() as anyone:
        assert anyone.get(f"{server.url}/v1/files").status_code == 401
