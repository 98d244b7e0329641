"""What happens in one engine step, and what comes out of it?

    schedule -> copy, scrub -> runner.execute -> outputs -> rows

The engine owns all sequences from admission to their end and is driven from outside: `submit` and
`abort` between steps, `step` while there is work. An abort therefore takes effect before the next
step, and needs no care about a step in flight.

An exception from the runner means that the batch as a whole was not computed; it passes through
`step`, and the process must end, because nobody knows what the cache holds then.

Does not know: sockets, tensors, or text. The runner is known by its `Protocol` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from anzoth.config import ConfigError
from anzoth.frames import PROTOCOL, FinishReason, Hello, PromptRow, Row, Stats, Submit
from anzoth.model_config import EngineConfig
from anzoth.scheduler.admission import (
    Limits,
    Refusal,
    StartRate,
    Throughput,
    can_queue,
    refuse_impossible,
    refuse_late,
)
from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.constraint import Constraint
from anzoth.scheduler.drafts import DEFAULT_DRAFT_TOKENS, Drafter, break_even_rows
from anzoth.scheduler.origin import Deletion
from anzoth.scheduler.outputs import Outputs
from anzoth.scheduler.prefix_cache import TokenIds
from anzoth.scheduler.runner import Runner
from anzoth.scheduler.scheduler import Scheduler
from anzoth.scheduler.sequence import Sequence
from anzoth.scheduler.tenant_blocks import BlockShares
from anzoth.scheduler.waiting_queue import due_s


class Engine:
    """One model, its queue and its running batch. Not thread-safe: one thread drives it."""

    def __init__(
        self,
        runner: Runner,
        config: EngineConfig,
        clock: Callable[[], float],
        shared_prompts: Iterable[TokenIds] = (),
    ) -> None:
        """`clock` returns seconds that never go back (`time.monotonic`, or a test's own).
        `shared_prompts`: token ids of beginnings whose KV blocks all tenants may share.

        Raises ConfigError for settings with which nothing could ever run.
        """
        max_batch_tokens = config.max_batch_tokens
        if max_batch_tokens is None:
            max_batch_tokens = _default_batch_tokens(str(runner.device))
        if max_batch_tokens < 1:
            raise ConfigError(f"max_batch_tokens is {max_batch_tokens}; expected at least 1")
        if config.max_running_sequences < 1:
            raise ConfigError(
                f"max_running_sequences is {config.max_running_sequences}; expected at least 1"
            )
        self._scheduler = Scheduler(
            runner.num_blocks,
            runner.block_size_tokens,
            max_batch_tokens=max_batch_tokens,
            max_running_sequences=config.max_running_sequences,
            shares=_block_shares(config),
            drafter=_drafter(config.speculative_tokens, str(runner.device)),
            shared_prompts=shared_prompts,
        )
        self._runner = runner
        self._clock = clock
        self._eos_token_ids = frozenset(runner.spec.eos_token_ids)
        # One sequence must fit in the cache, and in its tenant's quota, alone: the scheduler's
        # promise of progress rests on it.
        num_quota_tokens = self._scheduler.quota_blocks * runner.block_size_tokens
        if config.max_model_tokens is not None and num_quota_tokens < config.max_model_tokens:
            raise ConfigError(
                f"max_model_tokens is {config.max_model_tokens}, but with kv_quota = "
                f"{config.kv_quota} a tenant may hold only {num_quota_tokens} tokens"
            )
        self._limits = Limits(
            vocab_size=runner.spec.vocab_size,
            max_model_tokens=min(runner.max_model_tokens, num_quota_tokens),
            max_queued_requests=config.max_queued_requests,
            max_queued_tokens=config.max_queued_tokens,
        )
        self._requests: dict[int, list[Sequence]] = {}
        """The unfinished choices of every unfinished request."""
        self._throughput = Throughput()
        self._start_rate = StartRate()
        self._next_request = 0
        self._outputs = Outputs(self._scheduler, self._eos_token_ids, self._end)
        self._num_steps = 0
        self._step_s = 0.0
        self._batch_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(self._requests)

    def has_request(self, request: int) -> bool:
        """Whether a choice of this request is unfinished."""
        return request in self._requests

    def hello(self, model: str) -> Hello:
        """What a gateway must know about this engine."""
        runner = self._runner
        return Hello(
            protocol=PROTOCOL,
            model=model,
            max_model_tokens=self._limits.max_model_tokens,
            vocab_size=self._limits.vocab_size,
            eos_token_ids=tuple(sorted(self._eos_token_ids)),
            num_blocks=runner.num_blocks,
            block_size_tokens=runner.block_size_tokens,
            dtype=str(runner.dtype).removeprefix("torch."),
            device=str(runner.device),
            fingerprint=runner.fingerprint,
        )

    def refusal(
        self, submit: Submit, token_ids: list[int], waited_s: float = 0.0
    ) -> Refusal | None:
        """Why this request could not be queued now. Changes nothing."""
        if refusal := refuse_impossible(submit, token_ids, self._limits):
            return refusal
        waiting = self._scheduler.waiting
        if not can_queue(
            len(token_ids), waiting.num_new_requests, waiting.num_new_tokens, self._limits
        ):
            retry_after_ms = self._throughput.retry_after_ms(waiting.num_owed_tokens)
            message = f"{waiting.num_new_requests} requests are waiting already."
            return Refusal("capacity", message, retry_after_ms)
        if submit.timeout_ms is None:
            return None
        left_s = submit.timeout_ms / 1000 - waited_s
        now_s = self._clock()
        due = due_s(now_s - waited_s, submit.priority, now_s + left_s)
        num_ahead = waiting.num_requests_due_by(submit.tenant, due)
        return refuse_late(self._start_rate.wait_s(num_ahead), left_s)

    def submit(
        self,
        submit: Submit,
        token_ids: list[int],
        constraint: Constraint | None = None,
        waited_s: float = 0.0,
    ) -> int | Refusal:
        """Queues a request: the engine's own number for it, or why it was refused.

        `constraint`: what became of the request's grammar; it belongs to the engine from now on.
        `waited_s`: for how long the request has been here already.
        """
        if refusal := self.refusal(submit, token_ids, waited_s):
            return refusal
        if submit.sampling.grammar is not None and constraint is None:
            # Never without: what comes out would only look like what was asked for.
            return Refusal("invalid", "This model cannot follow a grammar or schema.")
        request = self._next_request
        self._next_request += 1
        arrival_s = self._clock() - waited_s
        timeout_ms = submit.timeout_ms
        choices: list[Sequence] = []
        choices.extend(
            Sequence(
                request=request,
                choice=choice,
                tenant=submit.tenant,
                cache_salt=submit.cache_salt,
                token_ids=list(token_ids),
                num_prompt_tokens=len(token_ids),
                max_tokens=submit.max_tokens,
                sampling=submit.sampling,
                arrival_s=arrival_s,
                priority=submit.priority,
                deadline_s=None if timeout_ms is None else arrival_s + timeout_ms / 1000,
                constraint=constraint.copy() if constraint is not None and choice else constraint,
                tags=frozenset(submit.tags),
                num_choices=submit.num_choices,
                siblings=choices,
            )
            for choice in range(submit.num_choices)
        )
        self._requests[request] = choices
        for sequence in choices:
            self._scheduler.add(sequence)
        return request

    def abort(self, request: int, choice: int | None = None) -> None:
        """Drops a request, or one choice, and frees its blocks. Finished or unknown: no effect."""
        for sequence in tuple(self._requests.get(request, ())):
            if choice is None or sequence.choice == choice:
                self._end(sequence, "abort")
        self._scrub()

    def delete(self, deletion: Deletion) -> tuple[int, int]:
        """Nothing that it covers is found from here on, nor kept of sequences that it covers.

        Returns the numbers of blocks that are zeroed now, and that will be when their users end.
        """
        sequences = chain.from_iterable(self._requests.values())
        numbers = self._scheduler.kv_cache.delete(deletion, sequences)
        self._scrub()
        return numbers

    def step(self) -> list[Row]:
        """Computes one batch and returns its new rows. Raises what the runner raises.

        Sequences whose deadline has passed are not computed any more; if no others are left,
        nothing is, and it counts as no step.
        """
        started_s = self._clock()
        rows = self._end_expired(started_s)
        if not self.has_work:
            self._scrub()
            return rows
        num_waiting = self._scheduler.waiting.num_new_requests
        batch = self._scheduler.schedule()
        num_left = self._scheduler.waiting.num_new_requests
        if not batch:
            raise IntegrityError("sequences are left, but none can be scheduled")
        if copies := self._scheduler.kv_cache.take_copies():
            self._runner.copy(copies)
        self._scrub()
        answers = self._runner.execute(batch)
        self._batch_tokens = sum([item.num_rows for item in batch])
        rows += self._outputs.take(batch, answers)
        self._scrub()
        self._num_steps += 1
        self._step_s = self._clock() - started_s
        self._throughput.record(self._batch_tokens, self._step_s)
        if num_left:
            self._start_rate.record(num_waiting - num_left, self._step_s)
        return rows

    def take_prompt_rows(self) -> list[PromptRow]:
        """What the steps since the last call found out about prompts."""
        return self._outputs.take_prompt_rows()

    def _scrub(self) -> None:
        """Zeroes what the pool asks for. Before each step, since a block may have a new owner."""
        if block_ids := self._scheduler.kv_cache.pool.take_scrubs():
            self._runner.scrub(block_ids)

    def stats(self, *, idle: bool = False) -> Stats:
        """A snapshot. `idle`: no step belongs to it, so it reports no computed tokens."""
        pool = self._scheduler.kv_cache.pool
        running = self._scheduler.running
        return Stats(
            step=self._num_steps,
            running=len(running),
            waiting=len(self._scheduler.waiting),
            free_blocks=pool.num_free,
            cached_blocks=pool.num_cached,
            total_blocks=pool.num_blocks,
            preemptions=self._scheduler.num_preemptions,
            step_s=self._step_s,
            batch_tokens=0 if idle else self._batch_tokens,
            oldest_running_s=self._clock() - running[0].arrival_s if running else 0.0,
            drafted_tokens=self._outputs.num_drafted,
            accepted_tokens=self._outputs.num_accepted,
        )

    def check_idle(self) -> None:
        """With no work left: raises IntegrityError unless every block is free or cached. O(1)."""
        self._scheduler.kv_cache.check_counts()

    def check_integrity(self) -> None:
        """Raises IntegrityError unless every block is where it should be. O(blocks)."""
        self._scheduler.check_integrity()

    # --- endings ------------------------------------------------------------------------------

    def _end_expired(self, now_s: float) -> list[Row]:
        """Ends the sequences whose deadline has passed, waiting or running."""
        rows: list[Row] = []
        for sequence in self._scheduler.expired(now_s):
            has_begun = bool(sequence.num_computed_tokens) and not sequence.num_output_tokens
            cached = sequence.num_cached_tokens if has_begun else None
            rows.append(
                Row(sequence.request, sequence.choice, None, "deadline", None, None, cached)
            )
            self._end(sequence, "deadline")
        return rows

    def _end(self, sequence: Sequence, finish: FinishReason) -> None:
        sequence.finish = finish
        self._scheduler.end(sequence)
        choices = self._requests[sequence.request]
        choices.remove(sequence)
        if not choices:
            del self._requests[sequence.request]


def _block_shares(config: EngineConfig) -> BlockShares:
    """Raises ConfigError."""
    if config.kv_quota is not None and not 0 < config.kv_quota <= 1:
        raise ConfigError(f"kv_quota is {config.kv_quota}; expected above 0 and at most 1")
    if not 0 <= config.kv_floor <= 1:
        raise ConfigError(f"kv_floor is {config.kv_floor}; expected 0 to 1")
    return BlockShares(config.kv_quota, config.kv_floor)


def _drafter(max_drafts: int | None, device: str) -> Drafter | None:
    if max_drafts is None:
        max_drafts = DEFAULT_DRAFT_TOKENS
    return Drafter(max_drafts, break_even_rows(device)) if max_drafts else None


def _default_batch_tokens(device: str) -> int:
    """One step should stay short enough for the streams beside a long prompt, and long enough to
    use the device: a core computes a few hundred tokens where a GPU computes thousands."""
    return 512 if device.startswith("cpu") else 8192
