"""Files come and go: what they hold and what they are called is shown to their project only, and
stands nowhere in clear. Nor do the keys that they are encrypted with."""

from __future__ import annotations

import asyncio
import hashlib
from uuid import UUID

import httpx2
from canary_drive import Keys
from canary_world import World, invented

from anzoth.db import pool
from anzoth.db.store import tenant_key_rows
from anzoth.gateway import directory, tenant_crypt

_NAME, _CONTENT = "file name", "file content"


def form(field: str, content: bytes, filename: str = "part") -> bytes:
    request = httpx2.Request(
        "POST",
        "http://x",
        data={"purpose": "user_data"},
        files={field: (filename, content)},
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    return request.read()


def files_come_and_go(world: World, known: Keys) -> None:
    key, kind = known.infers.text, "multipart/form-data; boundary=b"
    name: str = world.plant(_NAME, invented("The file name is")).replace('"', "'")
    world.plant("file name, as stored", name)
    shows = (_NAME, "file name, as stored")
    content: bytes = world.plant(_CONTENT, invented("The file content is")).encode()

    def ask(method: str, path: str, *more: str, **how: object) -> httpx2.Response:
        reply = world.ask(method, path, key=key, shows=(*shows, *more), **how)  # type: ignore[arg-type]  # of a helper's
        assert reply.status_code == 200, reply.text
        return reply

    made = ask(
        "POST", "/v1/files", content=form("file", content * 50, name), content_type=kind
    ).json()
    ask("GET", "/v1/files")
    path = f"/v1/files/{made['id']}"
    ask("GET", path)
    assert ask("GET", f"{path}/content", _CONTENT).content == content * 50
    for refused in (
        world.ask(
            "POST", "/v1/files", content=form("x", content, name), key=key, content_type=kind
        ),
        world.ask("POST", "/v1/files", content=content, key=key, content_type=kind),
        world.ask("GET", f"/v1/files?purpose={name[:40]}", key=key),
    ):
        assert refused.status_code == 400
    world.plant("master key", (world.server.data_dir / "master_key").read_text().strip())
    world.plant("data key", asyncio.run(_data_key(world)))
    ask("DELETE", path)
    announced = {
        "bytes": len(content), "filename": name, "mime_type": "text/plain", "purpose": "user_data"
    }  # fmt: skip
    for ending in ("complete", "cancel"):
        upload = ask("POST", "/v1/uploads", body=announced).json()
        path = f"/v1/uploads/{upload['id']}"
        part = ask("POST", f"{path}/parts", content=form("data", content), content_type=kind).json()
        if ending == "cancel":
            ask("POST", f"{path}/cancel")
            continue
        wrong = {"part_ids": [part["id"]], "md5": hashlib.md5(b"other").hexdigest()}
        refused = world.ask("POST", f"{path}/complete", wrong, key=key)
        assert refused.status_code == 400
        ask("POST", f"{path}/complete", body={"part_ids": [part["id"]]})


async def _data_key(world: World) -> bytes:
    master = tenant_crypt.load_master_key(world.server.data_dir)
    async with pool.operator(world.dsn) as connection:
        tenant_id: UUID = (await directory.find_tenant(connection, "default")).id
        wrapped = await tenant_key_rows.find_key(connection, tenant_id)
    assert wrapped is not None
    return master.unwrap(wrapped, tenant_id)
