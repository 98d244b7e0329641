"""What becomes of the sequences of a step with what was computed of them?

    computed -> drawn -> appended, finished? -> rows
                ^ while a draft is right |

Drafts are verified by drawing: behind the last known token the step drew what it always draws, and
if that is the draft which it had computed there, then what it drew behind the draft is the next
token, and so on. So the tokens are those that single steps would give, for any way of drawing.

A row that the runner could not compute, or whose grammar cannot go on, ends its own sequence with
`error`.

Does not know: how a step is chosen or computed, or what else an ending takes with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from anzoth.frames import FinishReason, PromptRow, Row, row_of
from anzoth.scheduler.block_pool import IntegrityError
from anzoth.scheduler.constraint import GRAMMAR_TOO_COMPLEX
from anzoth.scheduler.scheduler import Scheduler
from anzoth.scheduler.sequence import RowFailure, SampledToken, ScheduledSequence, Sequence

log = logging.getLogger(__name__)

Answers = list[SampledToken | RowFailure]
"""The runner's, for one sequence of the step."""


class Outputs:
    """Makes rows of answers; sequences grow and end by it."""

    def __init__(
        self,
        scheduler: Scheduler,
        eos_token_ids: frozenset[int],
        end: Callable[[Sequence, FinishReason], None],
    ) -> None:
        """`end` is called once for each sequence that ends here."""
        self._scheduler = scheduler
        self._eos_token_ids = eos_token_ids
        self._end = end
        self._prompt_rows: list[PromptRow] = []
        self.num_drafted = 0
        self.num_accepted = 0

    def take(self, batch: list[ScheduledSequence], answers: list[Answers]) -> list[Row]:
        """The rows of a step, in its order. Raises IntegrityError if answers are missing.

        About one microsecond for a sequence that is given one token and goes on.
        """
        if len(answers) != len(batch):
            raise IntegrityError(f"the runner gave {len(answers)} answers for {len(batch)} rows")
        self._scheduler.computed(batch)
        rows: list[Row] = []
        for scheduled, own in zip(batch, answers, strict=True):
            sequence = scheduled.sequence
            num_expected = scheduled.num_scored + len(scheduled.places)
            if len(own) != num_expected:
                raise IntegrityError(f"the runner gave {len(own)} answers, not {num_expected}")
            if scheduled.drafts or sequence.sampling.num_prompt_logprobs is not None:
                self._take_several(scheduled, own, rows)
            elif own:
                self._take_one(sequence, own[0], rows)
        return rows

    def take_prompt_rows(self) -> list[PromptRow]:
        """What the steps since the last call found out about prompts."""
        taken, self._prompt_rows = self._prompt_rows, []
        return taken

    def _take_several(
        self, scheduled: ScheduledSequence, answers: Answers, rows: list[Row]
    ) -> None:
        """The scores of a prompt, and tokens as far as the drafts were right."""
        sequence, drafts, num_scored = scheduled.sequence, scheduled.drafts, scheduled.num_scored
        for answer in answers[: num_scored + 1]:
            if isinstance(answer, RowFailure):
                rows.append(self._fail(sequence, answer))
                return
        if num_scored:
            self._give_scores(sequence, answers[:num_scored])
            answers = answers[num_scored:]
        if not sequence.max_tokens and not sequence.num_owed_tokens:
            self._end(sequence, "length")
            cached = sequence.num_cached_tokens
            rows.append(Row(sequence.request, sequence.choice, None, "length", None, None, cached))
            return
        self.num_drafted += len(drafts)
        for index, answer in enumerate(answers):
            if isinstance(answer, RowFailure):
                break  # behind a draft: the next step computes it again, and then it counts
            if index:
                self._scheduler.accepted(sequence)
                self.num_accepted += 1
            self._take_one(sequence, answer, rows)
            is_over = sequence.finish is not None or index == len(drafts)
            if is_over or answer.token_id != drafts[index]:
                break

    def _give_scores(self, sequence: Sequence, answers: Answers) -> None:
        """To choices that wait, too: theirs is the same prompt, and it is scored once."""
        scores = [answer for answer in answers if isinstance(answer, SampledToken)]
        logprobs = [score.logprob or 0.0 for score in scores]
        tops = [score.top_logprobs or [] for score in scores]
        num_before = sequence.num_scored_tokens
        for other in sequence.siblings:
            is_waiting = not other.block_table
            if other is sequence or (is_waiting and other.num_scored_tokens == num_before):
                other.num_scored_tokens += len(scores)
                self._prompt_rows.append(PromptRow(other.request, other.choice, logprobs, tops))

    def _take_one(
        self, sequence: Sequence, answer: SampledToken | RowFailure, rows: list[Row]
    ) -> None:
        """The token behind the last known one."""
        if isinstance(answer, RowFailure):
            rows.append(self._fail(sequence, answer))
            return
        token_id = answer.token_id
        num_before = len(sequence.token_ids) - sequence.num_prompt_tokens
        finish, is_complete = None, False
        # Most tokens cannot be a last one, and a call for each row would show.
        if (
            num_before + 1 >= sequence.max_tokens
            or token_id in self._eos_token_ids
            or token_id in sequence.sampling.stop_token_ids
        ):
            finish = self._finish_reason(sequence, num_before + 1, token_id)
        if (constraint := sequence.constraint) is not None and finish != "stop":
            if not constraint.accept(token_id):
                # The mask allowed the token: only a limit was met.
                failure = RowFailure(GRAMMAR_TOO_COMPLEX, is_callers=True)
                rows.append(self._fail(sequence, failure))
                return
            is_complete = constraint.is_over
        sequence.token_ids.append(token_id)
        rows.append(
            row_of(
                (
                    sequence.request,
                    sequence.choice,
                    token_id,
                    None if is_complete else finish,
                    answer.logprob,
                    answer.top_logprobs,
                    None if num_before else sequence.num_cached_tokens,
                    None,
                )
            )
        )
        if is_complete:
            # In a row of its own: a token that ends with `stop` would not belong to the text.
            rows.append(Row(sequence.request, sequence.choice, None, "stop", None, None, None))
            finish = "stop"
        if finish is not None:
            self._end(sequence, finish)

    def _finish_reason(
        self, sequence: Sequence, num_output_tokens: int, token_id: int
    ) -> FinishReason | None:
        """What this token, which is not appended yet, ends the sequence with as its last one."""
        sampling = sequence.sampling
        if num_output_tokens >= sampling.min_tokens:
            if token_id in self._eos_token_ids and not sampling.ignore_eos:
                return "stop"
            if token_id in sampling.stop_token_ids:
                return "stop"
        return "length" if num_output_tokens >= sequence.max_tokens else None

    def _fail(self, sequence: Sequence, failure: RowFailure) -> Row:
        """Ends one sequence whose row could not be computed; the others live on.

        If the cause lies in its blocks, whoever reused them would fail too: the cache drops them. A
        fault of the caller's does not lie there, and must not cost others what they share.
        """
        level = logging.INFO if failure.is_callers else logging.ERROR
        log.log(
            level, "request %d choice %d: %s", sequence.request, sequence.choice, failure.message
        )
        is_first = sequence.num_output_tokens == 0
        if not failure.is_callers:
            self._scheduler.kv_cache.unregister(sequence)
        self._end(sequence, "error")
        cached = sequence.num_cached_tokens if is_first else None
        message = failure.message if failure.is_callers else None
        return Row(sequence.request, sequence.choice, None, "error", None, None, cached, message)
