"""Which cookies does a request carry, which does an answer set, and is the request ours?

Over TLS (`[accounts] public_url` is https) a session's cookie is `__Host-anzoth-session`, with
Secure, HttpOnly, SameSite=Lax and Path=/: no other host or path can set it, no script reads it,
and other sites' requests do not carry it unless they are plain navigation. Not Strict: a page that
is opened from a mail, or at the end of single sign-on, would look signed out.

Without TLS it is `anzoth-session`, without Secure, and is given to this machine's own browsers
alone. Chromium would take a Secure cookie from http://localhost, but not every client does:
Python's `http.cookiejar`, for one, never sends it back. Whoever comes through a proxy that nobody
told us about, or over a network in the clear, is refused: their password should not have come this
way.

A state-changing request that a cookie authenticates must say `x-csrf-token`, which only pages of
this origin can read, and, where a browser names the origin, name ours.

Does not know: sessions (see `gateway.accounts`).
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from anzoth.account_config import AccountsConfig, is_loopback
from anzoth.errors import Forbidden, ForgedRequest
from anzoth.http.messages import HeaderList, Request

SESSION, SIGN_ON, DEVICE = "anzoth-session", "anzoth-sign-on", "anzoth-device"
CSRF_HEADER = "x-csrf-token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via")


def name_of(cookie: str, config: AccountsConfig) -> str:
    return f"__Host-{cookie}" if _is_https(config) else cookie


def read(request: Request, cookie: str, config: AccountsConfig) -> str | None:
    """The cookie's value; None where there is none, or two of one name: one is somebody else's."""
    header = request.headers.get("cookie")
    if header is None:
        return None
    wanted, found = name_of(cookie, config), []
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == wanted:
            found.append(value)
    return found[0] if len(found) == 1 and found[0] else None


def setting(cookie: str, value: str, config: AccountsConfig, max_age_s: int) -> HeaderList:
    """The answer's header. `value` is URL-safe base64 or empty; 0 seconds: to be forgotten."""
    text = f"{name_of(cookie, config)}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax"
    return [("set-cookie", f"{text}; Secure" if _is_https(config) else text)]


def require_safe_transport(request: Request, config: AccountsConfig) -> None:
    """Before a password or a session crosses a wire. Raises Forbidden."""
    if _is_https(config) or _is_direct(request):
        return
    raise Forbidden(
        "People sign in over https only: put a TLS proxy in front of this server and set "
        "[accounts] public_url to its address.",
        code="https_required",
    )


def require_own_origin(request: Request, config: AccountsConfig) -> None:
    """Refuses what a browser sends from another site's page. Raises ForgedRequest."""
    if request.method not in _SAFE_METHODS and not has_own_origin(request, config):
        raise ForgedRequest()


def has_own_origin(request: Request, config: AccountsConfig) -> bool:
    """Whether a page of ours sent it, or no page at all."""
    origin = request.headers.get("origin")
    if origin is not None:
        return origin.lower() in _own_origins(request, config)
    return request.headers.get("sec-fetch-site") in (None, "same-origin", "none")


def require_csrf_token(request: Request, expected: str) -> None:
    """Raises ForgedRequest."""
    if request.method in _SAFE_METHODS:
        return
    given = request.headers.get(CSRF_HEADER) or ""
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise ForgedRequest()


def _own_origins(request: Request, config: AccountsConfig) -> set[str]:
    """The public one; from this machine also the one that the browser asked, if that is a name of
    this machine: a name that somebody else points here (DNS rebinding) is not."""
    own = set() if config.public_url is None else {config.public_url}
    host = (request.headers.get("host") or "").lower()
    if _is_direct(request) and is_loopback(urlsplit(f"//{host}").hostname or ""):
        own.add(f"http://{host}")
    return own


def _is_https(config: AccountsConfig) -> bool:
    return config.public_url is not None and urlsplit(config.public_url).scheme == "https"


def _is_direct(request: Request) -> bool:
    """From this machine, through no proxy that says so."""
    is_forwarded = any(request.headers.get(name) is not None for name in _FORWARDING)
    return _is_local(request) and not is_forwarded


def _is_local(request: Request) -> bool:
    return request.peer == "unix" or is_loopback(request.peer)
