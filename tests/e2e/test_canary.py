"""Does the secret of a key turn up anywhere but in the answer that made it?

Keys of every kind are made over the API and then used in all the wrong ways that there are: on each
route of the table, right and wrong, expired and revoked, in the header, the query, the path and the
fields of a body. Then answers, logs, metrics, the journal and a dump of the database are searched.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from anzoth.api.routes import ROUTES
from anzoth.db import embedded, programs
from installation import Installation

pytestmark = pytest.mark.slow

PROJECTS = "/v1/organization/projects"


def secret(key: str) -> str:
    """The half that is not public, without its checksum."""
    return key.partition("_")[2][:-6]


def created(client: httpx2.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def make_keys(client: httpx2.Client) -> dict[str, str]:
    """One of each kind and state."""
    project = created(client, PROJECTS, name="canary")["id"]
    keys, accounts = f"{PROJECTS}/{project}/api_keys", f"{PROJECTS}/{project}/service_accounts"
    everything = ["all", "usage:read"]
    revoked = created(client, keys, name="revoked")
    rotated = created(client, keys, name="rotated", scopes=everything)
    made = {
        "plain": created(client, keys, name="plain", scopes=everything)["value"],
        "powerless": created(client, keys, name="powerless", scopes=["usage:read"])["value"],
        "elsewhere": created(client, keys, name="far", networks=["192.0.2.1"])["value"],
        "limited": created(client, keys, name="limited", limits={"rpm": 1})["value"],
        "revoked": revoked["value"],
        "old": rotated["value"],
        "new": created(client, f"{keys}/{rotated['id']}/rotate")["value"],
        "robot": created(client, accounts, name="robot")["api_key"]["value"],
        "admin": created(
            client, "/v1/organization/admin_api_keys", name="a", expires_in_seconds=3600
        )["value"],
    }
    assert client.delete(f"{keys}/{revoked['id']}").status_code == 200
    return made


def misuse(client: httpx2.Client, keys: dict[str, str]) -> dict[str, httpx2.Response]:
    """Answers by what was done."""
    answers = {}
    wrong = {name: key[:-1] + ("0" if key[-1] != "0" else "1") for name, key in keys.items()}
    for route in ROUTES:
        path = re.sub(r"\{[^}]*\}", "x", route.pattern)
        for name, key in keys.items():
            if route.scope is None and name != "plain":
                continue  # whose it is does not matter there
            inside = re.sub(r"\{[^}]*\}", key, route.pattern)
            body = {
                **dict.fromkeys(("name", "model", "email", "password", "token", "role"), key),
                "user": key,
                "metadata": {"key": key},
                "messages": [{"role": key, "content": key}],
                "input": key,
                "scopes": [key],
                "limits": {key: 1},
                "expires_in_seconds": key,
            }
            right = {"authorization": f"Bearer {key}"}
            ways = {
                "right": right,
                "wrong": {"authorization": f"Bearer {wrong[name]}"},
                "scheme": {"authorization": key},
                "cookie": {"cookie": f"anzoth-session={key}"},
                "organization": {**right, "openai-organization": key},
            }
            for what, headers in ways.items():
                if what != "right" and name not in ("plain", "admin"):
                    continue
                answers[f"{route.method} {route.pattern} {name} {what}"] = client.request(
                    route.method,
                    inside if what == "right" else path,
                    params={"after": key, key: "1"} if what == "wrong" else {"limit": key},
                    json=body if route.takes_body else None,
                    headers=headers,
                )
    return answers


def dump(dsn: str) -> str:
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    pg_dump = programs.find(owner_of=Path(host)).folder / "pg_dump"
    return subprocess.run(
        [pg_dump, "--data-only", "--enable-row-security", "--role=anzoth_operator"]
        + ["--exclude-table=anzoth.migrations", f"--host={host}", "--username=anzoth"]
        + [f"--dbname={parts.path[1:]}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PGPORT": "5432"},
    ).stdout


def test_no_secret_is_in_any_answer_log_metric_file_or_dump(fragile_server: Installation) -> None:
    server = fragile_server
    admin = server.create_key("root", *("--scope", "admin", "--scope", "all", "--expires", "1d"))
    with server.client(admin) as client:
        keys = {**make_keys(client), "root": admin}
        del client.headers["authorization"]
        answers = misuse(client, keys)
        metrics = client.get("/metrics").text
    assert {200, 400, 401, 403, 404} <= {answer.status_code for answer in answers.values()}

    async def dumped() -> str:
        async with embedded.running(server.data_dir) as dsn:
            return await asyncio.to_thread(dump, dsn)

    assert server.stop() == 0  # so that all is written that will be
    places = {
        **{name: f"{answer.headers} {answer.text}" for name, answer in answers.items()},
        "metrics": metrics,
        "log": server.log(),
        "dump": asyncio.run(dumped()),
    }
    for file in server.data_dir.rglob("*"):
        if file.is_file() and "postgres" not in file.relative_to(server.data_dir).parts:
            places[str(file)] = file.read_bytes().decode(errors="replace")
    assert "anzoth.api_keys" in places["dump"]
    found = {
        f"{name} in {place}"
        for name, key in keys.items()
        for place, text in places.items()
        if secret(key) in text
    }
    assert not found
