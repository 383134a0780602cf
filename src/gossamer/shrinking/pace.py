"""How long a search takes, from a few of its parts."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.masks import find_mask
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import MOST, Ground, count_of
from gossamer.shrinking.fine_tuning import Lesson, train_epochs
from gossamer.shrinking.options import Options

_USED = 0.5
"""Share of the epochs and candidates that a search uses before it ends, about."""
_PATTERNS_TIMED = 8
_STARTS_TRIED = 2
_WRITING_SECONDS = 8.0
_COMPARED = 15.0
"""How many times as long as looking at examples once it takes to hold the network to them."""


@dataclass(frozen=True)
class Pace:
    """Seconds that the parts of a search take, about."""

    epoch: float
    """Of fine-tuning."""
    candidate: float
    """Of finding its mask, timing and testing it."""
    final: float
    """Of timing what was chosen and writing it."""
    most: int = MOST
    """Candidates, if none of them breaks the budget."""

    def least(self, options: Options) -> float:
        """Return the seconds of a search that ends with its first candidate, about."""
        return planned(options) * self.candidate + self.epoch + self.candidate + self.final

    def forecast(self, options: Options) -> float:
        """Return the seconds of a search that ends where most do."""
        descent = options.epochs * self.epoch + self.most * self.candidate
        return planned(options) * self.candidate + _USED * descent + self.final


def planned(options: Options) -> int:
    """Return how many times as long as a candidate's measuring the planning takes."""
    return (_PATTERNS_TIMED if options.pattern == "auto" else 2) + _STARTS_TRIED


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
    candidate = time.perf_counter() - started + looking
    own = learnt.train is not None
    an_epoch = 0.0 if own else epoch_seconds(dense, learnt, ground)
    final = 3 * candidate + _COMPARED * comparing + 3 * seconds + _WRITING_SECONDS
    most = count_of(ground.options.epochs, learnt.steps, whole=own)
    return Pace(an_epoch, candidate, final, most)


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
