"""Short trainings that settle the learning rate and the way down, before any candidate is made."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import TrainingError
from gossamer.core.formats import epochs_in_words
from gossamer.masks import Mask
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import LEAST_STEPS, MOST, Ground, Way, mask_of
from gossamer.shrinking.fine_tuning import Lesson, Pulse, distance_from, fine_tune
from gossamer.shrinking.options import DEFAULT_RATE

Follow = Callable[[str], None]
"""Told what is done next, in words."""

PILOT_EXAMPLES = 2048
_TIMED = (3, 8)
"""Depths at which candidates of each way are timed before any is trained."""
_WANTED = 7
"""How deep the way in the middle lies at the speed at which all are tried."""
_PILOT_SHARE = 0.2
"""Share of the epochs that is spent on choosing among ways."""
_MOST_STEPS = 250
"""Of the optimizer, that a short training takes: more of them tell nothing that these do not."""
_PILOT_STEPS = 25
"""Of the optimizer, for each of several ways, below which only patterns are told apart."""
_MOST_WAYS = 9
_RATES = (DEFAULT_RATE, 3e-3, 3e-4, 1e-4)
_RATE_SHARE = 0.02
"""Share of the epochs that is spent on each of them."""
_RATE_DEPTH = 4
"""How deep the candidate lies with which they are tried."""
_CLEARLY = 0.95
"""What the distance must be less than, over that of the usual rate."""


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
    each = min(_RATE_SHARE * epochs, _MOST_STEPS / learnt.steps)
    if ground.options.rate is not None or learnt.train is not None:
        return learnt.rate, 0.0
    if each * learnt.steps < LEAST_STEPS:
        return learnt.rate, 0.0
    some = ground.split.sample(PILOT_EXAMPLES, ground.options.seed + 2)
    far: dict[float, float] = {}
    for number, rate in enumerate(_RATES):
        follow(f"trying a learning rate of {rate:g}")
        network = plain_copy(dense)
        mask = masked_to(network, way, _RATE_DEPTH, ground)
        try:
            fine_tune(network, mask, replace(learnt, rate=rate), each, 900 + number, pulse)
        except TrainingError:
            continue
        far[rate] = distance_from(dense, network, some, learnt.task)
    best = min(far, key=lambda rate: far[rate], default=DEFAULT_RATE)
    usual = far.get(DEFAULT_RATE, math.inf)
    clearly = far.get(best, math.inf) < _CLEARLY * usual
    return best if clearly else DEFAULT_RATE, each * len(_RATES)


@dataclass(frozen=True)
class Speed:
    """How the speed-up of a way grows with depth: by the same factor a step, about."""

    log_at_0: float
    log_a_step: float

    @classmethod
    def of(cls, way: Way, dense: nn.Module, ground: Ground, meter: Meter, pulse: Pulse) -> "Speed":
        """Time two candidates of a way, before they are trained."""
        first, second = (timed_at(way, depth, dense, ground, meter, pulse) for depth in _TIMED)
        step = max(0.0, (second - first) / (_TIMED[1] - _TIMED[0]))
        return cls(first - step * _TIMED[0], step)

    def through(self, depth: float, log: float) -> "Speed":
        """Return the same growth through what was timed at a depth."""
        return replace(self, log_at_0=log - self.log_a_step * depth)

    def at(self, depth: float) -> float:
        """Return the speed-up at a depth."""
        return math.exp(self.log_at_0 + self.log_a_step * depth)

    def depth(self, speed_up: float) -> float:
        """Return the depth at which a speed-up is reached; infinite where none is."""
        missing = math.log(speed_up) - self.log_at_0
        if missing <= 0:
            return 0.0
        return missing / self.log_a_step if self.log_a_step else math.inf


def timed_at(
    way: Way, depth: float, dense: nn.Module, ground: Ground, meter: Meter, pulse: Pulse
) -> float:
    """Return the logarithm of the speed-up of a candidate that is not trained."""
    pulse(0.0)
    network = plain_copy(dense)
    masked_to(network, way, depth, ground)
    return math.log(meter.speed_up(network.cpu().eval())[1])


def masked_to(network: nn.Module, way: Way, depth: float, ground: Ground) -> Mask:
    """Prune a network at once as a candidate is."""
    mask = ground.given
    for rung in way.at_once(depth):
        mask = mask_of(rung, network, mask, ground)
        mask.apply(network)
    assert mask is not None
    return mask


def piloted(
    ways: Mapping[str, Way],
    speeds: Mapping[str, Speed],
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    meter: Meter,
    epochs: float,
    pulse: Pulse,
    follow: Follow,
) -> tuple[str, str, float]:
    """Train one candidate of each way a little, all about as fast, and take the nearest.

    Returns
    -------
    tuple
        The name of the way, why it was taken, and how many epochs that took.
    """
    each = pilot_epochs(epochs, len(ways), learnt)
    # A way that is fast because it keeps little must not pass untried, for want of others there.
    wanted = sorted(speeds[name].at(_WANTED) for name in ways)[(len(ways) - 1) // 2]
    deep: dict[str, float] = {}
    for name, way in ways.items():
        guess = min(speeds[name].depth(wanted), float(MOST - 1))
        log = timed_at(way, guess, dense, ground, meter, pulse)
        found = speeds[name].through(guess, log).depth(wanted)
        if found <= MOST - 1:
            deep[name] = found
    if not deep:  # none was as fast as had been foretold
        deep = {max(ways, key=lambda name: speeds[name].at(MOST - 1)): 0.0}
    if len(deep) == 1:
        return next(iter(deep)), f"no other reaches {wanted:.1f} times the speed", 0.0
    some = ground.split.sample(PILOT_EXAMPLES, ground.options.seed + 1)
    far: dict[str, float] = {}
    for number, (name, depth) in enumerate(deep.items()):
        follow(f"trying {name} at {wanted:.1f} times the speed, {epochs_in_words(each)}")
        network = plain_copy(dense)
        mask = masked_to(network, ways[name], depth, ground)
        fine_tune(network, mask, learnt, each, 1000 + number, pulse)
        far[name] = distance_from(dense, network, some, learnt.task)
    told = ", ".join(f"{name} {value:.3g}" for name, value in far.items())
    reason = (
        f"nearest to the dense network at {wanted:.1f} times its speed, after as much training "
        f"(distance: {told})"
    )
    # The first way goes down most evenly, and stays unless another is clearly better.
    first, best = next(iter(far)), min(far, key=lambda name: far[name])
    return best if far[best] < _CLEARLY * far[first] else first, reason, each * len(far)


def can_tell_allocations(epochs: float, learnt: Lesson) -> bool:
    """Return whether there are epochs enough to try the usual allocations beside the patterns."""
    if learnt.train is not None:
        return _PILOT_SHARE * epochs / _MOST_WAYS >= 1
    return _PILOT_SHARE * epochs * learnt.steps / _MOST_WAYS >= _PILOT_STEPS


def pilot_epochs(epochs: float, count: int, learnt: Lesson) -> float:
    """Return for how long each of some ways is tried, never for half of all epochs in all."""
    share = _PILOT_SHARE * epochs / count
    if learnt.train is not None:
        return float(max(1, round(share)))
    share = min(share, _MOST_STEPS / learnt.steps)
    return max(share, min(LEAST_STEPS / learnt.steps, epochs / (2 * count)))
