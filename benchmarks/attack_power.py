"""Which attack tells two arms apart: what claims about leakage are best judged by.

    python -m benchmarks.attack_power

Simulated studies of two arms with the same pairs of seeds, 4, 8 and 12 of them, without training.
The second arm leaks less, by a fifth or a half of what training on an example adds to its margin;
or it leaks as much and differs otherwise: it is less sure of itself, or the hardness of examples
matters less to it. For each attack, and for one that is told how margins come about: the difference
of AUC, and how often its 95% interval, the one that verdicts are read off, lies below or above 0.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import write_result
from benchmarks._simulated_attacks import CLASSES, World, areas, margins_of, members_of, ranked
from gossamer.leakage.attacks import ATTACKS
from gossamer.stats.intervals import mean_interval, mutual_interval

NAMES = ("loss", "modified_entropy", "rmia", "base", "lira_offline", "lira_online")
PAIRS = (4, 8, 12)
EXAMPLES, STUDIES = 1000, 200
DENSE = World(gain=1.0, memorised=True, drift=0.1)


@dataclass(frozen=True)
class Pruned:
    """What the second arm's margins are, beside those of the first."""

    gain: float = 1.0
    """Factor of what training on an example adds."""
    sureness: float = 1.0
    """Factor of every margin: changes no order within a model."""
    hardness: float = 1.0
    """Factor of the spread of the examples' hardness."""


KNOWN = "known"
"""The likelihood ratio of a margin for whoever knows each example's hardness and gain."""

ARMS: Mapping[str, Pruned] = {
    "leaks a fifth less": Pruned(gain=0.8),
    "leaks half": Pruned(gain=0.5),
    "leaks a fifth less, less sure": Pruned(gain=0.8, sureness=0.7),
    "leaks as much": Pruned(),
    "leaks as much, less sure": Pruned(sureness=0.7),
    "leaks as much, hardness matters less": Pruned(hardness=0.7),
}


@dataclass(frozen=True)
class Told:
    """What an attack tells of two arms, over simulated studies."""

    points: float
    """Mean difference of AUC, pruned minus dense."""
    deviation: float
    """Of a study's difference from that mean, in points."""
    falls: float
    """Share of the studies whose interval lies below 0."""
    rises: float


def power(name: str, pairs: int, studies: int, examples: int = EXAMPLES) -> dict[str, Told]:
    """Simulate studies whose second arm is one of `ARMS`; return what each attack tells."""
    differences = [_differences(ARMS[name], pairs, examples, seed) for seed in range(studies)]
    return {
        attack: _told(attack, [each[attack] for each in differences]) for attack in (KNOWN, *NAMES)
    }


def _told(attack: str, differences: list[NDArray[np.float64]]) -> Told:
    mutual = attack in ATTACKS and ATTACKS[attack].mutual
    interval = mutual_interval if mutual else mean_interval
    found = [interval(each.tolist()) for each in differences]
    means = np.array([each.mean for each in found])
    return Told(
        points=100 * float(means.mean()),
        deviation=100 * float(means.std(ddof=1)),
        falls=float(np.mean([each.high is not None and each.high < 0 for each in found])),
        rises=float(np.mean([each.low is not None and each.low > 0 for each in found])),
    )


def _differences(
    arm: Pruned, pairs: int, examples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return the difference of AUC of each pair, by attack: the second arm minus the first."""
    shared = np.random.default_rng(0)
    hardness = shared.normal(2, 2, examples)
    vulnerable = shared.exponential(1.0, examples)
    labels = shared.integers(0, CLASSES, examples)
    generator = np.random.default_rng(seed + 1)
    members = members_of(generator, pairs, examples)

    def found(pruned: Pruned) -> dict[str, NDArray[np.float64]]:
        gain = pruned.gain * DENSE.gain
        flatter = 2 + pruned.hardness * (hardness - 2)
        margins = margins_of(generator, members, replace(DENSE, gain=gain), flatter, vulnerable)
        known = (margins - flatter - gain * vulnerable / 2) * vulnerable
        said = (pruned.sureness * margins).astype(np.float32)
        return {KNOWN: ranked(known, members), **areas(said, members, labels, NAMES)}

    before, after = found(Pruned()), found(arm)
    return {name: (after[name] - before[name]).reshape(-1, 2).mean(axis=1) for name in before}


def main() -> None:
    """Simulate, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    studies = parser.parse_args().studies
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in ARMS}
    for name in ARMS:
        for pairs in PAIRS:
            told = power(name, pairs, studies)
            found[name][str(pairs)] = {attack: asdict(each) for attack, each in told.items()}
            print(name, pairs, told, flush=True)
    print(
        write_result("attack-power", 1, {"studies": studies, "examples": EXAMPLES, "arms": found})
    )


if __name__ == "__main__":
    main()
