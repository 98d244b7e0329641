"""What does the bundled model know about keys and tenants?

Content only: the facts of the public documentation, with the ways people ask for them.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from anzoth.demo.topic import Topic

KEYS = (
    Topic(
        "key-create",
        "[creating a key|a new key|getting a key|API key creation|making keys|new api keys]",
        (
            "{how} [create|make|generate|issue|get|add|obtain|set up] [a|a new|another|an|my first|my] {key}",
            "[where|how] do I get [a|an|my] {key} [from|]",
            "[create|make|generate|give me|new] [a|an|] {key}",
            "I [need|want|have no|don't have] [a|an|] {key}",
            "[do I need|is there] a {key}",
            "which command [creates|makes|generates|gives me] [keys|a key|an api key]",
        ),
        (
            "Create a key with `anzoth keys create --tenant acme --name laptop`. It is shown once, so copy it then. Add `--data-dir .anzoth` if you use `make serve`.",
            "Run `anzoth keys create --tenant acme --name laptop` and copy the key: it is shown once. After `make serve`, add `--data-dir .anzoth`.",
        ),
        "anzoth keys create",
        (
            (
                "[how do I revoke it|can I revoke it|how do I delete it again|and how to remove it]",
                "key-revoke",
            ),
            ("[can I limit it|how do I limit it|can it have a limit]", "key-limits"),
            ("[where do I put it|how do I use it|what do I do with it|how is it sent]", "key-use"),
            ("[what if I lose it|I lost it|can I see it again]", "key-lost"),
            ("[what is a tenant|what does tenant mean|what's the tenant]", "tenant"),
            ("[does it expire|how long is it valid|when does it expire]", "key-expiry"),
            ("[what does it look like|what format does it have]", "key-format"),
        ),
    ),
    Topic(
        "key-list",
        "[listing keys|the list of keys|all my keys|seeing existing keys]",
        (
            "{how} [list|see|show|view] [my|all|the|existing] [keys|API keys|api keys]",
            "[which|what|how many] [keys|api keys] [do I have|are there|exist|have I created]",
            "[list|show] [keys|my keys|all keys|all api keys]",
        ),
        (
            "`anzoth keys list` shows all keys with tenant, name and limits. The secret itself is never shown again.",
        ),
        "anzoth keys list",
        (("[how do I remove one|and to revoke one|how do I delete one]", "key-revoke"),),
    ),
    Topic(
        "key-revoke",
        "[revoking a key|deleting a key|a leaked key|removing keys|a stolen key|blocking a key]",
        (
            "{how} [revoke|delete|remove|disable|block|invalidate|withdraw|kill] [a|the|an|my|an old|a leaked] {key}",
            "[someone stole|I leaked|I published|I lost control of] my {key}",
            "[revoke|delete|remove|disable] [a|the|my|] {key}",
            "how [fast|quickly|soon] is a [key revoked|revoked key blocked]",
        ),
        (
            "Run `anzoth keys revoke ID`. The key stops working within two seconds, also while the server runs.",
        ),
        "anzoth keys revoke",
        (
            ("[where do I find the id|what is the id|how do I find its id|which id]", "key-list"),
            (
                "[and how do I get a new one|then I need a new one|how do I make a new one]",
                "key-create",
            ),
        ),
    ),
    Topic(
        "key-use",
        "[the Authorization header|sending the key|authentication|the bearer token|where the key goes]",
        (
            "{how} [send|use|pass|give|provide] [the|my|a] {key} [with a request|in a request|to the server|]",
            "[where|in which header|in what header] [does|do I put|goes|do I send|should I put] [the|my] {key} [go|]",
            "{whatis} the [authorization header|auth header|Authorization header]",
            "{how} [authenticate|log in|sign in|authorize|identify myself]",
        ),
        (
            "Send it in the header `Authorization: Bearer anz-...`. With an OpenAI SDK, pass it as `api_key`.",
        ),
        "Authorization: Bearer",
        (("[where do I get one|how do I get one|and how do I create one]", "key-create"),),
    ),
    Topic(
        "key-format",
        "[the format of a key|what a key looks like|the key's prefix|the shape of keys]",
        (
            "what does [a|an|the] {key} look like",
            "{whatis} the [format|form|shape|prefix] of [a|an|the] {key}",
            "how [long|many characters] is [a|an|the] {key}",
            "[how|with what] does [a|the|every] {key} [start|begin] [with|]",
        ),
        (
            "A key begins with `anz-`, then a public id, an underscore, a secret and a checksum, so a typing error is noticed at once.",
        ),
        "begins with `anz-`",
    ),
    Topic(
        "key-lost",
        "[a lost key|a forgotten key|losing my key|recovering a key]",
        (
            "I [lost|forgot|can't find|cannot find|misplaced] my {key}",
            "{how} [see|recover|show|read|find] [my|a|the|an old|a lost] {key} [again|]",
            "can [you|I|the server] [show|see|recover] [my|a|the] {key} [again|once more|later]",
        ),
        (
            "A lost key cannot be shown again, because only a digest of it is stored. Revoke it and create a new one.",
        ),
        "cannot be shown again",
        (
            ("[how|how do I do that|how do I revoke it]", "key-revoke"),
            ("[how do I create a new one|how do I make one]", "key-create"),
        ),
    ),
    Topic(
        "key-limits",
        "[rate limits|limits of a key|--rpm|--tpm|requests per minute|tokens per minute|limiting a key|rate limiting]",
        (
            "{how} [limit|throttle|restrict|cap|set limits for|set a limit for|set the rate limit of] [a|an|the] {key}",
            "{how} set [a|the] [rate limit|rpm|tpm|request limit|token limit]",
            "{whatis} [rpm|tpm|--rpm|--tpm|the rate limit of a key|the limits of a key]",
            "[does|can] [a key|each key|every key] have [a limit|limits|its own limit|rate limits]",
        ),
        (
            "Give the limits when you create the key: `--rpm 60` for requests per minute, `--tpm 20000` for tokens per minute. Beyond them callers get 429.",
        ),
        "--rpm 60",
        (("[what is 429|what does 429 mean|what happens then]", "error-429"),),
    ),
    Topic(
        "key-grants",
        "[scopes|model grants|restricting a key to a model|permissions of keys|--scope]",
        (
            "{how} [allow|restrict|limit|bind] a {key} to [one model|a model|certain models|some models|an endpoint|certain endpoints]",
            "{whatis} [scopes|a scope|model grants|grants|permissions of a key|--scope]",
            "[can|may] a {key} [be limited to|use only] [one model|some models|certain models]",
            "{how} give a {key} access to [a model|only one model|another model]",
        ),
        (
            "With `--model NAME` a key may use only that model, with `--scope` only those endpoints; repeat the options as needed. Anything else gives 403.",
        ),
        "--scope",
        (("[what is 403|what does 403 mean|and what is that error]", "error-403"),),
    ),
    Topic(
        "key-expiry",
        "[the expiry of keys|expiring keys|--expires|how long keys live|temporary keys]",
        (
            "[do|does|will|can] [keys|a key|my key|an api key|API keys] [expire|end|run out]",
            "how long is [a|my|the] {key} valid",
            "{how} [make|create|set] [a key that expires|an expiring key|the expiry of a key|a temporary key]",
            "{whatis} --expires",
        ),
        ("A key is valid until you revoke it, unless you create it with `--expires 90d`.",),
        "--expires 90d",
    ),
    Topic(
        "tenant",
        "[tenants|a tenant|the tenants command|multi-tenancy|separate customers|several customers]",
        (
            "{whatis} a [tenant|tenants|customer|tenant in anzoth]",
            "{how} [create|make|add|set up] a [tenant|customer|new tenant|new customer]",
            "{how} [separate|isolate|keep apart] [customers|tenants|users|teams]",
            "[can|does] {anzoth} [serve|handle|support] [several|many|multiple] [customers|tenants|teams|users]",
        ),
        (
            "A tenant is one customer: keys, limits and usage belong to it, and nothing crosses to another. Create one with `anzoth tenants create acme`.",
        ),
        "anzoth tenants create",
        (("[and then a key|how do I make a key for it|how does it get a key]", "key-create"),),
    ),
)
