"""How long a search takes, from a few of its parts."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.masks import find_mask
from gossamer.shrinking.allocating import LEVELS
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import MOST, Ground, count_of
from gossamer.shrinking.fine_tuning import Lesson, train_epochs
from gossamer.shrinking.layer_times import MOST_LAYERS
from gossamer.shrinking.piloting import can_tell_allocations
from gossamer.shrinking.ways import layers_of, sensitivity_examples, ways_expected

_USED = 0.5
"""Share of the epochs and candidates that a search uses before it ends, about."""
_TIMINGS = 3
"""Of each way down, to find how deep it lies at the speed at which all are tried."""
_STARTS_TRIED = 2
_WRITING_SECONDS = 8.0
_COMPARED = 15.0
"""How many times as long as looking at examples once it takes to hold the network to them."""


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a search take, about."""

    planning: float
    """Until the way down is settled, beside training."""
    epoch: float
    """Of fine-tuning."""
    candidate: float
    """Of finding its mask, timing and testing it."""
    final: float
    """Of timing what was chosen and writing it."""
    most: int = MOST
    """Candidates, if none of them breaks the budget."""

    @property
    def least(self) -> float:
        """The seconds of a search that ends with its first candidate, about."""
        return self.planning + self.epoch + self.candidate + self.final

    def forecast(self, epochs: float) -> float:
        """Return the seconds of a search with so many epochs that ends where most do."""
        descent = epochs * self.epoch + self.most * self.candidate
        return self.planning + _USED * descent + self.final


def pace_of(
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    meter: Meter,
    looking: float,
    comparing: float,
    seconds: float,
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
    """
    network = plain_copy(dense).cpu().eval()
    meter.speed_up(network)  # the first one sets up what later ones find
    started = time.perf_counter()
    meter.speed_up(network)
    timing = time.perf_counter() - started
    candidate = timing + looking
    an_example = looking / ground.judged_on
    own = learnt.train is not None
    an_epoch = 0.0 if own else epoch_seconds(dense, learnt, ground)
    final = 3 * candidate + _COMPARED * comparing + 3 * seconds + _WRITING_SECONDS
    most = count_of(ground.options.epochs, learnt.steps, whole=own)
    planning = _planning_seconds(network, learnt, ground, timing, an_example)
    return Pace(planning, an_epoch, candidate, final, most)


def _planning_seconds(
    network: nn.Module, learnt: Lesson, ground: Ground, timing: float, an_example: float
) -> float:
    """Return how long it takes to measure the layers, to time the ways, and to find the start."""
    options, layers = ground.options, layers_of(network, ground)
    usual = can_tell_allocations(options.epochs, learnt)
    kinds, ways = ways_expected(options, usual=usual)
    sensitivity = len(layers) * len(LEVELS) * sensitivity_examples(len(layers), ground) * an_example
    tables = 0.0
    if options.target == "latency":
        tables = min(len(layers), MOST_LAYERS) * (1 + len(LEVELS)) * timing
    return kinds * (sensitivity + tables) + (_TIMINGS * ways + _STARTS_TRIED) * timing


_SAMPLED_STEPS = 8
_SAMPLES = 3


def epoch_seconds(dense: nn.Module, learnt: Lesson, ground: Ground) -> float:
    """Return about how long an epoch of fine-tuning takes, from a few of its steps.

    The first steps, which set up memory and threads, do not count; of a few samples the middle one
    does.
    """
    network = plain_copy(dense)
    exclude = list(ground.options.exclude)
    mask = find_mask(network, 0.0, allocation="uniform", exclude=exclude, example=ground.few)
    count = min(len(learnt.split), _SAMPLED_STEPS * ground.options.train_batch)
    answers = learnt.answers
    part = replace(
        learnt,
        split=learnt.split.subset(torch.arange(count)),
        answers=None if answers is None else tuple(one[:count] for one in answers),
    )
    taken = []
    for _ in range(_SAMPLES + 1):
        started = time.perf_counter()
        train_epochs(network, mask, part, 1, 0, lambda _: None)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:])) * learnt.steps / part.steps
