"""A whole installation whose every secret is known to the test, and everything it said so far."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import canary_places
import httpx2
from canaries import Canaries, Found
from canary_places import Place
from oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, oidc_provider
from openai_peer import OpenaiPeer
from typer.testing import CliRunner

from anzoth import cli
from anzoth.api.routes import ROUTES
from anzoth.db import cluster, embedded
from anzoth.gateway import keys
from anzoth.gateway.accounts.tokens import Vault
from installation import Installation, installation

PUBLIC = "https://ai.example.com"
MAX_BODY_BYTES = 65_536
TEXTS = frozenset({"prompt", "document", "tool argument", "answer"})
"""What customers say and are told; nothing of it is kept."""
SAID = frozenset({"end user", "metadata", "key infers"})
"""What is put into other fields of requests."""
_SHOWS_WHAT_WAS_SAID = ("/v1/responses", "/v1/conversations")
_INFERENCE = {route.pattern for route in ROUTES if route.inference}


def invented(what: str) -> str:
    """A text that nobody writes by chance, with what escapes differently in every encoding, and
    less than `MIN_PART` of it in common with another."""
    return f'{what} {secrets.token_hex(12)} "ß&{secrets.token_hex(12)}'


@dataclass
class Person:
    """A browser of somebody who signed in."""

    cookie: str = ""
    csrf_token: str = ""
    sign_on: str = ""
    device: str = ""


@dataclass
class World:
    server: Installation
    database: Database
    provider: OidcProvider
    peer: OpenaiPeer
    dsn: str
    config_file: Path
    canaries: Canaries = field(default_factory=Canaries)
    answers: list[Place] = field(default_factory=list)
    answered: set[tuple[str, str]] = field(default_factory=set)
    """Method and path of what succeeded."""
    found: list[Found] = field(default_factory=list)
    """By searches before the last one."""
    _addresses: Iterator[int] = field(default_factory=itertools.count)
    _client: httpx2.Client | None = None

    # --- secrets --------------------------------------------------------------------------------

    def plant(self, name: str, secret: str | bytes) -> Any:
        self.canaries.plant(name, secret)
        return secret

    def plant_key(self, name: str, text: str) -> str:
        """Its secret half: any part of the whole that is not public is a part of this."""
        self.canaries.plant(name, text.partition("_")[2])
        return text

    @property
    def pepper(self) -> keys.Pepper:
        return keys.load_pepper(self.server.data_dir)

    @property
    def vault(self) -> Vault:
        return Vault(self.pepper)

    # --- asking ---------------------------------------------------------------------------------

    @property
    def client(self) -> httpx2.Client:
        if self._client is None:
            self._client = httpx2.Client(base_url=self.server.url, timeout=60)
        return self._client

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        person: Person | None = None,
        shows: Collection[str] = (),
        content: bytes | None = None,
        **headers: str,
    ) -> httpx2.Response:
        """One request, each from another address. `shows`: which secrets its answer is made for."""
        number = next(self._addresses)
        sent = {
            "host": urlsplit(PUBLIC).netloc,
            "x-forwarded-for": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "origin": PUBLIC,
        }
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        if person is not None:
            sent["cookie"] = f"__Host-anzoth-session={person.cookie}"
            sent["x-csrf-token"] = person.csrf_token
            for name, value in (("sign-on", person.sign_on), ("device", person.device)):
                if value:
                    sent["cookie"] += f"; __Host-anzoth-{name}={value}"
        if content is None and body is not None:
            content = json.dumps(body).encode()
        if content is not None:
            sent["content-type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        reply = self.client.request(method, path, content=content, headers=sent)
        if reply.status_code < 400:
            self.answered.add((method, urlsplit(path).path))
        self.heard(f"{method} {path[:60]} -> {reply.status_code}", reply, shows)
        if person is not None:
            self._take_cookies(person, reply)
        return reply

    def heard(self, name: str, reply: httpx2.Response, shows: Collection[str]) -> None:
        head = "\n".join(f"{name}: {value}" for name, value in reply.headers.items())
        content = head.encode() + b"\n\n" + reply.content
        may_hold = frozenset(shows)
        if reply.status_code < 400 and "/model_aliases" in reply.url.path:
            may_hold |= {"alias prompt"}
        if reply.status_code < 400 and reply.url.path == "/v1/files":
            may_hold |= {"file name", "file name, as stored"}  # all of these keys' project
        if reply.status_code < 400 and reply.url.path.startswith("/v1/batches"):
            may_hold |= {"batch metadata"}  # likewise
        if reply.status_code < 400 and reply.url.path.startswith(_SHOWS_WHAT_WAS_SAID):
            may_hold |= TEXTS | SAID  # it shows whoever asks what it was asked
        if reply.status_code < 400 and reply.url.path in _INFERENCE:
            may_hold |= TEXTS
            lines = content.replace(b'"error":null', b"").split(b"\n")
            errors = b"\n".join(line for line in lines if b'"error"' in line)
            self.answers.append(Place("answer", f"{name}, its error", errors))
        self.answers.append(Place("answer", name, content, may_hold))

    def _take_cookies(self, person: Person, reply: httpx2.Response) -> None:
        for value in reply.headers.get_list("set-cookie"):
            name, _, rest = value.partition("=")
            token = rest.partition(";")[0]
            if name == "__Host-anzoth-session":
                person.cookie = token
            elif name == "__Host-anzoth-sign-on":
                person.sign_on = token
            elif name == "__Host-anzoth-device":
                person.device = token
            if token:
                self.plant(f"cookie {token[:4]}", token)
        with contextlib.suppress(ValueError):
            given = reply.json()
            if isinstance(given, dict) and "csrf_token" in given:
                person.csrf_token = self.plant(
                    f"CSRF token {given['csrf_token'][:4]}", given["csrf_token"]
                )

    def ask_person(
        self,
        person: Person,
        method: str,
        path: str,
        body: object = None,
        shows: Collection[str] = (),
        **mints: str,
    ) -> dict[str, Any]:
        """What must succeed. `mints`: fields of the answer that are secrets, and their names; it
        may show these, `shows`, and the session's own cookies and token."""
        reply = self.ask(method, path, body, person=person)
        assert reply.status_code < 400, (path, reply.text)
        answer = reply.json() if reply.content[:1] == b"{" else {}
        for name, secret in mints.items():
            self.plant(secret, answer[name])
        own = {
            secret.encode()
            for secret in (person.cookie, person.csrf_token, person.sign_on, person.device)
        }
        may_hold = {name for name, secret in self.canaries.secrets.items() if secret in own}
        self.allow_in_last(may_hold | {*shows, *mints.values()})
        return answer

    def allow_in_last(self, names: Collection[str]) -> None:
        """The latest answer is made to show these secrets."""
        last = self.answers.pop()
        self.answers.append(replace(last, may_hold=last.may_hold.union(names)))

    def ask_raw(self, content: bytes) -> None:
        """Bytes on a socket, whatever they are; the answer ends with the connection."""
        host, _, port = self.server.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            received = bytearray()
            with contextlib.suppress(ConnectionError):
                while data := connection.recv(65536):
                    received += data
        self.answers.append(Place("answer", f"raw {content[:12]!r}", bytes(received)))

    def command(self, *arguments: str, shows: Collection[str] = (), status: int = 0) -> str:
        """One `anzoth` command, in this process; everything that it printed is kept."""
        where = ["--data-dir", str(self.server.data_dir), "--config", str(self.config_file)]
        done = CliRunner().invoke(
            cli.build(), [*arguments, *where], env={**self.server.environment, "COLUMNS": "400"}
        )
        assert done.exit_code == status, (arguments, done.output)
        said = done.output + repr(done.exception)
        name = f"anzoth {' '.join(arguments[:2])}"
        self.answers.append(Place("command", name, said.encode(), frozenset(shows)))
        return done.stdout

    def until_ready(self) -> None:
        deadline_s = time.monotonic() + 80  # two engines start
        while True:
            with contextlib.suppress(httpx2.TransportError):
                components = self.client.get("/readyz").json()["components"].items()
                own = {it["state"] for name, it in components if not name.startswith("backend")}
                if own == {"ready"}:
                    return
            assert time.monotonic() < deadline_s, self.server.log()
            time.sleep(0.05)

    # --- searching ------------------------------------------------------------------------------

    def places(self) -> Iterator[Place]:
        """Everything that there is to read, now."""
        yield from self.answers
        yield from canary_places.files(self.server.data_dir)
        yield from canary_places.files(self.database.data_dir)
        process = self.server.process
        if process is not None and process.poll() is None:
            yield from canary_places.processes(self.server.pids(), process.pid)
        if self.database.is_running:
            yield from canary_places.database(self.dsn)

    def search(self, canaries: Canaries | None = None) -> list[Found]:
        wanted = self.canaries if canaries is None else canaries
        return [
            found
            for place in self.places()
            for found in wanted.seek(f"{place.kind}: {place.name}", place.content, place.may_hold)
        ]


