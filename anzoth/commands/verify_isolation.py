"""`anzoth verify-isolation`: does this installation keep its tenants apart?

Does not know: how that is found out (see `anzoth.isolation`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from anzoth.commands.api_client import DEFAULT_URL
from anzoth.commands.audit import parse_public_key
from anzoth.commands.options import (
    ConfigFile,
    DatabaseUrl,
    DataDir,
    Installation,
    fail,
    foreseen_errors,
    print_json,
)
from anzoth.gateway.directory_checks import DirectoryError

SignedReport = Mapping[str, Any]  # JSON: see `isolation.report`


def verify_isolation(
    url: Annotated[
        str, typer.Option(envvar="ANZOTH_URL", help="Where the server answers, with /v1.")
    ] = DEFAULT_URL,
    out: Annotated[
        Path | None, typer.Option(help="Write the signed report there.", show_default=False)
    ] = None,
    turns: Annotated[
        int,
        typer.Option(min=0, help="How often each pair is timed, at first; 0: times are left out."),
    ] = 12,
    check: Annotated[
        Path | None,
        typer.Option(help="Check this report instead, offline.", show_default=False),
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option(
            help="With --check: who must have signed it (`anzoth audit key`).", show_default=False
        ),
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    database_url: DatabaseUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Verify, on a running server, that one tenant sees nothing of another's.

    Makes two tenants, gives each one of everything, tries to see one's as the other in every way
    that the API has, searches the disk, and deletes both again. The report is signed with the
    installation's audit key. The status is 1 when a check fails.
    """
    with foreseen_errors():
        if check is not None:
            signed = _read(check, public_key)
        else:
            installation = Installation.find(data_dir, config, database_url)
            signed = asyncio.run(_verify(installation, url, turns))
            if out is not None:
                _write(out, signed)
    content = signed["report"]
    if as_json:
        print_json(signed)
    else:
        _show(content)
        if check is not None and public_key is None:
            _say(f"Signed by {content['installation']}: check that it is the installation's.")
    if not content["passed"]:
        raise typer.Exit(1)


async def _verify(installation: Installation, url: str, turns: int) -> SignedReport:
    # Here: no other command has use for it, and it reads the whole table of routes.
    from anzoth.isolation.run import Verification

    key, server = installation.audit_key(), installation.config.server
    async with installation.database() as dsn:
        verification = Verification(
            dsn=dsn,
            pepper=installation.pepper(),
            accounts=installation.config.accounts,
            data_dir=server.data_dir,
            is_embedded=server.database_url is None,
            url=url,
            num_turns=turns,
            tell=lambda sentence: Console(stderr=True, soft_wrap=True).print(
                sentence, markup=False, highlight=False
            ),
        )
        with _terminated_as_interrupted():
            return (await verification.run()).signed(key)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM is like Ctrl-C, also where that is ignored: what was made is deleted first."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    is_terminated = False

    def terminate() -> None:
        nonlocal is_terminated
        is_terminated = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
    except asyncio.CancelledError:
        if is_terminated:
            raise typer.Exit(128 + signal.SIGTERM) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _read(path: Path, public_key: str | None) -> SignedReport:
    from anzoth.isolation import report

    wanted = None if public_key is None else parse_public_key(public_key)
    try:
        return report.read(path, wanted)
    except report.NotAReport as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")


def _write(path: Path, signed: SignedReport) -> None:
    try:
        path.write_bytes(orjson.dumps(signed, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise DirectoryError(f"cannot write {path}: {error.strerror}") from error


def _show(content: Mapping[str, Any]) -> None:
    checks = content["checks"]
    by_area: dict[str, Counter[str]] = {}
    for check in checks:
        by_area.setdefault(check["area"], Counter())[check["state"]] += 1
    states = ("passed", "failed", "not probed", "left out")
    table = Table("What", *(Column(state.capitalize(), justify="right") for state in states))
    for area, counted in by_area.items():
        counts = (counted[state] for state in states)
        table.add_row(Text(area), *(f"{count:,}" if count else "" for count in counts))
    Console().print(table)
    for check in checks:
        if check["state"] != "passed":
            _say(f"{check['state'].upper():10}  {check['name']}: {check['reason']}")
    times = [check["found"]["time"] for check in checks if "time" in check["found"]]
    if times:
        widest = max(times, key=lambda time: abs(time["difference_us"]) / time["bound_us"])
        _say(
            f"Times: {len(times)} foreign ids compared with unknown ones; nearest to its bound "
            f"of {widest['bound_us']:,} µs is a difference of {widest['difference_us']:+,}."
        )
    verdict = "Tenants are kept apart" if content["passed"] else "NOT PASSED"
    _say(f"{verdict}: {len(checks)} checks of {content['url']}, {content['ended_at']}.")


def _say(sentence: str) -> None:
    Console(soft_wrap=True).print(Text(sentence), highlight=False)
