"""How is a model sampled where a request says nothing?

As its checkpoint recommends in `generation_config.json`, and otherwise as OpenAI documents it. What
a request, or the alias that it names, says goes before.

    do_sample: false     greedy; where it is not said, the temperature decides
    temperature, top_k, top_p, min_p, typical_p, repetition_penalty

Other recommendations have no effect: how long an answer may be is not the checkpoint's to say.

Does not know: how tokens are sampled, or what a request's fields are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from anzoth.frames import SamplingParams

FILE = "generation_config.json"
RECOMMENDABLE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "temperature": (0, 2),
        "top_k": (-1, 1 << 20),
        "top_p": (0, 1),
        "min_p": (0, 1),
        "typical_p": (0, 1),
        "repetition_penalty": (0, 10),
    }
)
"""And the range of each, as of requests."""
_MUST_BE_ABOVE_LOW = frozenset({"typical_p", "repetition_penalty"})
LEAST_TOP_P = 1e-6
"""0 is allowed and means the most likely token alone; so does this, without a special case."""


class SamplingDefaultsError(Exception):
    """A checkpoint recommends what cannot be: a message for whoever starts the server."""


@dataclass(slots=True, frozen=True)
class SamplingDefaults:
    """What one checkpoint recommends."""

    values: Mapping[str, float | int | None] = field(default_factory=dict)
    """By the names of `SamplingParams`, as those mean them."""

    @classmethod
    def read(cls, directory: Path) -> SamplingDefaults:
        """Nothing where there is no such file. Raises SamplingDefaultsError."""
        file = directory / FILE
        try:
            given = orjson.loads(file.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, orjson.JSONDecodeError) as error:
            raise SamplingDefaultsError(f"cannot read {file}: {error}") from None
        if not isinstance(given, dict):
            raise SamplingDefaultsError(f"{file} is no JSON object")
        values = {
            name: _checked(file, name, given[name])
            for name in RECOMMENDABLE
            if given.get(name) is not None
        }
        if given.get("do_sample") is False:
            values["temperature"] = 0.0
        return cls(values)

    def fill(self, sampling: SamplingParams, unsaid: Collection[str]) -> SamplingParams:
        """`sampling` with what the checkpoint recommends for the fields that are `unsaid`."""
        return replace(sampling, **{n: v for n, v in self.values.items() if n in unsaid})


NOTHING_RECOMMENDED = SamplingDefaults()


def _checked(file: Path, name: str, value: Any) -> float | int | None:
    """Raises SamplingDefaultsError."""
    low, high = RECOMMENDABLE[name]
    types = (int,) if name == "top_k" else (int, float)
    is_number = isinstance(value, types) and not isinstance(value, bool)
    if not (is_number and low <= value <= high) or (value == low and name in _MUST_BE_ABOVE_LOW):
        raise SamplingDefaultsError(
            f"{name} in {file} is {value!r}; expected a number from {low} to {high}"
        )
    if name == "top_k":
        return value if value > 0 else None
    return max(value, LEAST_TOP_P) if name == "top_p" else value
