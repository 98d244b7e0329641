"""Which models does this installation serve right now, and how do they come and go?

    loading ──Hello──▶ ready ──unload──▶ unloading ──drained──▶ gone
       └──impossible, or ended──▶ gone      (one that was offered: failed, and listed so)

Each model is one engine process that is kept running and watched. The gateway is told the whole
list whenever it changes: a new model when its engine is ready, so that nobody is sent to one that
may still fail; a model that goes before its engine is stopped, so that its requests can end.

A model that cannot be loaded ends the start of the server, when it is one of those that the server
waits for. Later it harms no other: it is reported, and not served.

Does not know: how an operator asks, or what an engine does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from anzoth import config as configuration
from anzoth import control, footprint, model_config, shared_prompts
from anzoth.config import ConfigError
from anzoth.control import ControlError, NotReached, Tell
from anzoth.footprint import PROCESS_BYTES, Footprint
from anzoth.frames import Hello
from anzoth.gateway_settings import offered_model
from anzoth.memory import available_memory_bytes, resident_bytes
from anzoth.model_config import ModelConfig
from anzoth.processes import Child, ChildCannotStart, EngineWatch, Report

_ENGINE_STOP_S = 5.0
_GATEWAY_RETRY_S = 0.1
_GATEWAY_TIMEOUT_S = 60.0
"""A gateway that ended is back by then, or something is badly wrong."""

T = TypeVar("T")
State = Literal["waiting", "loading", "ready", "restarting", "unloading", "failed"]
Origin = Literal["configured", "loaded"]


@dataclass(slots=True, eq=False)
class _Hosted:
    """One model and its engine."""

    model: ModelConfig
    footprint: Footprint
    origin: Origin
    child: Child
    watch: EngineWatch
    is_offered: bool
    """The gateway knows of it."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    is_unloading: bool = False
    failure: str | None = None
    on_progress: Tell | None = None
    replaced: _Hosted | None = None
    """A failed one of the same name, until this one is ready."""

    @property
    def state(self) -> State:
        if self.failure is not None:
            return "failed"
        if self.is_unloading:
            return "unloading"
        if self.watch.is_ready:
            return "ready"
        if self.task is None:
            return "waiting"
        return "restarting" if self.watch.was_ready.is_set() else "loading"

    @property
    def kv_cache_bytes(self) -> int:
        """As the engine said it has, or as it was told to have."""
        hello = self.watch.hello
        if hello is None:
            return self.footprint.kv_cache_bytes or 0
        return hello.num_blocks * hello.block_size_tokens * self.footprint.kv_bytes_per_token

    @property
    def resident_bytes(self) -> int:
        return 0 if self.child.pid is None else resident_bytes(self.child.pid)

    @property
    def untouched_bytes(self) -> int:
        """What it may still take: the unused part of a KV cache costs nothing until it is used."""
        reserved = PROCESS_BYTES + self.footprint.weights_bytes + self.kv_cache_bytes
        return 0 if self.failure is not None else max(reserved - self.resident_bytes, 0)


