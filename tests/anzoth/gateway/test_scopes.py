"""Do scopes that manage and scopes that infer stay apart?"""

from __future__ import annotations

import pytest
from principals import make_principal

from anzoth.api.call import ANY_KEY
from anzoth.api.routes import ROUTES
from anzoth.errors import Forbidden
from anzoth.gateway.scopes import INFERENCE_SCOPES, MANAGEMENT_SCOPES, SCOPES, covers, manages


def test_all_is_every_inference_scope_and_admin_every_other_one() -> None:
    for scope in INFERENCE_SCOPES:
        assert covers({"all"}, scope)
        assert not covers({"admin"}, scope)
    for scope in (*MANAGEMENT_SCOPES, "not:heard:of"):
        assert covers({"admin"}, scope)
        assert not covers({"all"}, scope)


def test_a_scope_without_a_verb_covers_those_with_one() -> None:
    assert covers({"keys"}, "keys:write")
    assert covers({"models"}, "models:read")
    assert not covers({"keys:read"}, "keys:write")
    assert not covers({"keys:read"}, "keys")


def test_what_can_change_access_makes_a_management_key_and_reading_does_not() -> None:
    assert not manages({"chat", "all", "keys:read", "audit:read"})
    for scope in ("keys:write", "admin", "users:write", "keys"):
        assert manages({"chat", scope})


@pytest.mark.parametrize("route", [r for r in ROUTES if r.inference], ids=lambda r: r.pattern)
def test_a_management_key_infers_nowhere_whatever_it_may_hand_on(route) -> None:
    who = make_principal(scopes=frozenset({"all", "admin"}))
    with pytest.raises(Forbidden, match="manages keys"):
        who.require_scope(route.scope)
    make_principal(scopes=frozenset({"all", "keys:read"})).require_scope(route.scope)


def test_every_route_s_scope_can_be_given_to_a_key() -> None:
    assert {route.scope for route in ROUTES if route.scope is not None} <= {*SCOPES, ANY_KEY}
