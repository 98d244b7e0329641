"""Who gets in, in which order, and what refusals look like."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from api_harness import MODEL, Api, Scenario, record, until
from api_stand_ins import PRINCIPAL, MemorySink
from checkpoints import EOS_ID
from engine_peer import Said
from principals import make_principal

from anzoth.api.call import ANY_KEY, Answer, Call, Route
from anzoth.api.routes import ROUTES, patterns
from anzoth.errors import AnzothError
from anzoth.frames import Refused
from anzoth.gateway import keys
from anzoth.gateway.ledger import row_of
from anzoth.gateway.scopes import SCOPES
from anzoth.http.messages import Response

Run = Callable[[Scenario], None]
CHAT = "/v1/chat/completions"
PUBLIC = {"/healthz", "/readyz", "/metrics"}
SIGNING_IN = {
    "/v1/auth/" + name
    for name in (
        *("bootstrap", "sign-up", "sign-in", "second-factor", "password/reset"),
        *("invitations/show", "invitations/accept"),
    )
}
"""Who is not signed in yet has nothing to show but what the body holds."""
SIGN_ON = {"/v1/auth/oidc" + rest for rest in ("", "/{provider}", "/{provider}/callback")}


# --- the table ------------------------------------------------------------------------------------


def test_everything_but_health_and_signing_in_needs_a_scope_or_a_session() -> None:
    public = {route.pattern for route in ROUTES if route.scope is None and not route.session}
    assert public == PUBLIC | SIGNING_IN | SIGN_ON
    assert not any(route.session for route in ROUTES if route.scope is not None or route.inference)
    assert all(route.scope != "" for route in ROUTES)
    assert ANY_KEY not in SCOPES


def test_only_what_is_a_keys_own_needs_no_scope_of_it() -> None:
    own = {route.pattern for route in ROUTES if route.scope == ANY_KEY}
    assert own == {"/v1/requests/{id}", "/v1/usage"}


def test_inference_always_needs_a_key_because_it_is_recorded() -> None:
    assert all(route.scope is not None for route in ROUTES if route.inference)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
def test_no_protected_route_answers_without_a_key_or_without_its_scope(
    route: Route, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["bare"] = replace(PRINCIPAL, scopes=frozenset({"unrelated"}))
        for pattern in patterns(route):
            path = re.sub(r"\{[^}]+:path\}", MODEL, pattern)
            path = re.sub(r"\{[^}]+\}", "x", path)
            path = path.replace("/usage/x", "/usage/completions")
            for key, expected in ((None, 401), ("wrong", 401), ("bare", 403)):
                reply = await api.call(route.method, path, {}, key=key)
                if route.pattern in SIGNING_IN:
                    assert reply.error["code"] == "missing_required_parameter"
                elif route.pattern in SIGN_ON:
                    assert reply.status == (200 if route.pattern == "/v1/auth/oidc" else 404)
                elif route.session:
                    assert reply.error["code"] == "not_signed_in"
                elif route.scope is None:
                    assert reply.status == 200
                else:
                    if route.scope == ANY_KEY and key == "bare":  # it got in
                        assert reply.status in {404, 503}  # to no such request, or no database
                    else:
                        assert reply.status == expected

    run(scenario)


def test_urls_work_without_the_version_too(run: Run) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.call("GET", "/models")).status == 200
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        assert (await api.call("POST", "/chat/completions", body)).status == 200
        assert api.ledger.records[0].endpoint == CHAT

    run(scenario)


def test_unknown_urls_and_methods_are_refused(run: Run) -> None:
    async def scenario(api: Api) -> None:
        assert (await api.call("GET", "/v1/nothing")).error["code"] == "not_found"
        reply = await api.call("GET", CHAT)
        assert (reply.status, reply.headers["allow"]) == (405, "OPTIONS, POST")
        options = await api.call("OPTIONS", CHAT, key=None)
        assert (options.status, options.headers["allow"]) == (204, "OPTIONS, POST")
        assert not api.ledger.records

    run(scenario)


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[]", b'"x"', b"null", b"[" * 100_000, b'{"a":"\\ud800"}']
)
def test_a_body_that_is_no_json_object_is_a_400(body: bytes, run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.call("POST", CHAT, body)
        assert reply.status == 400
        assert reply.error["type"] == "invalid_request_error"
        assert set(reply.error) == {"message", "type", "param", "code"}

    run(scenario)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_only_json_bodies_are_read(content_type: str, status: int, run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.chat(headers={"content-type": content_type})
        assert reply.status == status

    run(scenario)


# --- headers --------------------------------------------------------------------------------------


def test_every_answer_says_how_long_it_took_and_which_api_it_is(run: Run) -> None:
    async def scenario(api: Api) -> None:
        replies = [
            await api.chat(),
            await api.chat(stream=True),
            await api.chat(temperature=9),
            await api.call("GET", "/v1/models", key=None),
            await api.call("GET", "/v1/nothing"),
        ]
        assert [reply.status for reply in replies] == [200, 200, 400, 401, 404]
        for reply in replies:
            assert reply.headers["openai-version"] == "2020-10-01"
            assert int(reply.headers["openai-processing-ms"]) >= 0

    run(scenario)


def test_limits_are_told_on_answers_streams_and_refusals(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(rpm=2, tpm=10_000)
        whole = await api.chat(key="limited", max_tokens=5)
        stream = await api.chat(key="limited", max_tokens=5, stream=True)
        refused = await api.chat(key="limited", max_tokens=5)
        assert [reply.status for reply in (whole, stream, refused)] == [200, 200, 429]
        remaining = [
            reply.headers["x-ratelimit-remaining-requests"] for reply in (whole, stream, refused)
        ]
        assert remaining == ["1", "0", "0"]
        assert whole.headers["x-ratelimit-limit-tokens"] == "10000"
        assert int(refused.headers["retry-after-ms"]) > 0
        assert refused.error["code"] == "rate_limit_exceeded"

    run(scenario)


def test_unused_tokens_of_a_reservation_are_given_back(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(tpm=200)
        for _ in range(3):  # each reserves more than half of it
            assert (await api.chat(key="limited", max_tokens=150)).status == 200

    run(scenario)


def test_without_a_maximum_no_limit_cuts_the_answer_and_it_is_charged_in_full(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(tpm=30)
        api.saying = ["hello there " * 12]
        reply = await api.chat(key="limited")
        submit, prompt = api.peer.submits[0]
        assert submit.max_tokens == api.peer.hello.max_model_tokens - len(prompt)
        assert reply.status == 200
        used = reply.json["usage"]["total_tokens"]
        assert used > 30
        assert reply.headers["x-ratelimit-remaining-tokens"] == "0"
        refused = await api.chat(key="limited", max_tokens=1)
        wait_ms = int(refused.headers["retry-after-ms"])
        missing = used + len(prompt) + 1 - 30
        assert missing * 2000 - 10_000 < wait_ms <= missing * 2000  # but for what drained meanwhile

    run(scenario)


def test_a_model_that_answers_shortly_is_reserved_less_for(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(tpm=10**6)
        reserved = []
        for _ in range(9):
            reply = await api.chat(key="limited")
            reserved.append(10**6 - int(reply.headers["x-ratelimit-remaining-tokens"]))
        assert reserved[0] == 256  # the whole context: less than the first guess
        assert reserved[-1] < 40

    run(scenario)


# --- models ---------------------------------------------------------------------------------------


def test_unknown_models_are_404_and_foreign_ones_403(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["other"] = replace(PRINCIPAL, models=("other-*",))
        unknown = await api.chat(model="gpt-9")
        assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
        assert unknown.error["param"] == "model"
        foreign = await api.chat(key="other")
        assert (foreign.status, foreign.error["code"]) == (403, "model_not_allowed")

    run(scenario)


# --- what the engine says ----------------------------------------------------------------------


def test_a_prompt_that_cannot_fit_is_refused_with_both_numbers(run: Run) -> None:
    async def scenario(api: Api) -> None:
        reply = await api.chat(messages=[{"role": "user", "content": "x " * 500}])
        assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
        assert reply.error["param"] == "messages"
        num_tokens = len(api.tokens("<|bos|><|user|>" + "x " * 500 + "<|assistant|>"))
        assert "256" in reply.error["message"]
        assert str(num_tokens) in reply.error["message"]
        assert not api.peer.submits

    run(scenario)


def test_a_maximum_beyond_the_context_is_refused_not_cut(run: Run) -> None:
    async def scenario(api: Api) -> None:
        num_prompt = len(api.tokens("<|bos|><|user|>hi<|assistant|>"))
        fits = api.peer.hello.max_model_tokens - num_prompt
        assert (await api.chat(max_tokens=fits)).status == 200
        reply = await api.chat(max_tokens=fits + 1)
        assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")

    run(scenario)


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (Refused(0, "capacity", "full", 2500), 503, "capacity_unavailable"),
        (Refused(0, "capacity", "full", None), 503, "capacity_unavailable"),
        (Refused(0, "late", "too late", 2500), 503, "capacity_unavailable"),
        (Refused(0, "too_long", "too long"), 400, "context_length_exceeded"),
        (Refused(0, "invalid", "bad"), 400, "invalid_value"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_of_the_engine_is_a_status_even_for_a_stream(
    refusal: Refused, status: int, code: str, stream: bool, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        api.keys.principals["limited"] = make_principal(rpm=1, tpm=1000)
        api.peer.refusal = refusal
        reply = await api.chat(key="limited", stream=stream)
        assert (reply.status, reply.error["code"]) == (status, code)
        if refusal.retry_after_ms:
            assert reply.headers["retry-after-ms"] == "2500"
            assert reply.headers["retry-after"] == "3"
        api.peer.refusal = None
        # Nothing was charged: the one request per minute is still there.
        assert (await api.chat(key="limited", max_tokens=5)).status == 200
        assert [record.status for record in api.ledger.records] == [status, 200]

    run(scenario)


def test_a_grammar_is_quoted_to_whoever_sent_it_and_in_no_record(run: Run) -> None:
    async def scenario(api: Api) -> None:
        api.peer.refusal = Refused(0, "invalid", "unknown name: THEIR_RULE")
        reply = await api.chat(structured_outputs={"grammar": "start: THEIR_RULE"})
        assert reply.error["message"] == "unknown name: THEIR_RULE"
        assert [record.refusal for record in api.ledger.records] == [
            "The grammar or schema cannot be used."
        ]

    run(scenario)


@pytest.mark.parametrize("where", ["path", "model", "parameter"])
def test_a_key_that_stands_where_none_belongs_is_neither_told_nor_kept(
    where: str, run: Run
) -> None:
    async def scenario(api: Api) -> None:
        secret = keys.mint().text
        if where == "model":
            reply = await api.chat(model=secret, user=secret, metadata={secret: secret})
            row = row_of(api.ledger.records[0])
            assert f"{secret[:8]}…" in str(row.model)
            assert secret.partition("_")[2] not in repr(row)
        elif where == "path":
            reply = await api.call("GET", f"/v1/{secret}")
            assert f"{secret[:8]}…" in reply.error["message"]
        else:
            api.keys.principals["reader"] = make_principal(scopes=frozenset({"audit:read"}))
            path = f"/v1/organization/audit_logs?{secret}=1"
            reply = await api.call("GET", path, key="reader")
        assert reply.status in (400, 404)
        assert secret.partition("_")[2].encode() not in reply.body

    run(scenario)


def test_token_ids_outside_the_vocabulary_are_a_400_that_names_the_field(run: Run) -> None:
    async def scenario(api: Api) -> None:
        for field, value in (("logit_bias", {"400": 1}), ("stop_token_ids", [400])):
            reply = await api.chat(**{field: value})
            assert (reply.status, reply.error["param"]) == (400, field)
        assert (await api.chat(logit_bias={"399": 1})).status == 200

    run(scenario)


# --- our own bugs -----------------------------------------------------------------------------


def test_a_bug_is_a_500_that_tells_nothing_and_is_logged(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["what", "the", "customer", "wrote"]

    async def broken(call: Call) -> Answer:
        raise ValueError(*words)

    async def scenario(api: Api) -> None:
        app = type(api.app)(
            api.app._services,
            1 << 20,
            [Route("POST", "/v1/broken", "chat", broken, takes_body=True, inference=True)],
        )
        answer = await app(api.request("POST", "/v1/broken", {}))
        assert isinstance(answer, Response)
        assert answer.status == 500
        assert b"wrote" not in answer.body
        assert record(api)["error_code"] == AnzothError.code

    run(scenario)
    assert "ValueError" in caplog.text
    assert "wrote" not in caplog.text


def test_a_bug_in_one_stream_ends_that_stream_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(api: Api) -> None:
        fatal = api.tokens("!")[0]
        api.peer.script = lambda submit, prompt, choice: [
            Said(11),
            Said(fatal if submit.max_tokens == 9 else 11),
            Said(EOS_ID, "stop"),
        ]
        api.peer.pause_after = 1
        literal = api.model.tokenizer.pieces.literal

        def rendered(pieces: object, token_id: int) -> bytes:
            if token_id == fatal:
                raise RuntimeError
            return literal(token_id)

        monkeypatch.setattr(type(api.model.tokenizer.pieces), "rendered", rendered)
        sinks = MemorySink(), MemorySink()
        tasks = [
            asyncio.create_task(api.chat(max_tokens=9, stream=True, sink=sinks[0])),
            asyncio.create_task(api.chat(max_tokens=8, stream=True, sink=sinks[1])),
        ]
        await until(lambda: all(sink.data.count(b"data: ") == 2 for sink in sinks))
        api.peer.go_on()
        bad, good = await asyncio.gather(*tasks)
        assert bad.chunks[-1]["error"]["code"] == "internal_error"
        assert "[DONE]" not in bad.frames
        assert good.frames[-1] == "[DONE]"
        assert len(api.ledger.records) == 2

    run(scenario)
