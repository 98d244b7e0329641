"""A hub over HTTP, as far as pulling a model asks one: repositories in memory, faults on demand.

GET /api/models/ORG/NAME[/revision/REVISION]?blobs=True     the commit and its files
GET /ORG/NAME/resolve/COMMIT/FILE                           a redirect, then the bytes (Range)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "1" * 40


@dataclass
class Hub:
    """One repository `org/tiny` and what goes wrong with it."""

    files: dict[str, bytes]
    commit: str = COMMIT
    url: str = ""
    token: str | None = None
    """What a request must carry. None: the repository is public."""
    refusal: tuple[int, str] | None = None
    """Status and X-Error-Code for every question about the repository."""
    announced: dict[str, bytes] = field(default_factory=dict)
    """Files whose digest and size are announced as those of other content."""
    missing: set[str] = field(default_factory=set)
    """Announced, and not there."""
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """After how many bytes each next answer with that file breaks off."""
    ignores_range: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each."""
    tokens_seen: set[str | None] = field(default_factory=set)

    def info(self) -> dict[str, object]:
        return {
            "id": "org/tiny",
            "modelId": "org/tiny",
            "sha": self.commit,
            "siblings": [
                _sibling(name, self.announced.get(name, content))
                for name, content in self.files.items()
            ],
        }


def _sibling(name: str, content: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sibling: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name.endswith(".safetensors"):
        sha256 = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return sibling


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((path, self.headers.get("range")))
        authorization = self.headers.get("authorization")
        self.hub.tokens_seen.add(authorization)
        if self.hub.refusal is not None:
            status, code = self.hub.refusal
            self._answer(status, b"{}", {"X-Error-Code": code} if code else {})
        elif self.hub.token is not None and authorization != f"Bearer {self.hub.token}":
            self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif match := re.fullmatch(r"/api/models/org/tiny(?:/revision/(.+))?", path):
            if match[1] in (None, "main", "v1", self.hub.commit):
                self._answer(200, json.dumps(self.hub.info()).encode())
            else:
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif match := re.fullmatch(r"/org/tiny/resolve/([0-9a-f]+)/(.+)", path):
            # As the real one sends large files to its content network.
            self._answer(302, b"", {"Location": f"/content/{match[1]}/{match[2]}"})
        elif match := re.fullmatch(rf"/content/{self.hub.commit}/(.+)", path):
            self._content(match[1])
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _content(self, name: str) -> None:
        content = self.hub.files.get(name)
        if content is None or name in self.hub.missing:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        wanted = self.headers.get("range")
        status, headers = 200, {"X-Repo-Commit": self.hub.commit}
        if wanted is not None and not self.hub.ignores_range:
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[first:]
        cuts = self.hub.cuts.get(name)
        cut = cuts.pop(0) if cuts else None
        self._answer(status, content, headers, cut)

    def _answer(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")  # or it would outlive the server
        self.end_headers()
        self.wfile.write(content[:cut])


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub on 127.0.0.1 for the duration of the block."""
    hub = Hub(files)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
