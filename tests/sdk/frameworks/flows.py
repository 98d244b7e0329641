"""Runs the flows of a driver and prints what each of them saw: one JSON object, by its name.

What a flow raises is what it saw, so that one that breaks hides none of the others. All flows that
are asynchronous share an event loop, as the connections of a client must.
"""

import asyncio
import inspect
import json
import traceback
from collections.abc import Callable
from typing import Any


def run(*flows: Callable[[], Any]) -> None:
    seen = {}
    with asyncio.Runner() as runner:
        for flow in flows:
            try:
                saw = flow()
                if inspect.iscoroutine(saw):
                    saw = runner.run(saw)
                seen[flow.__name__] = {"saw": saw}
            except Exception:  # noqa: BLE001  # the edge of the process: a test reads it
                seen[flow.__name__] = {"raised": traceback.format_exc()}
    print(json.dumps(seen))
