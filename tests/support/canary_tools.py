"""Tool servers come and go: what opens them stands nowhere in clear and is shown to nobody."""

from __future__ import annotations

import secrets
from typing import Any

from canary_drive import Keys
from canary_world import World, invented

_SERVERS = "/v1/tool_servers"
_SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}


def tool_servers_come_and_go(world: World, known: Keys) -> None:
    """One that is a template, and one that nobody may reach."""
    description = world.plant("tool description", invented("The tool gives"))
    secret = world.plant("tool credentials", secrets.token_hex(20))
    another = world.plant("changed tool credentials", secrets.token_hex(20))

    def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
        reply = world.ask(
            method, _SERVERS + path, body, key=known.manages.text, shows=["tool description"]
        )
        assert reply.status_code == 200, reply.text
        return reply.json()

    headers = {"headers": {"authorization": f"Bearer {secret}"}}
    tool = {"name": "get", "description": description, "input_schema": _SCHEMA}
    template = {"label": "erp", "kind": "http", "url": "https://erp.invalid/{id}", "tool": tool}
    made = ask("POST", "", {**template, "credentials": headers})
    far = {"label": "crm", "kind": "mcp", "url": "https://crm.invalid/mcp", "credentials": headers}
    ask("POST", "", far)
    path = f"/{made['id']}"
    ask("GET", "")
    ask("GET", path)
    ask("POST", path, {"credentials": {"headers": {"x-api-key": another}}})
    ask("POST", f"{path}/withdraw", {"tools": ["get"]})
    seen = [{"name": "get", "digest": made["tools"][0]["digest"]}]
    ask("POST", f"{path}/approve", {"tools": seen})
    ask("POST", f"{path}/refresh")
    for wrong in (
        {**far, "label": secret},
        {**far, "url": f"https://u:{secret}@crm.invalid/"},
        {**far, "url": f"https://crm.invalid:{secret}/"},
        {**far, "credentials": headers["headers"]},
        {**far, "credentials": {"headers": {secret: secret, "x": f"{secret}\n"}}},
        {**far, "credentials": {"environment": {f"{secret}=": secret}}},
        {**far, "kind": "command", "url": None, "command": secret},
        {**template, "label": "x", "tool": {**tool, "input_schema": {"type": secret}}},
    ):
        refused = world.ask("POST", _SERVERS, wrong, key=known.manages.text)
        assert refused.status_code == 400, refused.text
    ask("DELETE", path)
