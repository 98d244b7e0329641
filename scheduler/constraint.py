"""Which tokens may come next if the output has to follow a grammar?

A grammar (llguidance's own form, see `SamplingParams.grammar`) is compiled once into a
`Constraint`. Each choice has its own copy and advances it with every token that is appended to it,
once: a preempted sequence is recomputed, but its tokens, and so this state, stay.

    mask (scheduler/masks.py)  ->  forbidden logits become -inf  ->  draw  ->  accept  ->  over?

An ending token is allowed exactly where the grammar accepts. When nothing else could follow, the
constraint is over and the sequence ends without a step that could only draw the ending token.

Grammars come from clients, so every amount of work has a bound: llguidance counts what compiling
and each step cost, and fails the grammar alone. The one thing it does not bound is how deep it
recurses (a chain of 3,000 `$ref` overflows a stack of 8 MiB); there the size of a grammar is the
bound, and whoever compiles needs `COMPILE_STACK_BYTES`.

Does not know: tensors, schemas, or why a client wants this form.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import llguidance

COMPILE_STACK_BYTES = 256 << 20
"""Address space, touched as needed. The deepest grammars of MAX_GRAMMAR_BYTES need below 64 MiB
(llguidance 1.9.1; tests/scheduler/test_grammar_compiler.py compiles them)."""
MAX_MESSAGE_CHARACTERS = 400
GRAMMAR_TOO_COMPLEX = "The grammar or schema became too complex to follow."
"""For the client whose output met a limit only here."""

# States of the lexer take 1 to 2 kB each. 250,000, llguidance's default, is too much for one of
# many sequences; schemas in daily use stay below a thousand.
_LIMITS = llguidance.LLParserLimits(max_lexer_states=20_000, verbose_errors=False)
_UNSUPPORTED = "Unimplemented keys: "
_NO_OUTPUT = "NoExtensionBias"  # its word for the end of what can be written
_NUM_PROBED_TOKENS = 4
_ALLOWED = 200  # in `compute_logit_bias`


class GrammarError(Exception):
    """The grammar cannot be used: a message for the client who sent it. It may quote him."""


class Constraint:
    """How far one output has come in its grammar."""

    __slots__ = ("matcher",)

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self.matcher = matcher

    def copy(self) -> Constraint:
        """The same state, which then goes its own way."""
        return Constraint(self.matcher.deep_copy())

    def accept(self, token_id: int) -> bool:
        """Advances by one token. False: the grammar does not allow it, or has hit a limit; this
        constraint is of no more use then.
        """
        return self.matcher.consume_token(token_id)

    def forced_tokens(self) -> list[int]:
        """What the next tokens will be, as far as the grammar leaves no choice. No effect."""
        return self.matcher.deep_copy().compute_ff_tokens()

    def num_allowed(self, token_ids: list[int]) -> int:
        """How many of these tokens, one after the other, it would accept. No effect."""
        return self.matcher.deep_copy().validate_tokens(token_ids)

    @property
    def is_over(self) -> bool:
        """Whether the output is complete: nothing but an ending token could follow."""
        return self.matcher.is_stopped() and not self.matcher.is_error()


class GrammarCompiler:
    """Compiles grammars for one checkpoint's tokenizer. Safe to use from several threads."""

    __slots__ = ("_eos_token_ids", "_file", "_lock", "_tokenizer", "_vocab_size")

    def __init__(self, tokenizer: Path, vocab_size: int, eos_token_ids: Iterable[int]) -> None:
        """`tokenizer`: the checkpoint's tokenizer.json, read when the first grammar comes."""
        self._file = tokenizer
        self._vocab_size = vocab_size
        # A checkpoint may name end tokens past the end of a trimmed vocabulary.
        self._eos_token_ids = sorted(token for token in eos_token_ids if token < vocab_size)
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._lock = threading.Lock()

    def compile(self, grammar: str) -> Constraint:
        """The grammar before its first token. Raises GrammarError.

        Needs a stack of COMPILE_STACK_BYTES and up to a few hundred milliseconds; other threads
        run meanwhile.
        """
        matcher = llguidance.LLMatcher(self._load(), grammar, log_level=0, limits=_LIMITS)
        if not matcher.is_error():
            self._probe(matcher)
        if matcher.is_error():
            raise GrammarError(_explain(matcher.get_error()))
        return Constraint(matcher)

    def _probe(self, matcher: llguidance.LLMatcher) -> None:
        """Tries some first tokens: what fails there is still the client's error, and not an answer
        that breaks off. Limits are often met only behind the first bracket.
        """
        probe = matcher.deep_copy()
        for _ in range(_NUM_PROBED_TOKENS):
            allowed = bytearray(probe.compute_logit_bias())
            if probe.is_error():
                raise GrammarError(_explain(probe.get_error()))
            may_end = False
            for token_id in self._eos_token_ids:
                may_end = may_end or bool(allowed[token_id])
                allowed[token_id] = 0
            token_id = allowed.rfind(_ALLOWED)
            if token_id < 0:
                if may_end:
                    return
                raise GrammarError(_explain(_NO_OUTPUT))
            probe.consume_token(token_id)

    def _load(self) -> llguidance.LLTokenizer:
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = self._read()
            return self._tokenizer

    def _read(self) -> llguidance.LLTokenizer:
        if not self._eos_token_ids:
            raise GrammarError(_UNAVAILABLE + "it has no end-of-sequence token.")
        try:
            return llguidance.LLTokenizer(
                self._file.read_text(encoding="utf-8"),
                n_vocab=self._vocab_size,
                eos_token=self._eos_token_ids,
            )
        except (OSError, ValueError):
            # Paths and parser positions are no business of a client.
            raise GrammarError(_UNAVAILABLE + "its tokenizer.json cannot be used.") from None


_UNAVAILABLE = "This model cannot follow a grammar or schema: "


def _explain(error: str) -> str:
    """llguidance's reason in the words of an answer to a client; it names what it cannot do."""
    reason = error.partition("\n<")[0].strip()
    if reason.startswith(_UNSUPPORTED):
        reason = f"unsupported keywords {reason.removeprefix(_UNSUPPORTED)}"
    elif reason == _NO_OUTPUT:
        reason = "it allows no output at all"
    if len(reason) > MAX_MESSAGE_CHARACTERS:
        reason = f"{reason[:MAX_MESSAGE_CHARACTERS]} …"
    return f"The grammar or schema cannot be used: {reason}."
