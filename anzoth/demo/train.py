"""How is the bundled model trained? `python -m anzoth.demo.train`.

From random weights, on generated conversations, with the loss on what the assistant says. The run
is a function of its settings: it is deterministic, and one that is stopped and started again ends
with the same bits as one that was not (same machine, same number of threads). With `--minutes` the
number of steps is measured first; training.json states it, and `--steps` with that number repeats
the run.

On a machine with a GPU and some cores:
`python -m anzoth.demo.train --minutes 9 --workers 14 --tokens-per-step 65536 --tokens-per-batch
32768 --threads 2 --out DIR`.

Weights are kept in fp32 by the optimizers and computed with in bf16 where the machine has it
(anzoth.demo.machine). Matrices are updated by Muon (orthogonalised momentum), embeddings and norms
by AdamW. The peak rate of Muon was chosen by trial: after 600 steps 0.01 was at a loss of 0.136,
0.004 at 0.079 (2 cores, 2026-11-23).

Beside other work, run it with OMP_WAIT_POLICY=PASSIVE (bench/README.md says why).

Does not know: how good the answers are (see anzoth.demo.evaluate).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from anzoth.demo.batches import IGNORED, Batch, Plan
from anzoth.demo.checkpoint import MODEL_DIR, export, load_state, save_state
from anzoth.demo.curriculum import FULL_LEVEL_AT, example
from anzoth.demo.decoder import Decoder, Shape
from anzoth.demo.feed import Feed
from anzoth.demo.machine import number_type
from anzoth.demo.muon import Muon
from anzoth.demo.vocabulary import learn, texts_of


@dataclass(slots=True, frozen=True)
class Settings:
    """What a run depends on. Two runs with equal settings make equal weights."""

    seed: int = 1
    num_steps: int = 2000
    tokens_per_step: int = 8192
    tokens_per_batch: int = 4096
    """What is computed at once; the gradients of a step's batches are added up."""
    warmup_steps: int = 40
    muon_rate: float = 0.005
    adam_rate: float = 3e-3
    final_rate: float = 0.02
    """The rates end at this share of their peak (cosine)."""
    weight_decay: float = 0.05
    max_gradient_norm: float = 1.0
    tokenizer_conversations: int = 20_000
    dtype: str = "bfloat16"
    """What is computed in; the optimizers keep fp32."""
    shape: Shape = field(default_factory=Shape)

    def plan(self) -> Plan:
        return Plan(
            self.seed,
            self.num_steps,
            self.tokens_per_step,
            self.tokens_per_batch,
            self.shape.max_positions,
        )

    @classmethod
    def from_json(cls, values: dict) -> Settings:
        return cls(**{**values, "shape": Shape(**values["shape"])})


