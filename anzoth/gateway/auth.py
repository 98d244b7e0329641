"""Whose request is this?

A key's row is read by its kid, as the database role that may read exactly that row, and kept for at
most a second. A notification from the database ends that second early, so a revoked key is refused
and a new one works at once, and within two seconds even when the notification is lost.

While the database is away, a key that was seen within the last minute keeps working with what was
known about it; any other request is answered 503 `database_unavailable`.

A key that was rotated has two secrets for a while: the old one still finds it and its uses are
counted.

Does not know: what a principal may do (see `principal`), or how much (see `limits`).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from anzoth.db.errors import DatabaseDown
from anzoth.db.listen import listen
from anzoth.db.pool import Database
from anzoth.db.store import key_rows, limit_rows
from anzoth.errors import DatabaseUnavailable, KeyRevoked, MissingApiKey, Unauthorized
from anzoth.gateway import keys
from anzoth.gateway.keys import Key, Pepper
from anzoth.gateway.limit_rules import LIMIT_NAMES, Level, LimitRule, Limits
from anzoth.gateway.principal import Address, Principal, TenantHandle

CHANNEL = "anzoth_keys"
_TTL_S = 1.0
_UNKNOWN_TTL_S = 0.25
"""Of a kid that does not exist: it may come into being any moment."""
_STALE_LIMIT_S = 60.0
_DATABASE_PAUSE_S = 0.5
"""After a failure, how long requests do not even try: they would all wait for the time-out."""
_MAX_KEYS = 10_000
_MAX_UNKNOWN = 1_000
_LAST_USED_INTERVAL_S = 30.0
_CLOSE_TIMEOUT_S = 2.0
_NO_DIGEST = bytes(32)

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class _Entry:
    """What is known about a kid. No row: it does not exist."""

    row: key_rows.KeyRow | None
    principal: Principal | None
    read_at_s: float


class Authenticator:
    """One per gateway. `run` must be running for changes to be heard of at once."""

    def __init__(
        self,
        database: Database,
        dsn: str,
        pepper: Pepper,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._pepper = pepper
        self._clock = clock
        self._now = now
        self._known: OrderedDict[str, _Entry] = OrderedDict()
        self._unknown: OrderedDict[str, _Entry] = OrderedDict()
        self._reading: weakref.WeakValueDictionary[str, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._generation = 0
        """Grows with each notification: what was read before one may be out of date."""
        self._database_away_until_s = float("-inf")
        self._used: dict[TenantHandle, dict[uuid.UUID, key_rows.KeyUse]] = {}

    async def authenticate(
        self, authorization: str | None, address: Address | None = None
    ) -> Principal:
        """The principal of a request with this Authorization header, which came from `address`.

        Raises Unauthorized, with one and the same answer for every key that does not work, and
        DatabaseUnavailable.
        """
        key = _parse_header(authorization)
        entry = self._fresh(key.kid)
        if entry is None:
            entry = await self._read(key.kid)
        return self._check(key, entry, address)

    async def of_key(self, tenant: TenantHandle, key_id: uuid.UUID) -> Principal:
        """The principal of a key that asked for something earlier which is done now, as the key is
        now; so without its secret.

        Raises KeyRevoked unless a request with it would be served, DatabaseUnavailable, and
        DatabaseDown.
        """
        async with self._database.tenant(tenant) as connection:
            kid = await key_rows.find_kid(connection, tenant.id, key_id)
        if kid is not None:
            entry = self._fresh(kid) or await self._read(kid)
            row, principal = entry.row, entry.principal
            if row is not None and principal is not None and self._is_valid(row, kid):
                return principal
        raise KeyRevoked("The API key was revoked, or has expired.")

    async def run(self) -> None:
        """Hears of changed keys and writes down when keys were used, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                listen(self._dsn, CHANNEL, self._changed, lambda: self._changed(None))
            )
            group.create_task(self._write_last_used_regularly())

    async def close(self) -> None:
        """Writes down the last uses, if the database takes them quickly."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._write_last_used()
        except TimeoutError:
            _log.warning("the last uses of some keys were not written down")

    # --- checking -------------------------------------------------------------------------------

    def _check(self, key: Key, entry: _Entry, address: Address | None) -> Principal:
        """Does the same work for every reason to refuse, so that the time taken tells nothing."""
        row, principal = entry.row, entry.principal
        digest = self._pepper.digest(key)
        is_right = hmac.compare_digest(digest, _NO_DIGEST if row is None else _digest(row, key.kid))
        if row is None or principal is None or not is_right or not self._is_valid(row, key.kid):
            raise Unauthorized()
        used = self._used.setdefault(principal.tenant, {})
        used[row.id] = _use(used.get(row.id), self._now(), address, principal, key.kid)
        return principal

    def _is_valid(self, row: key_rows.KeyRow, kid: str) -> bool:
        hash_alg, pepper_id = row.hash_alg, row.pepper_id
        if kid != row.kid:
            hash_alg, pepper_id = row.predecessor_hash_alg, row.predecessor_pepper_id
            until = row.predecessor_expires_at
            if until is None or self._now() >= until:
                return False
        return (
            hash_alg == keys.HASH_ALG
            and pepper_id == self._pepper.id
            and row.revoked_at is None
            and (row.expires_at is None or self._now() < row.expires_at)
        )

    # --- what is known --------------------------------------------------------------------------

    def _fresh(self, kid: str) -> _Entry | None:
        if (entry := self._known.get(kid)) is not None:
            self._known.move_to_end(kid)
            return entry if self._clock() - entry.read_at_s < _TTL_S else None
        entry = self._unknown.get(kid)
        if entry is not None and self._clock() - entry.read_at_s < _UNKNOWN_TTL_S:
            return entry
        return None

    async def _read(self, kid: str) -> _Entry:
        """From the database: once, however many requests with this key are waiting."""
        lock = self._reading.setdefault(kid, asyncio.Lock())
        async with lock:
            if (entry := self._fresh(kid)) is not None:
                return entry
            if self._clock() < self._database_away_until_s:
                return self._stale(kid)
            generation, read_at_s = self._generation, self._clock()
            try:
                async with self._database.authenticating(kid) as connection:
                    row = await key_rows.find_key(connection, kid)
                    limits = [] if row is None else await limit_rows.limits_of_named_key(connection)
            except DatabaseDown as error:
                _log.warning("keys cannot be read: %s", error)
                self._database_away_until_s = self._clock() + _DATABASE_PAUSE_S
                return self._stale(kid)
            entry = _Entry(
                row, None if row is None else self._principal(row, kid, limits), read_at_s
            )
            if generation == self._generation:
                self._remember(kid, entry)
            return entry

    def _stale(self, kid: str) -> _Entry:
        """What was known within the last minute, for as long as the database is away."""
        entry = self._known.get(kid)
        if entry is None or self._clock() - entry.read_at_s > _STALE_LIMIT_S:
            raise DatabaseUnavailable()
        return entry

    def _remember(self, kid: str, entry: _Entry) -> None:
        self._known.pop(kid, None)
        self._unknown.pop(kid, None)
        if entry.row is None:
            self._unknown[kid] = entry
            if len(self._unknown) > _MAX_UNKNOWN:
                self._unknown.popitem(last=False)
        else:
            self._known[kid] = entry
            if len(self._known) > _MAX_KEYS:
                self._known.popitem(last=False)

    def _changed(self, kid: str | None) -> None:
        """Called for each notification; None: some may have been missed, the second will pass."""
        self._generation += 1
        if kid is not None:
            self._known.pop(kid, None)
            self._unknown.pop(kid, None)

    def _principal(
        self, row: key_rows.KeyRow, kid: str, limits: Sequence[limit_rows.LimitRow]
    ) -> Principal:
        return Principal(
            tenant=TenantHandle(
                row.tenant_id, row.tenant_name, self._pepper.cache_salt(row.tenant_id)
            ),
            project_id=row.project_id,
            key_id=row.id,
            scopes=frozenset(row.scopes),
            models=None if row.models is None else tuple(row.models),
            expires_at=row.expires_at,
            limits=tuple(_rule(row.tenant_id, limit) for limit in limits),
            endpoints=None if row.endpoints is None else tuple(row.endpoints),
            networks=None if row.networks is None else tuple(row.networks),
            knowledge_bases=None if row.knowledge_bases is None else frozenset(row.knowledge_bases),
            default_knowledge_bases=tuple(row.default_knowledge_bases),
            tools=frozenset(row.tools or ()),
            rotating_until=None if kid == row.kid else row.predecessor_expires_at,
            shadow_rules=tuple(row.shadow_rules),
            owner_id=row.owner_id,
        )

    # --- last use -------------------------------------------------------------------------------

    async def _write_last_used_regularly(self) -> None:
        while True:
            await asyncio.sleep(_LAST_USED_INTERVAL_S)
            await self._write_last_used()

    async def _write_last_used(self) -> None:
        """Coarse by intent: one statement per tenant now and then, and a lost one is no harm."""
        used, self._used = self._used, {}
        for tenant, keys_of_tenant in used.items():
            try:
                async with self._database.tenant(tenant) as connection:
                    await key_rows.touch_keys(connection, keys_of_tenant)
            except DatabaseDown as error:
                _log.info("the last uses of some keys were not written down: %s", error)
                return


def _digest(row: key_rows.KeyRow, kid: str) -> bytes:
    """Of the secret that goes with `kid`."""
    return row.digest if kid == row.kid else row.predecessor_digest or _NO_DIGEST


def _rule(tenant_id: uuid.UUID, row: limit_rows.LimitRow) -> LimitRule:
    level: Level = "tenant"
    subject = tenant_id
    if row.project_id is not None:
        level, subject = "project", row.project_id
    elif row.key_id is not None:
        level, subject = "key", row.key_id
    limits = Limits(**{name: getattr(row, name) for name in LIMIT_NAMES})
    return LimitRule(level, subject, limits, row.model)


def _use(
    before: key_rows.KeyUse | None,
    now: datetime,
    address: Address | None,
    principal: Principal,
    kid: str,
) -> key_rows.KeyUse:
    """`before` and one use more."""
    if principal.rotating_until is None:
        if before is None:
            return key_rows.KeyUse(now, address)
        return replace(before, at=now, ip=address)
    is_same = before is not None and before.predecessor_kid == kid
    num_uses = before.predecessor_uses if before is not None and is_same else 0
    return key_rows.KeyUse(now, address, kid, num_uses + 1)


def _parse_header(authorization: str | None) -> Key:
    """Raises Unauthorized. A wrong checksum never reaches the database."""
    if authorization is None:
        raise MissingApiKey()
    scheme, _, token = authorization.strip().partition(" ")
    key = keys.try_parse(token.strip())
    if scheme.lower() != "bearer" or key is None:
        raise Unauthorized()
    return key