@dataclass
class Database:
    """Somebody's own Postgres, as far as the server knows: with a URL that holds a password."""

    data_dir: Path
    warden: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.warden = subprocess.Popen(
            [sys.executable, "-P", "-m", "anzoth.db.warden"], stdin=subprocess.PIPE
        )
        assert self.warden.stdin is not None
        settings = {"data_dir": str(self.data_dir), "log_level": "error"}
        self.warden.stdin.write(json.dumps(settings).encode() + b"\n")
        self.warden.stdin.flush()
        deadline_s = time.monotonic() + 60
        while not asyncio.run(embedded.can_connect(cluster.dsn_of(self.data_dir))):
            assert self.warden.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)

    def stop(self) -> None:
        if self.warden is not None and self.warden.stdin is not None:
            self.warden.stdin.close()
            assert self.warden.wait(30) == 0
            self.warden = None

    @property
    def is_running(self) -> bool:
        return self.warden is not None


@contextlib.contextmanager
def running_peer() -> Iterator[OpenaiPeer]:
    """Another OpenAI-compatible server, in a thread of its own."""
    peer, loop = OpenaiPeer(), asyncio.new_event_loop()
    stop, is_up = asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with peer.running():
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert is_up.wait(10)
    try:
        yield peer
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _configuration(folder: Path, peer: OpenaiPeer, provider: OidcProvider, key: str) -> Path:
    (folder / "client.secret").write_text(CLIENT_SECRET)
    (folder / "backend.key").write_text(key)
    base_url = f"http://127.0.0.1:{peer.port}/v1"
    file = folder / "anzoth.toml"
    file.write_text(f"""
[accounts]
sign_up = "open"
public_url = "{PUBLIC}"

[http]
trusted_proxies = ["127.0.0.1"]
max_body_bytes = {MAX_BODY_BYTES}

[[oidc]]
name = "corp"
issuer = "{provider.url}"
client_id = "{CLIENT_ID}"
client_secret_file = "{folder}/client.secret"
domains = ["example.com"]
tenant = "default"

[[backends]]
name = "far"
base_url = "{base_url}"
models = ["big", "vectors"]
api_key_env = "KEY_OF_FAR"

[[backends]]
name = "near"
base_url = "{base_url}"
models = ["big"]
api_key_file = "{folder}/backend.key"
""")
    return file


