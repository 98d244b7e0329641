"""People before a running server, over a socket: from the first start's token to an invitation."""

from __future__ import annotations

import re
import time

import httpx2
import openai
import pytest

from installation import Installation, installation

pytestmark = pytest.mark.slow

PASSWORD = "correct horse battery staple"


def printed_tokens(server: Installation, count: int) -> list[str]:
    """A server that is ready has yet to say so."""
    deadline_s = time.monotonic() + 10
    while len(found := re.findall(r'"token": "([A-Za-z0-9_-]{43})"', server.log())) < count:
        assert time.monotonic() < deadline_s, server.log()
        time.sleep(0.02)
    return found


def call(client: httpx2.Client, path: str, csrf_token: str = "", **body: object) -> httpx2.Response:
    headers = {"x-csrf-token": csrf_token, "origin": str(client.base_url).rstrip("/")}
    return client.post(f"/v1/auth/{path}", json=body, headers=headers)


def test_the_first_start_makes_the_operator_who_invites_the_others() -> None:
    with installation() as server:
        server.start()
        (token,) = printed_tokens(server, 1)
        assert server.stop() == 0
        server.start()
        old, token = printed_tokens(server, 2)
        with server.client(None) as operator, server.client(None) as bob:
            email = {"email": "op@example.com", "password": PASSWORD}
            assert call(operator, "bootstrap", token=old, **email).status_code == 401
            made = call(operator, "bootstrap", token=token, **email)
            assert made.status_code == 200
            assert made.headers["set-cookie"].startswith("anzoth-session=")
            csrf_token = made.json()["csrf_token"]
            body = {"email": "bob@example.com", "role": "member"}
            refused = operator.post("/v1/organization/invites", json=body)
            assert refused.json()["error"]["code"] == "csrf_refused"
            invited = operator.post(
                "/v1/organization/invites", json=body, headers={"x-csrf-token": csrf_token}
            ).json()
            accepted = call(bob, "invitations/accept", token=invited["token"], password=PASSWORD)
            assert accepted.json()["user"]["email"] == "bob@example.com"
            assert call(bob, "sign-out", accepted.json()["csrf_token"]).status_code == 200
            assert bob.get("/v1/auth/session").status_code == 401
            wrong = call(bob, "sign-in", email="bob@example.com", password="not the password")
            assert wrong.json()["error"]["code"] == "invalid_credentials"
            right = call(bob, "sign-in", email="bob@example.com", password=PASSWORD)
            assert right.status_code == 200
            users = bob.get("/v1/organization/users").json()["data"]
            assert [user["email"] for user in users] == ["op@example.com", "bob@example.com"]
            assert bob.get("/v1/models").status_code == 200
            server.cli("users", "disable", "bob@example.com")
            assert bob.get("/v1/models").status_code == 401
        assert server.stop() == 0
        for secret in (PASSWORD, invited["token"], csrf_token):
            assert secret not in server.log()


def test_the_openai_sdk_manages_members_and_invitations(server: Installation) -> None:
    scopes = [("--scope", scope) for scope in ("users:read", "users:write", "invites:write")]
    key = server.create_key("manages", *(part for pair in scopes for part in pair))
    made = server.cli(
        "users", "create", "ann@example.com", "--tenant", "default", "--role", "viewer"
    )
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="", admin_api_key=key) as client:
        organization = client.admin.organization
        user = organization.users.retrieve(made["id"])
        assert (user.email, user.role) == ("ann@example.com", "viewer")
        changed = organization.users.update(made["id"], role="reader")
        assert changed.role == "member"
        emails = [f"user{number}@example.com" for number in range(3)]
        invites = [organization.invites.create(email=email, role="reader") for email in emails]
        assert [invite.email for invite in organization.invites.list(limit=2)] == emails  # paged
        assert organization.invites.delete(invites[0].id).deleted
        assert organization.users.delete(made["id"]).deleted
        with pytest.raises(openai.NotFoundError):
            organization.users.retrieve(made["id"])
        with pytest.raises(openai.PermissionDeniedError):
            organization.invites.create(email="boss@example.com", role="owner")
