"""What is settled before validation data is looked at: the pattern, the way down, the time."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import InputError
from gossamer.masks import Mask, find_mask
from gossamer.measures.functional.modes import evaluation
from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.allocating import tolerances
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import Ground, Rung, ladder, mask_of, resolved, weighted
from gossamer.shrinking.fine_tuning import (
    Lesson,
    Pulse,
    distance,
    fine_tune,
    learnt_outputs,
    train_epochs,
)
from gossamer.shrinking.options import Options
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import outputs_of

Follow = Callable[[str], None]
"""Told what is done next, in words."""

_TIMED = (1, 4, 7)
"""Which candidates of each pattern are timed before any is trained."""
_HELPS = 1.1
"""Speed-up below which a smaller network is not worth its drop."""
_SENSITIVITY_EXAMPLES = 1024
_PILOT_SHARE = 0.15
"""Share of the epochs that is spent on choosing among patterns."""


@dataclass(frozen=True)
class Plan:
    """The way down, and why it was chosen."""

    pattern: str
    rungs: tuple[Rung, ...]
    epochs: int
    """Of fine-tuning, for each candidate."""
    tolerances: tuple[Tolerance, ...]
    reason: str
    spent: float = 0.0
    """Epochs that choosing the pattern took."""
    helps: bool = True
    """Whether any candidate was faster at all."""

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as JSON has it."""
        return {
            "pattern": self.pattern,
            "rungs": [[r.pattern, r.sparsity, dict(r.shares)] for r in self.rungs],
            "epochs": self.epochs,
            "tolerances": [one.model_dump(mode="json") for one in self.tolerances],
            "reason": self.reason,
            "spent": self.spent,
            "helps": self.helps,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Plan":
        """Return what `to_dict` gave."""
        return cls(
            told["pattern"],
            tuple(Rung(*each) for each in told["rungs"]),
            told["epochs"],
            tuple(Tolerance.model_validate(one) for one in told["tolerances"]),
            told["reason"],
            told["spent"],
            told["helps"],
        )


def plan(
    dense: nn.Module, learnt: Lesson, ground: Ground, meter: Meter, pulse: Pulse, follow: Follow
) -> Plan:
    """Settle the pattern and the candidates, by sensitivity, times and training data alone.

    Raises
    ------
    InputError
        If a pattern that was asked for does not suit the network.
    """
    options = ground.options
    some = ground.split.sample(_SENSITIVITY_EXAMPLES, options.seed)
    ways: dict[str, tuple[Rung, ...]] = {}
    found: dict[str, tuple[Tolerance, ...]] = {}
    follow("measuring how sensitive each layer is")
    for name in _asked(options):
        try:
            found[name] = _tolerances(name, dense, ground, some, found)
            layers = weighted(dense, found[name], ground.example, options.target)
            sizes = {n: one.numel() for n, one in dense.named_parameters()}
            ways[name] = ladder(name, layers, sizes)
            mask_of(ways[name][0], dense, None, ground)
        except InputError:
            if options.pattern != "auto":
                raise
            ways.pop(name, None)
    if not ways:
        raise InputError(
            f"{type(dense).__name__} has nothing that can be pruned: see `gossamer.prune`"
        )
    follow("timing patterns before anything is trained")
    speeds = {name: _speeds(way, dense, ground, meter) for name, way in ways.items()}
    best = {name: max(values) for name, values in speeds.items()}
    shown = ", ".join(f"{name} {value:.1f}x" for name, value in best.items())
    helping = [name for name in ways if best[name] >= _HELPS]
    epochs = max(1, options.epochs // len(next(iter(ways.values()))))
    if not helping:
        name = max(best, key=lambda one: best[one])
        reason = f"nothing that was pruned before training was faster than the network ({shown})"
        return Plan(name, ways[name], epochs, found[name], reason, helps=False)
    if len(helping) == 1:
        only = helping[0]
        return Plan(only, ways[only], epochs, found[only], f"fastest before training: {shown}")
    chosen, reason, spent = _piloted(helping, ways, speeds, dense, learnt, ground, pulse, follow)
    left = max(1, (options.epochs - round(spent)) // len(ways[chosen]))
    return Plan(chosen, ways[chosen], left, found[chosen], reason, spent)


def _asked(options: Options) -> tuple[str, ...]:
    if options.pattern != "auto":
        return (options.pattern,)
    return ("weight", "block", "unit", "unit+weight")


def _tolerances(
    name: str,
    dense: nn.Module,
    ground: Ground,
    some: Split,
    known: Mapping[str, tuple[Tolerance, ...]],
) -> tuple[Tolerance, ...]:
    """Return how layers answer to a pattern; whole units are ranked across layers by their own."""
    kind = "block" if name == "block" else "weight"
    if kind in known:
        return known[kind]
    exclude = list(ground.options.exclude)
    example = ground.example[:2]
    return tolerances(dense, some, ground.task, resolved(kind), example, exclude)


def _speeds(way: Sequence[Rung], dense: nn.Module, ground: Ground, meter: Meter) -> list[float]:
    """Return the speed-ups of the candidates, some of them timed and the others interpolated."""
    timed = [at for at in _TIMED if at < len(way)] or [len(way) - 1]
    logs = []
    for at in timed:
        network = plain_copy(dense)
        _masked_to(network, way, at, ground)
        _, speed_up = meter.speed_up(network.cpu().eval())
        logs.append(np.log(speed_up))
    at_all = np.arange(len(way))
    slope = (logs[-1] - logs[0]) / (timed[-1] - timed[0]) if len(timed) > 1 else 0.0
    found = np.interp(at_all, timed, logs)
    found[: timed[0]] += slope * (at_all[: timed[0]] - timed[0])
    found[timed[-1] + 1 :] += slope * (at_all[timed[-1] + 1 :] - timed[-1])
    return [float(one) for one in np.exp(found)]


def _masked_to(network: nn.Module, way: Sequence[Rung], at: int, ground: Ground) -> Mask:
    """Prune a network at once as a candidate is, with what goes before it in another pattern."""
    mask = None
    before = [rung for rung in way[: at + 1] if rung.pattern != way[at].pattern]
    for rung in (*before[-1:], way[at]):
        mask = mask_of(rung, network, mask, ground)
        mask.apply(network)
    assert mask is not None
    return mask


def _piloted(
    names: Sequence[str],
    ways: Mapping[str, tuple[Rung, ...]],
    speeds: Mapping[str, Sequence[float]],
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    pulse: Pulse,
    follow: Follow,
) -> tuple[str, str, float]:
    """Train one candidate of each pattern a little, all about as fast, and take the nearest."""
    options = ground.options
    epochs = max(1, round(_PILOT_SHARE * options.epochs / len(names)))
    middle = {name: speeds[name][len(speeds[name]) // 2] for name in names}
    wanted = max(middle.values())
    able = [name for name in names if max(speeds[name]) >= wanted]
    some = ground.split.sample(2 * _SENSITIVITY_EXAMPLES, options.seed + 1)
    far: dict[str, float] = {}
    for name in able if len(able) > 1 else ():
        follow(f"trying the pattern {name} at {wanted:.1f} times the speed")
        at = next(i for i, speed in enumerate(speeds[name]) if speed >= wanted)
        network = plain_copy(dense)
        mask = _masked_to(network, ways[name], at, ground)
        fine_tune(network, mask, learnt, epochs, 1000 + names.index(name), pulse)
        far[name] = distance_from(dense, network, some, learnt)
    if not far:
        return able[0], f"no other pattern reaches {wanted:.1f} times the speed", 0.0
    chosen = min(far, key=lambda name: far[name])
    told = ", ".join(f"{name} {value:.3g}" for name, value in far.items())
    reason = (
        f"nearest to the dense network at {wanted:.1f} times its speed, after as much training "
        f"(distance: {told})"
    )
    return chosen, reason, float(epochs * len(far))


def distance_from(dense: nn.Module, network: nn.Module, some: Split, learnt: Lesson) -> float:
    """Return how far a network's outputs are from the dense one's, on some examples."""
    parts = []
    with torch.no_grad(), evaluation(dense), evaluation(network):
        for inputs, _ in some.batches(512):
            given, wanted = (
                learnt_outputs(learnt.task, outputs_of(one, inputs)) for one in (network, dense)
            )
            parts.append(float(distance(learnt.task, given, wanted)))
    return float(np.mean(parts))


def epoch_seconds(dense: nn.Module, learnt: Lesson, ground: Ground) -> float:
    """Return about how long an epoch of fine-tuning takes, from a few of its steps."""
    network = plain_copy(dense)
    mask = find_mask(network, 0.0, allocation="uniform", exclude=list(ground.options.exclude))
    size = ground.options.train_batch
    steps = min(learnt.steps, 12)
    positions = torch.arange(min(len(learnt.split), steps * size))
    answers = learnt.answers
    part = Lesson(
        learnt.split.subset(positions),
        learnt.task,
        learnt.teacher,
        learnt.options,
        None if answers is None else tuple(one[: len(positions)] for one in answers),
    )
    network.train()
    started = time.perf_counter()
    train_epochs(network, mask, part, 1, 0, lambda _: None)
    return (time.perf_counter() - started) * learnt.steps / part.steps
