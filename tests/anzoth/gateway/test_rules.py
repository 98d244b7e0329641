"""Each refusal has a rule, each rule an explanation, and the README says the same."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from anzoth import errors
from anzoth.errors import AnzothError
from anzoth.gateway import rules
from anzoth.gateway.limit_rules import LIMIT_NAMES, Level, LimitRule, Limits
from anzoth.gateway.rules import RULES

README = Path(__file__).parents[3] / "README.md"


def all_errors(cls: type[AnzothError] = AnzothError) -> list[type[AnzothError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in all_errors(sub))]


# RateLimited has no rule of its own: whichever limit is reached names itself.
@pytest.mark.parametrize("cls", [cls for cls in all_errors() if cls.rule != "limit.key"])
def test_the_rule_of_every_error_is_explained(cls: type[AnzothError]) -> None:
    assert rules.find(cls.rule) is not None


@pytest.mark.parametrize("level", ["tenant", "project", "key"])
@pytest.mark.parametrize("what", LIMIT_NAMES)
@pytest.mark.parametrize("model", [None, "m"])
def test_the_rule_of_every_limit_is_explained(level: Level, what: str, model: str | None) -> None:
    id = LimitRule(level, UUID(int=1), Limits(), model).id_of(what)
    assert rules.find(id) is not None
    rules.check_patterns([id])


def test_a_rule_given_to_an_error_is_kept_by_that_error_alone() -> None:
    assert errors.ModelUnavailable(rule="backend.misconfigured").rule == "backend.misconfigured"
    assert errors.ModelUnavailable().rule == "model.unavailable"


def test_the_readme_lists_every_rule_and_no_other() -> None:
    section = README.read_text().split("### Which rule refused a request")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    listed = {line.split("`")[1]: line.split(" | ")[1] for line in lines}
    assert listed == {id: rule.meaning for id, rule in RULES.items()}


@pytest.mark.parametrize("pattern", ["limit.*", "key.model", "*", "limit.key.tp?"])
def test_policies_can_be_watched(pattern: str) -> None:
    rules.check_patterns([pattern])


@pytest.mark.parametrize("pattern", ["key.invalid", "request.*", "nothing", ""])
def test_what_is_no_policy_cannot_be_watched(pattern: str) -> None:
    with pytest.raises(ValueError, match="matches no policy"):
        rules.check_patterns(["limit.*", pattern])