class Trainer:
    """A model, its optimizers and the number of steps they have taken."""

    def __init__(
        self,
        settings: Settings,
        device: torch.device,
        tokenizer: Tokenizer | None = None,
        num_workers: int = 0,
    ) -> None:
        self.settings = settings
        self.device = device
        self.step = 0
        self.totals = {"tokens": 0.0, "seconds": 0.0}
        self.curve: dict[str, float] = {}
        """Step to mean loss of the hundred steps before it, where the run was saved."""
        self.tokenizer = tokenizer or learn_tokenizer(settings)
        self.feed = Feed(self.tokenizer, settings.plan(), num_workers)
        shape = dataclasses.replace(settings.shape, vocab_size=self.tokenizer.get_vocab_size())
        generator = torch.Generator().manual_seed(settings.seed)
        self.model = Decoder(shape, generator).to(device)
        self.master = {
            name: parameter.detach().clone() for name, parameter in self.model.named_parameters()
        }
        self.model.to(getattr(torch, settings.dtype))
        self._optimizers = self._make_optimizers()

    def train_step(self) -> Tensor:
        """One step on its batches. Returns the loss in nats per token that the assistant says.

        Waits for nothing: where the model is on a GPU, the loss is still being computed.
        """
        batches = self.feed[self.step]
        num_targets = sum(batch.num_targets for batch in batches)
        total = torch.zeros((), device=self.device)
        for batch in batches:
            loss = self._loss(batch) / num_targets
            loss.backward()
            total += loss.detach()
        self._update()
        self.step += 1
        self.totals["tokens"] += sum(batch.num_tokens for batch in batches)
        return total

    def save(self, folder: Path) -> None:
        state = {
            f"{name}/{key}": value
            for optimizer, names in self._optimizers
            for name in names
            for key, value in optimizer.state[self.master[name]].items()
        }
        settings = dataclasses.asdict(self.settings)
        progress = {"totals": self.totals, "curve": self.curve}
        save_state(folder, self.step, settings, self.tokenizer, self.master, state, progress)

    @classmethod
    def resume(cls, folder: Path, device: torch.device, num_workers: int = 0) -> Trainer:
        """The trainer that `save` was called on. Raises OSError if there is none in `folder`."""
        state = load_state(folder)
        # With the tokenizer of the first start: the lessons may have been edited in between.
        settings = Settings.from_json(state.settings)
        trainer = cls(settings, device, state.tokenizer, num_workers)
        trainer.step, tensors = state.step, state.tensors
        trainer.totals, trainer.curve = state.progress["totals"], state.progress["curve"]
        with torch.no_grad():
            for name, master in trainer.master.items():
                master.copy_(tensors[f"master/{name}"])
                trainer.model.get_parameter(name).copy_(master)
        for optimizer, names in trainer._optimizers:
            for name in names:
                prefix = f"optimizer/{name}/"
                optimizer.state[trainer.master[name]] = {
                    # Adam's own step counter is a scalar that stays on the CPU.
                    key.removeprefix(prefix): value.to(device if value.dim() else "cpu")
                    for key, value in tensors.items()
                    if key.startswith(prefix)
                }
        return trainer

    def facts(self, loss: float) -> dict[str, object]:
        """What a reader of the finished model may want to know about its training."""
        return {
            "parameters": sum(tensor.numel() for tensor in self.master.values()),
            "steps": self.step,
            "training_tokens": int(self.totals["tokens"]),
            "seconds": round(self.totals["seconds"]),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "loss": None if math.isnan(loss) else round(loss, 4),
            "curve": self.curve,
            "settings": dataclasses.asdict(self.settings),
        }

    def _loss(self, batch: Batch) -> Tensor:
        """In nats, summed."""
        words = torch.frombuffer(batch.words, dtype=torch.int32)
        if self.device.type == "cuda":
            words = words.pin_memory()  # only such memory is copied while the GPU computes
        words = words.to(self.device, non_blocking=True).long()
        ids, branches, places_N, targets_N = words.split(batch.sizes)
        ids_BT, branches_BT = (part.view(batch.num_rows, batch.width) for part in (ids, branches))
        logits_NV = self.model(ids_BT, branches_BT, places_N).float()
        return F.cross_entropy(logits_NV, targets_N, ignore_index=IGNORED, reduction="sum")

    def _update(self) -> None:
        """Gradients to the fp32 copies, clipped; one optimizer step; the result back to bf16."""
        for name, parameter in self.model.named_parameters():
            assert parameter.grad is not None, "every parameter takes part in the loss"
            self.master[name].grad = parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.master.values(), self.settings.max_gradient_norm)
        factor = rate_factor(self.step, self.settings)
        for optimizer, _ in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_rate"] * factor
            optimizer.step()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(self.master[name])

    def _make_optimizers(self) -> list[tuple[torch.optim.Optimizer, list[str]]]:
        settings = self.settings
        matrices = [name for name in self.master if "_proj" in name]
        others = [name for name in self.master if "_proj" not in name]
        muon = Muon(
            [self.master[name] for name in matrices],
            lr=settings.muon_rate,
            weight_decay=settings.weight_decay,
            dtype=getattr(torch, settings.dtype),
        )
        adam = torch.optim.AdamW(
            [self.master[name] for name in others],
            lr=settings.adam_rate,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        )
        for optimizer in (muon, adam):
            for group in optimizer.param_groups:
                group["peak_rate"] = group["lr"]
        return [(muon, matrices), (adam, others)]


def learn_tokenizer(settings: Settings) -> Tokenizer:
    """From conversations of its own, in the order of the seed, as they are half-way."""
    rng = random.Random(f"{settings.seed}/tokenizer")
    texts = (
        text
        for _ in range(settings.tokenizer_conversations)
        for conversation in example(rng, FULL_LEVEL_AT)[0]
        for text in texts_of(conversation)
    )
    return learn(texts, settings.shape.vocab_size)


