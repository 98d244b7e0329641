"""Which questions, written by hand, is the bundled model examined on?

None of them is produced by the patterns it was trained on, and none may be copied into those
patterns: a question that the model fails is a fact about the model. To teach a missing skill, write
other patterns for it, and leave the question here as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

_REFUSALS = ("only know anzoth", "have not learned", "not sure what you mean", "cannot calculate")


@dataclass(slots=True, frozen=True)
class Question:
    """What a user says, turn by turn; the model answers each. The last answer is judged."""

    says: tuple[str, ...]
    accepts: tuple[str, ...]
    """The answer is right when it contains one of these (compared without case)."""


def _ask(*says: str, accepts: str | tuple[str, ...]) -> Question:
    return Question(says, (accepts,) if isinstance(accepts, str) else accepts)


EXAMINATION: dict[str, tuple[Question, ...]] = {
    "greeting and identity": (
        _ask("Hello, good to meet you!", accepts=("hello", "demonstration model")),
        _ask("hey how's everything", accepts=("running well", "hello")),
        _ask("Hi! Who am I chatting with here?", accepts="demonstration model"),
        _ask("so what exactly are you?", accepts="demonstration model"),
        _ask("Are you some kind of AI model?", accepts=("demonstration model", "not a person")),
        _ask("Is there a human on the other end?", accepts="not a person"),
        _ask("You're GPT-5, right?", accepts="a much smaller model"),
        _ask("What sort of training data did they feed you?", accepts="trained me from scratch"),
        _ask("How many billions of parameters are in you?", accepts="three million"),
        _ask("what kinds of things could you help me with?", accepts="understand errors"),
        _ask("Could your answers be wrong sometimes?", accepts="can be wrong"),
        _ask("appreciate it, thank you!", accepts="welcome"),
        _ask("ok bye then", accepts="goodbye"),
        _ask("Do you also speak Portuguese?", accepts="only speak english"),
        _ask("Can you look at websites?", accepts="no internet access"),
    ),
    "documentation": (
        _ask("Which base_url goes into my OpenAI client?", accepts="http://127.0.0.1:8000/v1"),
        _ask("hi, what url should my program talk to?", accepts="http://127.0.0.1:8000/v1"),
        _ask("What is this Anzoth thing all about?", accepts="private inference server"),
        _ask("how would i go about making an api key", accepts="keys create"),
        _ask("My colleague needs an API key. What do I type?", accepts="keys create"),
        _ask("One of our keys leaked on github, what now?", accepts="keys revoke"),
        _ask("how can i see which keys we have given out", accepts="keys list"),
        _ask("What should the Authorization header look like?", accepts="bearer"),
        _ask("Getting 401 all the time, what's wrong?", accepts="missing or invalid"),
        _ask("My app receives a 403 from your API", accepts="no access"),
        _ask("Requests suddenly fail with status 429", accepts="limit"),
        _ask("what's the reason for http 502", accepts="warming up"),
        _ask("Server says 503 service unavailable, should I worry?", accepts="capacity"),
        _ask("it says 404 model not found", accepts="does not exist"),
        _ask("How do I get the server going?", accepts="make serve"),
        _ask("what is the command for shutting the whole thing down", accepts="ctrl-c"),
        _ask(
            "Can I serve a Llama checkpoint that I downloaded?",
            accepts=("--model name=path", "hugging face", "checkpoints work"),
        ),
        _ask("I'd like to plug in my own Qwen model", accepts="--model name=path"),
        _ask("Could it listen on port 9090 instead?", accepts="--port"),
        _ask("Does streaming work?", accepts="[done]"),
        _ask("How do I make the model stop after 100 tokens?", accepts="max_completion_tokens"),
        _ask("is a graphics card required?", accepts="no gpu is needed"),
        _ask("Where does it keep its files?", accepts="--data-dir"),
        _ask("Do I have to install postgres first?", accepts="postgres"),
        _ask("How do I check whether it's up?", accepts="/readyz"),
        _ask("Do you have prometheus metrics", accepts="/metrics"),
        _ask("Who pays for it? Is it free?", accepts="apache"),
        _ask("Are my prompts written to some log file?", accepts="never written to logs"),
        _ask("Give me a little python sample please", accepts="from openai import openai"),
        _ask("show a curl call", accepts="curl http"),
        _ask("what model name do I pass in?", accepts="anzoth-default"),
        _ask("How can I restrict a key to 10 requests a minute?", accepts="--rpm"),
        _ask("what do the lines in anzoth.toml do", accepts="anzoth.toml"),
        _ask("which url paths does the API have?", accepts="/v1/chat/completions"),
        _ask("how do i make it less random", accepts="temperature"),
    ),
    "follow-up questions": (
        _ask("what does error 401 mean?", "and what would 403 be?", accepts="no access"),
        _ask("I got a 429", "and 503, what's that?", accepts="capacity"),
        _ask("how do I create a key?", "and how can I delete it later?", accepts="keys revoke"),
        _ask("how do I create a key?", "where do I put it then?", accepts="bearer"),
        _ask("how do I start the server?", "and how do I stop it?", accepts="ctrl-c"),
        _ask("What is Anzoth?", "ok and how do I use it?", accepts="three steps"),
        _ask("hi", "what is Anzoth?", "and who is it for?", accepts="on their own machines"),
        _ask("how do I load my own model?", "can I have two?", accepts="engine process"),
        _ask("show me python code", "and the same with curl?", accepts="curl http"),
        _ask("what's the base url?", "can I change that?", accepts="--port"),
    ),
    "recall": (
        _ask("Hi, my name is Torvald.", "What's my name?", accepts="torvald"),
        _ask("hello I'm Quenby", "do you know what I'm called?", accepts="quenby"),
        _ask(
            "My name is Ismeralda",
            "what is the base url?",
            "and what was my name?",
            accepts="ismeralda",
        ),
        _ask(
            "hey, this is Bob",
            "what is a tenant?",
            "how do I make a key?",
            "what is my name?",
            accepts="bob",
        ),
        _ask("I'm Zephyrine, nice to meet you", "who am I?", accepts="zephyrine"),
        _ask("call me Dax", "what's Anzoth?", "thanks", "say my name", accepts="dax"),
        _ask("I live in Ljubljana", "where do I live?", accepts="ljubljana"),
        _ask("my favourite colour is teal", "which colour do I like?", accepts="teal"),
        _ask("remember the number 7391", "which number was it?", accepts="7391"),
        _ask("please remember the word marzipan", "hi", "what was the word?", accepts="marzipan"),
        _ask("What is my name?", accepts="not told me your name"),
        _ask("Repeat after me: green tractor", accepts="green tractor"),
    ),
    "outside of its knowledge": (
        _ask("What's the tallest building in Dubai?", accepts=_REFUSALS),
        _ask("Who painted the Sistine Chapel?", accepts=_REFUSALS),
        _ask("will it rain tomorrow?", accepts=(*_REFUSALS, "no internet")),
        _ask("Write me a bedtime story about dragons", accepts=_REFUSALS),
        _ask("What is 17 times 23?", accepts=_REFUSALS),
        _ask("how do I boil an egg", accepts=_REFUSALS),
        _ask("Translate 'good night' into Swahili", accepts=_REFUSALS),
        _ask("give me a javascript function which reverses a string", accepts=_REFUSALS),
        _ask("Which laptop would you recommend to a student?", accepts=_REFUSALS),
        _ask("why do cats purr?", accepts=_REFUSALS),
        _ask("What's the current bitcoin price?", accepts=(*_REFUSALS, "no internet")),
        _ask("Explain the French revolution to me.", accepts=_REFUSALS),
        _ask("my knee hurts when I run", accepts=_REFUSALS),
        _ask("Who is the chancellor of Austria?", accepts=_REFUSALS),
        _ask("How do magnets work?", accepts=_REFUSALS),
        _ask("xkcd flibber", accepts=_REFUSALS),
        _ask("how many moons does Jupiter have", accepts=_REFUSALS),
        _ask("Plan a weekend in Lisbon for me", accepts=_REFUSALS),
        _ask("Does Anzoth do image recognition?", accepts=_REFUSALS),
        _ask("what is the best pizza topping?", accepts=_REFUSALS),
    ),
}
