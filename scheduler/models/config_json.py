"""What does a checkpoint's config.json say in one field, and is that the kind of value it must be?

Does not know: which fields there are, or what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from anzoth.scheduler.checkpoint import CheckpointError, read_json

T = TypeVar("T")


class Config:
    """The fields of one JSON object, each checked where it is read."""

    def __init__(self, file: Path, values: Mapping[str, Any]) -> None:
        self.file = file
        self._values = values

    @classmethod
    def read(cls, file: Path) -> Config:
        """The object in `file`. Raises CheckpointError."""
        return cls(file, read_json(file))

    def with_defaults(self, defaults: Mapping[str, Any]) -> Config:
        """The same, where a field that is absent (not null) has its default."""
        return Config(self.file, {**defaults, **self._values})

    def get(self, name: str) -> object:
        """The field as it is, unchecked; None where it is absent."""
        return self._values.get(name)

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The field, or None where it is absent or null."""
        value = self._values.get(name)
        if value is not None and type(value) is not kind:
            self.fail(f"{name} is {value!r}; expected {kind.__name__}")
        return value

    def flag(self, name: str) -> bool:
        return self.optional(name, bool) or False

    def positive(self, name: str, default: int | None = None) -> int:
        value = self.optional(name, int)
        value = default if value is None else value
        if value is None:
            self.fail(f"{name} is missing")
        if value < 1:
            self.fail(f"{name} is {value}; expected at least 1")
        return value

    def positive_or_none(self, name: str) -> int | None:
        return None if self._values.get(name) is None else self.positive(name)

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._values.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            self.fail(f"{name} is {value!r}; expected a positive number")
        return float(value)

    def number_or_none(self, name: str) -> float | None:
        return None if self._values.get(name) is None else self.number(name)

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """A list of that many positive numbers."""
        values = self.optional(name, list) or []
        if len(values) != length:
            self.fail(f"{name} has {len(values)} entries; expected {length}")
        entries = Config(self.file, {f"{name}[{i}]": value for i, value in enumerate(values)})
        return tuple(entries.number(f"{name}[{i}]") for i in range(length))

    def section(self, name: str) -> Config | None:
        values = self.optional(name, dict)
        return None if values is None else Config(self.file, values)

    def refuse(self, name: str, meaning: str) -> None:
        """Raises if the field is set: what it stands for is not computed here."""
        if self._values.get(name):
            self.fail(f"{meaning} ({name}) are not supported")

    def fail(self, problem: str) -> NoReturn:
        raise CheckpointError(f"{self.file}: {problem}")
