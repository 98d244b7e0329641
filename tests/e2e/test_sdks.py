"""The real OpenAI clients, only their base URL changed, against a running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import openai
import pytest

from client_drivers import INSTALLED, ROOT, command, drive

pytestmark = pytest.mark.slow


def check(seen: dict[str, Any], class_names: bool = True) -> None:
    """What every SDK must have understood, whatever its language and version."""
    assert seen["models"] == ["anzoth-default"]
    assert seen["model"] == "anzoth-default"
    assert seen["chat_role"] == "assistant"
    assert seen["chat_finish"] in {"stop", "length"}
    assert "Anzoth" in seen["chat"]
    assert seen["chat_stream"] == seen["chat"]
    assert seen["completion"]
    assert seen["completion_stream"] == seen["completion"]
    usage = seen["chat_usage"]
    assert 0 < usage["completion_tokens"] <= 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    streamed = seen["chat_stream_usage"]
    assert (streamed["prompt_tokens"], streamed["completion_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    assert seen["errors"] == {
        "bad_key": ["AuthenticationError", 401, "invalid_api_key", True],
        "unknown_model": ["NotFoundError", 404, "model_not_found", True],
        "bad_value": ["BadRequestError", 400, "invalid_value", True],
        "too_long": ["BadRequestError", 400, "context_length_exceeded", True],
    }


@pytest.mark.parametrize("major", ["newest", "1.x"])
def test_python_sdk(server, key, major: str) -> None:
    path = {} if major == "newest" else {"PYTHONPATH": str(INSTALLED / "openai1")}
    seen = drive(command("drive_openai.py"), server.url, key, **path)
    assert (seen["version"].partition(".")[0] == "1") == (major == "1.x")
    check(seen)
    assert seen["two"] == [0, 1]
    assert all(count == 2 for choice in seen["logprobs"] for count in choice)


def test_node_sdk(server, key) -> None:
    seen = drive(command("drive_openai.mjs"), server.url, key)
    assert int(seen["version"].partition(".")[0]) >= 7
    check(seen)
    assert seen["chat_helper"] == seen["chat"]


def test_admin_client_of_the_python_sdk(server) -> None:
    """Usage and costs, as a cost dashboard reads them."""
    key = server.create_key("biller", "--scope", "chat", "--scope", "usage:read")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, admin_api_key=key)
    start = int(time.time()) // 86_400 * 86_400
    answer = client.chat.completions.create(
        model="anzoth-default", messages=[{"role": "user", "content": "Hi"}], max_tokens=4
    )
    usage: Any = client.admin.organization.usage  # its result types are one union of all kinds
    deadline_s = time.monotonic() + 10
    while True:  # the ledger is written within a fraction of a second
        page = usage.completions(start_time=start, group_by=["api_key_id", "model"])
        own = server.cli("keys", "list")
        mine = next(listed["id"] for listed in own if listed["name"] == "biller")
        results = [r for bucket in page.data for r in bucket.results if r.api_key_id == mine]
        if results:
            break
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    (result,) = results
    assert answer.usage is not None
    assert result.object == "organization.usage.completions.result"
    assert (result.model, result.num_model_requests) == ("anzoth-default", 1)
    assert (result.input_tokens, result.output_tokens) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    costs = usage.costs(start_time=start, group_by=["line_item"], api_key_ids=[mine])
    items = {item.line_item: item.quantity for item in costs.data[0].results}
    assert items.pop("anzoth-default, output_tokens") == answer.usage.completion_tokens
    assert sum(quantity or 0 for quantity in items.values()) == answer.usage.prompt_tokens
    with pytest.raises(openai.PermissionDeniedError):
        openai.OpenAI(
            base_url=f"{server.url}/v1", api_key="-", admin_api_key=server.create_key("plain")
        ).admin.organization.usage.completions(start_time=start)
    assert server.cli("usage", "verify")["is_right"] is True


def test_printed_curl_line(server) -> None:
    """The line that `anzoth serve` prints at its first start, with the key that it prints."""
    printed = server.log()
    line = printed[printed.index("  curl ") :].split("\n\n")[0]
    assert "Anzoth" in answer_of(shell(line))


def test_documented_curl_call(server, key) -> None:
    """The README's, with only the base URL changed."""
    line = documented("curl http").replace("http://127.0.0.1:8000", server.url)
    assert "Anzoth" in answer_of(shell(line, ANZOTH_API_KEY=key))


def test_documented_python_call(server, key) -> None:
    """The README's, with only the base URL and the key changed."""
    code = documented("from openai import OpenAI").replace("http://127.0.0.1:8000", server.url)
    assert "anz-…" in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace("anz-…", key)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Anzoth" in done.stdout


def test_documented_call_with_documents(server, key) -> None:
    line = documented("curl http", '"documents"').replace("http://127.0.0.1:8000", server.url)
    answer = answer_of(shell(line, ANZOTH_API_KEY=key))
    assert "12.35 EUR" in answer
    assert "[2]" in answer


def test_documented_call_with_a_schema(server, key) -> None:
    code = documented("from openai import OpenAI", "BaseModel")
    code = code.replace("http://127.0.0.1:8000", server.url).replace("anz-…", key)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "order_number='QX-5150' city='Oslo'\n"


def documented(start: str, part: str = "") -> str:
    """The first code block of the README that begins with `start` and contains `part`."""
    blocks = (ROOT / "README.md").read_text().split("```")[1::2]
    codes = [block.partition("\n")[2] for block in blocks]
    return next(code for code in codes if code.startswith(start) and part in code)


def shell(line: str, **environment: str) -> str:
    return subprocess.run(
        ["sh", "-c", line.replace("curl ", "curl -sS ", 1)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def answer_of(body: str) -> str:
    answer = json.loads(body)
    assert answer["object"] == "chat.completion", body
    return answer["choices"][0]["message"]["content"]
