"""Grants, limits, revocation and the usage rows, through the whole server."""

from __future__ import annotations

import asyncio
import json
import time

import asyncpg
import pytest

from anzoth.db import embedded, pool

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
GOOD = {"model": "anzoth-default", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def usage_rows(server, request_ids: list[str]) -> dict[str, asyncpg.Record]:
    """The ledger's rows, once all are there (it writes within a fraction of a second)."""

    async def read() -> list[asyncpg.Record]:
        async with (
            embedded.running(server.data_dir) as dsn,
            pool.operator(dsn) as connection,
        ):
            return await connection.fetch(
                "SELECT * FROM usage WHERE request_id = ANY($1)", request_ids
            )

    deadline_s = time.monotonic() + 10
    while True:
        rows = asyncio.run(read())
        if len(rows) >= len(request_ids):
            assert len(rows) == len(request_ids), "a request left more than one row"
            return {row["request_id"]: row for row in rows}
        assert time.monotonic() < deadline_s, f"{len(rows)} of {len(request_ids)} rows"
        time.sleep(0.1)


def test_missing_and_wrong_keys_are_401(server) -> None:
    for authorization in (None, "Bearer nonsense", "Basic YTpi", "Bearer anz-0_0"):
        with server.client(None) as client:
            headers = {"authorization": authorization} if authorization else {}
            answer = client.post(CHAT, json=GOOD, headers=headers)
        assert answer.status_code == 401
        assert "Bearer anz-" in answer.json()["error"]["message"]


def test_endpoint_and_model_grants_are_403(server) -> None:
    reader = server.create_key("reader", "--scope", "models:read")
    with server.client(reader) as client:
        assert client.get("/v1/models").status_code == 200
        answer = client.post(CHAT, json=GOOD)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
    other = server.create_key("other model", "--model", "llama-*")
    with server.client(other) as client:
        assert client.get("/v1/models").json()["data"] == []
        answer = client.post(CHAT, json=GOOD)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")


def test_request_limit_is_429_and_its_promise_holds(server) -> None:
    key = server.create_key("slow", "--rpm", "60")
    with server.client(key) as client:
        answer = client.post(CHAT, json={**GOOD, "max_tokens": 1})
        for _ in range(80):
            if answer.status_code == 429:
                break
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "60"
            assert int(answer.headers["x-ratelimit-remaining-requests"]) >= 0
            answer = client.post(CHAT, json={**GOOD, "max_tokens": 1})
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert error["code"] == "rate_limit_exceeded"
        wait_ms = int(answer.headers["retry-after-ms"])
        assert 0 < wait_ms <= 1000
        time.sleep(wait_ms / 1000)
        assert client.post(CHAT, json={**GOOD, "max_tokens": 1}).status_code == 200


def test_token_limit_counts_tokens_exactly(server) -> None:
    key = server.create_key("frugal", "--tpm", "200")
    with server.client(key) as client:
        answer = client.post(CHAT, json=GOOD)
        assert answer.status_code == 200
        used = answer.json()["usage"]["total_tokens"]
        assert int(answer.headers["x-ratelimit-limit-tokens"]) == 200
        reserved = answer.json()["usage"]["prompt_tokens"] + GOOD["max_tokens"]
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 200 - reserved
        assert used <= reserved
        impossible = client.post(CHAT, json={**GOOD, "max_tokens": 500})
        assert impossible.status_code == 429
        assert impossible.headers["x-should-retry"] == "false"


def test_revocation_works_within_two_seconds(server) -> None:
    created = server.cli("keys", "create", "--tenant", "default", "--name", "short-lived")
    with server.client(created["key"]) as client:
        assert client.get("/v1/models").status_code == 200
        server.cli("keys", "revoke", created["id"])
        revoked_s = time.monotonic()
        while client.get("/v1/models").status_code == 200:
            assert time.monotonic() - revoked_s < 2
            time.sleep(0.02)
        assert client.get("/v1/models").status_code == 401


def test_revocation_ends_a_running_stream_unless_it_may_finish(server) -> None:
    endless = {**GOOD, "stream": True, "max_tokens": 900, "ignore_eos": True}
    for let_finish in ([], ["--let-finish"]):
        created = server.cli("keys", "create", "--tenant", "default", "--name", "streaming")
        with (
            server.client(created["key"]) as client,
            client.stream("POST", CHAT, json=endless) as response,
        ):
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            server.cli("keys", "revoke", created["id"], *let_finish)
            frames = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if let_finish:
            assert frames[-1] == "[DONE]"
        else:
            assert json.loads(frames[-1])["error"]["code"] == "key_revoked"


def test_a_rotated_key_works_by_both_secrets_and_says_so(server) -> None:
    created = server.cli("keys", "create", "--tenant", "default", "--name", "rotating")
    rotated = server.cli("keys", "rotate", created["id"], "--grace", "1h")
    for key, is_old in ((created["key"], True), (rotated["key"], False)):
        with server.client(key) as client:
            answer = client.get("/v1/models")
        assert answer.status_code == 200
        assert ("x-anzoth-key-rotating" in answer.headers) is is_old


def test_each_request_leaves_one_usage_row(server, key) -> None:
    with server.client(key) as client:
        whole = client.post(CHAT, json={**GOOD, "user": "u-1", "metadata": {"team": "blue"}})
        streamed_ids = []
        with client.stream("POST", CHAT, json={**GOOD, "stream": True}) as response:
            streamed_ids.append(response.headers["x-request-id"])
            assert list(response.iter_lines())[-2:] == ["data: [DONE]", ""]
        refused = client.post(CHAT, json={**GOOD, "temperature": 7})
        with client.stream(
            "POST", CHAT, json={**GOOD, "stream": True, "max_tokens": 1000, "ignore_eos": True}
        ) as response:
            streamed_ids.append(response.headers["x-request-id"])
            next(response.iter_lines())
    ids = [whole.headers["x-request-id"], *streamed_ids, refused.headers["x-request-id"]]
    rows = usage_rows(server, ids)
    first, stream, bad, cut = (rows[ids[i]] for i in (0, 1, 3, 2))
    usage = whole.json()["usage"]
    assert first["prompt_tokens"] == usage["prompt_tokens"]
    assert first["completion_tokens"] == usage["completion_tokens"]
    assert first["finish_reason"] == whole.json()["choices"][0]["finish_reason"]
    assert first["status"] == 200
    assert first["model"] == "anzoth-default"
    assert first["end_user"] == "u-1"
    assert json.loads(first["metadata"]) == {"team": "blue"}
    assert 0 <= first["ttft_ms"] <= first["duration_ms"]
    assert (stream["streamed"], stream["status"]) == (True, 200)
    assert stream["completion_tokens"] == first["completion_tokens"]
    assert (bad["status"], bad["completion_tokens"]) == (400, 0)
    assert cut["finish_reason"] == "cancelled"
    assert 0 < cut["completion_tokens"] < 1000


def test_metrics_name_no_tenant_and_no_key(server, key, client) -> None:
    assert client.post(CHAT, json=GOOD).status_code == 200
    text = client.get("/metrics").text
    for name in (
        "anzoth_requests_total",
        "anzoth_tokens_total",
        "anzoth_time_to_first_token_seconds_bucket",
        "anzoth_inter_token_latency_seconds_bucket",
        "anzoth_engine_waiting",
        "anzoth_engine_kv_blocks_free",
        "anzoth_engine_step_seconds_bucket",
    ):
        assert name in text
    assert "default" not in text.replace("anzoth-default", "")
    assert key[4:16] not in text


def test_no_log_line_carries_a_key(server, key) -> None:
    secret = key.partition("_")[2]
    assert secret not in server.log()


def test_a_deleted_tenant_is_served_no_more_and_leaves_nothing_in_the_cache(server) -> None:
    server.cli("tenants", "create", "leaving")
    created = server.cli("keys", "create", "--tenant", "leaving", "--name", "k")
    prompt = {"role": "user", "content": "The code word of the leaving tenant is walnut. " * 8}
    endless = {**GOOD, "messages": [prompt], "max_tokens": 1800, "ignore_eos": True, "stream": True}
    with (
        server.client(created["key"]) as client,
        client.stream("POST", CHAT, json=endless) as stream,
    ):
        assert stream.status_code == 200
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        earlier = len(server.log())  # other tests delete tenants, too
        deleted = server.cli("tenants", "delete", "leaving")
        assert deleted["num_revoked_keys"] == 1
        told = [line for line in lines if line]
        assert client.get("/v1/models").status_code == 401
    error = json.loads(told[-1].removeprefix("data: "))["error"]
    assert error["code"] == "key_revoked"
    deadline_s = time.monotonic() + 10
    forgot = "engine anzoth-default forgot 1 deleted tenant(s)"
    while forgot not in server.log()[earlier:]:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    line = next(line for line in server.log()[earlier:].splitlines() if forgot in line)
    assert " 0 still in use" in line
    assert " 0 KV blocks zeroed" not in line
    rows = usage_rows(server, [stream.headers["x-request-id"]])
    assert rows[stream.headers["x-request-id"]]["finish_reason"] == "error"
