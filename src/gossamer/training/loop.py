"""The training loop.

Nothing in the step waits for a number: losses and hits are summed in tensors, and looked at
once an epoch and about once a second. Where a training stands is a value (`Standing`), taken at
any batch; going on from it gives the same bits as never having stopped.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from gossamer.core.errors import InputError, TrainingError
from gossamer.core.streams import stream_seed
from gossamer.data.augmentation import epoch_maps, warp
from gossamer.data.resident import Batch, Resident, batches, epoch_order
from gossamer.measures.functional import evaluate
from gossamer.measures.functional.running import run
from gossamer.records.record import Epoch
from gossamer.training.connections import Gradients, gradients_of
from gossamer.training.optimizers import set_rate
from gossamer.training.options import Precision, TrainingOptions
from gossamer.training.updating import Updating


@dataclass(frozen=True)
class Standing:
    """How far a training has come."""

    history: tuple[Epoch, ...] = ()
    """Finished epochs."""
    batch: int = 0
    """Batches done in the epoch that is under way."""
    loss: float = 0.0
    """Summed loss of those batches."""
    hits: int = 0
    """Right answers in those batches."""
    random: Tensor | None = None
    """State of the random generator that dropout draws from, within an epoch."""
    steps: int = 0
    """Optimizer steps done."""
    seconds: float = 0.0
    """Time spent, in the unfinished epoch too."""
    stopped: str | None = None
    """Why training ended early."""


class Interrupted(Exception):  # noqa: N818 - not an error: someone asked for it
    """Training stopped because it was asked to; where it stood was kept."""


def _no_pulse(standing: Standing) -> bool:  # noqa: ARG001
    return False


@dataclass(frozen=True)
class Job:
    """Everything a training works with. The network and the optimizer change; the rest does not."""

    network: nn.Module
    optimizer: Optimizer
    data: Resident
    validation: Resident | None
    classes: int
    options: TrainingOptions
    precision: Precision
    seed: int
    first_epoch: int = 0
    """Epochs trained before this training, so that random streams go on."""
    keep: Callable[[Standing], None] = lambda standing: None  # noqa: ARG005
    """Called with a standing that can be gone on from, now and then."""
    pulse: Callable[[Standing], bool] = field(default=_no_pulse)
    """Called about once a second; a true answer stops the training."""
    updating: Updating | None = None
    """What changes the mask on the way, if anything does."""
    keep_seconds: float = 30.0
    pulse_seconds: float = 0.5


def train(job: Job, standing: Standing | None = None) -> Standing:
    """Train to the end of the options' epochs, or an early stop; return where it ended.

    Parameters
    ----------
    job
        What to train, on what and how.
    standing
        Where an earlier run of the same job stood; network and optimizer must be as they were.

    Raises
    ------
    TrainingError
        If the loss is no longer a finite number.
    Interrupted
        If `job.pulse` asked to stop; `job.keep` was called with the standing.
    """
    standing = standing or Standing()
    clock = _Clock(standing.seconds, job)
    job.network.train()
    while len(standing.history) < job.options.epochs and standing.stopped is None:
        standing = _train_epoch(job, standing, clock)
    return standing


def _train_epoch(job: Job, standing: Standing, clock: "_Clock") -> Standing:
    """Train one epoch from where it stands, and look at it."""
    done = len(standing.history)
    number = job.first_epoch + done
    set_rate(job.optimizer, job.options.rate(done))
    order = epoch_order(len(job.data.labels), job.seed, "shuffle", number)
    device = job.data.inputs.device
    loss = torch.tensor(standing.loss, dtype=torch.float64, device=device)
    hits = torch.tensor(standing.hits, dtype=torch.int64, device=device)
    batch = standing.batch
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        _seed_dropout(job, standing, number)
        for inputs, labels in _training_batches(job, order, number, standing.batch):
            batch_loss, logits = _step(job, inputs, labels)
            loss += batch_loss * len(labels)
            hits += (logits.argmax(dim=1) == labels).sum()
            batch += 1
            if job.updating is not None:
                done = standing.steps + batch - standing.batch
                job.updating.after_step(done, partial(_gradients, job, inputs, labels))
            if clock.due():
                standing = _now(standing, batch, loss, hits, clock.seconds)
                _check_loss("training", standing.loss, number, job)
                clock.look(standing)
    standing = _now(standing, batch, loss, hits, clock.seconds)
    _check_loss("training", standing.loss, number, job)
    return _finish_epoch(job, standing, clock)


def _training_batches(job: Job, order: Tensor, number: int, start: int) -> Iterator[Batch]:
    """Return the batches of an epoch from a given one on, augmented if that is asked for."""
    size = job.options.batch
    found = batches(job.data, order, size, start)
    if job.options.augmentation is None:
        return found
    device, choices = job.data.inputs.device, job.options.augmentation.model_dump()
    maps = epoch_maps(job.data.inputs.shape, job.seed, number, **choices)[order].to(device)
    starts = range(start * size, len(order), size)
    return (
        (warp(inputs, maps[begin : begin + size]), labels)
        for (inputs, labels), begin in zip(found, starts, strict=True)
    )


def _step(job: Job, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    with autocast(job.precision, inputs.device.type):
        logits = run(job.network, inputs, "it must train on a batch of this shape, too")
        loss = functional.cross_entropy(logits, labels)
    _backward(loss)
    job.optimizer.step()
    job.optimizer.zero_grad(set_to_none=True)
    return loss.detach(), logits.detach()


def _gradients(job: Job, inputs: Tensor, labels: Tensor) -> Gradients:
    """Return the gradients, of pruned weights too; nothing else changes."""

    def loss() -> Tensor:
        with autocast(job.precision, inputs.device.type):
            return functional.cross_entropy(job.network(inputs), labels)

    return gradients_of(job.network, loss)


def _backward(loss: Tensor) -> None:
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise InputError(
            f"the network cannot be trained, its gradients fail: {str(error).splitlines()[0]}"
        ) from error


def autocast(precision: Precision, device: str) -> AbstractContextManager[None]:
    """Return what makes a kind of device compute in a precision; weights stay float32."""
    if precision == "bf16":
        return torch.autocast(device, dtype=torch.bfloat16)
    return nullcontext()


def _seed_dropout(job: Job, standing: Standing, number: int) -> None:
    """Give dropout the stream of this epoch, or the place in it where training stood."""
    cuda = job.data.inputs.device.type == "cuda"
    if standing.random is None:
        # Not torch.manual_seed, which would touch the generators of all devices.
        seed = stream_seed(job.seed, "dropout", number)
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
    elif cuda:
        torch.cuda.set_rng_state(standing.random, job.data.inputs.device)
    else:
        torch.set_rng_state(standing.random)


def _now(standing: Standing, batch: int, loss: Tensor, hits: Tensor, seconds: float) -> Standing:
    cuda = loss.device.type == "cuda"
    random = torch.cuda.get_rng_state(loss.device) if cuda else torch.get_rng_state()
    return replace(
        standing,
        steps=standing.steps + batch - standing.batch,
        batch=batch,
        loss=float(loss),
        hits=int(hits),
        random=random,
        seconds=seconds,
    )


def _check_loss(part: str, loss: float, number: int, job: Job) -> None:
    if not math.isfinite(loss):
        rate = job.options.rate(number - job.first_epoch)
        raise TrainingError(
            f"the {part} loss is no longer a number in epoch {number + 1} (learning rate "
            f"{rate:g}, {job.options.optimizer.name}): try a smaller learning rate"
        )


def _finish_epoch(job: Job, standing: Standing, clock: "_Clock") -> Standing:
    """Add the epoch to the history, validate, and see whether to stop early."""
    examples = len(job.data.labels)
    validation = None
    if job.validation is not None:
        validation = evaluate(
            job.network, job.validation.inputs, job.validation.labels, job.classes
        )
        number = job.first_epoch + len(standing.history)
        _check_loss("validation", validation.loss, number, job)
    row = Epoch(
        epoch=job.first_epoch + len(standing.history) + 1,
        rate=job.options.rate(len(standing.history)),
        train_loss=standing.loss / examples,
        train_accuracy=standing.hits / examples,
        validation_loss=validation.loss if validation else None,
        validation_accuracy=validation.accuracy if validation else None,
        density=job.updating.density if job.updating else None,
        seconds=clock.seconds - sum(epoch.seconds for epoch in standing.history),
    )
    history = (*standing.history, row)
    ended = Standing(history=history, steps=standing.steps, seconds=clock.seconds)
    ended = replace(ended, stopped=_stop_reason(job.options, history))
    if len(history) < job.options.epochs and ended.stopped is None:
        clock.look(ended)
    return ended


def _stop_reason(options: TrainingOptions, history: tuple[Epoch, ...]) -> str | None:
    if options.early_stop is None or len(history) == options.epochs:
        return None
    values = [getattr(epoch, options.early_stop.watch) for epoch in history]
    return options.early_stop.reason(values)


class _Clock:
    """Tells when to look up from training: to report, to keep a standing, to stop."""

    def __init__(self, spent: float, job: Job) -> None:
        self._started = self._looked = self._kept = time.perf_counter()
        self._spent = spent
        self._job = job

    @property
    def seconds(self) -> float:
        return self._spent + time.perf_counter() - self._started

    def due(self) -> bool:
        return time.perf_counter() - self._looked >= self._job.pulse_seconds

    def look(self, standing: Standing) -> None:
        """Report; keep the standing if it is time to, or if asked to stop.

        Raises
        ------
        Interrupted
            If asked to stop.
        """
        self._looked = time.perf_counter()
        stop = self._job.pulse(standing)
        if stop or self._looked - self._kept >= self._job.keep_seconds:
            self._job.keep(standing)
            self._kept = time.perf_counter()
        if stop:
            raise Interrupted
