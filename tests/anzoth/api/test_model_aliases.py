"""What an alias may hold: nothing is accepted that would be ignored."""

from __future__ import annotations

from typing import Any

import pytest

from anzoth.api.model_aliases import parse_alias
from anzoth.errors import AnzothError
from anzoth.gateway.aliases import Target

PLAIN = {"name": "smart", "targets": [{"model": "llama"}]}


def test_an_alias_is_read_with_its_defaults() -> None:
    request = parse_alias(PLAIN)
    assert (request.name, request.targets) == ("smart", (Target("llama", None, 1),))
    assert (request.system_prompt, request.defaults, request.forced) == (None, {}, {})
    full = parse_alias(
        {
            **PLAIN,
            "targets": [{"model": "a/b", "weight": 0}, {"model": "a/b", "backend": "far"}],
            "system_prompt": "é\n",
            "defaults": {"temperature": 0.5, "stop": ["x"]},
            "forced": {"max_tokens": 9},
            "sticky": True,
            "knowledge_bases": ["vs_1", "vs_2"],
        }
    )
    assert parse_alias({**PLAIN, "tools": ["crm", "erp_1__get-it"]}).tools == (
        "crm",
        "erp_1__get-it",
    )
    assert full.knowledge_bases == ("vs_1", "vs_2")
    assert full.targets == (Target("a/b", None, 0), Target("a/b", "far", 1))
    assert (full.defaults, full.sticky) == ({"temperature": 0.5, "stop": ["x"]}, True)


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"name": None}, "name", "invalid_value"),
        ({"name": " x"}, "name", "invalid_value"),
        ({"name": "a\nb"}, "name", "invalid_value"),
        ({"name": "x" * 257}, "name", "invalid_value"),
        ({"targets": []}, "targets", "invalid_value"),
        ({"targets": [{"model": "m", "weight": -1}]}, "targets[0].weight", "invalid_value"),
        ({"targets": [{"model": "m", "weight": 1001}]}, "targets[0].weight", "invalid_value"),
        ({"targets": [{"model": "m"}, {"model": "m"}]}, "targets", "invalid_value"),
        ({"targets": [{}]}, "targets[0].model", "missing_required_parameter"),
        ({"system_prompt": "a\0b"}, "system_prompt", "invalid_value"),
        ({"system_prompt": "\ud800"}, "system_prompt", "invalid_value"),
        ({"system_prompt": ""}, "system_prompt", "invalid_value"),
        ({"defaults": {"temperature": 3}}, "defaults.temperature", "invalid_value"),
        ({"forced": {"stream": True}}, "forced", "unsupported_parameter"),
        ({"forced": {"messages": []}}, "forced", "unsupported_parameter"),
        ({"forced": {"max_tokens": 1, "max_completion_tokens": 1}}, "forced", "invalid_value"),
        ({"knowledge_bases": ["a\0b"]}, "knowledge_bases[0]", "invalid_value"),
        ({"knowledge_bases": [f"vs_{n}" for n in range(17)]}, "knowledge_bases", "invalid_value"),
        ({"tools": [{}]}, "tools[0]", "invalid_value"),
        ({"tools": ["CRM"]}, "tools[0]", "invalid_value"),
        ({"tools": ["crm__"]}, "tools[0]", "invalid_value"),
        ({"tools": ["crm__a.b"]}, "tools[0]", "invalid_value"),
        ({"tools": ["t"] * 65}, "tools", "invalid_value"),
        (
            {"tools": ["crm"], "targets": [{"model": "m"}, {"model": "m", "backend": "far"}]},
            "tools",
            "invalid_value",
        ),
        ({"guard_rules": ["g"]}, "guard_rules", "unsupported_parameter"),
        ({"base_url": "http://x"}, None, "invalid_value"),
    ],
)
def test_what_would_be_wrong_or_ignored_is_refused(
    change: dict[str, Any], param: str | None, code: str
) -> None:
    with pytest.raises(AnzothError) as raised:
        parse_alias({**PLAIN, **change})
    assert (raised.value.param, raised.value.code, raised.value.status) == (param, code, 400)
