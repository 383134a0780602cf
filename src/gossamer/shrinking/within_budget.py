"""`gossamer.shrink`: the smallest or fastest network within an accuracy budget."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import InputError
from gossamer.core.formats import counted, duration
from gossamer.records.shrinking import Target
from gossamer.shrinking.costs import meter_of
from gossamer.shrinking.data import Data, read_data
from gossamer.shrinking.descent import Ground, kept_when_given
from gossamer.shrinking.evidence import Circumstances, handed_over
from gossamer.shrinking.fine_tuning import lesson
from gossamer.shrinking.journal import Journal, look_at, search_key
from gossamer.shrinking.judging import Budget, are_shares, check_asked
from gossamer.shrinking.options import (
    Options,
    PatternName,
    PrecisionName,
    Train,
    options_of,
    usual_batch,
)
from gossamer.shrinking.pace import pace_of
from gossamer.shrinking.precision import quickest
from gossamer.shrinking.result import Shrunk
from gossamer.shrinking.searching import Search, search
from gossamer.shrinking.split import first
from gossamer.shrinking.task import Loss, Metric, Task, check_task, evaluate, task_of
from gossamer.shrinking.wording import budget_remarks, coverage_remarks, triviality_remarks


def shrink(
    model: nn.Module,
    data: Any,
    *,
    max_drop: float | None = None,
    min_accuracy: float | None = None,
    target: Target = "latency",
    pattern: PatternName = "auto",
    batch: int = 64,
    threads: int | None = None,
    exclude: str | Sequence[str] = (),
    keep_units_multiple_of: int = 1,
    confidence: float = 0.95,
    epochs: int = 30,
    time_limit: float | None = None,
    rate: float | None = None,
    distill_features: bool = False,
    train_batch: int | None = None,
    precision: PrecisionName = "auto",
    loss: Loss | None = None,
    metric: Metric | None = None,
    higher_is_better: bool | None = None,
    train: Train | None = None,
    out: Path | str | None = None,
    seed: int = 0,
    seconds: float = 3.0,
    follow: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Shrunk:
    """Find the fastest or smallest network that is about as good as one's own.

    The network is pruned step by step and trained in between, towards its targets and what the
    dense network gives. Each candidate is timed and tested on validation data; the last that surely
    keeps the budget is taken. Test data are looked at once, at the end.

    Parameters
    ----------
    model
        A trained network; it stays as it is.
    data
        A mapping or an object with ``train``, ``test`` and, better, ``validation``: tensors,
        arrays, a ``Dataset``, a ``DataLoader``; an ``.npz`` file, a folder of images, or
        ``"module:callable"``. See `gossamer.shrinking.data.read_data`.
    max_drop
        By how much the metric may get worse; half a point of accuracy by default, 0.005.
    min_accuracy
        What the metric must reach, in the place of `max_drop`.
    target
        ``"latency"`` (of a batch, as `gossamer.compress` runs it), ``"size"`` (of the file) or
        ``"flops"`` (multiply-adds of non-zero weights).
    pattern
        ``"weight"``, ``"block"`` (4 by 1), ``"unit"``, ``"unit+weight"``, or ``"auto"``, which
        takes the one that is nearest to the dense network at the same speed after a short training.
    batch, threads
        What is timed. Threads are PyTorch's by default.
    exclude
        Names of layers to leave alone, as for `gossamer.prune`.
    keep_units_multiple_of
        Layers that lose units keep a multiple of so many; only whole units are pruned then.
    confidence
        Of the bound on the drop.
    epochs
        Of fine-tuning in all: one and a half times those that the network was trained is plenty.
    time_limit
        Seconds that the search may take, about.
    rate, train_batch
        Learning rate of Adam, found out where it is not given, and examples of a training step.
    distill_features
        Whether what the output layer reads is to be as the dense network's, too, not the outputs
        alone; it takes longer.
    precision
        What is trained in, over weights in float32: ``"float32"``, ``"bf16"``, or ``"auto"``, which
        is bfloat16 where the processor has it, classes are told apart and it is clearly faster.
        Candidates are tested and timed in float32.
    loss, metric, higher_is_better
        The task, where it is not to tell classes apart; see `gossamer.shrinking.task.task_of`.
    train
        A training of one's own, ``train(model, mask, epochs)``: it trains the network in place and
        keeps pruned weights at zero.
    out
        A folder in which candidates are kept, so that the same call goes on after a kill, and to
        which the result is written.
    seed
        Of all that is drawn.
    seconds
        How long the chosen network is timed at the end, beside the dense one, for each batch size.
    follow
        Told in words what is done.
    stop
        Asked now and then; a true answer ends the search with the best so far.

    Returns
    -------
    Shrunk
        The network, its mask, and the evidence; the network as given where nothing else was found.

    Raises
    ------
    InputError
        If model, data, task and options do not go together.

    Warns
    -----
    RuntimeWarning
        If validation data are too few for the budget, or the network was trained on them.

    Examples
    --------
    >>> x = torch.randn(400, 8)
    >>> y = (x[:, 0] > 0).long()
    >>> model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    >>> data = {name: (x, y) for name in ("train", "validation", "test")}
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     found = shrink(
    ...         model, data, max_drop=0.5, target="flops", pattern="weight", epochs=11, seconds=0.1
    ...     )
    >>> found.sparsity > 0.3
    True
    """
    threads = torch.get_num_threads() if threads is None else threads
    read = read_data(data, seed=seed)
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    options = options_of(
        max_drop=max_drop, min_accuracy=min_accuracy, target=target, pattern=pattern, batch=batch,
        threads=threads, exclude=excluded, keep_units_multiple_of=keep_units_multiple_of,
        confidence=confidence, epochs=epochs, rate=rate, distill_features=distill_features,
        train_batch=usual_batch(len(read.train)) if train_batch is None else train_batch, seed=seed,
        precision=precision,
    )  # fmt: skip
    task = task_of(loss, metric, higher_is_better=higher_is_better)
    check_asked(task, max_drop, min_accuracy)
    begun = begin(
        model, read, task, options, train=train,
        out=None if out is None else Path(out), time_limit=time_limit,
        seconds=seconds, follow=follow or (lambda _: None), stop=stop or (lambda: False),
    )  # fmt: skip
    return begun.finish()


@dataclass(frozen=True, eq=False)
class Begun:
    """A search before it starts, with what it will take."""

    search: Search
    known: Circumstances
    out: Path | None

    def finish(self) -> Shrunk:
        """Search, measure what was found, and write it where a folder was given."""
        for remark in self.known.remarks:
            warnings.warn(remark, RuntimeWarning, stacklevel=3)
        shrunk = handed_over(self.search, search(self.search), self.known)
        if self.out is not None:
            self.search.follow("writing")
            shrunk.save(self.out)
        return shrunk


def begin(
    model: nn.Module,
    data: Data,
    task: Task,
    options: Options,
    *,
    train: Train | None,
    out: Path | None,
    time_limit: float | None,
    seconds: float = 3.0,
    follow: Callable[[str], None],
    stop: Callable[[], bool],
) -> Begun:
    """Check all that goes into a search, measure the network as it is, and forecast the time."""
    started = time.monotonic()
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise InputError(f"time_limit is {time_limit!r}, but a number above 0 was expected.")
    dense, notes = _trainable(model)
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        if split is not None:
            check_task(dense, split, task, name)
    example = data.validation.example(options.batch)
    meter = meter_of(dense, first(example, options.batch), options)
    more = {"train": _name_of(train), "task": task.name, "data": data.name}
    journal = Journal(out, search_key(dense, data, options, more))
    journal.check_look(look_at(dense, data, task))
    follow("measuring the network as it is")
    looking = time.monotonic()
    before = evaluate(dense, data.validation, task)
    looking = time.monotonic() - looking
    seen_as_shares = are_shares(before) and options.max_drop < 1
    task = replace(task, is_binary=task.is_binary or seen_as_shares)
    budget = Budget(task, before, options.max_drop, options.min_accuracy, options.confidence)
    _check_reached(budget)
    learnt = lesson(data.train, task, dense, options, train)
    kept = kept_when_given(dense, first(example, 2), options.exclude)
    ground = Ground(
        meter.example, data.train, task, options, budget.may_lose, len(data.validation), kept
    )
    learnt, an_epoch = quickest(dense, learnt, ground, journal.note("precision"))
    if train is None:
        journal.write("precision", learnt.precision)
    comparing = looking * len(data.test or data.validation) / len(data.validation)
    pace = pace_of(dense, learnt, ground, meter, looking, comparing, seconds, an_epoch)
    deadline = math.inf if time_limit is None else started + max(1.0, time_limit - pace.final)
    whole = Search(
        dense, data, learnt, ground, meter, budget, journal, follow, stop, deadline, pace
    )
    forecast = journal.note("forecast") or time.monotonic() - started + pace.forecast(options)
    journal.write("forecast", forecast)
    known = Circumstances(
        model_name=type(dense).__name__,
        remarks=(*data.notes, *notes, *_remarks(whole, time_limit)),
        forecast=forecast if time_limit is None else min(forecast, time_limit),
        started=started,
        seconds=seconds,
        own_training=train is not None,
    )
    return Begun(whole, known, out)


def _trainable(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """Return a copy in evaluation mode, and what to say of parameters that are not trained.

    Where all are frozen, as of a network that was loaded to be used, none is meant to stay so.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model is {type(model).__name__}, expected a trained torch.nn.Module: build it, and "
            "load its weights into it"
        )
    dense = plain_copy(model).eval()
    for name, one in (*dense.named_parameters(), *dense.named_buffers()):
        # A mask of attention may hold infinity; a parameter may not.
        if one.isnan().any() or (isinstance(one, nn.Parameter) and one.isinf().any()):
            raise InputError(
                f"{name} of {type(model).__name__} holds NaN or infinite numbers: give the weights "
                "of a network that was trained to its end"
            )
    real = [one for one in dense.parameters() if one.is_floating_point()]
    if not any(one.requires_grad for one in real):
        for one in real:
            one.requires_grad_()
    frozen = sum(not one.requires_grad for one in real)
    if not frozen:
        return dense, []
    return dense, [
        f"{frozen} of {counted(len(real), 'parameter')} require no gradient: they are pruned, but "
        "not trained; exclude leaves layers alone."
    ]


def _remarks(search: Search, time_limit: float | None) -> list[str]:
    """Return what a user should know of budget, data and time before anything is searched."""
    budget, pace = search.budget, search.pace
    found = [
        *budget_remarks(budget),
        *triviality_remarks(budget, search.data.validation),
        *coverage_remarks(search.data, budget.task),
    ]
    least = pace.least(search.ground.options, time_limit or math.inf)
    if time_limit is not None and time_limit < least:
        found.append(
            f"time_limit is {duration(time_limit)}, but about {duration(least)} is what a first "
            "candidate and the files take: the search will end before or exceed it."
        )
    return found


def _name_of(train: Train | None) -> str | None:
    if train is None:
        return None
    function = train.func if isinstance(train, partial) else train
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{function.__module__}:{name}"


def _check_reached(budget: Budget) -> None:
    """Refuse to look for a smaller network that is to be better than the dense one."""
    if budget.min_metric is not None and budget.may_lose <= 0:
        raise InputError(
            f"min_accuracy is {budget.min_metric:g}, but the {budget.task.name} of the network as "
            f"it is is {float(budget.before.mean()):.4g} on validation data: give a worse one than "
            "that, or max_drop"
        )
