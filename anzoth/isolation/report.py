"""What did a verification find, and who vouches for it?

A report is one JSON object, signed with the installation's audit key (Ed25519, RFC 8032) over its
canonical form (see `gateway.audit_chain`: sorted keys, no white space, whole numbers only):

    {"public_key":…, "report":{"format":"anzoth.isolation.1",…, "checks":[…]}, "signature":…}

so that whoever is handed one can check it offline, with the public key that the installation gave
them before (`anzoth audit key`).

Does not know: how anything was asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from anzoth.gateway import audit_chain
from anzoth.gateway.audit_heads import SigningKey

FORMAT = "anzoth.isolation.1"

State = Literal["passed", "failed", "not probed", "left out"]
"""`not probed`: the verification does not know how to ask, which is a failure of its own. `left
out`: this installation has nothing of the kind, and the reason says why."""
_GOOD = frozenset({"passed", "left out"})


class NotAReport(ValueError):
    """The file is no report, or not as it was signed; the message is one sentence."""


@dataclass(slots=True, frozen=True)
class Check:
    """One thing that was asked, and what came back."""

    area: str
    name: str
    state: State
    reason: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)  # JSON: statuses, times, counts

    @property
    def is_good(self) -> bool:
        return self.state in _GOOD


def failed(area: str, name: str, reason: str, **found: Any) -> Check:
    return Check(area, name, "failed", reason, found)


def passed(area: str, name: str, **found: Any) -> Check:
    return Check(area, name, "passed", "", found)


@dataclass(slots=True, frozen=True)
class Report:
    """All checks of one verification."""

    version: str
    url: str
    tenants: tuple[str, ...]
    """Their names; they are deleted."""
    started_at: datetime
    ended_at: datetime
    checks: tuple[Check, ...]

    @property
    def has_passed(self) -> bool:
        return bool(self.checks) and all(check.is_good for check in self.checks)

    def signed(self, key: SigningKey) -> dict[str, Any]:
        content = {
            "format": FORMAT,
            "version": self.version,
            "installation": key.public.hex(),
            "url": self.url,
            "tenants": list(self.tenants),
            "started_at": audit_chain.stamp(self.started_at),
            "ended_at": audit_chain.stamp(self.ended_at),
            "passed": self.has_passed,
            "counts": dict(Counter(check.state for check in self.checks)),
            "checks": [asdict(check) for check in self.checks],
        }
        signature = key.sign(audit_chain.canonical(content))
        return {"report": content, "public_key": key.public.hex(), "signature": signature.hex()}


def read(path: Path, public_key: bytes | None = None) -> dict[str, Any]:
    """A signed report whose signature holds; `public_key`: who must have signed.

    Needs neither server nor database. Raises NotAReport and OSError.
    """
    try:
        signed = orjson.loads(path.read_bytes())
        content, signer = signed["report"], bytes.fromhex(signed["public_key"])
        signature = bytes.fromhex(signed["signature"])
        if content["format"] != FORMAT:
            raise NotAReport(f"{path} has the format {content['format']!r}, not {FORMAT}")
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, audit_chain.canonical(content))
    except InvalidSignature:
        raise NotAReport(f"{path} is not as it was signed: somebody changed it") from None
    except NotAReport:
        raise
    except (ValueError, KeyError, TypeError):
        raise NotAReport(f"{path} is no report of anzoth verify-isolation") from None
    if content.get("installation") != signer.hex():
        raise NotAReport(f"{path} names another installation than the one that signed it")
    if public_key is not None and signer != public_key:
        raise NotAReport(f"{path} was signed by {signer.hex()}, which is not the given key")
    return signed
