"""What does the bundled model know about calling Anzoth: URLs, clients, endpoints and fields?

Content only: the facts of the public documentation, with the ways people ask for them.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from anzoth.demo.topic import Topic

CALLING = (
    Topic(
        "base-url",
        "[the base url|the base_url|base_url|the URL of the API|the address of the server|the API url|the server's address]",
        (
            "{which} [base url|base URL|base_url|address|API address|endpoint url|url]",
            "{which} [base url|base URL|url|address] [of|for] [{anzoth}|the API|my client|the SDK]",
            "[what|which] [base url|base_url|url|address] [do I|should I|must I|can I] [use|set|put|enter|take]",
            "{how} [connect|connect to {anzoth}|reach {anzoth}|point my client at {anzoth}]",
            "[where|at which address|on what address] [is|can I reach|do I find|does] [the API|{anzoth}] [listening|running|]",
            "[where|to what url|to which address] do I send [requests|my requests|the request|my prompts]",
            "what do I [put|write|enter|use] [for|as|in] [base_url|the base url|OPENAI_BASE_URL]",
        ),
        (
            "The base URL is `http://127.0.0.1:8000/v1`. Set it in your OpenAI client together with an Anzoth key; nothing else changes.",
            "Use the base URL `http://127.0.0.1:8000/v1`, unless you started the server with another `--host` or `--port`.",
        ),
        "http://127.0.0.1:8000/v1",
        (
            ("[how do I change it|can I change it|can it be changed|how to change that]", "port"),
            (
                "[and the key|which key do I need|and what key|do I need a key for that]",
                "key-create",
            ),
            (
                "[show me an example|an example please|example?|can you give an example|for example?]",
                "python",
            ),
            ("[and in curl|what about curl|with curl?|how does that look with curl]", "curl"),
        ),
    ),
    Topic(
        "python",
        "[python|the python client|the openai package|using python|python code|the python sdk|calling it from python]",
        (
            "{how} [use|call|query|talk to] [{anzoth}|the API] [from|in|with] [python|Python|a python script]",
            "{how} use [the openai [package|library|sdk|client|python package]|openai sdk|the OpenAI SDK|the python SDK]",
            "[show|give] me [a|an|some] [python|openai|SDK] [example|snippet|code|sample]",
            "[python|Python|sdk|openai client] [example|code|snippet|usage|sample]",
            "[does|will|can] [the openai python package|my openai client|openai-python|my existing OpenAI code|the openai sdk] work [with {anzoth}|here|]",
            "{how} [send a request|make a call|chat] [from|in|using|with] python",
            "{how} switch from OpenAI to Anzoth",
        ),
        (
            'With the `openai` package:\n```python\nfrom openai import OpenAI\nclient = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="anz-...")\nanswer = client.chat.completions.create(model="anzoth-default", messages=[{"role": "user", "content": "Hello"}])\nprint(answer.choices[0].message.content)\n```',
        ),
        "from openai import OpenAI",
        (
            (
                "[where do I get the key|and the key|how do I get a key|where does the key come from]",
                "key-create",
            ),
            ("[can I stream it|and streaming|how do I stream that|what about streaming]", "stream"),
            ("[and curl|what about curl|how about curl|and in curl|with curl]", "curl"),
            ("[and in javascript|what about node|in JavaScript?|and node.js]", "javascript"),
        ),
    ),
    Topic(
        "curl",
        "[curl|the curl call|a curl request|using curl|curl requests|calling it from the shell]",
        (
            "{how} [use|call|query|talk to|test] [{anzoth}|the API] [with|using|from|through] [curl|the shell|the command line|a terminal]",
            "[show|give|send] me [a|the|some] curl [example|command|line|call|]",
            "curl [example|command|request|call|line|]",
            "what [is|would be] the curl [command|call|request|line]",
            "{how} [send|make] a [request|call|http request] [with curl|without the sdk|without python]",
        ),
        (
            'For example:\n```sh\ncurl http://127.0.0.1:8000/v1/chat/completions \\\n  -H "Authorization: Bearer $ANZOTH_KEY" -H "Content-Type: application/json" \\\n  -d \'{"model": "anzoth-default", "messages": [{"role": "user", "content": "Hello"}]}\'\n```',
        ),
        "curl http://127.0.0.1:8000/v1/chat/completions",
        (
            ("[where do I get the key|and the key|what key|how do I get the key]", "key-create"),
            (
                "[and python|what about python|how about Python|and in python|the same in python]",
                "python",
            ),
            ("[and streaming|can it stream|how do I stream that]", "stream"),
        ),
    ),
    Topic(
        "javascript",
        "[javascript|node|typescript|using node.js|the javascript client|the npm package]",
        (
            "{how} [use|call|query] [{anzoth}|the API] [from|in|with] [javascript|node|node.js|JavaScript|typescript|TypeScript|js]",
            "[show|give] me a [javascript|node|js|typescript] [example|snippet|sample]",
            "[javascript|node|js|typescript|node.js] [example|client|sdk|snippet|code]",
            "[does|will] the openai npm package work",
        ),
        (
            'With the `openai` package from npm: `const client = new OpenAI({ baseURL: "http://127.0.0.1:8000/v1", apiKey: process.env.ANZOTH_KEY })`, then `client.chat.completions.create(...)` as usual.',
        ),
        "new OpenAI(",
        (("[and python|what about python|in python?]", "python"),),
    ),
    Topic(
        "compatible",
        "[OpenAI compatibility|openai clients|existing OpenAI code|my existing client|the OpenAI API|migrating from OpenAI]",
        (
            "[is {anzoth}|is the API] [openai compatible|compatible with openai|compatible with the OpenAI API|like OpenAI]",
            "[which|what] [api|API|protocol] does {anzoth} [speak|use|offer|implement|have]",
            "[does|can] {anzoth} [speak|support|understand|work like] [openai|the OpenAI API|the openai protocol]",
            "can I [keep|use|reuse] my [openai client|existing client|existing code|current SDK|openai code]",
            "[which|what] [sdk|client|library|SDK|client library] [do I need|should I use|works|can I use]",
            "do I [have|need] to [change|rewrite] my [code|client|application|app]",
        ),
        (
            "Anzoth speaks the OpenAI API, so any OpenAI SDK works: change the base URL and the key, keep the rest of your code.",
            "Yes: it is the OpenAI API. Change the base URL to `http://127.0.0.1:8000/v1`, use an Anzoth key, and your OpenAI SDK keeps working.",
        ),
        "OpenAI SDK",
        (
            ("[which base url|what is the url|and the url]", "base-url"),
            ("[which endpoints|what endpoints are there]", "endpoints"),
            ("[show me|example|an example please]", "python"),
        ),
    ),
    Topic(
        "endpoints",
        "[the endpoints|the routes|the API routes|the paths of the API|available endpoints]",
        (
            "[which|what] [endpoints|routes|paths|urls|API endpoints|API calls|apis] [are there|exist|does {anzoth} have|does {anzoth} offer|can I call|do you have|are supported|are available]",
            "[list|show me|give me|name] [the|all|all the] [endpoints|routes|api paths|API endpoints]",
            "[endpoints|api endpoints|list of endpoints|api reference|API overview]",
            "what [parts|part] of the OpenAI API [are|is] [supported|implemented|there]",
        ),
        (
            "The endpoints are `POST /v1/chat/completions`, `POST /v1/completions` and `GET /v1/models`; for operators there are `/healthz`, `/readyz` and `/metrics`.",
        ),
        "/v1/chat/completions",
        (
            ("[what is readyz|and readyz|what does readyz say|what is healthz]", "health"),
            ("[which models are there|and the models|what models]", "model-ids"),
            ("[an example|show me an example|example please]", "curl"),
        ),
    ),
    Topic(
        "completions",
        "[/v1/completions|the completions endpoint|plain completions|raw prompts]",
        (
            "{whatis} [the|] [/v1/completions|completions endpoint|legacy completions|text completions|/completions]",
            "[does|is|can] [{anzoth}|the server] [support|offer|have] [plain completions|text completion|legacy completions|raw prompts]",
            "{how} [send|complete|continue] a [raw prompt|plain prompt|text without a chat template]",
            "[what's the|] difference between [chat completions and completions|/v1/completions and /v1/chat/completions|chat and completions]",
        ),
        (
            "`POST /v1/completions` continues a plain `prompt` without the chat template. For conversations use `/v1/chat/completions`.",
        ),
        "/v1/completions",
    ),
    Topic(
        "stream",
        "[streaming|the stream option|streamed answers|server-sent events|token streaming|live output]",
        (
            "{how} [stream|stream the answer|stream tokens|get tokens one by one|stream a response|turn on streaming|enable streaming|use streaming]",
            "[does|can|is] {anzoth} [stream|support streaming|do streaming|send tokens as they come|do SSE]",
            "{whatis} [streaming|stream mode|SSE|the stream option|server-sent events]",
            "[is|are] [streaming|server-sent events|sse] [supported|possible|available]",
            "[can I|how do I] [see|get|read] the [answer|tokens|words|text] [while it is written|as it is generated|token by token|live]",
        ),
        (
            'Set `"stream": true` in the request. The answer then arrives as server-sent events, one `data:` line per chunk, and ends with `data: [DONE]`.',
            'Send `"stream": true`: every piece comes as a server-sent event, and the last line is `data: [DONE]`.',
        ),
        "data: [DONE]",
        (
            (
                "[and the usage|do I get the usage too|where are the token counts|what about usage]",
                "stream-usage",
            ),
            (
                "[what if it fails|what happens on an error|and when there is an error]",
                "stream-error",
            ),
            ("[what if I disconnect|what if I close the connection|and if I cancel]", "cancel"),
        ),
    ),
    Topic(
        "stream-usage",
        "[include_usage|usage in a stream|stream_options|token counts when streaming]",
        (
            "{how} get [the usage|token counts|usage|the number of tokens] [when streaming|in a stream|with streaming|while streaming]",
            "{whatis} [stream_options|include_usage|stream_options.include_usage]",
            "[where|how] [is|are] the [usage|token counts] in a [stream|streamed answer]",
        ),
        (
            'Add `"stream_options": {"include_usage": true}`: one more chunk with the token counts comes just before `data: [DONE]`.',
        ),
        "include_usage",
    ),
    Topic(
        "stream-error",
        "[errors in a stream|broken streams|a stream that breaks|failing streams]",
        (
            "what happens [when|if] [a stream|the stream|streaming] [fails|breaks|has an error|stops with an error]",
            "{how} [notice|detect|see] an error [in a stream|while streaming|in the middle of a stream]",
            "[what if|what happens if] the [server|model|engine] [dies|crashes|fails] [during a stream|while streaming|in the middle of an answer]",
        ),
        (
            "After the first byte an error comes as an event with an `error` object, and there is no `data: [DONE]`. So a stream without `[DONE]` is incomplete.",
        ),
        "no `data: [DONE]`",
    ),
    Topic(
        "cancel",
        "[cancelling a request|stopping an answer|aborting a request|interrupting the model|closing the connection]",
        (
            "{how} [cancel|stop|abort|interrupt] [a request|a running request|generation|an answer|the generation|a response]",
            "what happens [when|if] [I|the client|a client] [disconnects|close the connection|hangs up|go away|cancel|disconnect]",
        ),
        (
            "Close the connection. The server notices that the client is gone, stops generating at once and records the tokens used so far.",
        ),
        "close the connection",
    ),
    Topic(
        "sampling",
        "[temperature|top_p|sampling|the temperature|randomness|top_k and min_p]",
        (
            "{whatis} [temperature|top_p|top_k|min_p|the temperature|sampling|the sampling parameters]",
            "{how} [set|change|control|lower|use] [the|] [temperature|top_p|top_k|randomness|sampling|creativity]",
            "{how} make the answers [more random|less random|more creative|deterministic|more varied]",
            "[which|what] [sampling parameters|sampling options|sampling settings] [are there|does it have|are supported|do you support]",
        ),
        (
            "`temperature` sets how random the answer is: 0 always takes the likeliest token, 1 samples freely. `top_p`, `top_k` and `min_p` cut off unlikely tokens.",
        ),
        "`temperature`",
        (
            (
                "[and the same answer every time|can I get the same answer twice|is it reproducible]",
                "seed",
            ),
            ("[and the length|how do I limit the length]", "max-tokens"),
        ),
    ),
    Topic(
        "seed",
        "[the seed|seeds|reproducible answers|deterministic output|getting the same answer twice]",
        (
            "{whatis} [the seed|seed|the seed parameter|the seed field]",
            "{how} [get|have] [the same answer|reproducible answers|identical output|the same output|reproducible results] [again|every time|twice|]",
            "[is|are] [the output|answers|the answers|results] [reproducible|deterministic|repeatable]",
            "{how} [use|set] [a|the] seed",
        ),
        (
            "Send a `seed`: the same request with the same seed gives the same text, whatever else is running. With `temperature` 0 no seed is needed.",
        ),
        "`seed`",
    ),
    Topic(
        "max-tokens",
        "[max_tokens|max_completion_tokens|the length of answers|limiting the output|the token limit of an answer|shorter answers]",
        (
            "{how} [limit|set|control|shorten|restrict|cap] the [length|size|number of tokens|output length|answer length] [of the answer|of the output|]",
            "{whatis} [max_tokens|max_completion_tokens|max tokens|the max_tokens parameter]",
            "{how} [get|have] [shorter|longer] [answers|responses|replies|output]",
            "why [is|was] [my answer|the answer|the output|the response] [cut off|truncated|too short|incomplete]",
        ),
        (
            'Set `max_completion_tokens` (or the older `max_tokens`) to the most tokens you want. If the limit is reached, `finish_reason` is "length".',
        ),
        "max_completion_tokens",
        (
            (
                "[and otherwise|what else can finish_reason be|which other finish reasons are there]",
                "finish-reason",
            ),
        ),
    ),
    Topic(
        "finish-reason",
        "[finish_reason|the finish reason|finish reasons]",
        (
            "{whatis} [finish_reason|the finish reason|finish reason|finish_reason in the answer]",
            "[what|which] [values|value] can finish_reason [have|take|be]",
            "what does finish_reason [mean|say|stop mean|length mean]",
        ),
        (
            '`finish_reason` says why the answer ended: "stop" at a natural end or stop string, "length" when the token limit was reached.',
        ),
        "natural end",
    ),
    Topic(
        "stop",
        "[stop strings|stop sequences|the stop parameter]",
        (
            "{whatis} [stop strings|the stop parameter|stop sequences|a stop string|the stop field]",
            "{how} [stop|end] [the answer|generation|the output] at a [word|string|certain word|given word|marker]",
            "{how} use [stop|stop strings|stop sequences]",
        ),
        (
            "Pass `stop` with one string or a list of up to four. The answer ends just before the first of them, which is not returned.",
        ),
        "`stop`",
    ),
    Topic(
        "messages",
        "[the messages|roles|system prompts|the system message|chat history|conversations with several turns]",
        (
            "{whatis} [messages|the messages field|roles|a system message|a system prompt|the system role|the roles]",
            "{how} [set|use|send|give|add|write] [a|the] [system prompt|system message|instructions]",
            "{how} [send|continue|keep|have] a [conversation|chat history|multi-turn chat|longer conversation]",
            "[does|will] the server [remember|store|keep] [my conversation|the conversation|earlier messages|history|chat history]",
        ),
        (
            "`messages` is a list of turns with the roles `system`, `user` and `assistant`. The server keeps no conversation: send the whole list each time.",
        ),
        "send the whole list",
    ),
    Topic(
        "n",
        "[the n parameter|several answers at once|more than one answer|multiple choices]",
        (
            "{how} get [several|more than one|multiple|two|three|many] [answers|choices|completions|replies] [at once|to one prompt|per request|]",
            "{whatis} [the n parameter|the field n|n in the request]",
        ),
        ("Set `n` to the number of answers you want; each comes as one entry of `choices`.",),
        "`n`",
    ),
    Topic(
        "logprobs",
        "[logprobs|top_logprobs|token probabilities|log probabilities]",
        (
            "{whatis} [logprobs|top_logprobs|log probabilities]",
            "{how} get [logprobs|log probabilities|token probabilities|the probability of tokens]",
            "[does|can] {anzoth} [return|give|support] [logprobs|token probabilities]",
        ),
        (
            'Send `"logprobs": true` and, if you like, `"top_logprobs": 5`: each token then comes with its log probability and the likeliest alternatives.',
        ),
        "log probability",
    ),
    Topic(
        "usage-field",
        "[the usage object|token counts|token usage|counting tokens|prompt_tokens]",
        (
            "[where|how] do I see [how many tokens|the tokens|token usage|my usage|the token count] [I used|of a request|]",
            "{whatis} [usage|the usage field|prompt_tokens|completion_tokens|token usage]",
            "{how} count [tokens|my tokens|the tokens of a request]",
            "how many tokens did [I use|that cost|my request use]",
        ),
        (
            "Every answer has a `usage` object with `prompt_tokens`, `completion_tokens` and `total_tokens`. The server also records one usage row per request.",
        ),
        "prompt_tokens",
        (("[and when streaming|also in a stream|and with streaming]", "stream-usage"),),
    ),
)
