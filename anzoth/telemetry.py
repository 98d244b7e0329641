"""What can an operator see from outside? The Prometheus metrics, all in one table.

No label carries a tenant, a key or anything from a request body: `/metrics` may be scraped by
people who must not learn who asks what.

Does not know: when anything happens; each owner calls the method that says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from anzoth import index_frames
from anzoth.frames import Stats

_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_COMMIT_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
_TOKEN_GAP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SEARCH_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_ENGINE_GAUGES = (
    ("running", "running", "Sequences in the running batch."),
    ("waiting", "waiting", "Sequences waiting for admission."),
    ("free_blocks", "kv_blocks_free", "KV blocks that hold nothing."),
    ("cached_blocks", "kv_blocks_cached", "KV blocks that hold an unused, reusable prefix."),
    ("total_blocks", "kv_blocks_total", "All KV blocks."),
    ("preemptions", "preemptions", "Preemptions since the engine started."),
    ("oldest_running_s", "oldest_running_seconds", "Age of the oldest running sequence."),
    ("drafted_tokens", "draft_tokens", "Draft tokens verified since the engine started."),
    ("accepted_tokens", "accepted_draft_tokens", "Of those, the ones that were right."),
)
"""Field of `Stats`, name, text."""
_RETRIEVER_GAUGES = (
    ("stores", "stores", "Stores that the retriever knows."),
    ("loaded_stores", "loaded_stores", "Of those, in memory."),
    ("loaded_bytes", "loaded_bytes", "What these take, about."),
    ("searches", "searches", "Searches since the retriever started."),
    ("changes", "changes", "Changes of files that it was told since it started."),
    ("snapshots", "snapshots", "Snapshots that it wrote since it started."),
    ("evictions", "evictions", "Stores that it put aside for want of memory since it started."),
    ("quarantines", "quarantines", "Snapshots that it refused since it started."),
)
"""Field of `index_frames.Stats`, name, text."""

M = TypeVar("M", Counter, Histogram)


class Metrics:
    """The gateway's metrics. One instance per process, never a global."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        model = ("model",)
        self._requests = Counter(
            "anzoth_requests", "Finished requests.", ("endpoint", "status"), registry=registry
        )
        self._tokens = Counter(
            "anzoth_tokens", "Tokens of finished requests.", ("model", "kind"), registry=registry
        )
        self._refused = Counter(
            "anzoth_refused_requests",
            "Requests that a rule refused, or in shadow would have refused.",
            ("rule", "mode"),
            registry=registry,
        )
        self._ttft = Histogram(
            "anzoth_time_to_first_token_seconds",
            "From the request's complete head to its first token.",
            model,
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._token_gap = Histogram(
            "anzoth_inter_token_latency_seconds",
            "Between two tokens of one choice.",
            model,
            buckets=_TOKEN_GAP_BUCKETS_S,
            registry=registry,
        )
        self._duration = Histogram(
            "anzoth_request_duration_seconds",
            "From the request's complete head to its end.",
            ("endpoint",),
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._backend_attempts = Counter(
            "anzoth_backend_attempts",
            "Requests to other servers, by how they went.",
            ("backend", "model", "outcome"),
            registry=registry,
        )
        self._breaker = Gauge(
            "anzoth_backend_breaker",
            "0 while a model of another server is asked, 1 while it is left alone, 0.5 between.",
            ("backend", "model"),
            registry=registry,
        )
        self._step = Histogram(
            "anzoth_engine_step_seconds",
            "Duration of one engine step.",
            model,
            buckets=_TOKEN_GAP_BUCKETS_S,
            registry=registry,
        )
        self._limit_gateways = Gauge(
            "anzoth_limit_gateways",
            "Gateways on this database, which share the limits; this one included.",
            registry=registry,
        )
        self._journal_commit = Histogram(
            "anzoth_journal_commit_seconds",
            "Duration of one group commit of the usage journal.",
            buckets=_COMMIT_BUCKETS_S,
            registry=registry,
        )
        self._journal_backlog = Gauge(
            "anzoth_journal_backlog_bytes",
            "Of the usage journal, not yet in the database.",
            registry=registry,
        )
        self._journal_rows = Gauge(
            "anzoth_journal_unshipped_rows",
            "Usage rows not yet in the database.",
            registry=registry,
        )
        self._usage_lost = Counter(
            "anzoth_usage_lost", "Requests whose usage was not written down.", registry=registry
        )
        self._ingested_files = Counter(
            "anzoth_ingested_files",
            "Files that were read for knowledge bases, by how that ended.",
            ("outcome",),
            registry=registry,
        )
        self._ingested_chunks = Counter(
            "anzoth_ingested_chunks",
            "Chunks of such files: embedded, reused where the same words were, or there already.",
            ("source",),
            registry=registry,
        )
        self._ingestion_stage = Histogram(
            "anzoth_ingestion_seconds",
            "Duration of reading a file, and of embedding and of writing some of its chunks.",
            ("stage",),
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._waiting_files = Gauge(
            "anzoth_waiting_files",
            "Files that are not in their knowledge bases yet, of the whole installation.",
            registry=registry,
        )
        self._batch_requests = Counter(
            "anzoth_batch_requests",
            "Requests of batches that have their answer, by the file in which it stands.",
            ("outcome",),
            registry=registry,
        )
        self._worked_on_batches = Counter(
            "anzoth_worked_on_batches",
            "How often a batch was taken up, by how that ended.",
            ("outcome",),
            registry=registry,
        )
        self._engine_up = Gauge(
            "anzoth_engine_up", "1 while the engine answers.", model, registry=registry
        )
        self._engine = {
            field: Gauge(f"anzoth_engine_{name}", text, model, registry=registry)
            for field, name, text in _ENGINE_GAUGES
        }
        self._retriever_up = Gauge(
            "anzoth_retriever_up", "1 while the retriever answers.", registry=registry
        )
        self._retriever = {
            field: Gauge(f"anzoth_retriever_{name}", text, registry=registry)
            for field, name, text in _RETRIEVER_GAUGES
        }
        self._search = Histogram(
            "anzoth_search_seconds",
            "Duration of a search of vector stores, and of each of its stages.",
            ("stage",),
            buckets=_SEARCH_BUCKETS_S,
            registry=registry,
        )
        self._degraded_searches = Counter(
            "anzoth_degraded_searches",
            "Searches by words alone, because no embedding model answered.",
            registry=registry,
        )
        self._skipped_rerankings = Counter(
            "anzoth_skipped_rerankings",
            "Searches whose order a reranker was to decide and did not.",
            registry=registry,
        )
        self._tool_calls = Counter(
            "anzoth_tool_calls",
            "Calls of governed tools: made, by how they went; or not, by the rule that refused.",
            ("decision", "outcome"),
            registry=registry,
        )
        self._tool_call = Histogram(
            "anzoth_tool_call_seconds",
            "Duration of a call of a tool that was made, at its server.",
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._stats: dict[str, Stats] = {}
        """The latest of each engine: its gauges are read from here when somebody looks."""
        self._children: dict[tuple[object, ...], Any] = {}

    def request_finished(self, endpoint: str, status: int, duration_s: float) -> None:
        self._of(self._requests, endpoint, str(status)).inc()
        self._of(self._duration, endpoint).observe(duration_s)

    def refused(self, rule: str, *, in_shadow: bool = False) -> None:
        """`rule`: see `gateway.rules`. `in_shadow`: it is only watched, so it was served."""
        self._of(self._refused, rule, "shadow" if in_shadow else "enforced").inc()

    def tokens_used(self, model: str, prompt: int, cached: int, completion: int) -> None:
        self._of(self._tokens, model, "prompt").inc(prompt)
        self._of(self._tokens, model, "cached").inc(cached)
        self._of(self._tokens, model, "completion").inc(completion)

    def first_token(self, model: str, after_s: float) -> None:
        self._of(self._ttft, model).observe(after_s)

    def next_token(self, model: str, after_s: float) -> None:
        self._of(self._token_gap, model).observe(after_s)

    def limits_shared(self, num_gateways: Callable[[], float]) -> None:
        """`num_gateways` is asked for whenever the metrics are."""
        self._limit_gateways.set_function(num_gateways)

    def journal_committed(self, after_s: float) -> None:
        self._journal_commit.observe(after_s)

    def journal_state(self, backlog_bytes: int, num_unshipped: int) -> None:
        self._journal_backlog.set(backlog_bytes)
        self._journal_rows.set(num_unshipped)

    def usage_lost(self) -> None:
        self._usage_lost.inc()

    def backend_attempt(self, backend: str, model: str, outcome: str) -> None:
        """Names are the operator's; `outcome` is `ok`, `abandoned` or an error's code, and `broken`
        where an answer that had begun well breaks."""
        self._of(self._backend_attempts, backend, model, outcome).inc()

    def breaker(self, backend: str, model: str, state: Callable[[], float]) -> None:
        """`state` is asked for whenever the metrics are."""
        self._breaker.labels(backend, model).set_function(state)

    def file_ingested(self, outcome: str) -> None:
        """See `gateway.knowledge.ingestion`."""
        self._of(self._ingested_files, outcome).inc()

    def chunks_ingested(self, source: str, num_chunks: int) -> None:
        self._of(self._ingested_chunks, source).inc(num_chunks)

    def ingestion_stage(self, stage: str, after_s: float) -> None:
        self._of(self._ingestion_stage, stage).observe(after_s)

    def files_waiting(self, num_files: int) -> None:
        self._waiting_files.set(num_files)

    def batch_request(self, outcome: str) -> None:
        """`completed` or `failed`."""
        self._of(self._batch_requests, outcome).inc()

    def batch_worked_on(self, outcome: str) -> None:
        """See `gateway.batches.worker`."""
        self._of(self._worked_on_batches, outcome).inc()

    def engine_up(self, model: str, up: bool) -> None:
        self._engine_up.labels(model).set(up)

    def engine_gone(self, model: str) -> None:
        """Its model is not served any more: that is no outage."""
        self._stats.pop(model, None)
        for gauge in (self._engine_up, *self._engine.values()):
            with contextlib.suppress(KeyError):
                gauge.remove(model)

    def engine_step(self, model: str, stats: Stats) -> None:
        """`stats` of a step or of an idle heartbeat (which has no tokens and is not timed)."""
        if stats.batch_tokens:
            self._of(self._step, model).observe(stats.step_s)
        if model not in self._stats:
            for field, gauge in self._engine.items():
                gauge.labels(model).set_function(partial(self._stat, model, field))
        self._stats[model] = stats

    def retriever(self, stats: Callable[[], index_frames.Stats | None]) -> None:
        """`stats` is asked for whenever the metrics are; None: the retriever is away."""
        self._retriever_up.set_function(lambda: float(stats() is not None))
        for field, gauge in self._retriever.items():
            gauge.set_function(lambda field=field: float(getattr(stats(), field, 0)))

    def searched(
        self,
        times_ms: Mapping[str, float],
        *,
        is_degraded: bool,
        is_reranking_skipped: bool = False,
    ) -> None:
        """`times_ms`: by stage, `all` among them."""
        for stage, spent_ms in times_ms.items():
            self._of(self._search, stage).observe(spent_ms / 1000)
        if is_degraded:
            self._degraded_searches.inc()
        if is_reranking_skipped:
            self._skipped_rerankings.inc()

    def tool_refused(self, decision: str, rule: str) -> None:
        self._of(self._tool_calls, decision, rule).inc()

    def tool_called(self, outcome: str, after_s: float) -> None:
        """`outcome`: `ok`, `tool_error`, a kind of failure, or `broken`."""
        self._of(self._tool_calls, "allowed", outcome).inc()
        self._tool_call.observe(after_s)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def _stat(self, model: str, field: str) -> float:
        return float(getattr(self._stats[model], field))

    def _of(self, metric: M, *labels: str) -> M:
        """`metric.labels(*labels)`, which looks them up for longer than counting takes."""
        key = (metric, *labels)
        if key not in self._children:
            self._children[key] = metric.labels(*labels)
        return self._children[key]
