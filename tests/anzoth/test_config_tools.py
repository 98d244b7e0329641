"""What tools may reach is named in the file, or it is nothing; the impossible stops the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anzoth import config
from anzoth.settings import ConfigError
from anzoth.tool_config import EgressConfig, ToolsConfig


def load(tmp_path: Path, text: str, **environ: str) -> config.Config:
    file = tmp_path / "anzoth.toml"
    file.write_text(text)
    return config.load(file, environ=environ)


def test_nothing_is_reached_by_default(tmp_path: Path) -> None:
    made = load(tmp_path, "")
    assert (made.egress.allow, made.egress.private, made.tools.commands) == ((), (), {})


def test_sections_are_read_and_survive_the_way_to_the_gateway(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        "[egress]\nallow = ['crm.example', '*.tools.example', '[2001:db8::1]:8080']\n"
        "[tools]\nmax_calls = 3\n[tools.commands]\nfiles = ['/opt/files', '--root', '/srv']\n",
        ANZOTH_EGRESS_PRIVATE="10.0.0.0/8 fd00::/8",
        ANZOTH_TOOLS_KEEP_ARGUMENTS="true",
    )
    assert made.egress.private == ("10.0.0.0/8", "fd00::/8")
    assert made.tools == ToolsConfig(
        commands={"files": ("/opt/files", "--root", "/srv")}, max_calls=3, keep_arguments=True
    )
    for part in (made.egress, made.tools):
        sent = json.loads(json.dumps(config.to_json(part)))
        assert config.from_json(type(part), sent) == part


def test_a_command_is_never_named_by_the_environment(tmp_path: Path) -> None:
    made = load(tmp_path, "", ANZOTH_TOOLS_COMMANDS="shell=/bin/sh")
    assert made.tools.commands == {}


@pytest.mark.parametrize(
    "entry",
    ["https://crm.example", "crm.example/path", "*", "*.", "a.*.b", "host:0", "host:65536", "a b"]
    + ["me@host", "2001:db8::1", "", "-x", ".example"],
)
def test_an_entry_that_is_no_host_stops_the_start(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"allow of \[egress\] names"):
        EgressConfig(allow=(entry,))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[egress]\nprivate = ['10.0.0.1/8']\n", "private of .egress. names '10.0.0.1/8'"),
        ("[egress]\nproxy = 'x'\n", "unknown setting 'proxy'"),
        ("[tools]\nmax_rounds = 0\n", "max_rounds of .tools. is 0"),
        ("[tools]\ncommands = ['sh']\n", "must be a table"),
        ("[tools.commands]\nfiles = 'sh -c x'\n", "command files of .tools.: expected a list"),
        ("[tools.commands]\nfiles = []\n", "command files of .tools.: expected a list"),
        ("[tools.commands]\n'../x' = ['sh']\n", "commands of .tools. names '../x'"),
    ],
)
def test_what_is_impossible_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, text)
