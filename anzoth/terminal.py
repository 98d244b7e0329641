"""What does a person see while `anzoth serve` starts, runs and stops?

Plain lines on standard output, each printed when it is true; nothing is redrawn, so that the same
text is useful in a terminal, a pipe and a journal.

Does not know: what the steps do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console


class Terminal:
    """The supervisor's voice."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def start(self, version: str, url: str, data_dir: Path) -> None:
        self._console.print(f"[bold]Anzoth {version}[/]  {url}  data in {data_dir}")

    @contextlib.contextmanager
    def step(self, name: str, doing: str) -> Iterator[None]:
        """Prints what begins, and how long it took when it worked."""
        self._console.print(f"  {name:<10} {doing} …")
        started_s = time.monotonic()
        yield
        self._console.print(f"  {name:<10} ready ({time.monotonic() - started_s:.1f} s)")

    def waiting(self, what: str) -> None:
        self._console.print(f"  {'waiting':<10} {what}")

    def event(self, text: str) -> None:
        """Something that an operator should know: a child ended, a drain began."""
        self._console.print(f"anzoth: {text}", markup=False)

    def ready(self, url: str, model: str, key: str | None, after_s: float) -> None:
        self._console.print(f"[bold green]ready[/] after {after_s:.1f} s\n")
        if key is None:
            self._console.print(
                "Use one of your API keys, or make one:\n"
                "  anzoth keys create --tenant default --name NAME\n"
            )
            return
        self._console.print("A first API key (shown once; more with `anzoth keys create`):")
        self._console.print(f"  {key}\n", markup=False)
        self._console.print("Try it:")
        self._console.print(
            f"  curl {url}/v1/chat/completions \\\n"
            f"    -H 'Authorization: Bearer {key}' \\\n"
            f"    -H 'Content-Type: application/json' \\\n"
            f'    -d \'{{"model": "{model}",'
            f' "messages": [{{"role": "user", "content": "What is Anzoth?"}}]}}\'\n',
            markup=False,
        )
