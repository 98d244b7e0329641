"""A real OpenID Connect provider on a real socket: it signs with an RSA key, and checks PKCE.

`sign_in` is what its login page would do; everything else is asked over HTTP by whoever relies on
it. Attributes say how it misbehaves.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from anzoth.gateway.accounts.oidc import challenge_of

CLIENT_ID, CLIENT_SECRET = "anzoth", "a client secret of some length with : and % in it"
# One pair for all tests: making one takes a moment.
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class OidcProvider:
    url: str
    claims: dict[str, Any] = field(default_factory=dict)
    """Over those of an honest ID token; None leaves one out."""
    key_id: str = "first"
    signing_key: Any = KEY
    algorithm: str = "RS256"
    metadata: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    handed_out: list[str] = field(default_factory=list, repr=False)
    """PKCE verifiers that it was sent, and ID tokens that it made."""

    def sign_in(self, authorization_url: str, subject: str, **claims: Any) -> str:
        """The callback's query after this person signed in and agreed."""
        parts = urlsplit(authorization_url)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert f"{parts.scheme}://{parts.netloc}" == self.url
        assert asked["client_id"] == CLIENT_ID
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe()
        self.codes[code] = {**asked, "claims": json.dumps({"sub": subject, **claims})}
        return urlencode({"code": code, "state": asked["state"], "iss": self.url})

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            **self.metadata,
        }

    def keys(self) -> dict[str, Any]:
        key = json.loads(RSAAlgorithm.to_jwk(KEY.public_key()))
        strange = {"kty": "made up", "kid": "strange"}
        return {"keys": [strange, {**key, "kid": self.key_id, "use": "sig", "alg": "RS256"}]}

    def token(self, form: dict[str, str], authorization: str | None) -> tuple[int, dict[str, Any]]:
        expected = base64.b64encode(f"{CLIENT_ID}:{quote_plus(CLIENT_SECRET)}".encode()).decode()
        if authorization != f"Basic {expected}":
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)  # good once
        if (
            asked is None
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge_of(form.get("code_verifier", "")) != asked["code_challenge"]
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "email_verified": True,
            **json.loads(asked["claims"]),
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        headers = {"kid": self.key_id}
        key: Any = None if self.algorithm == "none" else self.signing_key  # as PyJWT wants it
        self.handed_out.append(form["code_verifier"])
        token = jwt.encode(claims, key, algorithm=self.algorithm, headers=headers)
        self.handed_out.append(token)
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": token}


@contextlib.contextmanager
def oidc_provider() -> Iterator[OidcProvider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            documents = {
                "/.well-known/openid-configuration": provider.discovery,
                "/keys": provider.keys,
            }
            provider.asked.append(self.path)
            found = documents.get(self.path)
            self._answer(404 if found is None else 200, {} if found is None else found())

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            content = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(content).items()}
            self._answer(*provider.token(form, self.headers["authorization"]))

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = OidcProvider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
