"""Does what the database keeps of a secret say nothing about it, and open nothing else?"""

from __future__ import annotations

from anzoth.gateway.accounts import tokens
from anzoth.gateway.accounts.tokens import Vault
from anzoth.gateway.keys import Pepper

VAULT = Vault(Pepper("a", b"a" * 32))
OTHER = Vault(Pepper("b", b"b" * 32))


def test_a_token_is_256_bits_that_need_no_escaping() -> None:
    made = {tokens.mint() for _ in range(100)}
    assert len(made) == 100
    assert all(
        len(token) == 43 and token.replace("-", "").replace("_", "").isalnum() for token in made
    )


def test_a_digest_is_of_one_kind_and_one_pepper() -> None:
    token = tokens.mint()
    kinds = (tokens.SESSION, tokens.INVITATION, tokens.BOOTSTRAP, tokens.PASSWORD_RESET)
    digests = {vault.digest(kind, token) for kind in kinds for vault in (VAULT, OTHER)}
    assert len(digests) == 8
    assert VAULT.csrf_token(token) != VAULT.csrf_token(tokens.mint())


def test_what_is_sealed_opens_for_its_purpose_alone() -> None:
    sealed = VAULT.seal("totp:1", b"secret")
    assert b"secret" not in sealed
    assert sealed != VAULT.seal("totp:1", b"secret")
    assert VAULT.open("totp:1", sealed) == b"secret"
    assert VAULT.open("totp:2", sealed) is None
    assert OTHER.open("totp:1", sealed) is None
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for broken in (b"", sealed[:5], sealed[:12], damaged):
        assert VAULT.open("totp:1", broken) is None
