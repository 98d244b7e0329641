"""Do the commands that a start prints work as they are printed?"""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from anzoth.config import default_data_dir
from anzoth.terminal import FirstSecrets, Terminal


def printed(data_dir: Path, key: str | None = None) -> str:
    out = io.StringIO()
    terminal = Terminal(Console(file=out, highlight=False, soft_wrap=True))
    terminal.start("1.0", "http://127.0.0.1:8000", data_dir)
    terminal.ready("http://127.0.0.1:8000", "m", FirstSecrets(key, None), 1.0)
    return out.getvalue()


def test_a_command_names_the_directory_of_an_installation_that_is_not_where_it_looks() -> None:
    text = printed(Path("some where"))
    assert "anzoth keys create --tenant default --name NAME --data-dir 'some where'\n" in text
    assert "`anzoth keys create --data-dir 'some where'`" in printed(Path("some where"), "anz-x")


def test_a_command_names_no_directory_where_it_would_look_anyway() -> None:
    assert "--data-dir" not in printed(default_data_dir())
    assert "--data-dir" not in printed(default_data_dir(), "anz-x")
