"""An MCP server over standard input and output that lists what a file says: python … FILE.

With each answer of a tool it says that its list may be another one. Of the older era and without
the SDK, because it starts in a moment then.
"""

import json
import sys
from pathlib import Path


def answer(method: str) -> dict | None:
    """None: there is no such method."""
    if method == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "listing", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": json.loads(Path(sys.argv[1]).read_text())}
    if method == "tools/call":
        send(method="notifications/tools/list_changed")
        return {"content": [{"type": "text", "text": "done"}]}
    return {} if method == "ping" else None


def send(**message: object) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message["method"])
        said = (
            {"error": {"code": -32601, "message": "no"}} if result is None else {"result": result}
        )
        send(id=message["id"], **said)


if __name__ == "__main__":
    main()
