"""Which limits hold for a request, and whose are they?

    tenant ─▶ project ─▶ key        each for all models together, and for single models by name

Every rule that applies must admit a request, so the smallest wins whatever its level. A rule's id
(`limit.key.rpm`, `limit.project_model.tpm`) is what refusals and usage rows name.

Does not know: how much of a limit is left (see `limits`), or where limits are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal
from uuid import UUID

Level = Literal["tenant", "project", "key"]

_OWNERS: dict[Level, str] = {
    "tenant": "this organization",
    "project": "this project",
    "key": "this API key",
}


@dataclass(slots=True, frozen=True)
class Limits:
    """How much of each; None: no such limit."""

    rpm: int | None = None
    """Requests per minute."""
    tpm: int | None = None
    """Tokens per minute, prompt and output together."""
    input_tpm: int | None = None
    output_tpm: int | None = None
    concurrency: int | None = None
    """Requests that run at the same time."""
    tokens_per_day: int | None = None
    """Prompt and output together, of a day in UTC."""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, name) is not None for name in LIMIT_NAMES)


LIMIT_NAMES = tuple(field.name for field in fields(Limits))


@dataclass(slots=True, frozen=True)
class LimitRule:
    """The limits of one tenant, project or key; of one model there, if it names one."""

    level: Level
    subject: UUID
    limits: Limits
    model: str | None = None

    def id_of(self, what: str) -> str:
        """For example `limit.key.rpm`; `what` is a field of Limits."""
        return f"limit.{self.level}{'' if self.model is None else '_model'}.{what}"

    @property
    def owner(self) -> str:
        """As refusals call it."""
        owner = _OWNERS[self.level]
        return owner if self.model is None else f"{owner} and the model '{self.model}'"


def applicable(rules: Sequence[LimitRule], model: str) -> Sequence[LimitRule]:
    """Those that hold for a request to `model`."""
    return [rule for rule in rules if rule.model is None or rule.model == model]


def largest_output(rules: Iterable[LimitRule], model: str, prompt_tokens: int) -> int | None:
    """How many output tokens a request could ever reserve beside its prompt. None: any number."""
    bounds: list[int] = []
    for rule in rules:
        if rule.model is None or rule.model == model:
            limits = rule.limits
            totals = (limits.tpm, limits.tokens_per_day)
            bounds += [total - prompt_tokens for total in totals if total is not None]
            if limits.output_tpm is not None:
                bounds.append(limits.output_tpm)
    return min(bounds, default=None)
