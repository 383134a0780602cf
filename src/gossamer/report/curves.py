"""From trainings to the rows of the training curves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.records.record import Epoch, Phase
from gossamer.report.aggregate import Results

CURVES = (
    ("training", "loss", "train_loss"),
    ("validation", "loss", "validation_loss"),
    ("training", "accuracy", "train_accuracy"),
    ("validation", "accuracy", "validation_accuracy"),
)


@dataclass(frozen=True)
class Training:
    """One training of the recipe over its seeds, and the trials that rest on it."""

    position: int
    """Which training of its trials it is, from 0."""
    arms: tuple[str, ...]
    levels: tuple[float, ...]
    histories: Mapping[int, tuple[Epoch, ...]]
    """History of each seed."""


@dataclass(frozen=True)
class CurvePoint:
    """One point of a training curve; seed is None for the mean over the seeds."""

    part: str
    """"training" or "validation"."""
    quantity: str
    """"loss" or "accuracy"."""
    seed: int | None
    epoch: int
    value: float


def trainings(results: Results, phases: Mapping[str, Phase]) -> tuple[Training, ...]:
    """Gather the trainings that differ in nothing but their seed.

    Two phases belong together if they stand at the same place of the recipe and the same arms
    and levels rest on them. A training that all trials share is one entry; a training of its
    own at every level is one entry a level.
    """
    users: dict[tuple[int, str], set[tuple[int, float]]] = {}
    seeds: dict[tuple[int, str], int] = {}
    order = {arm.name: index for index, arm in enumerate(results.study.arms)}
    for trial in results.study.trials:
        for position, key in enumerate(trial.phases):
            if key in phases:
                users.setdefault((position, key), set()).add((order[trial.arm], trial.level))
                seeds[position, key] = trial.seed
    groups: dict[tuple[int, tuple[tuple[int, float], ...]], dict[int, tuple[Epoch, ...]]] = {}
    for (position, key), pairs in users.items():
        group = groups.setdefault((position, tuple(sorted(pairs))), {})
        group[seeds[position, key]] = phases[key].history
    return tuple(
        Training(
            position,
            tuple(dict.fromkeys(results.study.arms[arm].name for arm, _ in sorted(pairs))),
            tuple(sorted({level for _, level in pairs})),
            histories,
        )
        for (position, pairs), histories in sorted(groups.items(), key=lambda item: item[0])
    )


def curve_points(training: Training, *, seeds: bool = True) -> tuple[CurvePoint, ...]:
    """Points of a training's curves: each seed, and the mean where all seeds have an epoch."""
    points = []
    for part, quantity, attribute in CURVES:
        columns: dict[int, list[float]] = {}
        for seed, history in training.histories.items():
            for epoch in history:
                value = getattr(epoch, attribute)
                if value is None or not math.isfinite(value):
                    continue
                columns.setdefault(epoch.epoch, []).append(value)
                if seeds and len(training.histories) > 1:
                    points.append(CurvePoint(part, quantity, seed, epoch.epoch, value))
        points += [
            CurvePoint(part, quantity, None, epoch, math.fsum(values) / len(values))
            for epoch, values in sorted(columns.items())
            if len(values) == len(training.histories)
        ]
    return tuple(points)
