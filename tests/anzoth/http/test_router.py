"""The route table: parameters, precedence, and what a path that does not match is told."""

from __future__ import annotations

import pytest

from anzoth.errors import MethodNotAllowed, NotFound
from anzoth.http.router import Router


@pytest.fixture
def router() -> Router[str]:
    router: Router[str] = Router()
    router.add("GET", "/v1/models", "list")
    router.add("GET", "/v1/models/{model:path}", "model")
    router.add("DELETE", "/v1/models/{model:path}", "delete")
    router.add("GET", "/v1/files/{file}", "file")
    router.add("GET", "/v1/files/{file}/content", "content")
    router.add("POST", "/v1/files", "upload")
    router.add("GET", "/v1/files/special", "special")
    router.add("POST", "/v1/{kind}/{name}.json", "dotted")
    return router


@pytest.mark.parametrize(
    ("method", "path", "target", "parameters"),
    [
        ("GET", "/v1/models", "list", {}),
        ("HEAD", "/v1/models", "list", {}),
        ("GET", "/v1/models/a", "model", {"model": "a"}),
        ("GET", "/v1/models/org/name:tag", "model", {"model": "org/name:tag"}),
        ("DELETE", "/v1/models/a/b", "delete", {"model": "a/b"}),
        ("GET", "/v1/files/f1", "file", {"file": "f1"}),
        ("HEAD", "/v1/files/f1", "file", {"file": "f1"}),
        ("GET", "/v1/files/f1/content", "content", {"file": "f1"}),
        ("GET", "/v1/files/special", "special", {}),
        ("POST", "/v1/x/y.json", "dotted", {"kind": "x", "name": "y"}),
        ("GET", "/v1/files/a\nb", "file", {"file": "a\nb"}),
    ],
)
def test_match(
    router: Router[str], method: str, path: str, target: str, parameters: dict[str, str]
) -> None:
    assert router.match(method, path) == (target, parameters)


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/models/", "/v1/files/", "/v1/files/a/b", "/V1/models", "/v1/x/y-json"]
)
def test_unknown_path_is_not_found_and_named(router: Router[str], path: str) -> None:
    with pytest.raises(NotFound) as caught:
        router.match("GET", path)
    assert caught.value.message.startswith(f"Unknown request URL: GET {path}.")


def test_a_very_long_path_is_not_repeated_whole(router: Router[str]) -> None:
    with pytest.raises(NotFound) as caught:
        router.match("GET", "/" + "a" * 5000)
    assert len(caught.value.message) < 300


def test_known_path_with_another_method_says_what_is_allowed(router: Router[str]) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        router.match("PUT", "/v1/files/special")
    assert caught.value.allow == ("GET", "HEAD", "OPTIONS")
    assert router.allowed_methods("/v1/files") == ("OPTIONS", "POST")
    assert router.allowed_methods("/nowhere") == ()


def test_all_patterns_that_match_are_asked_for_their_methods() -> None:
    router: Router[int] = Router()
    router.add("GET", "/a/{x}", 1)
    router.add("POST", "/a/{y}", 2)
    router.add("PUT", "/a/b", 3)
    assert router.match("GET", "/a/b") == (1, {"x": "b"})
    assert router.match("POST", "/a/b") == (2, {"y": "b"})
    assert router.match("PUT", "/a/b") == (3, {})
    assert router.allowed_methods("/a/b") == ("GET", "HEAD", "OPTIONS", "POST", "PUT")


@pytest.mark.parametrize("pattern", ["a", "/{", "/}", "/{A}", "/{a:int}", "/a//b", "/{a}{"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a route pattern"):
        Router[int]().add("GET", pattern, 1)


def test_a_route_has_one_target(router: Router[str]) -> None:
    with pytest.raises(ValueError, match="two targets"):
        router.add("GET", "/v1/files/{file}", "again")


def test_every_route_can_be_listed(router: Router[str]) -> None:
    routes = list(router)
    assert len(routes) == 8
    assert ("DELETE", "/v1/models/{model:path}", "delete") in routes
