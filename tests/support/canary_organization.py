"""What a tenant does with its projects, keys and service accounts over the API."""

from __future__ import annotations

from typing import Any

from canary_world import World

ORGANIZATION = "/v1/organization"


def manage_organization(world: World, admin: str) -> None:
    """Every route once, as it should be used. `admin`: an admin key."""

    def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
        reply = world.ask(method, ORGANIZATION + path, body, key=admin)
        assert reply.status_code == 200, (method, path, reply.text)
        return reply.json()

    def minted(name: str, path: str, body: object = None) -> dict[str, Any]:
        """The answer shows a new secret, this once."""
        answer = ask("POST", path, body)
        world.plant_key(name, (answer.get("api_key") or answer)["value"])
        world.allow_in_last({name})
        return answer

    projects, accounts_keys = "/projects", "key of a service account"
    project = ask("POST", projects, {"name": "canary"})["id"]
    ask("GET", projects)
    project = f"{projects}/{project}"
    ask("GET", project)
    ask("POST", project, {"name": "canaries"})
    keys = f"{project}/api_keys"
    key = f"{keys}/{minted('key over the API', keys, {'name': 'k'})['id']}"
    minted("rotated key over the API", f"{key}/rotate", {"grace_seconds": 60})
    ask("GET", keys)
    ask("GET", key)
    ask("POST", key, {"name": "renamed"})
    ask("DELETE", key)
    accounts = f"{project}/service_accounts"
    account = f"{accounts}/{minted(accounts_keys, accounts, {'name': 'robot'})['id']}"
    minted("second key of a service account", f"{account}/api_keys", {"name": "second"})
    ask("GET", accounts)
    ask("GET", account)
    ask("POST", account, {"name": "android"})
    ask("DELETE", account)
    limits = f"{project}/rate_limits"
    ask("GET", limits)
    ask("POST", f"{limits}/rl-*", {"max_requests_per_1_minute": 10})
    ask("DELETE", f"{limits}/rl-*")
    ask("POST", f"{project}/archive")
    admins = "/admin_api_keys"
    made = minted("admin key over the API", admins, {"name": "a", "expires_in_seconds": 3600})
    ask("GET", admins)
    ask("GET", f"{admins}/{made['id']}")
    ask("DELETE", f"{admins}/{made['id']}")
