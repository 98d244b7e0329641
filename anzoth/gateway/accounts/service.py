"""What do accounts consist of, in a gateway?

Does not know: how any part does its work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from anzoth.account_config import AccountsConfig, OidcConfig
from anzoth.db.pool import Database
from anzoth.gateway.accounts.devices import Devices
from anzoth.gateway.accounts.members import Members
from anzoth.gateway.accounts.passwords import Passwords
from anzoth.gateway.accounts.sessions import Sessions
from anzoth.gateway.accounts.sign_in import SignIn
from anzoth.gateway.accounts.sign_up import SignUp
from anzoth.gateway.accounts.single_sign_on import SingleSignOn
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.keys import Pepper


@dataclass(slots=True, frozen=True)
class Accounts:
    """Built once by the gateway process."""

    config: AccountsConfig
    sessions: Sessions
    devices: Devices
    sign_in: SignIn
    sign_up: SignUp
    single_sign_on: SingleSignOn
    members: Members
    passwords: Passwords

    def close(self) -> None:
        self.passwords.close()


def build(
    database: Database,
    pepper: Pepper,
    config: AccountsConfig,
    providers: Sequence[OidcConfig] = (),
    *,
    hasher: Passwords | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    clock: Callable[[], float] = time.monotonic,
    unix_s: Callable[[], float] = time.time,
) -> Accounts:
    """The last four are for tests, which would otherwise wait."""
    vault = Vault(pepper)
    hasher = hasher or Passwords()
    sessions = Sessions(database, pepper, config, now=now)
    devices = Devices(vault)
    sign_in = SignIn(database, vault, sessions, devices, hasher, clock=clock, unix_s=unix_s)
    return Accounts(
        config=config,
        sessions=sessions,
        devices=devices,
        sign_in=sign_in,
        sign_up=SignUp(database, vault, sessions, sign_in, hasher, config),
        single_sign_on=SingleSignOn(database, vault, sessions, config, providers, unix_s=unix_s),
        members=Members(database, vault, config, now=now),
        passwords=hasher,
    )
