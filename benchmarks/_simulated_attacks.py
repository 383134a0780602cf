"""Simulated margins of models in pairs, and what attacks find in them: no training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gossamer.leakage import Statistics
from gossamer.leakage.attacks import ATTACKS, Case
from gossamer.leakage.design import find_design
from gossamer.leakage.evaluation import evaluate
from gossamer.leakage.notes import collapsed_models
from gossamer.leakage.ranking import auc, rank
from gossamer.leakage.threshold_split import find_split
from gossamer.leakage.uncertainty import Resampler
from gossamer.records.leakage import AttackResult

CLASSES = 10


@dataclass(frozen=True)
class World:
    """How margins come about: an example's hardness, what training on it adds, noise.

    Hardness is Gaussian with mean 2 and deviation 2, noise has deviation 1, in nats; labels are
    drawn uniformly from `CLASSES`.
    """

    gain: float = 0.0
    """What training on an example adds to its margin, on average."""
    memorised: bool = False
    """Examples differ: some gain much and most little (exponential), instead of all alike."""
    drift: float = 0.0
    """Standard deviation, from pair to pair, of the gain's factor."""
    collapsed: float = 0.0
    """Share of the models that learnt nothing: their margins are noise around -2."""
    saturated: bool = False
    """Confidences are multiples of 1/50, as those of a forest of 50 trees."""


def members_of(
    generator: np.random.Generator, pairs: int, examples: int, *, paired: bool = True
) -> NDArray[np.bool_]:
    """Draw memberships, ``[models, examples]``, of complementary halves or independent ones."""
    if not paired:
        return np.asarray(generator.random((2 * pairs, examples)) < 0.5)
    halves = generator.random((pairs, examples)) < 0.5
    return np.stack([halves, ~halves], axis=1).reshape(2 * pairs, examples)


def margins_of(
    generator: np.random.Generator,
    members: NDArray[np.bool_],
    world: World,
    hardness: NDArray[np.float64],
    vulnerable: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Draw margins, ``[models, examples]``, around a given hardness of the examples."""
    models = len(members)
    factor = 1 + world.drift * np.repeat(generator.standard_normal((models + 1) // 2), 2)[:models]
    gain = world.gain * (vulnerable if world.memorised else 1.0)
    margins = hardness + np.maximum(factor, 0)[:, None] * gain * members
    margins += generator.standard_normal(members.shape)
    failed = generator.random(models) < world.collapsed
    margins[failed] = generator.standard_normal((int(failed.sum()), members.shape[1])) - 2
    if world.saturated:
        share = np.round(50 / (1 + np.exp(-margins))) / 50
        share = np.clip(share, 2.0**-149, 1 - 2.0**-53)
        margins = np.log(share) - np.log1p(-share)
    return margins.astype(np.float32)


def attacked(
    margins: NDArray[np.float32],
    members: NDArray[np.bool_],
    labels: NDArray[np.int64],
    names: Sequence[str],
    compared: int = 1,
) -> dict[str, AttackResult]:
    """Run some attacks on two-class outputs of given margins."""
    case = _case(margins, members, labels)
    paired, misled = case.design.kind == "paired", bool(collapsed_models(case))
    found = {}
    for name in names:
        attack = ATTACKS[name]
        resampler = Resampler(
            case.design.units, paired=paired, seed=0, mutual=attack.mutual, misled=misled
        )
        scores = attack.score(case, None)
        found[name] = evaluate(
            attack, scores, case.design, case.split, resampler, compared=compared
        )
    return found


def areas(
    margins: NDArray[np.float32],
    members: NDArray[np.bool_],
    labels: NDArray[np.int64],
    names: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Return each attack's AUC against each model, ``[models]``, without intervals."""
    case = _case(margins, members, labels)
    return {name: ranked(ATTACKS[name].score(case, None), members) for name in names}


def ranked(scores: NDArray[np.floating], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the AUC of scores, ``[models, examples]``, against each model."""
    return np.array([auc(rank(row, inside)) for row, inside in zip(scores, members, strict=True)])


def _case(
    margins: NDArray[np.float32], members: NDArray[np.bool_], labels: NDArray[np.int64]
) -> Case:
    """Return what attacks are given of two-class outputs of given margins."""
    design = find_design(members)
    # Of two classes: what the modified entropy of a margin is, exactly.
    right = np.logaddexp(0, -margins.astype(np.float64))
    modified = (2 * np.exp(-np.logaddexp(0, margins.astype(np.float64))) * right).astype(np.float32)
    entropy = np.abs(margins) * -1
    statistics = Statistics(margins, margins, entropy, modified)
    return Case(statistics, labels, design, find_split(design, 0), 0)
