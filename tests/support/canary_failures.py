"""Every way in which an installation can be used wrongly or be hurt, with secrets in each."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import httpx2
from canary_drive import CHAT, COMPLETIONS, Keys, good, scripted
from canary_places import Place
from canary_world import (
    MAX_BODY_BYTES,
    Person,
    World,
)
from openai_peer import Script, chat_stream, error, event, head

from anzoth.api import requests, response_items, response_requests, tool_server_fields
from anzoth.api.call import Route
from anzoth.api.routes import ROUTES


def filled(route: Route, value: str) -> str:
    return re.sub(r"\{\w+(:path)?\}", value, route.pattern)


def mistyped(secret: str) -> str:
    return secret[:-1] + ("y" if secret.endswith("x") else "x")


def every_route_is_refused(world: World, known: Keys) -> None:
    """Whoever asks with what does not work, and puts what works where it does not belong."""
    secret = known.infers.text
    for route in ROUTES:
        path = filled(route, str(uuid.uuid4()))
        key = (
            known.infers if route.inference or route.scope == "models:read" else known.manages
        ).text
        for wrong in known.broken():
            world.ask(route.method, path, {}, key=wrong.text)
        world.ask(route.method, path, {}, key=mistyped(secret))
        world.ask(route.method, path, {}, authorization=secret)
        world.ask(route.method, path, {}, authorization=f"Basic {secret}")
        world.ask(route.method, path, {}, x_api_key=secret, api_key=secret, user_agent="x")
        world.ask(route.method, path, {}, cookie=f"__Host-anzoth-session={secret}")
        world.ask(route.method, path, {}, person=Person(secret, secret))
        world.ask(route.method, f"{path}?key={secret}&{secret}=1&after={secret}", {}, key=key)
        world.ask(route.method, filled(route, secret), {}, key=key)
        world.ask("PUT", filled(route, secret), {}, key=key)
        world.ask("GET", f"{path}/{secret}/x", key=key)
        if not route.takes_body:
            continue
        text = world.canaries.secrets["prompt"].decode()
        for content in (
            json.dumps({"model": secret, "prompt": text}).encode()[:-1],
            json.dumps([secret, text]).encode(),
            b"\xff" + secret.encode(),
            b"x" * MAX_BODY_BYTES + secret.encode(),
        ):
            world.ask(route.method, path, content=content, key=key)
        world.ask(
            route.method, path, content=secret.encode(), key=key, content_type=f"text/{secret}"
        )


QUOTED = {"response_format", "structured_outputs", "tools"}
"""A grammar that cannot be used is quoted where it breaks, in the answer and nowhere else."""
STORED_FIELDS = {"user": "end user", "safety_identifier": "end user", "metadata": "metadata"}
PUBLIC_FIELDS = {"name", "email", "organization"}
"""What people call themselves and their tenant."""
NAMES = {"model"}
"""Kept as they are given, but for keys."""


def fields_of(route: Route) -> set[str]:
    """As the module that answers names them, or those tables that it uses."""
    module = inspect.getmodule(route.handler)
    assert module is not None
    source = inspect.getsource(module)
    used = {getattr(value, "__module__", "") for value in vars(module).values()}
    for table in (requests, response_requests, response_items, tool_server_fields):
        if table.__name__ in used:
            source += inspect.getsource(table)
    return set(re.findall(r'Field\(\s*"(\w+)"', source))


def every_field_is_wrong(world: World, known: Keys, victim: Person) -> None:
    """Each field of each body holds what it should not, in shapes that it has or does not have."""
    text, secret = world.canaries.secrets["prompt"].decode(), known.infers.text
    for route in ROUTES:
        if not route.takes_body:
            continue
        path = filled(route, str(uuid.uuid4()))
        base = good(world).get(route.pattern, {})
        who: dict[str, Any] = {"key": known.manages.text}
        if route.scope == "chat" or route.inference:
            who = {"key": known.infers.text}
        elif route.session:
            who = {"person": victim}
        for name in sorted(fields_of(route) - PUBLIC_FIELDS):
            own = STORED_FIELDS.get(name)
            value = text if own is None else world.canaries.secrets[own].decode()
            shapes = [secret, value, [{value: secret, "type": value}]]
            if name in NAMES:
                shapes.remove(value)
            for shape in shapes:
                world.ask(route.method, path, {**base, name: shape}, **who)
    schema = {"type": "object", "properties": {text: {"pattern": f"({text}", "type": secret}}}
    form = {"name": "x", "schema": schema, "strict": True}
    function = {"name": "f", "parameters": schema, "strict": True}
    for body in (
        {"response_format": {"type": "json_schema", "json_schema": form}},
        {"structured_outputs": {"regex": f"({text}"}},
        {"structured_outputs": {"grammar": f"{text}"}},
        {"tools": [{"type": "function", "function": function}]},
        {"tool_choice": {"type": "function", "function": {"name": secret}}},
        {"model": secret}, {"service_tier": secret}, {"n": 10**9},
        {"max_tokens": 10**8}, {"messages": good(world)[CHAT]["messages"] * 60},
    ):  # fmt: skip
        shows = {"prompt", "key infers"} if body.keys() & QUOTED else ()  # to whom sent it
        sent = {**good(world)[CHAT], **body}
        reply = world.ask("POST", CHAT, sent, key=known.infers.text, shows=shows)
        assert reply.status_code >= 400, (body, reply.text)


def malformed_http(world: World, known: Keys) -> None:
    secret = known.infers.text.encode()
    host = b"Host: ai.example.com\r\n"
    bearer = b"Authorization: Bearer " + secret
    for content in (
        b"GET /v1/models?key=" + secret + b" HTTP/9.9\r\n" + host + b"\r\n",
        b"GET " + secret + b"\r\n\r\n",
        secret + b" / HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /" + secret * 2000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"GET / HTTP/1.1\r\n" + host + bearer.replace(b":", b"") + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + host + secret + b": x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + host + bearer + b"\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + host + bearer * 2000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + bearer + b"\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + host + bearer + b"\r\ncontent-length: "
        + secret + b"\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + host + bearer
        + b"\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + secret,
        b"POST /v1/completions HTTP/1.1\r\n" + host + bearer
        + b"\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n" + secret,
        b"\x16\x03\x01" + secret,
    ):  # fmt: skip
        world.ask_raw(content)


def backends_misbehave(world: World, known: Keys) -> None:
    """They answer with our own key, and with what the customer said."""
    quoted = " ".join(
        world.canaries.secrets[name].decode()
        for name in ("backend key", "backend key of a file", "prompt")
    )
    field = {"param": "messages", "code": quoted[:60]}
    for script in (
        *(error(status, quoted, **field) for status in (400, 401, 429, 500)),
        Script([head(), quoted.encode()]),
        Script([head(content_type="text/event-stream"), b"data: " + quoted.encode() + b"\n\n"]),
        Script([quoted.encode()]),
        Script([head(302, location=f"http://h/{quoted.encode().hex()}")]),
        Script([*chat_stream(quoted)[:4], event({"error": quoted})]),
        Script([], "reset"),
    ):  # fmt: skip
        world.peer.script = lambda asked, script=script: script
        for stream in (False, True):
            body = {**good(world)[CHAT], "model": "far-alias", "stream": stream}
            del body["documents"]
            world.ask("POST", CHAT, body, key=known.infers.text)
    world.peer.script = scripted(world)


def limits_are_met(world: World, known: Keys) -> None:
    body = good(world)[COMPLETIONS]
    statuses = [
        world.ask("POST", COMPLETIONS, body, key=known.limited.text).status_code for _ in range(3)
    ]
    assert statuses[-1] == 429


def operators_type(world: World, known: Keys) -> None:
    secret = known.infers.text
    made = json.loads(
        _minted(
            world,
            "key",
            "key of a command",
            "keys",
            "create",
            "--tenant",
            "default",
            "--name",
            "c",
            "--json",
        )
    )
    _minted(world, "key", "rotated key of a command", "keys", "rotate", made["id"], "--json")
    _minted(world, "token", "user's token", "users", "create", "cli@example.com", "--json")
    _minted(
        world,
        "token",
        "invitation of a command",
        "invites",
        "create",
        "i@example.com",
        "--tenant",
        "default",
        "--json",
    )
    for arguments in (
        ["doctor"], ["keys", "list"], ["keys", "list", "--json"], ["tenants", "list"],
        ["users", "list", "--json"], ["invites", "list", "--tenant", "default", "--json"],
        ["aliases", "list", "--tenant", "default"], ["audit", "list", "--limit", "1000"],
        ["audit", "key"], ["audit", "verify"], ["usage", "--csv", "--by", "key"],
        ["models", "list"], ["keys", "revoke", made["id"]], ["migrate"],
        ["tools", "list", "--tenant", "default"],
    ):  # fmt: skip
        world.command(*arguments)
    world.command("aliases", "list", "--tenant", "default", "--json", shows=["alias prompt"])
    for arguments in (
        ["keys", "revoke", mistyped(secret)], ["keys", "update", secret[:-2], "--name", "x"],
        ["keys", "create", "--tenant", "default", "--name", secret],
        ["tenants", "create", secret],
        ["keys", "create", "--tenant", secret, "--name", "x"],
        ["keys", "create", "--tenant", "default", "--name", "x", "--scope", secret],
    ):  # fmt: skip
        world.command(*arguments, status=1)
    for wrong in ("mysql://", "postgresql://nobody:{}@127.0.0.1:1/x", "postgresql://u:{}@h:port/x"):
        password = world.canaries.secrets["database password"].decode()
        url = f"{wrong}u:{password}@h/x" if "{}" not in wrong else wrong.format(password)
        world.command("keys", "list", "--database-url", url, status=1)
    folder = world.config_file.parent
    world.command("audit", "export", str(folder / "audit.jsonl"))
    world.answers.append(Place("command", "the export", (folder / "audit.jsonl").read_bytes()))


def _minted(world: World, field: str, name: str, *arguments: str) -> str:
    """A command that shows a secret once."""
    said = world.command(*arguments)
    secret = json.loads(said)[field]
    world.plant_key(name, secret) if secret.startswith("anz-") else world.plant(name, secret)
    world.allow_in_last([name])
    return said


def child_pid(world: World, module: str) -> int:
    """Of several engines that of the chat model, which is started first."""
    running = [
        pid
        for pid in world.server.pids()
        if module in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    ]
    assert running, f"no process runs {module}"
    return min(running, key=_started_at)


def _started_at(pid: int) -> int:
    """In ticks since the machine's start (proc(5): field 22, and the third is behind the name)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[22 - 3])