def rate_factor(step: int, settings: Settings) -> float:
    """Linear warm-up to 1, then half a cosine down to `final_rate`."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.num_steps - settings.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return settings.final_rate + (1 - settings.final_rate) * cosine


def run(trainer: Trainer, state_dir: Path, save_every: int, deadline_s: float = math.inf) -> float:
    """Trains to the end, saving now and then. Returns the mean loss of the last hundred steps.

    `deadline_s`: on the monotonic clock, when to stop even before the end. Raises
    FloatingPointError when the loss is not a number.
    """
    recent: list[float] = []
    waiting: list[Tensor] = []
    columns = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[line]}"),
        TimeRemainingColumn(),
    )
    num_steps = trainer.settings.num_steps
    started_s = monotonic()
    with Progress(*columns) as progress:
        task = progress.add_task("", total=num_steps, completed=trainer.step, line="")
        while trainer.step < num_steps and started_s < deadline_s:
            waiting.append(trainer.train_step())
            is_due = trainer.step % save_every == 0 or trainer.step == num_steps
            if not is_due and len(waiting) < _STEPS_PER_LOOK:
                continue
            recent = [*recent, *torch.stack(waiting).tolist()][-100:]
            now_s = monotonic()
            trainer.totals["seconds"] += now_s - started_s
            advance, waiting, started_s = len(waiting), [], now_s
            mean = sum(recent) / len(recent)
            if not math.isfinite(mean):
                raise FloatingPointError(f"the loss is {mean} at step {trainer.step}: lower rates")
            speed = trainer.totals["tokens"] / trainer.totals["seconds"]
            line = f"step {trainer.step}  loss {mean:.4f}  {speed:,.0f} tokens/s"
            progress.update(task, advance=advance, line=line)
            if is_due or now_s >= deadline_s:
                trainer.curve[str(trainer.step)] = round(mean, 4)
                trainer.save(state_dir)
                if not progress.console.is_terminal:
                    progress.console.print(line)
    return sum(recent) / len(recent) if recent else math.nan


_STEPS_PER_LOOK = 10
"""Between two looks at the loss: a look waits for the device."""
_WARM_S, _MEASURED_S = 8.0, 12.0
_SPARE = 0.06
"""Of the time, for saving, exporting and what was not measured."""


def steps_within(
    seconds: float, settings: Settings, device: torch.device, tokenizer: Tokenizer, num_workers: int
) -> int:
    """How many steps can be taken in `seconds`: measured on lessons of full length, then forgotten.

    A different number of steps is a different run; the same number is the same run.
    """
    trial = Trainer(dataclasses.replace(settings, num_steps=1000), device, tokenizer, num_workers)
    trial.step = 800
    started_s = monotonic()
    with trial.feed:
        _steps_in(trial, _WARM_S)  # the first ones also load, start and find rows kept ready
        num_steps, measured_s = _steps_in(trial, _MEASURED_S)
    left_s = (seconds - (monotonic() - started_s)) * (1 - _SPARE)
    return max(1, int(left_s * num_steps / measured_s))


def _steps_in(trainer: Trainer, least_s: float) -> tuple[int, float]:
    """Takes steps for so long, and at least two. Returns how many, and in how many seconds."""
    started_s = now_s = monotonic()
    num_steps = 0
    while num_steps < 2 or now_s - started_s < least_s:
        trainer.train_step().item()
        num_steps, now_s = num_steps + 1, monotonic()
    return num_steps, now_s - started_s


def parsed() -> argparse.Namespace:
    defaults = Settings()
    parser = argparse.ArgumentParser(description="Train the bundled model from random weights.")
    parser.add_argument("--steps", type=int, default=defaults.num_steps)
    parser.add_argument("--minutes", type=float, help="as many steps as fit, instead of --steps")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--tokens-per-step", type=int, default=defaults.tokens_per_step)
    parser.add_argument(
        "--tokens-per-batch",
        type=int,
        default=defaults.tokens_per_batch,
        help="computed at once: more keeps a GPU busy",
    )
    parser.add_argument("--layers", type=int, default=defaults.shape.num_layers)
    parser.add_argument("--width", type=int, default=defaults.shape.hidden_size)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--workers", type=int, default=0, help="processes that make the lessons")
    parser.add_argument("--state", type=Path, default=Path("build/demo"), help="training state")
    parser.add_argument("--out", type=Path, default=MODEL_DIR, help="the finished model")
    parser.add_argument("--resume", action="store_true", help="go on from --state")
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    return parser.parse_args()


def begun(options: argparse.Namespace, device: torch.device, deadline_s: float) -> Trainer:
    """A trainer that has not taken a step yet."""
    settings = Settings(
        seed=options.seed,
        num_steps=options.steps,
        tokens_per_step=options.tokens_per_step,
        tokens_per_batch=options.tokens_per_batch,
        dtype=str(number_type(device)).removeprefix("torch."),
        shape=Shape.of(options.width, options.layers),
    )
    tokenizer = learn_tokenizer(settings)
    if deadline_s < math.inf:
        left_s = deadline_s - monotonic()
        num_steps = steps_within(left_s, settings, device, tokenizer, options.workers)
        settings = dataclasses.replace(settings, num_steps=num_steps)
        print(f"{num_steps} steps fit into the time")
    return Trainer(settings, device, tokenizer, options.workers)


def main() -> None:
    options = parsed()
    started_s = monotonic()
    deadline_s = math.inf if options.minutes is None else started_s + 60 * options.minutes
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if options.resume:
        trainer = Trainer.resume(options.state, device, options.workers)
    else:
        trainer = begun(options, device, deadline_s)
    with trainer.feed:
        loss = run(trainer, options.state, options.save_every, deadline_s)
    export(trainer.model, trainer.tokenizer, options.out, trainer.facts(loss))


if __name__ == "__main__":
    main()
