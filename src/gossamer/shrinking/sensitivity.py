"""Sensitivity: what a network loses when one layer alone is pruned, and nothing is trained."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.capture import Structure
from gossamer.graph.examples import Example, tensors_in
from gossamer.graph.keeping import unchanged
from gossamer.masks import Mask, Pattern, find_mask
from gossamer.masks.choices import valid_sparsity
from gossamer.masks.coupling import coupling
from gossamer.masks.layers import OUTPUT_LAYER, patterns_of, survey
from gossamer.masks.names import bare_module
from gossamer.masks.patterns import Unit, resolved_pattern
from gossamer.masks.pruning import AnyScore
from gossamer.masks.scores import resolved_score
from gossamer.records.sensitivity import LayerSensitivity, Level, Sensitivity
from gossamer.shrinking.data import Data, read_data
from gossamer.shrinking.split import Batch, mapped
from gossamer.shrinking.task import Loss, Metric, Task, check_task, device_of, outputs_of, task_of
from gossamer.stats.intervals import mean_interval

LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Sparsities at which each layer is tried."""
EXAMPLES = 2000
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Probe:
    """A network that is ready to be looked at, layer by layer.

    Attributes
    ----------
    groups
        The names of the weights that are pruned together, one layer or several.
    """

    network: nn.Module
    task: Task
    batches: tuple[Batch, ...]
    groups: tuple[tuple[str, ...], ...]
    levels: tuple[float, ...]
    choose: Callable[[Sequence[str], float], Mask]
    """From some weights and a sparsity to a mask of these alone."""
    left_alone: dict[str, str]
    values: Tensor
    """The metric of each example before."""
    loss: float
    pattern: str
    seconds: float
    """That one look at all examples takes."""

    @property
    def forecast(self) -> float:
        """Seconds that all layers take, about."""
        return self.seconds * len(self.groups) * len(self.levels)

    def of(self, names: Sequence[str]) -> LayerSensitivity:
        """Return what pruning some weights together does, at each of the levels."""
        found, weights = [], 0
        for asked in self.levels:
            mask = self.choose(names, asked)
            weights = mask.size
            with _pruned(self.network, mask):
                values, loss = _measured(self.network, self.task, self.batches)
            drops = self.task.drop(self.values, values).tolist()
            interval = mean_interval(drops)
            found.append(
                Level(
                    asked=asked,
                    sparsity=mask.sparsity,
                    drop=interval.mean,
                    low=interval.mean if interval.low is None else interval.low,
                    high=interval.mean if interval.high is None else interval.high,
                    loss=loss - self.loss,
                )
            )
        return LayerSensitivity(names=tuple(names), weights=weights, levels=tuple(found))

    def each(self) -> Iterator[LayerSensitivity]:
        """Yield layer after layer."""
        yield from map(self.of, self.groups)


def sensitivity(
    model: nn.Module,
    data: Any,
    *,
    loss: Loss | None = None,
    metric: Metric | None = None,
    higher_is_better: bool | None = None,
    levels: Sequence[float] = LEVELS,
    pattern: str | Pattern = "weight",
    score: AnyScore | None = None,
    exclude: str | Sequence[str] = (),
    examples: int = EXAMPLES,
    seed: int = 0,
) -> Sensitivity:
    """Prune each layer alone, at several sparsities, and measure what the network loses.

    Nothing is trained, and the network stays as it is. Units that go together, such as those that a
    residual sum ties, are one layer here. The same examples are used throughout, so that drops are
    differences of pairs.

    Parameters
    ----------
    model
        A trained network.
    data
        What `gossamer.shrink` takes; a sample of its validation examples is used. It needs no test.
    loss, metric
        Functions of what the network gives for a batch and the targets: the mean loss, and one
        number for each example. Left out, it is classification.
    higher_is_better
        Of the metric; needed with one.
    levels
        Sparsities at which each layer is tried.
    pattern, score, exclude
        As for `gossamer.prune`. Whole units of the output layer, which give the outputs their
        meaning, are never pruned.
    examples
        How many validation examples are used, of each class its share.
    seed
        Decides which.

    Returns
    -------
    Sensitivity
        A drop with its interval and the growth of the loss, for each layer and level.

    Raises
    ------
    InputError
        If data, network and task do not go together, or the network cannot be pruned so.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 50), nn.ReLU(), nn.Linear(50, 2))
    >>> x = torch.randn(100, 4)
    >>> found = sensitivity(model, {"train": (x, (x[:, 0] > 0).long())}, levels=[0.5])
    >>> [(layer.label, layer.weights, layer.levels[0].sparsity) for layer in found.layers]
    [('0', 200, 0.5), ('2', 100, 0.5)]
    """
    task = task_of(loss, metric, higher_is_better=higher_is_better)
    start = time.monotonic()
    read = read_data(data, seed=seed, test=False)
    ready = probe(model, read, task, levels, pattern, score, exclude, examples, seed)
    layers = tuple(ready.each())
    return summary(ready, layers, read, type(model).__name__, seed, time.monotonic() - start)


