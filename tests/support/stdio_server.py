"""An MCP server over standard input and output, of the older era, that does what its tools say.

Run without the SDK, because it starts in a moment then. It greets as many programs do.
"""

import json
import os
import resource
import subprocess
import sys
import time

TOOLS = ("say", "tell", "hang", "die", "flood", "ask", "swell", "limits", "fork", "deaf", "change")
listed = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]


def send(**message: object) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def call(name: str, arguments: dict) -> str:
    match name:
        case "say":
            return arguments.get("x", "")
        case "tell":
            ids = {"uid": os.getuid(), "pid": os.getpid()}
            return json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), **ids})
        case "hang":
            time.sleep(600)
        case "die":
            print(os.environ.get("SECRET"), file=sys.stderr, flush=True)
            os._exit(3)
        case "flood":
            while True:
                sys.stdout.write("x" * 65536)
        case "ask":
            while True:
                send(id="?", method="ping")
        case "swell":
            return str(len(bytearray(1 << 30)))
        case "limits":
            kinds = (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
            return json.dumps([resource.getrlimit(kind)[1] for kind in kinds])
        case "fork":
            child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
            return str(child.pid)
        case "change":
            listed[0]["description"] = "another one"
            send(method="notifications/tools/list_changed")
            return "changed"
    return ""


def main() -> None:
    print("Welcome to this server!", flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        match message["method"]:
            case "initialize":
                result = {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"tools": {"listChanged": True}},
                    "serverInfo": {"name": "raw", "version": "1"},
                }
            case "tools/list":
                result = {"tools": listed}
            case "tools/call":
                params = message["params"]
                if params["name"] == "deaf":
                    time.sleep(600)
                try:
                    text, failed = call(params["name"], params.get("arguments") or {}), False
                except MemoryError:
                    text, failed = "no memory", True
                result = {"content": [{"type": "text", "text": text}], "isError": failed}
            case _ if "id" in message:
                send(id=message["id"], error={"code": -32601, "message": "unknown"})
                continue
            case _:
                continue
        send(id=message["id"], result=result)


main()
