"""Everything that people and programs do with an installation, as it should be done."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import openai_peer
from canary_world import (
    TEXTS,
    Person,
    World,
    invented,
    printed,
    totp_secret,
)

from anzoth.db import pool
from anzoth.gateway import directory, key_changes, keys
from anzoth.gateway.accounts import people, totp
from anzoth.gateway.directory import KeyRequest
from anzoth.gateway.keys import Key
from anzoth.gateway.limit_rules import Limits
from anzoth.gateway.scopes import MANAGEMENT_SCOPES

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
RESPONSES = "/v1/responses"
CONVERSATIONS = "/v1/conversations"
CANNOT_SUCCEED_HERE = {
    ("POST", RERANK): "no reranker ships with the product",
}


@dataclass
class Keys:
    infers: Key
    manages: Key
    limited: Key
    expired: Key
    revoked: Key
    forged: Key
    """With the kid of a real one, and a right checksum."""

    def broken(self) -> list[Key]:
        return [self.expired, self.revoked, self.forged]


# --- the drive --------------------------------------------------------------------------------


def made_keys(world: World) -> Keys:
    def make(name: str, **more: Any) -> directory.CreatedKey:
        request = KeyRequest("default", name, **more)
        made = asyncio.run(directory.create_key(world.dsn, world.pepper, request))
        world.plant_key(f"key {name}", made.key.text)
        return made

    infers = make("infers", scopes=("all",))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    manages = make("manages", scopes=(*MANAGEMENT_SCOPES, "all"), expires_at=tomorrow)
    revoked, rotated = make("revoked"), make("rotated")
    asyncio.run(directory.revoke_key(world.dsn, revoked.key.kid))
    turned = asyncio.run(
        key_changes.rotate_key(world.dsn, world.pepper, rotated.key.kid, timedelta(hours=1))
    )
    world.plant_key("key after a rotation", turned.key.text)
    for key in (rotated.key, turned.key):
        assert world.ask("GET", "/v1/models", key=key.text).status_code == 200
    soon = datetime.now(UTC) + timedelta(seconds=0.05)
    expired = make("expired", expires_at=soon)
    limited = make("limited", scopes=("all",), limits=Limits(rpm=1))
    while datetime.now(UTC) < soon:
        time.sleep(0.01)
    half = f"anz-{infers.key.kid}_" + "x" * 10 + secrets.token_hex(13)
    forged = Key(infers.key.kid, half + keys._checksum(half))
    world.plant_key("key that is forged", forged.text)
    return Keys(infers.key, manages.key, limited.key, expired.key, revoked.key, forged)


def people_come_and_go(world: World) -> Person:
    """Everything that an account can do. Returns somebody who stays."""
    password, new = world.plant("password", f"pw-{secrets.token_urlsafe(24)}"), "password 2"
    new = world.plant(new, f"pw-{secrets.token_urlsafe(24)}")
    operator, ann, bob, again = Person(), Person(), Person(), Person()
    token = world.plant(
        "bootstrap token", printed(world.server.log(), r'"token": "([A-Za-z0-9_-]{43})"')
    )
    given = {"token": token, "email": "op@example.com", "password": password}
    world.ask_person(operator, "POST", "/v1/auth/bootstrap", given)
    email = {"email": "ann@example.com", "password": password}
    world.ask_person(ann, "POST", "/v1/auth/sign-up", {**email, "organization": "acme"})
    session = world.ask_person(ann, "GET", "/v1/auth/session")
    chosen = {"organization_id": session["organization_id"]}
    world.ask_person(ann, "POST", "/v1/auth/session", chosen)
    invited = world.ask_person(
        ann, "POST", "/v1/organization/invites",
        {"email": "bob@example.com", "role": "member"}, token="invitation token",
    )  # fmt: skip
    invites = "/v1/organization/invites"
    world.ask_person(ann, "GET", invites)
    world.ask_person(ann, "GET", f"{invites}/{invited['id']}")
    token = {"token": invited["token"]}
    world.ask("POST", "/v1/auth/invitations/show", token)
    joined = world.ask_person(
        bob, "POST", "/v1/auth/invitations/accept", {**token, "password": password}
    )
    other = world.ask_person(
        ann, "POST", invites, {"email": "x@example.com", "role": "viewer"},
        token="second invitation token",
    )  # fmt: skip
    world.ask_person(ann, "DELETE", f"{invites}/{other['id']}")
    second_factors(world, ann, again, email)
    world.ask_person(
        ann, "POST", "/v1/auth/password", {"current_password": password, "new_password": new}
    )
    members(world, ann, joined["user"]["id"])
    reset = asyncio.run(people.reset_password(world.dsn, world.vault, "ann@example.com"))
    world.plant("reset token", reset.token)
    given = {"token": reset.token, "new_password": password}
    assert world.ask("POST", "/v1/auth/password/reset", given).status_code == 200
    single_sign_on(world)
    world.ask_person(again, "POST", "/v1/auth/sign-in", email)
    world.ask_person(again, "POST", "/v1/auth/sign-out")
    world.ask_person(again, "POST", "/v1/auth/sign-in", email)
    ended = world.ask_person(again, "GET", "/v1/auth/sessions")["data"][0]["id"]
    world.ask_person(again, "DELETE", "/v1/auth/sessions")
    world.ask_person(again, "DELETE", f"/v1/auth/sessions/{ended}")
    for wrong in ({**email, "password": new}, {**email, "email": "nobody@example.com"}):
        assert world.ask("POST", "/v1/auth/sign-in", wrong).status_code == 401
    return operator


def second_factors(world: World, ann: Person, again: Person, email: dict[str, str]) -> None:
    password = {"password": email["password"]}
    enrolled = world.ask_person(ann, "POST", "/v1/auth/totp", password, secret="TOTP secret")
    secret = world.plant("TOTP secret, as bytes", totp_secret(enrolled["secret"]))
    assert world.ask("POST", "/v1/auth/totp/confirm", {"code": "1"}, person=ann).status_code == 401
    code = totp.code_at(secret, int(time.time() // 30))
    confirmed = world.ask_person(ann, "POST", "/v1/auth/totp/confirm", {"code": code})
    known = _recovery_codes(world, confirmed, "recovery code")
    world.ask_person(again, "POST", "/v1/auth/sign-in", email)
    for wrong in ("000000", known[0][:-1], world.canaries.secrets["TOTP secret"].decode()):
        body = {"code": wrong}
        assert world.ask("POST", "/v1/auth/second-factor", body, person=again).status_code == 401
    world.ask_person(again, "POST", "/v1/auth/second-factor", {"code": known[0]})
    replaced = world.ask_person(ann, "POST", "/v1/auth/recovery-codes", password)
    _recovery_codes(world, replaced, "new recovery code")
    world.ask_person(ann, "POST", "/v1/auth/totp/disable", password)


def _recovery_codes(world: World, answer: dict[str, Any], name: str) -> list[str]:
    """Planted; the answer that was just given is made to show them."""
    names = [f"{name} {number}" for number, _ in enumerate(answer["recovery_codes"])]
    for each, code in zip(names, answer["recovery_codes"], strict=True):
        world.plant(each, code)
    world.allow_in_last(names)
    return answer["recovery_codes"]


def members(world: World, ann: Person, user_id: str) -> None:
    users = "/v1/organization/users"
    world.ask_person(ann, "GET", users)
    world.ask_person(ann, "GET", f"{users}/{user_id}")
    world.ask_person(ann, "POST", f"{users}/{user_id}", {"role": "viewer"})
    project = asyncio.run(_default_project(world.dsn, "acme"))
    inside = f"/v1/organization/projects/{project}/users"
    world.ask_person(ann, "GET", inside)
    world.ask_person(ann, "GET", f"{inside}/{user_id}")
    world.ask_person(ann, "POST", f"{inside}/{user_id}", {"role": "owner"})
    world.ask_person(ann, "DELETE", f"{inside}/{user_id}")
    world.ask_person(ann, "POST", inside, {"user_id": user_id, "role": "member"})
    world.ask_person(ann, "DELETE", f"{users}/{user_id}")


async def _default_project(dsn: str, tenant: str) -> uuid.UUID:
    async with pool.operator(dsn) as connection:
        found = await directory.find_tenant(connection, tenant)
        return (await directory.find_project(connection, found, None)).id


def single_sign_on(world: World) -> None:
    world.ask("GET", "/v1/auth/oidc")
    start = "/v1/auth/oidc/corp"
    for problem in (None, "nonce", "code"):
        person = Person()
        started = world.ask("GET", start, person=person)
        location = started.headers["location"]
        asked = httpx2.URL(location).params
        for name in ("state", "nonce"):
            world.plant(f"OIDC {name} {asked[name][:4]}", asked[name])
        world.answers.pop()  # it is there to hand these to the browser
        world.provider.claims = {"nonce": "another"} if problem == "nonce" else {}
        query = world.provider.sign_in(location, "1", email="corp@example.com", name="Corp")
        for code in world.provider.codes:
            world.plant(f"OIDC code {code[:4]}", code)
        if problem == "code":
            world.provider.codes.clear()
        reply = world.ask("GET", f"{start}/callback?{query}", person=person)
        assert reply.status_code == (200 if problem is None else 401), reply.text
        if problem is None:
            world.answers.pop()  # a session, as others
    for number, secret in enumerate(world.provider.handed_out):
        world.plant(f"OIDC secret {number}", secret)
    world.ask("GET", f"{start}/callback?{query}&code={query}")


def customers_ask(world: World, known: Keys) -> None:
    """All that inference and its management do, as they should."""
    infers, manages = known.infers.text, known.manages.text
    for model in ("anzoth-default", "far-alias"):
        for stream in (False, True):
            body = {**good(world)[CHAT], "model": model, "stream": stream}
            if model == "far-alias":
                del body["documents"]
            reply = world.ask("POST", CHAT, body, key=infers)
            assert reply.status_code == 200, reply.text
    for path in (COMPLETIONS, EMBEDDINGS):
        reply = world.ask("POST", path, good(world)[path], key=infers)
        assert reply.status_code == 200, reply.text
    id = reply.headers["x-request-id"]
    deadline_s = time.monotonic() + 10
    while world.ask("GET", f"/v1/requests/{id}", key=infers).status_code != 200:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    responses_are_kept(world, infers)
    conversations_are_kept(world, infers)
    for path in ("/v1/models", "/v1/models/anzoth-default", "/v1/usage"):
        assert world.ask("GET", path, key=infers).status_code == 200
    organization = "/v1/organization"
    start = f"start_time={int(time.time()) - 3600}"
    for path in (
        *(f"usage/{kind}?{start}" for kind in ("completions", "embeddings", "rerank")),
        *(f"costs?{start}", f"usage/completions?{start}&bucket_width=1m&format=csv"),
        *("audit_logs", "audit_logs?limit=100"),
    ):
        assert world.ask("GET", f"{organization}/{path}", key=manages).status_code == 200, path
    for path in ("/healthz", "/readyz", "/metrics"):
        assert world.ask("GET", path).status_code == 200


def responses_are_kept(world: World, key: str) -> None:
    """And read again, gone on from, and deleted."""
    body = good(world)[RESPONSES]

    def ask(method: str, path: str, body: object = None) -> httpx2.Response:
        reply = world.ask(method, RESPONSES + path, body, key=key)
        assert reply.status_code == 200, reply.text
        return reply

    made = ask("POST", "", body).json()
    assert made["store"]
    assert b"response.incomplete" in ask("POST", "", {**body, "stream": True}).content
    further = {"model": "anzoth-default", "previous_response_id": made["id"]}
    ask("POST", "", {**further, "input": "And?", "max_output_tokens": 1})
    ask("POST", "/input_tokens", {**further, "input": "And?"})
    ask("GET", f"/{made['id']}/input_items")
    ask("GET", f"/{made['id']}")
    deleted = ask("POST", "", body).json()
    ask("DELETE", f"/{deleted['id']}")
    responses_are_made_in_the_background(ask, body)


def responses_are_made_in_the_background(
    ask: Callable[[str, str, object], httpx2.Response], body: dict[str, Any]
) -> None:
    """And cancelled, while they run or when they have ended."""
    cancelled = ask("POST", "", {**body, "background": True}).json()
    ask("POST", f"/{cancelled['id']}/cancel", {})
    ended = ask("POST", "", {**body, "background": True}).json()
    deadline_s = time.monotonic() + 10
    while ask("GET", f"/{ended['id']}", None).json()["status"] not in ("completed", "incomplete"):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    ask("POST", f"/{ended['id']}/cancel", {})


def conversations_are_kept(world: World, key: str) -> None:
    """And added to, by responses too, read again and deleted."""
    body = good(world)[RESPONSES]
    items, metadata = body["input"], body["metadata"]

    def ask(method: str, path: str, body: object = None) -> Any:
        reply = world.ask(method, path, body, key=key)
        assert reply.status_code == 200, reply.text
        return reply.json()

    made = ask("POST", CONVERSATIONS, {"items": items, "metadata": metadata})
    path = f"{CONVERSATIONS}/{made['id']}"
    added = ask("POST", f"{path}/items", {"items": items[:1]})["data"][0]["id"]
    ask("POST", RESPONSES, {**body, "conversation": made["id"]})
    assert len(ask("GET", f"{path}/items?limit=100")["data"]) > 2 * len(items)
    ask("GET", f"{path}/items/{added}")
    ask("DELETE", f"{path}/items/{added}")
    ask("GET", path)
    ask("POST", path, {"metadata": metadata})
    ask("DELETE", f"{CONVERSATIONS}/{ask('POST', CONVERSATIONS, {'items': items})['id']}")


def aliases(world: World, known: Keys) -> None:
    prompt, path = (
        world.plant("alias prompt", invented("Answer as")),
        "/v1/organization/model_aliases",
    )
    made, far = {}, {"model": "big", "backend": "far"}
    for name, targets in (
        ("far-alias", [far, {"model": "big", "backend": "near", "weight": 0}]),
        ("vectors-alias", [{"model": "vectors", "backend": "far"}]),
        ("short-lived", [{"model": "anzoth-default"}]),
    ):  # fmt: skip
        body = {"name": name, "targets": targets}
        if name != "vectors-alias":
            body |= {"system_prompt": prompt, "defaults": {"stop": prompt[:60]}}
        reply = world.ask("POST", path, body, key=known.manages.text)
        assert reply.status_code == 200, reply.text
        made[name] = reply.json()["id"]
    own = f"{path}/{made['short-lived']}"
    for method, where, body in (
        ("GET", path, None), ("GET", own, None), ("POST", own, {"sticky": True}),
        ("DELETE", own, None),
    ):  # fmt: skip
        reply = world.ask(method, where, body, key=known.manages.text)
        assert reply.status_code == 200, reply.text


def good(world: World) -> dict[str, dict[str, Any]]:
    """A request for each inference route, full of secrets."""
    said = {name: world.canaries.secrets[name].decode() for name in TEXTS}
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": json.dumps({"where": said["tool argument"]})},
    }
    tool = {"type": "function", "function": {"name": "look", "description": said["prompt"]}}
    messages = [
        {"role": "system", "content": said["prompt"]},
        {"role": "user", "content": said["prompt"]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": said["answer"]},
    ]
    kept = {
        "user": world.canaries.secrets["end user"].decode(),
        "metadata": {"team": world.canaries.secrets["metadata"].decode()},
    }
    return {
        CHAT: {
            "model": "anzoth-default",
            "messages": messages,
            "tools": [tool],
            "documents": [{"title": said["document"], "text": said["document"]}],
            "max_tokens": 2,
            **kept,
        },
        RESPONSES: {
            "model": "anzoth-default",
            "instructions": said["prompt"],
            "input": [
                {"role": "user", "content": said["prompt"]},
                {"type": "function_call", "call_id": "call_1", **call["function"]},
                {"type": "function_call_output", "call_id": "call_1", "output": said["answer"]},
            ],
            "tools": [{"type": "function", **tool["function"]}],
            "max_output_tokens": 2,
            **kept,
        },
        COMPLETIONS: {"model": "anzoth-default", "prompt": said["prompt"], "max_tokens": 2},
        EMBEDDINGS: {"model": "vectors-alias", "input": [said["document"]]},
        RERANK: {
            "model": "anzoth-default",
            "query": said["prompt"],
            "documents": [said["document"]],
        },
    }


def scripted(world: World) -> Callable[[openai_peer.Asked], openai_peer.Script]:
    answer = world.canaries.secrets["answer"].decode()

    def script(asked: openai_peer.Asked) -> openai_peer.Script:
        if asked.path.endswith("/embeddings"):
            data = [{"index": 0, "embedding": [0.25] * 4, "object": "embedding"}]
            answered = {"object": "list", "data": data, "usage": {"prompt_tokens": 3}}
            return openai_peer.Script([openai_peer.head(), json.dumps(answered).encode()])
        if asked.body.get("stream"):
            return openai_peer.Script(openai_peer.chat_stream(answer[:30], answer[30:]))
        return openai_peer.Script(openai_peer.chat_whole(answer))

    return script
