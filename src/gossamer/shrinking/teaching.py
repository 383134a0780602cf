"""How one candidate is trained, and for how long: decided on training examples alone."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from gossamer.masks import Mask
from gossamer.shrinking.fine_tuning import (
    Lesson,
    Pulse,
    distance_from,
    estimate_statistics,
    fine_tune,
)
from gossamer.shrinking.piloting import PILOT_EXAMPLES

LEAP = 2.0
"""Distance from the dense network over that of the candidate before, beyond which a candidate is
trained on. Less is usual, and epochs are worth more where more is pruned."""
_GAIN = 0.5
"""What a training must leave of the distance for the first candidate to be trained on."""
_MOST_SHARES = 2
"""How many times its share of the epochs a candidate may take."""
_FIRST_RATE = 1 / 3
"""Of the rate that a sparse candidate needs, what the first one is trained with."""
_FULL_STEPS = 250
"""Of the optimizer, in which the full rate settles."""
_AGAIN = 10_000
"""Between the numbers of random streams of a candidate's trainings."""
_LEAST_RATE = 0.1
"""Share of it that the shortest training has."""


@dataclass(frozen=True)
class Room:
    """The epochs of one candidate, and what else is left."""

    share: float
    """Its own."""
    left: float
    """Of it and all after it, as far as there is time."""

    @property
    def most(self) -> float:
        """Epochs that it may take where its own are not enough."""
        return min(_MOST_SHARES * self.share, self.left)


@dataclass(frozen=True)
class Taught:
    """What the training of a candidate took, and where it led."""

    epochs: float
    losses: tuple[float, ...]
    distance: float | None
    """From the dense network, on training examples; None of a training of one's own."""


def taught(
    dense: nn.Module,
    network: nn.Module,
    mask: Mask,
    learnt: Lesson,
    room: Room,
    before: float | None,
    number: int,
    pulse: Pulse,
    follow: Callable[[str], None],
) -> Taught:
    """Train a candidate, unless that leads further from the dense network than pruning alone.

    A few steps at a high rate do more harm than was to be mended where little was pruned, and the
    first candidate that fails ends the search. For the same reason a candidate that is much further
    away than the one before is trained on, while that helps and there are epochs; the first one is
    while that helps much.

    Parameters
    ----------
    dense, network, mask, learnt
        What it is held against, what is trained in place, what stays of it, and how.
    room
        Epochs.
    before
        How far the candidate before is from the dense network; None where that is not known.
    number
        Of the candidate, for its random numbers.
    pulse, follow
        See `gossamer.shrinking.fine_tuning.Pulse`; told of what is trained on.
    """
    if learnt.train is not None:
        losses = fine_tune(network, mask, learnt, room.share, number, pulse)
        return Taught(room.share, losses, None)
    some = learnt.split.sample(PILOT_EXAMPLES, learnt.options.seed + 3)

    def far() -> float:
        return distance_from(dense, network, some, learnt.task)

    mask.apply(network)
    estimate_statistics(network, learnt.split, learnt.options.seed, number)
    nearest, kept, losses, spent = far(), _state(network), (), 0.0
    on = True
    while on:
        stream = number + _AGAIN * round(spent / room.share)
        losses += fine_tune(network, mask, learnt, room.share, stream, pulse)
        spent += room.share
        reached = far()
        if reached > nearest:
            network.load_state_dict(kept)
            break
        on = reached < _GAIN * nearest if before is None else reached > LEAP * before
        nearest, kept = reached, _state(network)
        on = on and spent + room.share <= room.most
        if on:
            follow(f"candidate {number + 1}: training on")
    return Taught(spent, losses, nearest)


def rate_for(rate: float, steps: float, place: float = 1.0) -> float:
    """Return the rate of a candidate: the fewer its steps and the earlier it comes, the lower.

    A few steps at a high rate lead away from a network that has little to mend, and so do many
    where little was pruned.

    Parameters
    ----------
    rate
        That of a sparse candidate.
    steps
        Of the optimizer.
    place
        From 0, the first candidate, to 1, the last.

    Examples
    --------
    >>> rate_for(1e-3, 1000), rate_for(1e-3, 125), rate_for(1e-3, 1)
    (0.001, 0.0005, 0.0001)
    >>> [round(rate_for(3e-3, 1000, place), 5) for place in (0.0, 0.5, 1.0)]
    [0.001, 0.00173, 0.003]
    """
    own = rate * _FIRST_RATE ** (1 - place)
    return float(own * min(1.0, max(_LEAST_RATE, steps / _FULL_STEPS)))


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: one.clone() for name, one in network.state_dict().items()}
