"""A gateway process as far as limits go: it admits as much as it may, and writes down when.

python limit_peer.py DSN GATEWAY LOG TPM TOKENS
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid

from principals import make_principal

from anzoth.db.pool import Database
from anzoth.errors import CapacityUnavailable, RateLimited
from anzoth.gateway.limit_leases import Leases
from anzoth.gateway.limits import Limiter


async def main(dsn: str, gateway: str, path: str, tpm: str, tokens: str) -> None:
    last_ns = 0

    def now_ns() -> int:
        nonlocal last_ns
        last_ns = time.monotonic_ns()
        return last_ns

    database = await Database.open(dsn)
    limiter = Limiter(now_ns)
    leases = Leases(database, dsn, uuid.UUID(gateway), limiter.shares)
    who = make_principal(tpm=int(tpm))
    await leases.join()
    with open(path, "ab", buffering=0) as log:  # noqa: ASYNC230  # a file in memory
        log.write(b"joined\n")
        async with asyncio.TaskGroup() as group:
            group.create_task(leases.run())
            while True:
                try:
                    limiter.reserve(who, "m", int(tokens), 0)
                    log.write(b"%d\n" % last_ns)  # when the bucket was charged
                except (RateLimited, CapacityUnavailable):
                    await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
