"""What does a person see while `anzoth serve` starts, runs and stops?

Plain lines on standard output, each printed when it is true; nothing is redrawn, so that the same
text is useful in a terminal, a pipe and a journal.

Does not know: what the steps do.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from anzoth.config import default_data_dir


@dataclass(slots=True, frozen=True)
class FirstSecrets:
    """What is printed once, because nothing can show it again."""

    key: str | None = field(repr=False)
    """None: not the first start."""
    bootstrap_token: str | None = field(repr=False)
    """None: there is an operator."""


class Terminal:
    """The supervisor's voice."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._where = ""
        """What a command needs in order to find this installation."""

    def start(self, version: str, url: str, data_dir: Path) -> None:
        if data_dir != default_data_dir():
            self._where = f" --data-dir {shlex.quote(str(data_dir))}"
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

    def ready(self, url: str, model: str, fresh: FirstSecrets, after_s: float) -> None:
        self._console.print(f"[bold green]ready[/] after {after_s:.1f} s\n")
        self._key(url, model, fresh.key)
        if fresh.bootstrap_token is not None:
            self._operator(url, fresh.bootstrap_token)

    def _key(self, url: str, model: str, key: str | None) -> None:
        if key is None:
            self._console.print(
                "Use one of your API keys, or make one:\n"
                f"  anzoth keys create --tenant default --name NAME{self._where}\n",
                markup=False,
            )
            return
        self._console.print(
            f"A first API key (shown once; more with `anzoth keys create{self._where}`):",
            markup=False,
        )
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

    def _operator(self, url: str, token: str) -> None:
        self._console.print(
            "Make the operator's account (this works once, within 24 hours; every start prints a "
            "new one\nuntil there is an operator):"
        )
        self._console.print(
            f"  curl {url}/v1/auth/bootstrap \\\n"
            f"    -H 'Content-Type: application/json' \\\n"
            f'    -d \'{{"token": "{token}",'
            f' "email": "you@example.com", "password": "…"}}\'\n',
            markup=False,
        )
