"""`gossamer.shrink`: the smallest or fastest network within an accuracy budget."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import InputError
from gossamer.records.shrinking import Target
from gossamer.shrinking.costs import meter_of
from gossamer.shrinking.data import Data, read_data
from gossamer.shrinking.descent import Ground
from gossamer.shrinking.evidence import Circumstances, handed_over
from gossamer.shrinking.fine_tuning import lesson
from gossamer.shrinking.journal import Journal, search_key
from gossamer.shrinking.judging import Budget
from gossamer.shrinking.options import Options, PatternName, Train, options_of
from gossamer.shrinking.pace import pace_of
from gossamer.shrinking.result import Shrunk
from gossamer.shrinking.searching import Search, search
from gossamer.shrinking.task import Loss, Metric, Task, check_task, evaluate, task_of
from gossamer.shrinking.wording import budget_remarks


def shrink(
    model: nn.Module,
    data: Any,
    *,
    max_drop: float = 0.005,
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
    train_batch: int | None = None,
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
        By how much the metric may get worse, 0.005 for half a point of accuracy.
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
        Layers that lose units keep a multiple of so many.
    confidence
        Of the bound on the drop.
    epochs
        Of fine-tuning in all: one and a half times those that the network was trained is plenty.
    time_limit
        Seconds that the search may take, about.
    rate, train_batch
        Learning rate of Adam, and examples of a training step.
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
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    options = options_of(
        max_drop=max_drop, min_accuracy=min_accuracy, target=target, pattern=pattern, batch=batch,
        threads=threads, exclude=excluded, keep_units_multiple_of=keep_units_multiple_of,
        confidence=confidence, epochs=epochs, rate=rate, train_batch=train_batch, seed=seed,
    )  # fmt: skip
    task = task_of(loss, metric, higher_is_better=higher_is_better)
    begun = begin(
        model, read_data(data, seed=seed), task, options, train=train,
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
    dense = plain_copy(model).eval()
    for parameter in dense.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        if split is not None:
            check_task(dense, split, task, name)
    example = data.validation.example(options.batch)
    meter = meter_of(dense, _filled(example, options.batch), options)
    own_train = None if train is None else f"{train.__module__}:{train.__qualname__}"
    more = {"train": own_train, "task": task.name, "data": data.name}
    journal = Journal(out, search_key(dense, data, options, more))
    follow("measuring the network as it is")
    looking = time.monotonic()
    before = evaluate(dense, data.validation, task)
    looking = time.monotonic() - looking
    budget = Budget(task, before, options.max_drop, options.min_accuracy, options.confidence)
    learnt = lesson(data.train, task, dense, options, train)
    ground = Ground(meter.example, data.train, task, options)
    pace = pace_of(dense, learnt, ground, meter, looking, seconds)
    deadline = math.inf if time_limit is None else started + max(1.0, time_limit - pace.final)
    whole = Search(
        dense, data, learnt, ground, meter, budget, journal, follow, stop, deadline, pace
    )
    forecast = time.monotonic() - started + pace.forecast(options)
    known = Circumstances(
        model_name=type(model).__name__,
        remarks=(*data.notes, *budget_remarks(budget)),
        forecast=forecast if time_limit is None else min(forecast, time_limit),
        started=started,
        seconds=seconds,
    )
    return Begun(whole, known, out)


def _filled(example: Any, batch: int) -> Any:
    """Return so many inputs, the same ones again where the data hold fewer."""
    if not isinstance(example, Tensor) or len(example) >= batch:
        return example
    return torch.cat([example] * -(-batch // len(example)))[:batch]
