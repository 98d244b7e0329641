"""Which target answers this method on this path?

    /v1/models              the same path, found in a dictionary
    /v1/files/{id}          `{id}` is one segment
    /v1/models/{id:path}    `{id}` is the rest, with its slashes; tried after all others

Does not know: what a target is, who may call it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

from anzoth.errors import MethodNotAllowed, NotFound

T = TypeVar("T")

_PARAMETER = re.compile(r"\{([a-z_]+)(:path)?\}")
_LONGEST_QUOTED_PATH = 200


class _Pattern(Generic[T]):
    """One path with parameters, and the target for each method."""

    __slots__ = ("expression", "prefix", "spans_segments", "targets")

    def __init__(self, pattern: str) -> None:
        expression, position = "", 0
        for parameter in _PARAMETER.finditer(pattern):
            name, spans = parameter.groups()
            expression += re.escape(pattern[position : parameter.start()])
            expression += f"(?P<{name}>{'.+' if spans else '[^/]+'})"
            position = parameter.end()
        self.expression = re.compile(expression + re.escape(pattern[position:]), re.DOTALL)
        self.prefix = pattern[: pattern.index("{")]
        """What a path must begin with: spares most of the expressions."""
        self.spans_segments = ":path}" in pattern
        self.targets: dict[str, T] = {}


class Router(Generic[T]):
    """A table of routes, filled once at start."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, T]] = {}
        self._patterns: dict[str, _Pattern[T]] = {}

    def add(self, method: str, pattern: str, target: T) -> None:
        """Raises ValueError for a pattern that is malformed or whose method is taken."""
        literal = _PARAMETER.sub("", pattern)
        if not pattern.startswith("/") or "{" in literal or "}" in literal or "//" in pattern:
            raise ValueError(f"{pattern!r} is not a route pattern")
        if "{" not in pattern:
            targets = self._exact.setdefault(pattern, {})
        else:
            if pattern not in self._patterns:
                self._patterns[pattern] = _Pattern(pattern)
                # A stable sort: patterns of one kind stay in the order in which they were added.
                self._patterns = dict(
                    sorted(self._patterns.items(), key=lambda item: item[1].spans_segments)
                )
            targets = self._patterns[pattern].targets
        if method in targets:
            raise ValueError(f"{method} {pattern} has two targets")
        targets[method] = target

    def __iter__(self) -> Iterator[tuple[str, str, T]]:
        """All routes as (method, pattern, target)."""
        for path, targets in self._exact.items():
            for method, target in targets.items():
                yield method, path, target
        for path, pattern in self._patterns.items():
            for method, target in pattern.targets.items():
                yield method, path, target

    def match(self, method: str, path: str) -> tuple[T, dict[str, str]]:
        """The target and the path parameters. HEAD is answered by GET's target.

        Raises NotFound, or MethodNotAllowed with the methods that would do.
        """
        for targets, parameters in self._candidates(path):
            target = targets.get(method)
            if target is None and method == "HEAD":
                target = targets.get("GET")
            if target is not None:
                return target, parameters
        raise self._no_match(method, path)

    def allowed_methods(self, path: str) -> tuple[str, ...]:
        """What OPTIONS answers; empty for an unknown path."""
        methods = {method for targets, _ in self._candidates(path) for method in targets}
        if not methods:
            return ()
        if "GET" in methods:
            methods.add("HEAD")
        return tuple(sorted(methods | {"OPTIONS"}))

    def _candidates(self, path: str) -> Iterator[tuple[dict[str, T], dict[str, str]]]:
        exact = self._exact.get(path)
        if exact is not None:
            yield exact, {}
        for pattern in self._patterns.values():
            if path.startswith(pattern.prefix):
                match = pattern.expression.fullmatch(path)
                if match is not None:
                    yield pattern.targets, match.groupdict()

    def _no_match(self, method: str, path: str) -> NotFound | MethodNotAllowed:
        quoted = path if len(path) <= _LONGEST_QUOTED_PATH else path[:_LONGEST_QUOTED_PATH] + "…"
        allow = self.allowed_methods(path)
        if allow:
            message = f"{method} is not allowed on {quoted}. Allowed: {', '.join(allow)}."
            return MethodNotAllowed(message, allow=allow)
        return NotFound(f"Unknown request URL: {method} {quoted}. Check it for typos.")
