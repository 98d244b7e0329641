"""How many prompt tokens does a step need to hold, on average, for prompts not to pile up?

As many as arrive per step. Less would leave rows empty while prompts wait, and more only makes some
steps long and others short: nothing is computed sooner on the whole, but whoever arrives during a
long step waits for its end. So this is what a step holds while a quiet tenant may come.

Does not know: tenants, or whether a step is contended (see `fairness`).
"""

from __future__ import annotations

_WINDOW_STEPS = 320
_HEADROOM = 1.25
"""Where the limit itself holds requests up, no more arrive than it lets through: the headroom lets
it grow until they do not wait for it. Both were chosen in virtual time (bench/README.md): a longer
window or less headroom loses throughput while it grows, more lengthens the steps of bursts."""
_LEAST_TOKENS = 256
"""Here an accelerator is still more than half as efficient as with thousands."""


class PromptPace:
    """A moving average of the prompt tokens that arrive per step."""

    __slots__ = ("_num_arrived", "_per_step")

    def __init__(self) -> None:
        self._num_arrived = 0
        self._per_step = 0.0

    def arrive(self, num_tokens: int) -> None:
        """These will have to be computed, or again; below 0: these will not, they are cached."""
        self._num_arrived += num_tokens

    def begin_step(self) -> None:
        self._per_step += (self._num_arrived - self._per_step) / _WINDOW_STEPS
        self._num_arrived = 0

    def limit_tokens(self, most: int) -> int:
        """For one step: the pace with some headroom, at least 256 and at most `most` or 256."""
        return max(_LEAST_TOKENS, min(most, int(_HEADROOM * self._per_step)))
