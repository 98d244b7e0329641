"""Which rules can refuse a request, and what can whoever is refused do about it?

Every error carries the id of its rule (`AnzothError.rule`). It is written to the usage row of the
request and explained by `GET /v1/requests/{id}`. Ids are stable: reports and alerts hang on them.
A new refusal is one line here.

A policy that is being tried out can be watched instead of enforced: see `shadow`.

Does not know: who refuses, or when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(slots=True, frozen=True)
class Rule:
    """One reason to refuse."""

    meaning: str
    advice: str
    is_policy: bool = False
    """Somebody decided it for a key, project or tenant; so it can be watched instead."""


LIMIT_LEVELS = tuple(
    f"{level}{of}" for level in ("tenant", "project", "key") for of in ("", "_model")
)
"""Whose limit it is, of all models or of one: what the star stands for below."""

RULES: Mapping[str, Rule] = {
    "key.scope": Rule(
        "The key lacks the scope of this endpoint.",
        "Use a key with that scope, or have one created with it.",
        is_policy=True,
    ),
    "key.model": Rule(
        "The key is not granted this model.",
        "GET /v1/models lists what it may use; have the model granted.",
        is_policy=True,
    ),
    "key.endpoint": Rule(
        "The key must not use this endpoint.",
        "Use another key, or have the endpoint allowed.",
        is_policy=True,
    ),
    "key.ip": Rule(
        "The key must not be used from this address.",
        "Use it from an allowed network, or have this one allowed.",
        is_policy=True,
    ),
    "limit.*.rpm": Rule(
        "The requests per minute are used up.",
        "Wait for retry-after-ms, or have the limit raised.",
        is_policy=True,
    ),
    "limit.*.tpm": Rule(
        "The tokens per minute do not cover the prompt and the output that is asked for.",
        "Wait for retry-after-ms, ask for fewer tokens, or have the limit raised.",
        is_policy=True,
    ),
    "limit.*.input_tpm": Rule(
        "The input tokens per minute do not cover the prompt.",
        "Wait for retry-after-ms, send less, or have the limit raised.",
        is_policy=True,
    ),
    "limit.*.output_tpm": Rule(
        "The output tokens per minute do not cover the output that is asked for.",
        "Wait for retry-after-ms, ask for fewer tokens, or have the limit raised.",
        is_policy=True,
    ),
    "limit.*.concurrency": Rule(
        "As many requests run as may run at the same time.",
        "Retry when one of them has ended.",
        is_policy=True,
    ),
    "limit.*.tokens_per_day": Rule(
        "The tokens of the day (in UTC) are used up.",
        "Wait for the next day, or have the limit raised.",
        is_policy=True,
    ),
    "limit.*.budget_per_day": Rule(
        "What may be spent in the day (in UTC) is spent, or does not cover this request.",
        "Wait for the next day, ask for fewer tokens, or have the budget raised.",
        is_policy=True,
    ),
    "limit.*.budget_per_month": Rule(
        "What may be spent in the month (in UTC) is spent, or does not cover this request.",
        "Wait for the next month, ask for fewer tokens, or have the budget raised.",
        is_policy=True,
    ),
    "files.storage": Rule(
        "The tenant's files take up all the room that it has, or are too many.",
        "Delete files that are not needed, or have the operator raise [files] in the settings.",
    ),
    "stores.full": Rule(
        "The tenant has as many vector stores, or one of them as many files, as are allowed.",
        "Delete what is not needed, or have the operator raise [knowledge] in the settings.",
    ),
    "tools.full": Rule(
        "The tenant has as many tool servers as are allowed.", "Delete what is not needed."
    ),
    "batches.unfinished": Rule(
        "The tenant has as many unfinished batches as are allowed.",
        "Wait until one is done, cancel one, or have the operator raise [batches] in the settings.",
    ),
    "files.transfers": Rule(
        "Too many files of the tenant are sent or fetched at the same time.",
        "Retry when one of them is done.",
    ),
    "key.knowledge_base": Rule(
        "The key is granted certain vector stores: not this one, if it exists, nor to make others.",
        "Have the grant widened (anzoth keys update --add-kb), or use another key.",
        is_policy=True,
    ),
    "key.tool": Rule(
        "The key is not granted this tool, if there is one of that name that was approved.",
        "Have the tool granted, or use another key.",
    ),
    "tool.changed": Rule(
        "The tool was changed or withdrawn since the request began.",
        "Have its new definition approved.",
    ),
    "tool.arguments": Rule(
        "The arguments of the call are not what the tool's schema asks for.",
        "The call's result says what is wrong; the model is told, too.",
    ),
    "tool.approval": Rule(
        "A call of this tool needs a person's approval.",
        "Approve it through the Responses API, or have the server's policy changed.",
    ),
    "tool.approval_used": Rule(
        "The approval of the call was used already.",
        "See in the audit log what came of it, or have a new call approved.",
    ),
    "tool.taint": Rule(
        "The tool may write, and what the model has read may have asked for the call.",
        "Approve it through the Responses API, or have the server's policy changed.",
    ),
    "tool.rejected": Rule("Whoever was asked did not approve the call.", "Ask again if need be."),
    "tool.rate": Rule(
        "The tool's calls of this minute are used up.", "Wait, or have the server's limit raised."
    ),
    "key.management": Rule(
        "A key that manages keys is not used for inference.", "Make another key for inference."
    ),
    "key.revoked": Rule(
        "The key was revoked, or its tenant deleted, while the request ran.", "Use another key."
    ),
    "session.missing": Rule("There is no session.", "Sign in."),
    "session.failed": Rule("The email or the password is wrong.", "Check both for typos."),
    "session.second_factor": Rule(
        "The account has a second factor.", "Send the authenticator's code."
    ),
    "session.code": Rule("The code is wrong or was used before.", "Wait for the next code."),
    "session.origin": Rule(
        "The request does not come from this server's own pages.",
        "Send the session's x-csrf-token from the same origin.",
    ),
    "key.missing": Rule("No key was sent.", "Send the header Authorization: Bearer anz-…"),
    "key.invalid": Rule(
        "The key is unknown, revoked or expired.", "Check it for typos, or have a new one made."
    ),
    "model.unknown": Rule(
        "No model and no alias of the tenant has this name.", "GET /v1/models lists the names."
    ),
    "model.unavailable": Rule(
        "The engine of the model is starting or was lost, or no target of the alias answers.",
        "Retry in a few seconds; the attempts of the request say which target failed how.",
    ),
    "backend.refused": Rule(
        "The backend that serves the model refused the request as it is.",
        "Change the field that the message names.",
    ),
    "backend.misconfigured": Rule(
        "The backend that serves the model refuses this server, for example its key.",
        "Tell the operator: a retry will not help.",
    ),
    "request.invalid": Rule(
        "The request is malformed or a field has an impossible value.",
        "Change the field that the message names.",
    ),
    "request.unsupported": Rule(
        "A field asks for something that this server or this model does not do.",
        "Leave the field out.",
    ),
    "request.context_length": Rule(
        "Prompt and output do not fit into the model's context.",
        "Send a shorter prompt or a smaller max_tokens.",
    ),
    "request.not_found": Rule("There is nothing of that name.", "Check the id for typos."),
    "request.conflict": Rule(
        "What is asked for contradicts what is there.", "The message says what stands against it."
    ),
    "request.origin": Rule(
        "A page of another site asked what only programs and this server's own pages may.",
        "Ask from a program, which sends no Origin header.",
    ),
    "request.method": Rule("The URL does not take this method.", "The header Allow lists which."),
    "request.head": Rule("The head of the request is too large or asks for an HTTP feature that "
                         "this server lacks.", "Send fewer or shorter headers."),
    "request.media_type": Rule("The body is not JSON.", "Send Content-Type: application/json."),
    "request.too_large": Rule("The body is too large.", "Split the request."),
    "request.timeout": Rule("The request did not arrive in time.", "Retry it."),
    "request.deadline": Rule(
        "The answer was not complete within x-request-timeout-ms.", "Allow more time."
    ),
    "server.capacity": Rule(
        "All capacity is in use, or the server is shutting down.", "Wait for Retry-After."
    ),
    "server.database": Rule(
        "The database is away, and nothing recent is known of the key.", "Wait for Retry-After."
    ),
    "server.ledger": Rule(
        "Usage cannot be written down, so nothing is served.",
        "Retry; tell the operator if it lasts.",
    ),
    "server.audit": Rule(
        "The audit log cannot be written, so no tool is called.",
        "Retry; tell the operator if it lasts.",
    ),
    "server.retriever": Rule(
        "The index of knowledge bases is away or starting.", "Wait for Retry-After."
    ),
    "server.sign_on": Rule(
        "The provider of single sign-on did not answer as it should.", "Retry in a moment."
    ),
    "server.internal": Rule(
        "A fault of this server; it is in its log under the request's id.",
        "Retry; tell the operator if it repeats.",
    ),
}  # fmt: skip


def find(id: str) -> Rule | None:
    """What is known of a rule; None: it is of another version."""
    parts = id.split(".")
    if parts[0] == "limit" and len(parts) == 3 and parts[1] in LIMIT_LEVELS:
        return RULES.get(f"limit.*.{parts[2]}")
    return RULES.get(id)


def check_patterns(patterns: Iterable[str]) -> None:
    """Raises ValueError for one that matches no rule which can be watched."""
    policies = [id for id, rule in RULES.items() if rule.is_policy]
    ids = [id.replace("*", level) for id in policies for level in LIMIT_LEVELS]
    for pattern in patterns:
        if not any(fnmatchcase(id, pattern) for id in ids):
            raise ValueError(
                f"{pattern!r} matches no policy; there are: {', '.join(policies)} (the star is "
                "tenant, project or key, also with _model behind it)"
            )
