"""No secret in any log, error, metric, dump: one installation with known secrets, driven through
every route and every way to fail, and then searched as a whole (see `canary_world`)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import asyncpg
import canary_places
import httpx2
import pytest
from canaries import MIN_PART, Canaries
from canary_batches import batches_come_and_go
from canary_drive import (
    CANNOT_SUCCEED_HERE,
    aliases,
    customers_ask,
    made_keys,
    people_come_and_go,
    scripted,
)
from canary_failures import (
    backends_misbehave,
    every_field_is_wrong,
    every_route_is_refused,
    limits_are_met,
    malformed_http,
    operators_type,
    parts_die,
)
from canary_files import files_come_and_go
from canary_organization import manage_organization
from canary_stores import stores_come_and_go
from canary_tools import tool_servers_come_and_go
from canary_world import (
    TEXTS,
    World,
    invented,
    printed,
    running_world,
)

from anzoth.api.call import Route
from anzoth.api.routes import ROUTES
from anzoth.db import pool
from anzoth.gateway import directory
from anzoth.http.router import Router

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_world() as made:
        made.plant_key("first key", printed(made.server.log(), r"  (anz-\w+_\w+)\n"))
        for name in (*TEXTS, "end user", "metadata"):
            made.plant(name, invented(f"The {name} says"))
        made.peer.script = scripted(made)
        drive(made)
        yield made


def drive(world: World) -> None:
    known = made_keys(world)
    tenant_id = asyncio.run(_tenant_id(world.dsn, "default"))
    world.plant("cache salt", world.pepper.cache_salt(tenant_id))
    aliases(world, known)
    operator = people_come_and_go(world)
    customers_ask(world, known)
    files_come_and_go(world, known)
    stores_come_and_go(world, known)
    tool_servers_come_and_go(world, known)
    batches_come_and_go(world, known)
    manage_organization(world, known.manages.text)
    limits_are_met(world, known)
    operators_type(world, known)
    every_route_is_refused(world, known)
    every_field_is_wrong(world, known, operator)
    malformed_http(world, known)
    backends_misbehave(world, known)
    parts_die(world, known)
    world.found += world.search()  # usage waits in the journal
    world.database.start()
    world.until_ready()
    for path in ("/metrics", "/readyz", "/healthz"):
        world.ask("GET", path)


async def _tenant_id(dsn: str, name: str) -> uuid.UUID:
    async with pool.operator(dsn) as connection:
        return (await directory.find_tenant(connection, name)).id


# --- the tests --------------------------------------------------------------------------------


def test_every_route_was_driven_to_success_too(world: World) -> None:
    router: Router[Route] = Router()
    for route in ROUTES:
        router.add(route.method, route.pattern, route)
    seen = set()
    for method, path in world.answered:
        route, _ = router.match(method, path)
        seen.add((route.method, route.pattern))
    missing = {(route.method, route.pattern) for route in ROUTES} - seen
    assert missing == set(CANNOT_SUCCEED_HERE), "drive the new route in this file"


def test_the_search_finds_what_is_planted_in_each_place(world: World) -> None:
    planted = Canaries()

    def plant(kind: str) -> str:
        secret = secrets.token_hex(20)
        planted.plant(kind, secret)
        return secret

    with (world.server.data_dir / "serve.log").open("a") as log:
        log.write(f"INFO gateway: {plant('serve.log')[5:30]}\n")
    asyncio.run(_warn(world.dsn, plant("postgres/log")))
    for name in ("stray", "journal/000000009999.journal", "pepper.old"):
        content = base64.b64encode(b"..." + plant(name).encode())
        (world.server.data_dir / name).write_bytes(content)
    tenant = plant("tenants")
    world.command("tenants", "create", tenant)
    error = json.dumps({"error": {"message": quote(plant("error"))}})
    world.heard("error", httpx2.Response(400, text=error, request=_REQUEST), ())
    inference = httpx2.Response(200, text=plant("answer"), request=_REQUEST)
    world.heard("answer", inference, ["first key"])
    found = world.search(planted)
    assert {f.secret for f in found} == set(planted.secrets)
    kinds = {f.place.partition(" ")[0] for f in found if f.secret == "tenants"}
    assert {"command:", "database:", "file:"} <= kinds  # in the table, and in its file or the log
    environment, argument = plant("environment"), plant("argument")
    with subprocess.Popen(
        [sys.executable, "-c", "input()", argument],
        stdin=subprocess.PIPE,
        env={"URL": f"postgresql://u:{environment}@h/x"},
    ) as process:
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes().endswith(b"\0"):
            time.sleep(0.01)
        shown = list(canary_places.processes({process.pid}, supervisor=0))
        process.communicate(b"\n")
    found = [f for place in shown for f in planted.seek(place.name, place.content)]
    assert {f.secret for f in found} == {"environment", "argument"}


_REQUEST = httpx2.Request("POST", "http://localhost/v1/x")


async def _warn(dsn: str, text: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"DO $$ BEGIN RAISE WARNING '{text}'; END $$")
    finally:
        await connection.close()


def test_no_process_leaves_its_memory_in_a_file(world: World) -> None:
    for pid in world.server.pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            limits = Path(f"/proc/{pid}/limits").read_text()
            (line,) = (line for line in limits.splitlines() if line.startswith("Max core file"))
            assert line.split()[4] == "0"


def test_no_secret_is_anywhere_but_where_it_belongs(world: World) -> None:
    found = [*world.found, *world.search()]
    assert world.server.stop() == 0
    found += world.search()  # with what was written down in the end
    # One line for each secret and kind of place: what is wrong once is often wrong often.
    assert not found, "\n".join({f"{f.secret} {f.place[:30]}": str(f) for f in found}.values())
    log = world.server.log()
    for name in ("first key", "bootstrap token"):
        secret = world.canaries.secrets[name].decode()
        assert 1 <= log.count(secret) <= 2  # the key also in the line that tries it


# --- the search itself --------------------------------------------------------------------------

SECRET = 'correct "hörse" battery/staple & more than that?'
DISGUISES: dict[str, Callable[[str], bytes]] = {
    "raw": str.encode,
    "hex": lambda text: text.encode().hex().encode(),
    "upper hex": lambda text: text.encode().hex().upper().encode(),
    "URL": lambda text: quote(text).encode(),
    "URL with every sign escaped": lambda text: quote(text, safe="").encode(),
    "form": lambda text: quote_plus(text).encode(),
    "JSON": lambda text: json.dumps(text).encode(),
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False).encode(),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"message": text})).encode(),
    **{
        f"base64 at {n}": lambda text, n=n: base64.b64encode(b"x" * n + text.encode() + b"y")
        for n in range(3)
    },
    "URL-safe base64": lambda text: base64.urlsafe_b64encode(text.encode()),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("offset", [0, 5, 100_003])
def test_a_secret_is_found_in_each_disguise(disguise: str, offset: int) -> None:
    canaries = Canaries()
    canaries.plant("it", SECRET)
    canaries.plant("another", "something else altogether")
    data = random.Random(1).randbytes(offset) + DISGUISES[disguise](SECRET) + b"\n" * 40
    (found,) = canaries.seek("here", data)
    assert (found.secret, found.place) == ("it", "here")
    assert offset <= found.offset < offset + len(SECRET) + 20
    assert canaries.seek("here", data, but=["it"]) == []


def test_a_part_of_twenty_characters_is_a_find_and_a_shorter_one_is_not() -> None:
    canaries, secret = Canaries(), secrets.token_hex(30)
    canaries.plant("it", secret)
    for start in range(len(secret) - MIN_PART):
        part = secret[start : start + MIN_PART]
        assert canaries.seek("", f"<{part}>"), start
        assert not canaries.seek("", f"<{part[1:]}>"), start
        assert canaries.seek("", part.encode().hex())
        assert canaries.seek("", base64.b64encode(part.encode() + b"zz")) or start % 3


def test_a_short_secret_is_found_only_whole() -> None:
    canaries = Canaries()
    canaries.plant("it", "x7Kq-92mP-Lw")
    assert canaries.seek("", "code=x7Kq-92mP-Lw;")
    assert not canaries.seek("", "code=x7Kq-92mP-L;")
    assert not canaries.seek("", "")
