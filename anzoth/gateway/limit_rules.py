"""Which limits hold for a request, and whose are they?

    tenant ─▶ project ─▶ key        each for all models together, and for single models by name

Every rule that applies must admit a request, so the smallest wins whatever its level. A rule's id
(`limit.key.rpm`, `limit.project_model.tpm`) is what refusals and usage rows name.

A limit is a rate per minute, a number of requests at the same time, or a quota: so many tokens, or
so much money (a budget), in a day or a month of the calendar. A request costs what its model's
prices say; by a model without prices it costs nothing, and budgets neither count nor refuse it.

Does not know: how much of a limit is left (see `limits`), or where limits are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal
from uuid import UUID

from anzoth.gateway.quota_counts import Period
from anzoth.price import Price, shortest_decimal

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
    budget_per_day: int | None = None
    """What may be spent, in nano-units of the currency, of a day in UTC."""
    budget_per_month: int | None = None
    """The same of a calendar month in UTC."""

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(getattr(self, name) is not None for name in LIMIT_NAMES)

    @property
    def has_quota(self) -> bool:
        """Whether any holds for a period of the calendar."""
        return any(getattr(self, name) is not None for name in QUOTAS)


LIMIT_NAMES = tuple(field.name for field in fields(Limits))


@dataclass(slots=True, frozen=True)
class Quota:
    """What one limit is that holds for a period of the calendar."""

    period: Period
    of: Literal["tokens", "cost"]


QUOTAS: Mapping[str, Quota] = {
    "tokens_per_day": Quota(Period.DAY, "tokens"),
    "budget_per_day": Quota(Period.DAY, "cost"),
    "budget_per_month": Quota(Period.MONTH, "cost"),
}
BUDGET_NAMES = frozenset(name for name, quota in QUOTAS.items() if quota.of == "cost")


def shown(limits: Mapping[str, int | None]) -> dict[str, int | str | None]:
    """Limits by name, as people and JSON have them: budgets as exact decimal text."""
    return {
        name: shortest_decimal(limit) if limit is not None and name in BUDGET_NAMES else limit
        for name, limit in limits.items()
    }


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


def largest_output(
    rules: Iterable[LimitRule], model: str, prompt_tokens: int, price: Price | None = None
) -> int | None:
    """How many output tokens a request could ever reserve beside its prompt. None: any number."""
    bounds: list[int | None] = []
    for rule in rules:
        if rule.model is None or rule.model == model:
            limits = rule.limits
            totals = (limits.tpm, limits.tokens_per_day)
            bounds += [total - prompt_tokens for total in totals if total is not None]
            if limits.output_tpm is not None:
                bounds.append(limits.output_tpm)
            if price is not None:
                prompt = price.highest_cost(prompt_tokens, 0)
                budgets = (limits.budget_per_day, limits.budget_per_month)
                bounds += [price.affordable_output(b - prompt) for b in budgets if b is not None]
    return min((bound for bound in bounds if bound is not None), default=None)
