"""From trainings to the rows of the training curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gossamer.records.record import Arm, Epoch, Phase, TrialLabel
from gossamer.report.results import Results
from gossamer.report.series import along_axis

CURVES = (
    ("training", "loss", "train_loss"),
    ("validation", "loss", "validation_loss"),
    ("training", "accuracy", "train_accuracy"),
    ("validation", "accuracy", "validation_accuracy"),
)
MOST_LINES = 6
"""More lines than this cannot be told apart."""
MOST_LEVELS = 4
LEAST_FIXED = 2
"""Lines kept for arms that have no level, if there are so many."""


@dataclass(frozen=True)
class Chain:
    """Everything that an arm trains at one level, one training after the other."""

    arm: str
    level: float
    phases: Mapping[int, tuple[str, ...]]
    """Keys of the trainings, by seed."""


def chains(results: Results, phases: Mapping[str, Phase], arms: Iterable[Arm]) -> list[Chain]:
    """Return each distinct chain of trainings once, for the first arm that has it."""
    found: dict[tuple[tuple[int, tuple[str, ...]], ...], Chain] = {}
    for arm in sorted(arms, key=lambda arm: along_axis(results, arm.name)):
        for level in results.own_levels(arm.name):
            trials = results.asked[arm.name, level]
            done = {
                seed: own_phases(trial.phases, phases)
                for seed, trial in trials.items()
                if _done(trial, phases)
            }
            if any(done.values()):
                found.setdefault(tuple(sorted(done.items())), Chain(arm.name, level, done))
    return list(found.values())


def own_phases(keys: Sequence[str], phases: Mapping[str, Phase]) -> tuple[str, ...]:
    """Return the trainings of a network itself, without those of one that it has its mask from.

    Epochs are counted over all trainings of a network: where the count starts again, what came
    before was another network.
    """
    start, last = 0, 0
    for position, key in enumerate(keys):
        history = phases[key].history
        if history and history[0].epoch <= last:
            start = position
        last = history[-1].epoch if history else last
    return tuple(keys[start:])


def _done(trial: TrialLabel, phases: Mapping[str, Phase]) -> bool:
    return all(key in phases for key in trial.phases)


def chosen_chains(
    results: Results, phases: Mapping[str, Phase], arms: Sequence[Arm]
) -> tuple[Chain, ...]:
    """Choose few enough chains to be told apart: of main arms, and of arms that have no level.

    Main arms are shown at as many levels as there is room for, from the lowest to the highest. A
    chain that another one merely continues is not shown: it is that one's beginning.
    """
    bare = [arm for arm in arms if not along_axis(results, arm.name)]
    fixed = _longest(chains(results, phases, bare), phases)
    fixed.sort(key=lambda chain: -len(_losses(chain, phases)))
    main = [arm for arm in arms if arm.role == "main" and along_axis(results, arm.name)]
    known = [chain.phases for chain in fixed]
    found = [chain for chain in chains(results, phases, main) if chain.phases not in known]
    room = MOST_LINES - min(len(fixed), LEAST_FIXED)
    picked: list[Chain] = []
    for count in range(MOST_LEVELS, 0, -1):
        some = [one for one in found if one.level in spread_out(_levels(results, one), count)]
        picked = _longest(some, phases)
        if len(picked) <= room:
            break
    picked = picked[:room]
    both = _longest([*fixed, *picked], phases)
    kept = [chain for chain in fixed if chain in both][: MOST_LINES - len(picked)]
    return (*kept, *picked)


def _levels(results: Results, chain: Chain) -> tuple[float, ...]:
    return results.own_levels(chain.arm)


def _longest(found: Sequence[Chain], phases: Mapping[str, Phase]) -> list[Chain]:
    """Leave out chains that are the beginning of another one, epoch by epoch."""
    losses = [_losses(chain, phases) for chain in found]
    return [
        chain
        for chain, ours in zip(found, losses, strict=True)
        if not any(len(ours) < len(theirs) and theirs[: len(ours)] == ours for theirs in losses)
    ]


def _losses(chain: Chain, phases: Mapping[str, Phase]) -> tuple[tuple[int, float], ...]:
    """Return what a chain's first seed trained: its epochs and their losses."""
    keys = chain.phases[min(chain.phases)]
    return tuple((one.epoch, one.train_loss) for key in keys for one in phases[key].history)


def spread_out(levels: Sequence[float], count: int) -> tuple[float, ...]:
    """Return some levels, evenly spread in their order; the highest if there is room for one.

    Examples
    --------
    >>> spread_out((0.1, 0.3, 0.5, 0.7, 0.9), 3), spread_out((0.1, 0.9), 1)
    ((0.1, 0.5, 0.9), (0.9,))
    """
    if count >= len(levels):
        return tuple(levels)
    if count == 1:
        return (levels[-1],)
    last = len(levels) - 1
    return tuple(levels[round(index * last / (count - 1))] for index in range(count))


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve, over the seeds."""

    part: str
    """"training" or "validation"."""
    quantity: str
    """"loss" or "accuracy"."""
    epoch: int
    mean: float
    lowest: float
    highest: float


def histories(
    chain: Chain, phases: Mapping[str, Phase], drawn: Iterable[str] = ()
) -> dict[int, tuple[Epoch, ...]]:
    """Return a chain's epochs by seed, from the last one that is drawn already."""
    known = set(drawn)
    found: dict[int, tuple[Epoch, ...]] = {}
    for seed, keys in chain.phases.items():
        before = [epoch for key in keys if key in known for epoch in phases[key].history]
        rest = [epoch for key in keys if key not in known for epoch in phases[key].history]
        found[seed] = (*before[-1:], *rest)
    return found


def curve_points(found: Mapping[int, Sequence[Epoch]]) -> tuple[CurvePoint, ...]:
    """Return mean and range over the seeds, where all seeds have an epoch."""
    points = []
    for part, quantity, attribute in CURVES:
        columns: dict[int, list[float]] = {}
        for history in found.values():
            for epoch in history:
                value = getattr(epoch, attribute)
                if value is not None and math.isfinite(value):
                    columns.setdefault(epoch.epoch, []).append(value)
        points += [
            CurvePoint(part, quantity, epoch, math.fsum(some) / len(some), min(some), max(some))
            for epoch, some in sorted(columns.items())
            if len(some) == len(found)
        ]
    return tuple(points)


def boundaries(shown: Sequence[Chain], phases: Mapping[str, Phase]) -> tuple[int, ...]:
    """Return the last epochs of trainings that another one follows in all seeds and chains."""
    ends = {
        phases[key].history[-1].epoch
        for chain in shown
        for keys in chain.phases.values()
        for key in keys[:-1]
        if phases[key].history
    }
    return tuple(sorted(ends))