class ModelHost:
    """The engines of one installation."""

    def __init__(
        self,
        models: Sequence[ModelConfig],
        *,
        run_dir: Path,
        drain_s: float,
        log_level: str,
        log: Callable[[str], None],
    ) -> None:
        """Measures the models and shares the memory out. Raises ConfigError when one cannot fit."""
        self._run_dir = run_dir
        self._drain_s = drain_s
        self._log_level = log_level
        self._log = log
        self._group: asyncio.TaskGroup | None = None
        self._num_sockets = 0
        self._changing = asyncio.Lock()
        """One model comes or goes at a time: each sees the memory that the others left."""
        self._telling = asyncio.Lock()
        self.must_load = True
        """While the server starts, a model that cannot be loaded ends the start."""
        footprints = [footprint.measure(model) for model in models]
        prompts = [shared_prompts.read(model) for model in models]
        shared = footprint.share_out(models, footprints, available_memory_bytes())
        self._hosted: dict[str, _Hosted] = {}
        for model, measured, own_prompts in zip(shared, footprints, prompts, strict=True):
            self._hosted[model.name] = self._host(
                model, measured, own_prompts, "configured", is_offered=True
            )

    @property
    def gateway_socket(self) -> Path:
        return self._run_dir / "gateway.sock"

    def offered(self) -> list[Mapping[str, object]]:
        """What the gateway is to serve (see `anzoth.model_changes`)."""
        return [
            offered_model(hosted.model, hosted.watch.socket_path)
            for hosted in self._hosted.values()
            if hosted.is_offered
        ]

    def describe(self) -> list[Mapping[str, object]]:
        """Each model with its state, for an operator."""
        return [_description(hosted) for hosted in self._hosted.values()]

    # --- from the start to the end of the server ----------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self, group: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Engines may run for the duration of the block; then all of them are stopped."""
        self._group = group
        try:
            yield
        finally:
            self._group = None
            tasks = [hosted.task for hosted in self._hosted.values() if hosted.task is not None]
            for hosted in self._hosted.values():
                hosted.stop.set()
            if tasks:
                await asyncio.wait(tasks)

    def start(self, names: Iterable[str]) -> None:
        """Starts the engines of configured models."""
        for name in names:
            self._start(self._hosted[name])

    # --- one model ----------------------------------------------------------------------------

    async def load(self, model: ModelConfig, tell: Tell) -> Mapping[str, object]:
        """Returns when it is served. Raises ControlError; then it is as if nothing had happened.

        So it is too when it is cancelled.
        """
        if self._changing.locked():
            tell({"state": "waiting", "for": "another model that is being loaded or unloaded"})
        try:
            prompts = await asyncio.to_thread(shared_prompts.read, model)
        except ConfigError as error:
            raise ControlError(str(error)) from error
        async with self._changing:
            hosted = self._admit(model, prompts)
            try:
                self._start(hosted)
                await self._until_ready(hosted, tell)
                hosted.is_offered = True
                failed = await self._tell_gateway(0.0)
                if reason := failed.get(model.name) or hosted.failure:
                    raise ControlError(reason)
            except BaseException:
                await self._retract(hosted)
                raise
            hosted.replaced = None
        self._log(f"model {model.name} was loaded")
        return _description(hosted)

    async def unload(self, name: str, drain_s: float | None) -> None:
        """Returns when its memory is free. Raises ControlError. Cancelled, it goes on all the same.

        Its requests may take `drain_s` to end; None: as long as they may when the server stops.
        """
        drain_s = self._drain_s if drain_s is None else drain_s
        error = await asyncio.shield(self._in_group(self._unload(name, drain_s)))
        if error is not None:
            raise error

    async def _unload(self, name: str, drain_s: float) -> ControlError | None:
        async with self._changing:
            hosted = self._hosted.get(name)
            if hosted is None:
                return ControlError(self._unknown(name))
            was_offered = hosted.is_offered
            hosted.is_unloading, hosted.is_offered = True, False
            try:
                await self._tell_gateway(drain_s)
            except ControlError as error:
                hosted.is_unloading, hosted.is_offered = False, was_offered
                return error
            await self._stop(hosted)
            del self._hosted[name]
        self._log(f"model {name} was unloaded")
        return None

    def _admit(self, model: ModelConfig, prompts: list[list[int]]) -> _Hosted:
        """Raises ControlError: a name is taken, or the memory is."""
        old = self._hosted.get(model.name)
        if old is not None and old.failure is None:
            raise ControlError(f"a model called {model.name} is there already")
        others = [hosted for hosted in self._hosted.values() if hosted is not old]
        try:
            model_config.require_distinct_names([*(other.model for other in others), model])
            measured = footprint.measure(model)
            taken_bytes = sum(other.untouched_bytes for other in others)
            [model] = footprint.share_out(
                [model], [measured], available_memory_bytes() - taken_bytes
            )
        except ConfigError as error:
            raise ControlError(str(error)) from error
        hosted = self._host(model, measured, prompts, "loaded", is_offered=False)
        hosted.replaced = old
        self._hosted[model.name] = hosted
        return hosted

    async def _until_ready(self, hosted: _Hosted, tell: Tell) -> None:
        """Raises ControlError with the engine's own reason when it does not get ready."""
        assert hosted.task is not None
        tell({"state": "loading", "weights_bytes": hosted.footprint.weights_bytes})
        hosted.on_progress = tell
        ready = asyncio.ensure_future(hosted.watch.was_ready.wait())
        try:
            await asyncio.wait({ready, hosted.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            hosted.on_progress = None
        if not hosted.watch.was_ready.is_set():
            raise ControlError(hosted.failure or "the server is stopping")

    async def _retract(self, hosted: _Hosted) -> None:
        """Undoes a load."""
        was_offered, hosted.is_offered = hosted.is_offered, False
        if hosted.replaced is None:
            del self._hosted[hosted.model.name]
        else:
            self._hosted[hosted.model.name] = hosted.replaced
        if was_offered:
            with contextlib.suppress(ControlError):
                await self._tell_gateway(0.0)
        await self._stop(hosted)

    def _unknown(self, name: str) -> str:
        for hosted in self._hosted.values():
            if name in hosted.model.aliases:
                return f"{name} is an alias of the model {hosted.model.name}: unload that"
        return f"no model is called {name}; there are: {', '.join(self._hosted) or 'none'}"

    # --- engines ------------------------------------------------------------------------------

    def _host(
        self,
        model: ModelConfig,
        measured: Footprint,
        prompts: list[list[int]],
        origin: Origin,
        *,
        is_offered: bool,
    ) -> _Hosted:
        socket_path = self._run_dir / f"engine-{self._num_sockets}.sock"
        self._num_sockets += 1
        child = Child(
            name=f"engine {model.name}",  # also what `/readyz` calls it
            module="anzoth.scheduler.process",
            settings=lambda: {
                "model": model.name,
                "path": str(model.path),
                "socket": str(socket_path),
                "engine": configuration.to_json(model.engine),
                "shared_prompts": prompts,
                "log_level": self._log_level,
            },
            log=self._log,
            on_report=lambda report: _pass_on(hosted, report),
            may_restart=lambda: origin == "configured" or hosted.watch.was_ready.is_set(),
        )
        watch = EngineWatch(child, socket_path, model.engine.stall_timeout_s)
        hosted = _Hosted(model, measured, origin, child, watch, is_offered)
        return hosted

    def _start(self, hosted: _Hosted) -> None:
        hosted.task = self._in_group(self._keep_running(hosted))

    def _in_group(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        if self._group is None:
            work.close()
            raise ControlError("the server is stopping")
        return self._group.create_task(work)

    async def _keep_running(self, hosted: _Hosted) -> None:
        """Until it is stopped, or cannot be had."""
        failure: ChildCannotStart | None = None
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(hosted.watch.run())
                async with hosted.child.running(group, _ENGINE_STOP_S):
                    await hosted.stop.wait()
                watching.cancel()
        except* ChildCannotStart as errors:
            failure = next(e for e in errors.exceptions if isinstance(e, ChildCannotStart))
        if failure is None:
            return
        hosted.failure = failure.reason
        if self.must_load and hosted.origin == "configured":
            raise failure
        if hosted.is_offered:
            await self._give_up(hosted)

    async def _give_up(self, hosted: _Hosted) -> None:
        """One that cannot be had any more: listed as failed, and not offered."""
        self._log(f"model {hosted.model.name} is not served: {hosted.failure}")
        hosted.is_offered = False
        try:
            await self._tell_gateway(0.0)
        except ControlError as error:
            self._log(str(error))

    async def _stop(self, hosted: _Hosted) -> None:
        hosted.stop.set()
        if hosted.task is not None:
            await asyncio.wait({hosted.task})

    # --- the gateway --------------------------------------------------------------------------

    async def _tell_gateway(self, drain_s: float) -> Mapping[str, str]:
        """Returns, once the gateway serves what is offered, why it cannot serve some of it."""
        async with self._telling:
            try:
                async with asyncio.timeout(_GATEWAY_TIMEOUT_S + drain_s):
                    while self._group is not None:
                        request = {"do": "serve", "models": self.offered(), "drain_s": drain_s}
                        try:
                            answer = await control.ask(self.gateway_socket, request)
                        except NotReached:  # it is being started again
                            await asyncio.sleep(_GATEWAY_RETRY_S)
                        else:
                            return answer["failed"]
            except TimeoutError:
                raise ControlError("the gateway does not answer") from None
        raise ControlError("the server is stopping")


def _pass_on(hosted: _Hosted, report: Report) -> None:
    if hosted.on_progress is not None and "progress" in report:
        hosted.on_progress({"state": "loading", "progress": report["progress"]})


def _description(hosted: _Hosted) -> Mapping[str, object]:
    return {
        "name": hosted.model.name,
        "state": hosted.state,
        "origin": hosted.origin,
        "path": str(hosted.model.path),
        "aliases": hosted.model.aliases,
        "prices": {name: price.shown() for name, price in hosted.model.prices.items()},
        "weights_bytes": hosted.footprint.weights_bytes,
        "kv_cache_bytes": hosted.kv_cache_bytes,
        "resident_bytes": hosted.resident_bytes,
        "error": hosted.failure,
        "engine": None if hosted.watch.hello is None else _engine_facts(hosted.watch.hello),
    }


def _engine_facts(hello: Hello) -> Mapping[str, object]:
    names = ("device", "dtype", "max_model_tokens", "dimensions", "fingerprint")
    return {name: getattr(hello, name) for name in names}
