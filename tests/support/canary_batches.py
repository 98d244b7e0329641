"""Batches come and go: what they ask and are answered is shown to their project only, and stands
nowhere in clear."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
from canary_drive import Keys
from canary_files import form
from canary_world import World, invented

_KINDS = ("batch metadata", "batch custom id", "batch prompt")
_ENDED = ("failed", "completed", "cancelled")


def batches_come_and_go(world: World, known: Keys) -> None:
    key, kind = known.infers.text, "multipart/form-data; boundary=b"
    metadata, custom_id, prompt = (world.plant(kind, invented(f"The {kind} is")) for kind in _KINDS)
    body = {"model": "anzoth-default", "messages": [{"role": "user", "content": prompt}]}
    url = "/v1/chat/completions"
    good = {"custom_id": custom_id, "method": "POST", "url": url, "body": body | {"max_tokens": 2}}
    wrong = {**good, "custom_id": f"{custom_id} 2", "body": {**body, "temperature": prompt}}

    def ask(method: str, path: str, body: object = None, *shows: str) -> httpx2.Response:
        reply = world.ask(method, path, body, key=key, shows=shows)
        assert reply.status_code == 200, reply.text
        return reply

    def upload(*lines: object) -> str:
        content = "\n".join(map(json.dumps, lines)).encode()
        sent = form("file", content, "a.jsonl").replace(b"user_data", b"batch")
        made = world.ask("POST", "/v1/files", content=sent, content_type=kind, key=key)
        assert made.status_code == 200, made.text
        return made.json()["id"]

    def make(file_id: str) -> str:
        said = {"input_file_id": file_id, "endpoint": url, "completion_window": "24h"}
        told = {**said, "metadata": {"about": metadata}}
        return ask("POST", "/v1/batches", told).json()["id"]

    def ended(id: str) -> dict[str, Any]:
        deadline_s = time.monotonic() + 60
        while True:
            batch = ask("GET", f"/v1/batches/{id}").json()
            if batch["status"] in _ENDED:
                return batch
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    batch = ended(make(upload(good, wrong)))
    assert (batch["status"], batch["request_counts"]["failed"]) == ("completed", 1)
    for name in ("output_file_id", "error_file_id"):
        ask("GET", f"/v1/files/{batch[name]}/content", None, _KINDS[1])
    failed = ended(make(upload({**good, "method": prompt}, {**good, "url": prompt}, prompt)))
    assert failed["status"] == "failed"
    long = make(upload(*({**good, "custom_id": f"{number}"} for number in range(100))))
    ask("POST", f"/v1/batches/{long}/cancel")
    assert ended(long)["status"] == "cancelled"
    ask("GET", "/v1/batches")
    for query in (f"after={prompt[:40]}", f"limit={metadata[:10]}"):
        assert world.ask("GET", f"/v1/batches?{query}", key=key).status_code == 400
    refused = {"input_file_id": prompt, "endpoint": prompt, "metadata": {metadata: [prompt]}}
    assert world.ask("POST", "/v1/batches", refused, key=key).status_code == 400
