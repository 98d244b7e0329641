"""A tenant managed with the admin client of OpenAI's SDK, from an admin key to the usage."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from installation import Installation

pytestmark = pytest.mark.slow

MODEL = "anzoth-default"


@pytest.fixture(scope="module")
def admin_key(server: Installation) -> str:
    return server.create_key("root", *("--scope", "admin", "--scope", "all", "--expires", "1d"))


def ask(server: Installation, key: str) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        return client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=2
        )


def ask_until_refused(server: Installation, key: str) -> None:
    """What is changed is in force within two seconds."""
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        ask(server, key)


def test_a_project_is_managed_from_its_first_service_account_to_its_end(
    server: Installation, admin_key: str
) -> None:
    assert admin_key.startswith("anz-adm")
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key="", admin_api_key=admin_key) as client:
        projects = client.admin.organization.projects
        project = projects.create(name="shop")
        assert projects.retrieve(project.id).name == "shop"
        assert projects.update(project.id, name="web shop").name == "web shop"
        assert "web shop" in [listed.name for listed in projects.list(limit=1)]  # paged
        robot = projects.service_accounts.create(project.id, name="robot")
        assert robot.api_key is not None
        assert ask(server, robot.api_key.value).usage.completion_tokens > 0
        more = projects.service_accounts.api_keys.create(
            robot.id, project_id=project.id, name="more", scopes=["models:read"]
        )
        (first, second) = projects.api_keys.list(project.id, limit=1)
        assert [first.id, second.id] == [robot.api_key.id, more.id]
        assert first.owner.service_account is not None
        assert first.owner.service_account.id == robot.id
        changed = projects.api_keys.update(
            more.id, project_id=project.id, scopes=["chat"], expires_in_seconds=3600
        )
        assert changed.expires_at is not None
        assert projects.api_keys.retrieve(more.id, project_id=project.id).name == "more"
        # What OpenAI has no method for.
        path = f"/organization/projects/{project.id}/api_keys"
        made = client.post(
            path, body={"name": "made", "limits": {"rpm": 60}}, cast_to=dict[str, Any]
        )
        rotated = client.post(f"{path}/{made['id']}/rotate", body={}, cast_to=dict[str, Any])
        for value in (made["value"], rotated["value"]):
            assert ask(server, value).usage.completion_tokens > 0
        assert projects.api_keys.delete(made["id"], project_id=project.id).deleted
        # Limits: found by model, in force within a second, and gone again.
        limits = {limit.model: limit for limit in projects.rate_limits.list_rate_limits(project.id)}
        assert {"*", MODEL} <= set(limits)
        limit = projects.rate_limits.update_rate_limit(
            limits[MODEL].id, project_id=project.id, max_requests_per_1_minute=1
        )
        assert limit.max_requests_per_1_minute == 1
        with pytest.raises(openai.RateLimitError) as refused:
            ask_until_refused(server, robot.api_key.value)
        assert "this project" in refused.value.message
        gone = client.delete(
            f"/organization/projects/{project.id}/rate_limits/{limit.id}", cast_to=dict[str, Any]
        )
        assert gone["deleted"] is True
        # Usage names whose key it was.
        deadline_s = time.monotonic() + 10
        usage: Any = client.admin.organization.usage
        today = int(time.time()) // 86_400 * 86_400
        while True:  # the ledger is written within a fraction of a second
            buckets = usage.completions(
                start_time=today, group_by=["user_id"], project_ids=[project.id]
            ).data
            used = {result.user_id for bucket in buckets for result in bucket.results}
            if robot.id in used:
                break
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        assert projects.service_accounts.delete(robot.id, project_id=project.id).deleted
        with pytest.raises(openai.NotFoundError):
            projects.service_accounts.retrieve(robot.id, project_id=project.id)
        with pytest.raises(openai.AuthenticationError):
            ask_until_refused(server, robot.api_key.value)
        assert projects.archive(project.id).status == "archived"
    for secret in (robot.api_key.value, more.value, made["value"], rotated["value"], admin_key):
        assert secret.partition("_")[2] not in server.log()


def test_admin_keys_make_admin_keys(server: Installation, admin_key: str) -> None:
    url = f"{server.url}/v1"
    with openai.OpenAI(base_url=url, api_key=admin_key, admin_api_key=admin_key) as client:
        admin_keys = client.admin.organization.admin_api_keys
        made = admin_keys.create(name="deputy", expires_in_seconds=3600)
        assert made.value.startswith("anz-adm")
        assert admin_keys.retrieve(made.id).redacted_value in repr(list(admin_keys.list(limit=1)))
        with pytest.raises(openai.BadRequestError):
            admin_keys.create(name="for ever")
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model=MODEL, messages=[])
        assert admin_keys.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            admin_keys.retrieve(made.id)
