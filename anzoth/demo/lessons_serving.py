"""What does the bundled model know about running Anzoth: commands, settings, health, data?

Content only: the facts of the public documentation, with the ways people ask for them.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from anzoth.demo.topic import Topic

ANZOTH = (
    Topic(
        "anzoth",
        "[Anzoth|anzoth|this project|this server|this software|the Anzoth server]",
        (
            "{whatis} [Anzoth|anzoth|this|this server|this software|this project|anzoth exactly]",
            "[what|so what] [does|can] [Anzoth|this server|this software|it] [do|do for me]",
            "[tell me|say|I want to know] [something|more|a bit|everything] about [Anzoth|anzoth|this server|this project]",
            "what is Anzoth [for|good for|used for]",
            "[introduce|describe|explain|summarize] Anzoth [to me|briefly|in one sentence|]",
            "[why|when|for what] [should|would|do] I [use|need|want|run] Anzoth",
            "[I have never heard of|never heard of|I am new to|I'm new to] Anzoth",
        ),
        (
            "Anzoth is a private inference server: it runs language models on your own machines and speaks the OpenAI API, with a key, limits and usage records for each customer.",
            "Anzoth is a private inference server that speaks the OpenAI API. One program holds the engine, the gateway with its keys and limits, and the usage records.",
        ),
        "private inference server",
        (
            (
                "[how do I use it|how can I use it|how do I start|where do I start|how do I begin]",
                "first-steps",
            ),
            ("[who is it for|for whom|who uses it]", "who-for"),
            ("[is it free|what does it cost|what license|is it open source]", "license"),
            (
                "[tell me more|more please|go on|and what else|how does it work|more details]",
                "processes",
            ),
            ("[which api|is it compatible with openai|does it work with my client]", "compatible"),
        ),
    ),
    Topic(
        "who-for",
        "[the users of Anzoth|who uses this|whom it is for|the audience of Anzoth]",
        (
            "[who|for whom] is [Anzoth|it|this] [for|made for|]",
            "who [uses|should use|needs|would use] [Anzoth|this server]",
            "[what|which] [people|companies|users] use Anzoth",
        ),
        (
            "Anzoth is for companies that run models on their own machines, and for developers who already use an OpenAI SDK. It also runs on a laptop.",
        ),
        "on their own machines",
    ),
    Topic(
        "first-steps",
        "[getting started|the first steps|how to begin|beginning with Anzoth|starting out|a quick start]",
        (
            "[how do I|how can I|how to] [get started|start|begin|use anzoth|use this|use this server|use Anzoth]",
            "[where|how] [do|should] I [start|begin]",
            "[first steps|getting started|quick start|quickstart|tutorial|guide]",
            "[I am|I'm] [new|new here|a beginner|completely new|a newcomer] [here|to this|]",
            "[what do I do|what now|what next|what should I do|what should I do first|what comes first|what's the first step]",
            "how does this work",
        ),
        (
            "Three steps: start it with `make serve`, create a key with `anzoth keys create`, then set your OpenAI client's base URL to `http://127.0.0.1:8000/v1`.",
        ),
        "Three steps",
        (
            ("[how do I create the key|how do I make a key|the key|and the key]", "key-create"),
            ("[show me an example|example|an example please|and then]", "python"),
            ("[which url|what base url|what's the url again]", "base-url"),
            ("[which model|what model do I use|and the model name]", "model-ids"),
        ),
    ),
    Topic(
        "install",
        "[installing|the installation|installing Anzoth|setting it up|requirements|make setup|what must be installed]",
        (
            "{how} [install|set up|build|download] [anzoth|Anzoth|the server|it|everything]",
            "[what|which] [software|things|python version|version of python] [do I need|is needed|is required] [to install it|to run it|]",
            "{whatis} [the requirements|the prerequisites|make setup|required]",
            "[installation|setup|requirements|system requirements]",
        ),
        (
            "You need Python 3.11 or newer and make. `make setup` creates `.venv` and installs everything; `make serve` calls it for you.",
        ),
        "make setup",
        (("[and then|what then|what next|how do I start it]", "serve"),),
    ),
    Topic(
        "serve",
        "[starting the server|make serve|anzoth serve|running Anzoth|launching it|starting it up]",
        (
            "{how} [start|run|launch|boot|bring up] [anzoth|Anzoth|the server|it|the service]",
            "{whatis} [make serve|anzoth serve]",
            "[which|what] [command|make target] [starts|runs|launches] [the server|anzoth|everything]",
            "[start|run|launch] [the server|anzoth]",
        ),
        (
            "Run `make serve`. It installs what is missing and starts everything on `127.0.0.1:8000` with the bundled model; `anzoth serve` is the command behind it.",
        ),
        "make serve",
        (
            ("[how do I stop it|and how do I stop it again|how to stop it]", "server-stop"),
            ("[on another port|can I change the port|with another port]", "port"),
            ("[with another model|how do I use another model|can I use my own model]", "own-model"),
            ("[how do I know it is ready|when is it ready|how do I see that it works]", "health"),
        ),
    ),
    Topic(
        "server-stop",
        "[stopping the server|shutting down|a restart|turning it off|the shutdown|ending the server]",
        (
            "{how} [stop|shut down|end|quit|kill|turn off|exit] [anzoth|Anzoth|the server|it|the service|everything]",
            "{how} [restart|reboot] [anzoth|the server|it]",
            "what happens [on shutdown|when I stop the server|when I press ctrl-c|on SIGTERM]",
        ),
        (
            "Press Ctrl-C, or send SIGTERM. The server takes no new requests, lets running answers finish for up to 30 seconds, and exits.",
        ),
        "Ctrl-C",
    ),
    Topic(
        "port",
        "[the port|the host|another port|listening on another address|port 8000|access from other machines|--port|--host]",
        (
            "{how} [change|set|choose|use] [the|another|a different|a] [port|host|address|listen address]",
            "[which|what] port [does it use|is it|is used|do you listen on|does anzoth listen on]",
            "[port|--port|--host|the port] [is already in use|8000 is taken|taken|]",
            "{how} [reach|open|expose] [it|the server|anzoth] [from another machine|from outside|on the network|to my network]",
            "[is|can] [it|the server] [reachable|be reached] from [outside|another machine|the network]",
        ),
        (
            "It listens on `127.0.0.1:8000`. Choose others with `anzoth serve --host 0.0.0.0 --port 9000`; 0.0.0.0 makes it reachable from other machines.",
        ),
        "--port 9000",
    ),
    Topic(
        "commands",
        "[the commands|the command line|all commands|the cli|make targets]",
        (
            "[which|what] [commands|subcommands|make targets|cli commands] [are there|exist|does {anzoth} have|can I use|do I have]",
            "[list|show me|give me] [the|all|all the] [commands|cli commands|make targets]",
            "[commands|cli|command line|the anzoth command|list of commands]",
            "{whatis} the [command line|cli|anzoth command]",
        ),
        (
            "`make serve` starts it, `make test` tests it, `make bench` measures it. Then `anzoth serve`, `anzoth keys create`, `list` and `revoke`, and `anzoth tenants create`.",
        ),
        "make bench",
        (
            ("[what about keys|how do I create a key|and keys]", "key-create"),
            ("[what does serve do|and make serve|what is anzoth serve]", "serve"),
        ),
    ),
    Topic(
        "make-test",
        "[the tests|make test|make bench|the benchmarks|running the tests]",
        (
            "{how} [run|start|execute] the [tests|test suite|unit tests|benchmarks|benchmark]",
            "{whatis} [make test|make bench]",
            "{how} [test|check|benchmark] [anzoth|the code|the installation|my changes]",
        ),
        ("`make test` runs the whole test suite, `make bench` the benchmarks that need no GPU.",),
        "make test",
    ),
    Topic(
        "license",
        "[the license|the licence|licensing|the price|open source]",
        (
            "[what|which] [license|licence] [does it have|is it|is used|does anzoth have|]",
            "[is|are] [Anzoth|it|this] [open source|free|free software|commercial|proprietary]",
            "[how much|what] does [Anzoth|it|this] cost",
            "may I [use|change|sell|copy|modify] [it|anzoth|this] [commercially|at work|]",
        ),
        (
            "Anzoth is open source under the Apache License 2.0: you may use, change and share it, also at work.",
        ),
        "Apache License 2.0",
    ),
    Topic(
        "processes",
        "[the architecture|the processes|the inner workings|how it is built|the gateway and the engine|the supervisor]",
        (
            "how [does|is] [Anzoth|the server|it] [work inside|built|structured|work internally|designed|organized|work]",
            "{whatis} [the architecture|the gateway|the engine|the supervisor|anzoth's architecture]",
            "[which|what|how many] processes [are there|does it have|does it start|run]",
            "what [runs|happens] [inside|under the hood|behind the scenes|internally]",
        ),
        (
            "A supervisor starts a gateway process (HTTP, keys, limits), an engine process for each model, and Postgres. If the engine crashes, the gateway answers 502 until it is back.",
        ),
        "a gateway process",
        (("[why|why so many|why several processes]", "why-processes"),),
    ),
    Topic(
        "why-processes",
        "",
        (
            "why [is the engine a separate process|are there several processes|is the engine its own process|not one process]",
        ),
        (
            "So that a crash or a full memory in the engine never touches a connection: the gateway lives on and says 502 until the engine is back.",
        ),
        "never touches a connection",
    ),
    Topic(
        "language",
        "[the programming language|the language it is written in]",
        (
            "[what|which] [programming language|language] is [anzoth|it|the server|this] [written in|made in|programmed in]",
            "in [what|which] language is [anzoth|it] [written|programmed]",
            "is [anzoth|it|this] [written in|made with] [python|rust|go|java|C++]",
        ),
        ("Anzoth is written in Python; the heavy work is done by PyTorch and kernels.",),
        "written in Python",
    ),
)

OPERATING = (
    Topic(
        "health",
        "[the health check|/healthz|/readyz|readiness|whether it is up|checking that it runs]",
        (
            "{how} [check|see|know|test|find out] [if|whether|that] [the server|anzoth|it] is [ready|running|alive|up|healthy|working]",
            "{whatis} [healthz|readyz|/healthz|/readyz|the health check|a health check]",
            "is [the server|anzoth|it] [ready|running|healthy|up|ok]",
            "[what's the|] difference between healthz and readyz",
            "[health|health check|readiness|liveness] [endpoint|probe|]",
        ),
        (
            "`GET /healthz` says that the process lives; `GET /readyz` says whether it can serve, with the state of every component as JSON.",
        ),
        "/readyz",
        (("[and metrics|what about metrics|are there metrics]", "metrics"),),
    ),
    Topic(
        "metrics",
        "[metrics|/metrics|Prometheus|monitoring|statistics]",
        (
            "[where|how] [are|do I get|do I see|can I see|do I find] [the|] [metrics|statistics|stats|measurements]",
            "{whatis} [/metrics|the metrics|prometheus metrics]",
            "{does} {anzoth} [have|export|support|offer] [metrics|prometheus|Prometheus|monitoring]",
            "{how} [monitor|observe|watch|measure] [the server|anzoth|it]",
        ),
        (
            "`GET /metrics` speaks Prometheus: requests, tokens, time to first token, time between tokens, queue and KV blocks.",
        ),
        "Prometheus",
    ),
    Topic(
        "config",
        "[the configuration|anzoth.toml|the settings|environment variables|the config file|configuring it]",
        (
            "{how} [configure|set up|change the settings of|change settings of|tune] [anzoth|the server|it]",
            "[where|what] [are the settings|is the configuration|is the config|is the config file|are the options]",
            "{whatis} [anzoth.toml|the config file|the configuration file|ANZOTH_PORT|the environment variables]",
            "[configuration|config|settings|options|environment variables]",
            "[can|how do] I use [environment variables|a config file|a toml file]",
        ),
        (
            "Every option is a command-line flag, an `ANZOTH_...` variable and a line in `anzoth.toml` (`--config FILE`). The flag wins, then the variable, then the file.",
        ),
        "anzoth.toml",
    ),
    Topic(
        "data-dir",
        "[the data directory|--data-dir|where the data is|stored files|the .anzoth folder]",
        (
            "[where|in which folder|in what directory] [does|is] [anzoth|it|the server] [store|keep|save] [its|the|my|all] data",
            "[where|in which directory] [is|are] [the|my] [data|keys|usage|files|data directory] [stored|kept|saved|]",
            "{whatis} [--data-dir|the data dir|the data directory|.anzoth]",
            "{how} [change|move|set] the data [directory|dir|folder]",
        ),
        (
            "In the data directory: `.anzoth` with `make serve`, otherwise what `--data-dir` says. It holds the database with keys and usage.",
        ),
        "--data-dir",
    ),
    Topic(
        "database",
        "[the database|Postgres|--database-url|my own database|the storage]",
        (
            "[which|what] [database|db|storage] [does it use|is used|do I need|does anzoth use|]",
            "[do I need|must I install|does it need] [postgres|a database|Postgres|postgresql|mysql|redis]",
            "{how} use [my own|another|an external|an existing] [postgres|database|Postgres|PostgreSQL]",
            "{whatis} [--database-url|the database|the embedded postgres|the database url]",
        ),
        (
            "Anzoth uses Postgres. One is embedded and starts by itself; for your own give `--database-url postgresql://...`.",
        ),
        "--database-url",
    ),
    Topic(
        "usage-records",
        "[usage records|billing|recorded usage|charging customers|accounting]",
        (
            "[what|which] [usage|data|information] [is recorded|do you record|does {anzoth} record|is stored] [per request|about requests|]",
            "{how} [bill|charge|invoice] [customers|my customers|tenants|users]",
            "{whatis} [usage records|a usage record|the usage records|recorded]",
            "[where|how] do I see [how much a customer used|the usage of a tenant|who used what|the usage of a key]",
        ),
        (
            "Each request leaves one usage record: tenant, key, model, prompt and completion tokens, finish reason, times and status. Prompts themselves are not in it.",
        ),
        "one usage record",
    ),
    Topic(
        "privacy",
        "[privacy|my data|what happens to my prompts|data protection|confidential data|logging of prompts]",
        (
            "[is|are] [my data|my prompts|it|the conversation|what I write] [private|safe|secret|confidential]",
            "[do|does|will] [you|anzoth|the server] [send|share|upload|leak] my [data|prompts|text] [anywhere|to the cloud|to anyone|]",
            "[do|does] [you|anzoth|it] [log|store|save|record|keep] [my prompts|prompts|what I write|my messages]",
            "[who|can anyone|can others] [sees|see|reads|read] [my prompts|my data|what I write]",
            "[where|does] [does my data go|my data leave this machine|do my prompts go]",
            "{whatis} [the privacy policy|about privacy|about my privacy]",
        ),
        (
            "Your text stays on the machine that runs Anzoth: nothing is sent elsewhere, and prompts are never written to logs.",
        ),
        "never written to logs",
    ),
    Topic(
        "warm-up",
        "[the slow start|warming up|the start time|the warm-up]",
        (
            "why [does it take so long|is it slow] [to start|at first|at the start|]",
            "how long does [it|the server|the start|starting] take [to start|]",
            "{whatis} warming up",
            "[the server|it] [is|says it is] [warming up|still starting|not ready yet]",
        ),
        (
            "The first start installs everything and takes minutes; later ones take seconds. While a model loads, requests get 502; ask `/readyz` when it is done.",
        ),
        "/readyz",
    ),
    Topic(
        "docs",
        "[the documentation|the docs|the manual|the README|reading material]",
        (
            "[where|how] [is|are|do I find|can I find|can I read] [the|] [documentation|docs|manual|README|readme]",
            "[is there|do you have] [documentation|a manual|docs|a readme|more information]",
            "[documentation|docs|manual|readme]",
            "where can I [learn|read|find out] more",
        ),
        (
            "Read README.md in the repository: it explains the commands, the API, the settings and the errors.",
        ),
        "README.md",
    ),
    Topic(
        "maybe-feature",
        "[fine-tuning|image input|embeddings|knowledge bases|JSON schemas|structured output|speech|vision|docker|kubernetes|LoRA|quantization|single sign-on|the web interface]",
        (
            "{does} {anzoth} [support|do|offer|have|handle] [fine-tuning|finetuning|image generation|images|audio|speech|voice|vision|video|LoRA|lora adapters|quantization|agents|JSON mode|structured output|knowledge bases|embeddings|reranking|web search|kubernetes|docker|windows|macOS|a web interface|billing by credit card|LDAP|single sign-on|SSO|oauth]",
            "{how} [use|set up|enable|configure] [fine-tuning|image generation|embeddings|structured output|docker|kubernetes|a knowledge base|speech recognition|LoRA|quantization|single sign-on|vision]",
        ),
        (
            "I have not learned whether Anzoth can do that. README.md in the repository lists what this version does.",
        ),
        "I have not learned",
    ),
)
