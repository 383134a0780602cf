"""How long a search takes, from a few of its parts."""

import math
import time
from dataclasses import dataclass

from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.shrinking.allocating import LEVELS
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import MOST, Ground, costs_of, count_of
from gossamer.shrinking.fine_tuning import Lesson
from gossamer.shrinking.layer_times import kinds_of, kinds_timed
from gossamer.shrinking.options import Options
from gossamer.shrinking.piloting import can_tell_allocations
from gossamer.shrinking.unit_layers import MOST_GROUPS, UNIT_LEVELS
from gossamer.shrinking.ways import (
    LAYER_SECONDS,
    layers_of,
    sensitivity_examples,
    ways_expected,
)

_USED = 0.5
"""Share of the epochs and candidates that a search uses before it ends, about."""
_TIMINGS = 3
"""Of each way down, to find how deep it lies at the speed at which all are tried."""
_STARTS_TRIED = 2
_A_LOOK = 0.01
_TABLES_SECONDS = 5.0
_TABLES_SHARE = 0.4
"""Of the time of fine-tuning, and of all that is left, that timing layers may take."""
_WRITING_SECONDS = 8.0
_COMPARED, _COMPARED_BY_CLASS = 15.0, 3.0
"""How many times as long as looking at examples once it takes to hold the network to them: where
bounds are taken of all examples, and where they are of those alone that could get another class."""


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a search take, about."""

    layers: float
    """Of measuring how sensitive layers are."""
    tables: float
    """Of timing each of them."""
    ways: float
    """Of timing the ways down, and finding where to begin."""
    epoch: float
    """Of fine-tuning."""
    candidate: float
    """Of finding its mask, timing and testing it."""
    final: float
    """Of timing what was chosen and writing it."""
    most: int = MOST
    """Candidates, if none of them breaks the budget."""

    def times_layers(self, options: Options, left: float = math.inf) -> bool:
        """Return whether layers are timed: where training, and the time, is long beside it."""
        training = options.epochs * self.epoch
        few = self.tables <= max(_TABLES_SECONDS, _TABLES_SHARE * training)
        return few and self.tables <= _TABLES_SHARE * (left - self.final)

    def planning(self, options: Options, left: float = math.inf) -> float:
        """Return the seconds until the way down is settled, beside training."""
        tables = self.tables if self.times_layers(options, left) else 0.0
        return self.layers + tables + self.ways

    def least(self, options: Options, left: float = math.inf) -> float:
        """Return the seconds of a search that ends with its first candidate, about."""
        return self.planning(options, left) + self.epoch + self.candidate + self.final

    def forecast(self, options: Options) -> float:
        """Return the seconds of a search that ends where most do."""
        descent = options.epochs * self.epoch + self.most * self.candidate
        return self.planning(options) + _USED * descent + self.final


def pace_of(
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    meter: Meter,
    looking: float,
    comparing: float,
    seconds: float,
    an_epoch: float,
) -> Pace:
    """Return how fast a search will be.

    Parameters
    ----------
    dense, learnt, ground, meter
        What it works with.
    looking
        Seconds that the network takes for all validation examples.
    comparing
        The same for the examples on which the deployed network is held to the masked one.
    seconds
        For timing what was chosen, for each batch size.
    an_epoch
        Seconds of fine-tuning; see `gossamer.shrinking.precision`.
    """
    network = plain_copy(dense).cpu().eval()
    meter.speed_up(network)  # the first one sets up what later ones find
    started = time.perf_counter()
    meter.speed_up(network)
    timing = time.perf_counter() - started
    started = time.perf_counter()
    meter.seconds_of([network], _A_LOOK)  # a busy machine would make that a part of `timing`
    compressing = time.perf_counter() - started
    candidate = timing + looking
    an_example = looking / ground.judged_on
    own = learnt.train is not None
    times = _COMPARED_BY_CLASS if learnt.task.is_classification else _COMPARED
    final = 3 * candidate + times * comparing + 3 * seconds + _WRITING_SECONDS
    most = count_of(ground.options.epochs, learnt.steps, whole=own)
    names = layers_of(network, ground)
    kinds, ways, by_units = ways_expected(
        ground.options, usual=can_tell_allocations(ground.options.epochs, learnt)
    )
    latency = ground.options.target == "latency"
    units = min(len(names), MOST_GROUPS) if latency and by_units else 0
    looks = kinds * len(names) * len(LEVELS) + units * len(UNIT_LEVELS)
    each = compressing + LAYER_SECONDS / len(LEVELS)
    costs = costs_of(network, names, ground.few, ground.options.target)
    timed = kinds * kinds_timed(kinds_of(network, costs), costs) * (1 + len(LEVELS))
    return Pace(
        layers=looks * sensitivity_examples(len(names), ground) * an_example,
        tables=(timed + units * (1 + len(UNIT_LEVELS))) * each if latency else 0.0,
        ways=(_TIMINGS * ways + _STARTS_TRIED) * timing,
        epoch=an_epoch,
        candidate=candidate,
        final=final,
        most=most,
    )
