"""In which precision candidates are trained, and how long that takes."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.masks import find_mask
from gossamer.networks.generators import generators_kept
from gossamer.shrinking.costs import clock_of
from gossamer.shrinking.descent import Ground
from gossamer.shrinking.fine_tuning import Lesson, distance, loss_of, train_epochs
from gossamer.shrinking.task import device_of, logits, outputs_of
from gossamer.studies.process_settings import processor_has_bf16
from gossamer.training import Precision
from gossamer.training.loop import autocast

_SAMPLED_STEPS = 8
_SAMPLES = 3
_WORTH = 1.25
"""How many times faster bfloat16 must be to be trained in."""
_NEAR = 0.005
"""Divergence of what the network gives in bfloat16 beyond which it needs float32, in nats."""


def quickest(
    dense: nn.Module, learnt: Lesson, ground: Ground, known: Precision | None
) -> tuple[Lesson, float]:
    """Return what is learnt from in the precision that is faster, and the seconds of an epoch.

    It is bfloat16 where the processor multiplies it, classes are told apart, the network answers
    nearly the same in it, and it is clearly faster; weights, their changes and losses stay float32,
    and so does everything that is tested (Micikevicius et al. 2018, "Mixed precision training",
    arXiv 1710.03740; Kalamkar et al. 2019, "A study of bfloat16", arXiv 1905.12322).

    Parameters
    ----------
    dense, learnt, ground
        What a search works with.
    known
        What a search that goes on has trained in.
    """
    if learnt.train is not None:
        return learnt, 0.0
    asked = known or learnt.options.precision
    lessons = [replace(learnt, precision="float32" if asked == "auto" else asked)]
    if asked == "auto" and processor_has_bf16() and _answers_in_bf16(dense, learnt):
        lessons.append(replace(learnt, precision="bf16"))
    taken = epochs_seconds(dense, lessons, ground)
    fastest = taken.own.min(axis=1)
    best = int(len(lessons) > 1 and _WORTH * fastest[1] < fastest[0])
    return lessons[best], float(np.median(taken.wall[best]))


def _answers_in_bf16(dense: nn.Module, learnt: Lesson) -> bool:
    """Return whether a network can be trained in bfloat16, and gives nearly the same in it."""
    if not learnt.task.is_classification or device_of(dense).type != "cpu":
        return False
    network, part = plain_copy(dense), replace(learnt, answers=None, precision="bf16")
    inputs, targets = next(learnt.split.batches(learnt.options.train_batch))
    # What fails here is trained in float32; what fails there, too, is told there.
    with generators_kept(), suppress(Exception):
        loss_of(network.train(), part, inputs, targets).backward()  # type: ignore[no-untyped-call]
        network.eval()
        with torch.no_grad():
            wanted = logits(outputs_of(network, inputs))
            with autocast("bf16", "cpu"):
                given = logits(outputs_of(network, inputs))
        return float(distance(learnt.task, [given], [wanted])) < _NEAR
    return False


@dataclass(frozen=True, eq=False)
class Taken:
    """Seconds of an epoch in each precision, a few times: ``[precisions, samples]``."""

    own: NDArray[np.float64]
    """By the clock that networks are compared by; see `clock_of`."""
    wall: NDArray[np.float64]


def epochs_seconds(dense: nn.Module, lessons: Sequence[Lesson], ground: Ground) -> Taken:
    """Return about how long an epoch of each fine-tuning takes, a few times, in turn.

    It is found out from a few of their steps; the first ones, which set up memory and threads, do
    not count.
    """
    network = plain_copy(dense)
    exclude = list(ground.options.exclude)
    mask = find_mask(network, 0.0, allocation="uniform", exclude=exclude, example=ground.few)
    clocks = clock_of(ground.options.threads), time.perf_counter
    taken = np.zeros((len(clocks), len(lessons), _SAMPLES + 1))
    for sample in range(_SAMPLES + 1):
        for row, learnt in enumerate(lessons):
            count = min(len(learnt.split), _SAMPLED_STEPS * learnt.options.train_batch)
            answers = learnt.answers
            part = replace(
                learnt,
                split=learnt.split.subset(torch.arange(count)),
                answers=None if answers is None else tuple(one[:count] for one in answers),
            )
            started = [clock() for clock in clocks]
            train_epochs(network, mask, part, 1, 0, lambda _: None)
            passed = [clock() - then for clock, then in zip(clocks, started, strict=True)]
            taken[:, row, sample] = np.multiply(passed, learnt.steps / part.steps)
    return Taken(*taken[:, :, 1:])
