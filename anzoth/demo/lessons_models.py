"""What does the bundled model know about the models that Anzoth serves?

Content only: the facts of the public documentation, with the ways people ask for them.
"""

# ruff: noqa: E501  (one pattern or one answer a line reads better than wrapped strings)

from __future__ import annotations

from anzoth.demo.topic import Topic

MODELS = (
    Topic(
        "own-model",
        "[my own model|another model|--model|using a different model|a bigger model|loading a model|a Hugging Face model|serving my model]",
        (
            "{how} [use|serve|run|load|add|add in] [my own|another|a different|a bigger|a better|a real|a second|a larger|a new] model",
            "{how} [serve|load|run|use] [llama|Llama|qwen|Qwen|mistral|Mistral|a hugging face model|a checkpoint|a local model|a model from disk]",
            "{whatis} [--model|--model NAME=PATH|the --model option|the model option|the models option]",
            "[which|what] option [sets|chooses|loads|adds] [the|a] model",
            "{how} [change|replace|switch|swap] the [model|default model|bundled model]",
            "{how} [get|have] [better|smarter] [answers|replies|results]",
        ),
        (
            "Start with `anzoth serve --model NAME=PATH`, where PATH is a Hugging Face checkpoint directory. Clients then use NAME as the model.",
            "Use `--model NAME=PATH`, for example `anzoth serve --model qwen=/models/Qwen3-8B`. PATH is a Hugging Face checkpoint directory.",
        ),
        "--model NAME=PATH",
        (
            (
                "[which models work|which families|what models are supported|which models can I use]",
                "families",
            ),
            (
                "[two of them|can I load two|and several|more than one|several models]",
                "several-models",
            ),
            (
                "[what must be in it|which files|what files are needed|what is in that directory]",
                "model-files",
            ),
            ("[does it need a gpu|do I need a gpu|and a gpu]", "gpu"),
        ),
    ),
    Topic(
        "several-models",
        "[several models|two models|multiple models|more than one model]",
        (
            "{how} [serve|run|load|use] [several|two|multiple|many|more than one|three] models",
            "[can|does] {anzoth} [serve|run|handle] [several|two|multiple|more than one] models [at once|at the same time|]",
        ),
        (
            "Repeat `--model NAME=PATH` once per model, or write [[models]] tables with `name` and `path` in `anzoth.toml`. Each model gets its own engine process.",
        ),
        "own engine process",
    ),
    Topic(
        "families",
        "[supported models|the model families|supported architectures|Llama and Qwen|which models work]",
        (
            "[which|what] [models|model families|architectures|kinds of models] [are supported|work|can I use|can it run|does {anzoth} support|can I load]",
            "{does} {anzoth} [support|run|serve|work with] [llama|qwen|mistral|Llama 3|Qwen3|Qwen2.5|other models]",
            "[supported|compatible] [models|architectures|model families]",
        ),
        (
            "Llama, Mistral, Qwen2, Qwen2.5 and Qwen3 checkpoints work, in the Hugging Face format, from a local directory.",
        ),
        "Qwen3 checkpoints",
        (("[how do I load one|how|how do I use one|and how do I load it]", "own-model"),),
    ),
    Topic(
        "model-files",
        "[the model files|safetensors|the checkpoint format|a checkpoint directory|model formats]",
        (
            "[which|what] [files|file format|format|model files] [does a model need|are needed|must a model have|does a checkpoint need|for a model]",
            "{whatis} [safetensors|a checkpoint directory|a checkpoint|the format of a model]",
            "{does} {anzoth} [read|load|support] [gguf|safetensors|pickle|GGUF|pytorch files|.bin files]",
        ),
        (
            "A checkpoint directory holds `config.json`, `*.safetensors`, `tokenizer.json` and a chat template. Pickle files are never loaded.",
        ),
        "`tokenizer.json`",
    ),
    Topic(
        "model-ids",
        "[the model name|anzoth-default|the model id|the list of models|available models|the default model]",
        (
            "[which|what] [models|model names|model ids] [are there|exist|are available|do you have|can I call|are loaded|are served]",
            "[what|which] [model|model name|model id] [do I use|should I use|do I send|do I put in the request|must I give]",
            "{whatis} [the default model|anzoth-default|the model name|the model id|the name of the model]",
            "{how} [list|see|show] [the|all|all the|available] models",
            "[list|show] [models|the models|available models]",
        ),
        (
            "The bundled model is called `anzoth-default`. `GET /v1/models` lists all models that your key may use.",
        ),
        "anzoth-default",
        (
            (
                "[how do I add one|and another one|can I add my own|how do I add another]",
                "own-model",
            ),
        ),
    ),
    Topic(
        "gpu",
        "[a GPU|GPUs|running without a GPU|the hardware|graphics cards|CUDA|running on a CPU]",
        (
            "[do I need|does {anzoth} need|is there need for|must I have|does it require] a [GPU|gpu|graphics card]",
            "{does} {anzoth} [use|run on|work on|support] [a gpu|a GPU|CUDA|cuda|the cpu|a CPU|a laptop|nvidia cards]",
            "[can|does] [it|anzoth] [run|work] without a [gpu|GPU|graphics card]",
            "{whatis} the hardware [requirements|needed|]",
            "[what|which] hardware [do I need|is needed|does it need]",
        ),
        (
            "No GPU is needed: on a CPU it runs small models well. For large models use a machine with a GPU.",
        ),
        "No GPU is needed",
    ),
    Topic(
        "queue",
        "[the queue|batching|many requests at once|parallel requests|load|how many users it takes]",
        (
            "how many [requests|users|streams|clients|connections] [at once|at the same time|can it serve|can it handle|in parallel]",
            "what happens [under load|when many people use it|when it is full|when the server is busy|with many requests]",
            "{whatis} [the queue|continuous batching|batching|the scheduler]",
            "how [fast|quick] is [it|anzoth|the server]",
        ),
        (
            "Requests run together in one batch, 64 at a time by default; more wait in a bounded queue. When that is full callers get 503 with `Retry-After`.",
        ),
        "bounded queue",
    ),
)
