"""What is settled before validation data is looked at: the pattern, the way down, the time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import InputError, TrainingError
from gossamer.core.formats import epochs_in_words
from gossamer.masks import Mask
from gossamer.measures.functional.modes import evaluation
from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.allocating import tolerances
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import (
    LEAST_STEPS,
    MOST,
    Ground,
    Rung,
    Way,
    count_of,
    depths,
    mask_of,
    resolved,
    shared_out,
    weighted,
)
from gossamer.shrinking.fine_tuning import (
    Lesson,
    Pulse,
    distance,
    estimate_statistics,
    fine_tune,
    learnt_outputs,
)
from gossamer.shrinking.options import DEFAULT_RATE, Options
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import evaluate, outputs_of

Follow = Callable[[str], None]
"""Told what is done next, in words."""

_TIMED = (2, 7)
"""Depths at which candidates of each pattern are timed before any is trained."""
_HELPS = 1.1
"""Speed-up below which a smaller network is not worth its drop."""
_SENSITIVITY_EXAMPLES = 1024
_PILOT_SHARE = 0.15
"""Share of the epochs that is spent on choosing among patterns."""
_RATES = (DEFAULT_RATE, 3e-3, 3e-4, 1e-4)
_RATE_SHARE = 0.02
"""Share of the epochs that is spent on each of them."""
_RATE_DEPTH = 4
"""How deep the candidate lies with which they are tried."""
_CLEARLY = 0.95
"""What the distance must be less than, over that of the usual rate."""


@dataclass(frozen=True)
class Plan:
    """The way down, and why it was chosen."""

    pattern: str
    rungs: tuple[Rung, ...]
    epochs: tuple[float, ...]
    """Of fine-tuning, of each candidate."""
    tolerances: tuple[Tolerance, ...]
    reason: str
    spent: float = 0.0
    """Epochs that choosing the pattern took."""
    helps: bool = True
    """Whether any candidate was faster at all."""
    rate: float = DEFAULT_RATE
    """Of Adam, for fine-tuning."""

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as JSON has it."""
        return {
            "pattern": self.pattern,
            "rungs": [[r.pattern, r.sparsity, dict(r.shares)] for r in self.rungs],
            "epochs": list(self.epochs),
            "tolerances": [one.model_dump(mode="json") for one in self.tolerances],
            "reason": self.reason,
            "spent": self.spent,
            "helps": self.helps,
            "rate": self.rate,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Plan":
        """Return what `to_dict` gave."""
        return cls(
            told["pattern"],
            tuple(Rung(*each) for each in told["rungs"]),
            tuple(told["epochs"]),
            tuple(Tolerance.model_validate(one) for one in told["tolerances"]),
            told["reason"],
            told["spent"],
            told["helps"],
            told.get("rate", DEFAULT_RATE),
        )


def plan(
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    meter: Meter,
    epochs: float,
    pulse: Pulse,
    follow: Follow,
) -> Plan:
    """Settle rate, pattern and candidates, by sensitivity, times and training data alone.

    Parameters
    ----------
    dense, learnt, ground, meter
        What the search works with.
    epochs
        Of fine-tuning, of which the planning takes its share.
    pulse, follow
        See `Pulse` and `Follow`.

    Raises
    ------
    InputError
        If a pattern that was asked for does not suit the network.
    """
    follow("measuring how sensitive each layer is")
    ways, found = _ways(dense, ground, pulse)
    follow("timing patterns before anything is trained")
    speeds = {name: _Speed.of(way, dense, ground, meter, pulse) for name, way in ways.items()}
    best = {name: speed.at(MOST - 1) for name, speed in speeds.items()}
    shown = ", ".join(f"{name} {value:.1f} times" for name, value in best.items())
    helping = [name for name in ways if best[name] >= _HELPS]
    rate, spent = learnt.rate, 0.0
    if helping:
        rate, spent = tried_rate(ways[helping[0]], dense, learnt, ground, epochs, pulse, follow)
        learnt = replace(learnt, rate=rate)
    if not helping:
        chosen = max(best, key=lambda one: best[one])
        reason = f"nothing that was pruned before training was faster than the network ({shown})"
    elif len(helping) == 1:
        chosen, reason = helping[0], f"before training its sparsest candidate is: {shown}"
    else:
        able = {name: ways[name] for name in helping}
        chosen, reason, more = _piloted(able, speeds, dense, learnt, ground, epochs, pulse, follow)
        spent += more
    whole = learnt.train is not None
    left = max(1.0, epochs - spent) if whole else max(0.1 * epochs, epochs - spent)
    start = _start(ways[chosen], dense, ground, pulse)
    count = count_of(left, learnt.steps, whole=whole)
    found_rungs = [ways[chosen].rung(start + depth) for depth in depths(count)]
    # Where nothing more can go candidates would be the same.
    rungs = tuple(r for i, r in enumerate(found_rungs) if not i or r != found_rungs[i - 1])
    return Plan(
        pattern=chosen,
        rungs=rungs,
        epochs=shared_out(left, len(rungs), whole=whole),
        tolerances=found[chosen],
        reason=reason,
        spent=spent,
        helps=bool(helping),
        rate=rate,
    )


def tried_rate(
    way: Way,
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    epochs: float,
    pulse: Pulse,
    follow: Follow,
) -> tuple[float, float]:
    """Return the learning rate that brings a sparse network nearest to the dense one, and epochs.

    One candidate is trained a little with each. None is tried where the rate was given, the
    training is one's own, or there are too few steps to tell rates apart. The usual one stays
    unless another is clearly better.
    """
    each = _RATE_SHARE * epochs
    if ground.options.rate is not None or learnt.train is not None:
        return learnt.rate, 0.0
    if each * learnt.steps < LEAST_STEPS:
        return learnt.rate, 0.0
    some = ground.split.sample(2 * _SENSITIVITY_EXAMPLES, ground.options.seed + 2)
    far: dict[float, float] = {}
    for number, rate in enumerate(_RATES):
        follow(f"trying a learning rate of {rate:g}")
        network = plain_copy(dense)
        mask = _masked_to(network, way, _RATE_DEPTH, ground)
        try:
            fine_tune(network, mask, replace(learnt, rate=rate), each, 900 + number, pulse)
        except TrainingError:
            continue
        far[rate] = distance_from(dense, network, some, learnt)
    best = min(far, key=lambda rate: far[rate], default=DEFAULT_RATE)
    usual = far.get(DEFAULT_RATE, math.inf)
    clearly = far.get(best, math.inf) < _CLEARLY * usual
    return best if clearly else DEFAULT_RATE, each * len(_RATES)


def _start(way: Way, dense: nn.Module, ground: Ground, pulse: Pulse) -> float:
    """Return the depth down to which nothing has to be learnt anew, for the first candidate.

    There the network loses less than half of the budget on training examples when it is pruned at
    once and not trained at all, and as many examples as it is judged on would show that it keeps
    the budget.
    """
    some = ground.split.sample(2 * _SENSITIVITY_EXAMPLES, ground.options.seed)
    before = evaluate(dense, some, ground.task)
    found = 0.0
    for depth in range(1, way.deepest_start + 1):
        pulse(0.0)
        network = plain_copy(dense)
        _masked_to(network, way, depth, ground)
        estimate_statistics(network, ground.split, ground.options.seed, 2000)
        drops = ground.task.drop(before, evaluate(network, some, ground.task))
        if not is_safe(drops, ground):
            break
        found = float(depth)
    return found


def is_safe(drops: Tensor, ground: Ground) -> bool:
    """Return whether such drops of training examples leave room for what few examples show."""
    drop = float(drops.mean())
    error = float(drops.std(correction=0)) / math.sqrt(ground.judged_on)
    reach = float(special.ndtri(ground.options.confidence))
    return drop <= ground.may_lose / 2 and drop + reach * error <= ground.may_lose


def _ways(
    dense: nn.Module, ground: Ground, pulse: Pulse
) -> tuple[dict[str, Way], dict[str, tuple[Tolerance, ...]]]:
    """Return the ways of the patterns that suit the network, and how sensitive its layers are."""
    options = ground.options
    some = ground.split.sample(_SENSITIVITY_EXAMPLES, options.seed)
    sizes = {name: one.numel() for name, one in dense.named_parameters()}
    ways: dict[str, Way] = {}
    found: dict[str, tuple[Tolerance, ...]] = {}
    for name in _asked(options):
        try:
            pulse(0.0)
            found[name] = _tolerances(name, dense, ground, some, found)
            layers = weighted(dense, found[name], ground.example, options.target)
            way = Way(name, layers, sizes)
            mask_of(way.rung(0), dense, None, ground)
        except InputError:
            if options.pattern != "auto":
                raise
        else:
            ways[name] = way
    if not ways:
        raise InputError(
            f"{type(dense).__name__} has nothing that can be pruned: see `gossamer.prune`"
        )
    return ways, found


def _asked(options: Options) -> tuple[str, ...]:
    if options.pattern != "auto":
        return (options.pattern,)
    if options.keep_units_multiple_of > 1:
        return ("unit",)
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
    return tolerances(dense, some, ground.task, resolved(kind), ground.few, exclude)


@dataclass(frozen=True)
class _Speed:
    """How the speed-up of a way grows with depth: by the same factor a step."""

    log_at_0: float
    log_a_step: float

    @classmethod
    def of(cls, way: Way, dense: nn.Module, ground: Ground, meter: Meter, pulse: Pulse) -> "_Speed":
        """Time two candidates of a way, before they are trained."""
        logs = []
        for depth in _TIMED:
            pulse(0.0)
            network = plain_copy(dense)
            _masked_to(network, way, depth, ground)
            logs.append(math.log(meter.speed_up(network.cpu().eval())[1]))
        step = max(0.0, (logs[1] - logs[0]) / (_TIMED[1] - _TIMED[0]))
        return cls(logs[0] - step * _TIMED[0], step)

    def at(self, depth: float) -> float:
        """Return the speed-up at a depth."""
        return math.exp(self.log_at_0 + self.log_a_step * depth)

    def depth(self, speed_up: float) -> float:
        """Return the depth at which a speed-up is reached; infinite where none is."""
        missing = math.log(speed_up) - self.log_at_0
        if missing <= 0:
            return 0.0
        return missing / self.log_a_step if self.log_a_step else math.inf


def _masked_to(network: nn.Module, way: Way, depth: float, ground: Ground) -> Mask:
    """Prune a network at once as a candidate is."""
    mask = ground.given
    for rung in way.at_once(depth):
        mask = mask_of(rung, network, mask, ground)
        mask.apply(network)
    assert mask is not None
    return mask


def _piloted(
    ways: Mapping[str, Way],
    speeds: Mapping[str, _Speed],
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    epochs: float,
    pulse: Pulse,
    follow: Follow,
) -> tuple[str, str, float]:
    """Train one candidate of each pattern a little, all about as fast, and take the nearest."""
    options = ground.options
    each = _pilot_epochs(epochs, len(ways), learnt)
    wanted = max(speeds[name].at(MOST / 2) for name in ways)
    deep = {name: speeds[name].depth(wanted) for name in ways}
    able = [name for name in ways if deep[name] <= MOST - 1]
    if len(able) == 1:
        return able[0], f"no other pattern reaches {wanted:.1f} times the speed", 0.0
    some = ground.split.sample(2 * _SENSITIVITY_EXAMPLES, options.seed + 1)
    far: dict[str, float] = {}
    for number, name in enumerate(able):
        follow(f"trying {name} at {wanted:.1f} times the speed, {epochs_in_words(each)}")
        network = plain_copy(dense)
        mask = _masked_to(network, ways[name], deep[name], ground)
        fine_tune(network, mask, learnt, each, 1000 + number, pulse)
        far[name] = distance_from(dense, network, some, learnt)
    told = ", ".join(f"{name} {value:.3g}" for name, value in far.items())
    reason = (
        f"nearest to the dense network at {wanted:.1f} times its speed, after as much training "
        f"(distance: {told})"
    )
    return min(far, key=lambda name: far[name]), reason, each * len(far)


def _pilot_epochs(epochs: float, count: int, learnt: Lesson) -> float:
    """Return for how long each of some patterns is tried, never for half of all epochs in all."""
    share = _PILOT_SHARE * epochs / count
    if learnt.train is not None:
        return float(max(1, round(share)))
    if share >= 1:
        return float(round(share))
    return max(share, min(LEAST_STEPS / learnt.steps, epochs / (2 * count)))


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