def parts_die(world: World, known: Keys) -> None:
    """Engine and gateway by a signal that dumps their stacks, and the database, amid requests."""
    endless = {**good(world)[CHAT], "stream": True, "max_tokens": 1500, "ignore_eos": True}

    def stream() -> None:
        try:
            world.ask("POST", CHAT, endless, key=known.infers.text)
        except httpx2.TransportError:
            pass

    for module in ("anzoth.scheduler.process", "anzoth.server"):
        before = world.server.log().count("Fatal Python error: Aborted")
        thread = threading.Thread(target=stream)
        thread.start()
        time.sleep(0.3)
        os.kill(child_pid(world, module), signal.SIGABRT)
        thread.join()
        if module != "anzoth.server":
            refused = world.ask("POST", CHAT, good(world)[CHAT], key=known.infers.text)
            assert refused.status_code == 502
        world.until_ready()
        assert world.server.log().count("Fatal Python error: Aborted") == before + 1
    world.database.stop()
    for path, body in good(world).items():
        world.ask("POST", path, body, key=known.limited.text)
        world.ask("POST", path, body, key=known.infers.text)
    email = {"email": "ann@example.com", "password": world.canaries.secrets["password"].decode()}
    assert world.ask("POST", "/v1/auth/sign-in", email).status_code == 503
    for path in ("/readyz", "/metrics", "/v1/organization/audit_logs", "/v1/usage"):
        world.ask("GET", path, key=known.manages.text)
    world.command("keys", "list", status=1)