@contextlib.contextmanager
def running_world() -> Iterator[World]:
    """Started, with what its first start printed planted."""
    password = secrets.token_urlsafe(30)
    backend_key, backend_file_key = (f"sk-{secrets.token_urlsafe(30)}" for _ in range(2))
    with contextlib.ExitStack() as stack:
        folder, data_dir = (Path(tempfile.mkdtemp(prefix=f"anzoth-{n}-")) for n in ("conf", "db"))
        data_dir.chmod(0o711)
        stack.callback(shutil.rmtree, folder)
        stack.callback(shutil.rmtree, data_dir)
        database = Database(data_dir)
        database.start()
        stack.callback(database.stop)
        dsn = cluster.dsn_of(data_dir).replace("anzoth@", f"anzoth:{password}@")
        provider = stack.enter_context(oidc_provider())
        peer = stack.enter_context(running_peer())
        server = stack.enter_context(
            installation(
                ANZOTH_DATABASE_URL=dsn,
                ANZOTH_EMBEDDINGS="true",  # vector stores need a model for their vectors
                KEY_OF_FAR=backend_key,
                PYTHONFAULTHANDLER="1",
            )
        )
        file = _configuration(folder, peer, provider, backend_file_key)
        server.start("--config", str(file))
        world = World(server, database, provider, peer, dsn, file)
        stack.callback(lambda: world._client and world._client.close())
        world.plant("database password", password)
        world.plant("backend key", backend_key)
        world.plant("backend key of a file", backend_file_key)
        world.plant("OIDC client secret", CLIENT_SECRET)
        world.plant("pepper", (server.data_dir / "pepper").read_text().strip())
        world.plant("pepper, as bytes", world.pepper.secret)
        audit_key = (server.data_dir / "audit_key").read_text().strip()
        world.plant("audit key", audit_key)
        world.plant("audit key, as bytes", bytes.fromhex(audit_key))
        world.until_ready()  # the embedding engine starts last
        yield world


def totp_secret(text: str) -> bytes:
    return base64.b32decode(text)


def printed(log: str, pattern: str) -> str:
    found = set(re.findall(pattern, log))
    assert len(found) == 1, pattern
    return found.pop()