def probe(
    model: nn.Module,
    data: Data,
    task: Task,
    levels: Sequence[float] = LEVELS,
    pattern: str | Pattern = "weight",
    score: AnyScore | None = None,
    exclude: str | Sequence[str] = (),
    examples: int = EXAMPLES,
    seed: int = 0,
) -> Probe:
    """Make a network ready to be looked at; parameters and errors are those of `sensitivity`."""
    if not levels:
        raise InputError("levels is empty, expected sparsities such as 0.5 and 0.9")
    if examples < 2:
        raise InputError(f"examples is {examples}, expected at least 2")
    check_task(model, data.validation, task, "validation")
    batches = tuple(data.validation.sample(examples, seed).batches(_BATCH))
    root, example = bare_module(model), data.example()
    asked = tuple(sorted({valid_sparsity(one, "a level") for one in levels}))
    kind = resolved_pattern(pattern)
    if kind.run is not None:
        raise InputError(f"the pattern {kind} fixes the sparsity, so there are no levels to try")
    if score is not None and (own := resolved_score(score)).changes_weights:
        raise InputError(
            f"the score {own.called} changes the weights that stay, but here layers are pruned by "
            "masks alone: choose another score"
        )
    chosen = Choosing(root, kind, score, exclude, example, batches, task)
    groups, left = chosen.groups(asked)
    begun = time.monotonic()
    values, loss = _measured(root, task, batches)
    seconds = time.monotonic() - begun
    return Probe(
        root, task, batches, groups, asked, chosen.mask, left, values, loss, str(kind), seconds
    )


class Choosing:
    """Finds the masks of a network, most of them once."""

    def __init__(
        self,
        root: nn.Module,
        pattern: Pattern,
        score: AnyScore | None,
        exclude: str | Sequence[str],
        example: Example,
        batches: Sequence[Batch],
        task: Task,
    ) -> None:
        # What the outputs mean is not to be pruned away.
        own = [OUTPUT_LAYER] if isinstance(pattern, Unit) else []
        exclude = [*patterns_of(exclude, "exclude"), *own]
        self._root, self._pattern, self._exclude, self._example = root, pattern, exclude, example
        self._known: dict[float, Mask] = {}
        self._find = partial(
            find_mask, root, pattern=pattern, score=score, exclude=exclude, example=example,
            batches=batches, loss=task.loss,
        )  # fmt: skip

    def groups(self, levels: Sequence[float]) -> tuple[tuple[tuple[str, ...], ...], dict[str, str]]:
        """Return which weights are pruned together, and why others are not pruned."""
        mask = self._uniform(levels[0])
        if not isinstance(self._pattern, Unit):
            return tuple((name,) for name in mask.weights), mask.left_alone
        structure = Structure(self._root, self._example)
        weights = survey(self._root, structure, self._exclude).weights
        suited = [one for one in weights if not self._pattern.obstacle(one)]
        tied = coupling(self._root, suited, structure, self._exclude)
        names = [one.name for one in tied.layers]
        return tuple(tuple(names[i] for i in group) for group in tied.tied()), mask.left_alone

    def mask(self, names: Sequence[str], sparsity: float) -> Mask:
        """Return the mask of some weights alone."""
        if isinstance(self._pattern, Unit):  # what goes with units is theirs alone only so
            found = self._find(0.0, allocation=dict.fromkeys(names, sparsity))
            return Mask({name: found.weights[name] for name in names}, found.attached)
        return Mask({name: self._uniform(sparsity).weights[name] for name in names})

    def _uniform(self, sparsity: float) -> Mask:
        if sparsity not in self._known:
            self._known[sparsity] = self._find(sparsity, allocation="uniform")
        return self._known[sparsity]


def summary(
    ready: Probe,
    layers: Sequence[LayerSensitivity],
    data: Data,
    model: str,
    seed: int,
    seconds: float,
) -> Sensitivity:
    """Return what was found of the layers so far."""
    return Sensitivity(
        model=model,
        data=data.name,
        task=ready.task.name,
        higher_is_better=ready.task.higher_is_better,
        is_share=ready.task.is_binary,
        pattern=ready.pattern,
        before=float(ready.values.mean()),
        loss=ready.loss,
        examples=len(ready.values),
        seed=seed,
        layers=tuple(layers),
        left_alone=ready.left_alone,
        notes=data.notes,
        seconds=seconds,
        finished=len(layers) == len(ready.groups),
    )


def _measured(network: nn.Module, task: Task, batches: Sequence[Batch]) -> tuple[Tensor, float]:
    """Return the metric of each example, ``[examples]``, and the mean loss."""
    where, values, total = device_of(network), [], 0.0
    with unchanged(network), torch.no_grad():
        network.eval()
        for inputs, given in batches:
            targets = mapped(given, lambda one: one.to(where))
            outputs, count = outputs_of(network, inputs, where), len(tensors_in(given)[0])
            values.append(task.values(outputs, targets, count))
            total += count * float(task.loss(outputs, targets))
    found = torch.cat(values)
    return found, total / len(found)


@contextmanager
def _pruned(network: nn.Module, mask: Mask) -> Iterator[None]:
    """Set what a mask prunes to zero for a while."""
    before = [(one, one.detach().clone()) for one, _ in mask.placed(network).values()]
    try:
        mask.apply(network)
        yield
    finally:
        with torch.no_grad():
            for parameter, values in before:
                parameter.copy_(values)
