"""Whom does an OpenID Connect provider say that this is?

Authorization code with PKCE (RFC 7636), state and nonce; the ID token's signature, issuer, audience
and times are checked by PyJWT against the provider's published keys. Of the three libraries that
were weighed, Authlib brings a whole OAuth framework with a session store of its own, and pyjwt with
the HTTP client that is here already is what is left of it when the protocol is forty lines.

What is fetched comes over TLS or from this machine, is bounded in size and time, and is never
redirected.

Does not know: users (see `single_sign_on`).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

import jwt
import orjson

from anzoth.account_config import OidcConfig, is_safe_url
from anzoth.errors import ProviderUnavailable, SignInFailed
from anzoth.gateway import tls

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Signatures with a public key: never `none`, never one that the client's secret could make."""
_TIMEOUT_S = 10.0
_MAX_BYTES = 1 << 20
_METADATA_TTL_S = 3600.0
_KEYS_PAUSE_S = 60.0
"""An unknown key id asks the provider again, but not more often than this."""
_LEEWAY_S = 60
_SCOPE = "openid email profile"


@dataclass(slots=True, frozen=True)
class Identity:
    """What the provider vouches for."""

    issuer: str
    subject: str
    email: str | None
    is_email_verified: bool
    name: str


@dataclass(slots=True, frozen=True)
class _Metadata:
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    names_issuer: bool
    """RFC 9207: the callback says `iss`."""
    read_at_s: float


@dataclass(slots=True)
class _Keys:
    by_id: Mapping[str | None, jwt.PyJWK] = field(default_factory=dict)
    read_at_s: float = float("-inf")


class Provider:
    """One [[oidc]] table."""

    def __init__(self, config: OidcConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._metadata: _Metadata | None = None
        self._keys = _Keys()

    async def authorization_url(
        self, redirect_uri: str, *, state: str, nonce: str, verifier: str
    ) -> str:
        """Where the browser goes to sign in. Raises ProviderUnavailable."""
        metadata = await self._discovered()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.config.client_id,
                "redirect_uri": redirect_uri,
                "scope": _SCOPE,
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge_of(verifier),
                "code_challenge_method": "S256",
            }
        )
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{separator}{query}"

    async def identity(
        self, code: str, issuer: str | None, redirect_uri: str, *, nonce: str, verifier: str
    ) -> Identity:
        """Who came back with `code`; `issuer`: what the callback named. Raises SignInFailed,
        ProviderUnavailable."""
        metadata = await self._discovered()
        if (issuer is not None or metadata.names_issuer) and issuer != self.config.issuer:
            raise _refused()  # the answer of another provider (mix-up)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        answer = await self._post(metadata.token_endpoint, form)
        claims = await self._claims(answer.get("id_token"))
        if not hmac.compare_digest(str(claims.get("nonce")).encode(), nonce.encode()):
            raise _refused()
        email = claims.get("email")
        return Identity(
            issuer=self.config.issuer,
            subject=claims["sub"],
            email=email if isinstance(email, str) else None,
            # Some providers send the text.
            is_email_verified=claims.get("email_verified") in (True, "true"),
            name=claims["name"] if isinstance(claims.get("name"), str) else "",
        )

    # --- the ID token ---------------------------------------------------------------------------

    async def _claims(self, token: object) -> Mapping[str, Any]:
        """Raises SignInFailed unless the token is this provider's, for us, now."""
        if not isinstance(token, str):
            raise _refused()
        try:
            key = await self._key(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self.config.client_id,
                issuer=self.config.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError):
            raise _refused() from None  # the message may quote the token
        is_for_others_too = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if not claims["sub"] or (is_for_others_too and claims.get("azp") != self.config.client_id):
            raise _refused()
        return claims

    async def _key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        key_id = header.get("kid")
        if (key := self._try_key(key_id)) is not None:
            return key
        if self._clock() - self._keys.read_at_s >= _KEYS_PAUSE_S:
            document = await self._get((await self._discovered()).jwks_uri)
            self._keys = _Keys(_parsed(document), self._clock())
        key = self._try_key(key_id)
        if key is None:
            raise _refused()
        return key

    def _try_key(self, key_id: str | None) -> jwt.PyJWK | None:
        """Without an id: the only key there is."""
        keys = self._keys.by_id
        if key_id is None:
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(key_id)

    # --- HTTP -----------------------------------------------------------------------------------

    async def _discovered(self) -> _Metadata:
        known = self._metadata
        if known is not None and self._clock() - known.read_at_s < _METADATA_TTL_S:
            return known
        url = f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._get(url)
        endpoints = [
            document.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
        ]
        if document.get("issuer") != self.config.issuer or not all(
            isinstance(endpoint, str) and is_safe_url(endpoint) for endpoint in endpoints
        ):
            raise ProviderUnavailable()
        self._metadata = _Metadata(
            *map(str, endpoints),
            names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
            read_at_s=self._clock(),
        )
        return self._metadata

    async def _get(self, url: str) -> Mapping[str, Any]:
        return await self._fetch("GET", url)

    async def _post(self, url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        if self.config.client_secret is None:
            return await self._fetch("POST", url, {**form, "client_id": self.config.client_id})
        # RFC 6749 §2.3.1: both are form-encoded first.
        credentials = quote_plus(self.config.client_id), quote_plus(self.config.client_secret)
        return await self._fetch("POST", url, form, credentials)

    async def _fetch(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Raises SignInFailed where the provider refuses, else ProviderUnavailable."""
        import httpx2  # a gateway without providers does without it

        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                httpx2.AsyncClient(timeout=_TIMEOUT_S, verify=tls.trusted(True)) as client,
                client.stream(
                    method,
                    url,
                    data=None if form is None else dict(form),
                    auth=auth,
                    headers={"accept": "application/json"},
                ) as answer,
            ):
                content = b""
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > _MAX_BYTES:
                        raise ProviderUnavailable()
                status = answer.status_code
            document = orjson.loads(content) if status == 200 else None
        except (httpx2.HTTPError, OSError, orjson.JSONDecodeError):
            raise ProviderUnavailable() from None  # the message may quote what was sent
        if method == "POST" and status in (400, 401):
            raise _refused()
        if not isinstance(document, dict):
            raise ProviderUnavailable()
        return document


def challenge_of(verifier: str) -> str:
    """RFC 7636 §4.2, S256."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _parsed(document: Mapping[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """Those keys of a JWK set that are for signatures and of a kind we know."""
    keys: dict[str | None, jwt.PyJWK] = {}
    listed = document.get("keys")
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.algorithm_name in _ALGORITHMS:
            keys[key.key_id] = key
    return keys


def _refused() -> SignInFailed:
    return SignInFailed("The single sign-on provider does not vouch for this sign-in.")
