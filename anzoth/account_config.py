"""Which settings do accounts and single sign-on have?

Does not know: what they do (see `gateway.accounts`), or the other sections (see `config`).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anzoth.settings import ConfigError, section

SIGN_UP = ("open", "invite", "closed")


@dataclass(slots=True, frozen=True)
class AccountsConfig:
    """Section [accounts]: people who manage, and their browsers."""

    sign_up: str | None = None
    """open: anybody makes an account and a tenant; invite: whoever was invited; closed: the
    operator alone. None: open where nobody but this machine reaches the server, else invite."""
    public_url: str | None = None
    """Where browsers reach the server, https://…, if not at the address it listens on. Without it
    people can sign in from this machine only."""
    session_idle_s: float = 12 * 3600.0
    session_lifetime_s: float = 7 * 86400.0
    """From signing in, whatever happens."""
    invitation_lifetime_s: float = 7 * 86400.0


@dataclass(slots=True, frozen=True)
class OidcConfig:
    """One provider of single sign-on (OpenID Connect): an [[oidc]] table."""

    name: str
    """In URLs: letters, digits, `-` and `_`."""
    issuer: str
    client_id: str
    domains: tuple[str, ...]
    """Of email addresses: for others the provider's word counts for nothing."""
    client_secret: str | None = field(default=None, repr=False)
    client_secret_file: Path | None = None
    tenant: str | None = None
    """Whose members its users become when they first sign in. None: only who has an account."""
    role: str = "member"


def accounts_of(
    given: Mapping[str, object], environ: Mapping[str, str], host: str
) -> AccountsConfig:
    """With what `sign_up` means where nothing was said: a server that only this machine reaches
    may be somebody's laptop; one with a public address is not."""
    accounts = section(AccountsConfig, given, {}, environ, "ANZOTH_ACCOUNTS_")
    url = accounts.public_url
    if url is not None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
            raise ConfigError(f"public_url is {url!r}; expected https://host or https://host:port")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ConfigError(f"public_url is {url!r}; passwords and cookies need https")
        url = f"{parts.scheme}://{parts.netloc.lower()}"
    sign_up = accounts.sign_up
    if sign_up is None:
        sign_up = "open" if is_loopback(host) and url is None else "invite"
    if sign_up not in SIGN_UP:
        raise ConfigError(f"sign_up is {sign_up!r}; expected one of {', '.join(SIGN_UP)}")
    return dataclasses.replace(accounts, sign_up=sign_up, public_url=url)


def providers_of(given: object, accounts: AccountsConfig) -> tuple[OidcConfig, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(table, dict) for table in given):
        raise ConfigError("write providers as [[oidc]] tables")
    if accounts.public_url is None:
        raise ConfigError("[[oidc]] needs [accounts] public_url, where browsers come back to")
    providers = tuple(_provider(table) for table in given)
    if len({provider.name for provider in providers}) < len(providers):
        raise ConfigError("two [[oidc]] tables have one name")
    return providers


def _provider(table: Mapping[str, object]) -> OidcConfig:
    name = table.get("name")
    if not (isinstance(name, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", name)):
        raise ConfigError(f"an [[oidc]] table's name is {name!r}; expected letters and digits")
    for required in ("issuer", "client_id", "domains"):
        if not table.get(required):
            raise ConfigError(f"oidc {name}: {required} is missing")
    domains = table["domains"]
    if not isinstance(domains, list) or not all(isinstance(d, str) and d for d in domains):
        raise ConfigError(f"oidc {name}: domains is {domains!r}; expected a list of domains")
    try:
        provider = section(OidcConfig, table, {}, {}, "")
    except ConfigError as error:
        raise ConfigError(f"oidc {name}: {error}") from None
    if not is_safe_url(provider.issuer):
        raise ConfigError(f"oidc {name}: issuer is {provider.issuer!r}; expected https://…")
    if provider.role not in ("viewer", "member", "admin"):
        raise ConfigError(
            f"oidc {name}: role is {provider.role!r}; expected viewer, member or admin"
        )
    secret = provider.client_secret
    if provider.client_secret_file is not None:
        try:
            secret = provider.client_secret_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"oidc {name}: cannot read its secret: {error.strerror}") from error
    return dataclasses.replace(
        provider,
        domains=tuple(domain.lower() for domain in provider.domains),
        client_secret=secret,
        client_secret_file=None,
    )


def is_safe_url(url: str) -> bool:
    """Whether what is fetched from there comes over TLS, or from this machine."""
    parts = urllib.parse.urlsplit(url)
    if url.split() != [url] or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def is_loopback(host: str) -> bool:
    """Whether the name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
