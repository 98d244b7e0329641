"""A prompt of the platform's own is computed once for all tenants, and nothing behind it is."""

from __future__ import annotations

from typing import Any

import pytest

from installation import installation

pytestmark = pytest.mark.slow

PROMPT = "You are the assistant of a museum. " + "Answer politely and in one sentence. " * 12
SECRET = "Our director is called Ilse Brandt, and the safe opens with 4711. " * 4


def test_two_tenants_share_an_approved_prompt_and_nothing_else() -> None:
    with installation() as server:
        prompts = server.data_dir / "prompts"
        prompts.mkdir()
        (prompts / "museum.txt").write_text(PROMPT + "\n")
        file = server.data_dir / "anzoth.toml"
        file.write_text(f"[engine]\nkv_cache_mib = 48\nshared_prompts = '{prompts}'\n")
        server.start("--config", str(file))
        server.cli("tenants", "create", "acme")
        keys = {"default": server.create_key("a")}
        made = server.cli("keys", "create", "--tenant", "acme", "--name", "b")
        keys["acme"] = made["key"]

        def cached_tokens(tenant: str, system: str, user: str) -> int:
            body: dict[str, Any] = {
                "model": "anzoth-default",
                "messages": [
                    {"role": "system", "content": system},
                    {"role": "user", "content": user},
                ],
                "max_tokens": 2,
            }
            with server.client(keys[tenant]) as client:
                answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

        assert cached_tokens("default", PROMPT, SECRET) == 0
        shared = cached_tokens("acme", PROMPT, SECRET)
        assert shared >= 96
        assert cached_tokens("acme", f"{PROMPT}\n\nOurs is closed on Mondays.", "Hi") == shared
        assert cached_tokens("acme", PROMPT, SECRET) > shared
        # What was not approved, word for word the same, is each tenant's own.
        assert cached_tokens("default", f"Not approved. {PROMPT}", SECRET) == 0
        assert cached_tokens("acme", f"Not approved. {PROMPT}", SECRET) == 0
        server.cli("tenants", "delete", "acme", "--yes")
        assert cached_tokens("default", PROMPT, "Hi") >= shared
