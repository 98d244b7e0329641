"""How much output has one generation reserved, and when does it reserve more?

    stated maximum    all of it at the start: exact
    none              what such answers usually take; each time that is used up, as much again

An extension is at most as large as what was used so far, so that what is held for nothing never
exceeds what was really used, and a long answer takes a handful of extensions. It is charged whether
or not the limits have room, for a running answer is not cut for them: the other choice, charging
later, would admit newcomers into room that is being used up.

Does not know: buckets, or what a token is.
"""

from __future__ import annotations

from anzoth.gateway.limit_rules import largest_output
from anzoth.gateway.limits import Limiter, Reservation
from anzoth.gateway.output_estimates import OutputEstimates
from anzoth.gateway.principal import Principal
from anzoth.price import Price

_MIN_EXTENSION_TOKENS = 16


class OutputBudget:
    """The reservation of one generation, told of every token."""

    __slots__ = ("_estimates", "_left", "_most", "_owner", "_reserved", "reservation")

    def __init__(
        self,
        reservation: Reservation,
        reserved: int,
        most: int,
        estimates: OutputEstimates | None = None,
        owner: tuple[Principal, str] | None = None,
    ) -> None:
        """`reserved` of `most` tokens of output are; with `estimates`, answers are learned from."""
        self.reservation = reservation
        self._reserved = reserved
        self._left = reserved
        self._most = most
        self._estimates = estimates
        self._owner = owner

    def use(self) -> None:
        """One more token exists."""
        self._left -= 1
        if self._left < 0 and self._reserved < self._most:
            more = max(self._reserved, _MIN_EXTENSION_TOKENS)
            more = min(more, self._most - self._reserved)
            self.reservation.extend(more)
            self._reserved += more
            self._left += more

    def choice_ended(self, num_tokens: int) -> None:
        """A choice ended by itself after so many."""
        if self._estimates is not None and self._owner is not None:
            principal, model = self._owner
            self._estimates.learn(principal.key_id, model, num_tokens)


def reserve(
    limiter: Limiter,
    estimates: OutputEstimates,
    principal: Principal,
    model: str,
    *,
    prompt_tokens: int,
    num_choices: int,
    max_tokens: int,
    is_stated: bool,
    price: Price | None = None,
    is_part: bool = False,
) -> OutputBudget:
    """For `num_choices` of at most `max_tokens` each. `is_stated`: by the caller. `price`,
    `is_part`: see `Limiter.reserve`.

    Raises LimitReached.
    """
    most = max_tokens * num_choices
    if is_stated or not principal.limits:
        reservation = limiter.reserve(principal, model, prompt_tokens, most, price, is_part=is_part)
        return OutputBudget(reservation, most, most)
    expected = estimates.expect(principal.key_id, model) * num_choices
    largest = largest_output(principal.limits, model, prompt_tokens, price)
    reserved = min(expected, most)
    if largest is not None:  # a guess must not be why a request is refused for good
        reserved = max(1, min(reserved, largest))
    reservation = limiter.reserve(principal, model, prompt_tokens, reserved, price, is_part=is_part)
    return OutputBudget(reservation, reserved, most, estimates, (principal, model))
