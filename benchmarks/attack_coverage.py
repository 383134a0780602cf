"""How often the intervals of each attack hold what repeating the whole audit finds.

    python -m benchmarks.attack_coverage

Simulated, for 1 model and 4, 8 and 16 pairs, of whom nothing leaks, all leak alike, some examples
are memorised, or a fifth of the models learnt nothing: for each attack and number the share of
audits whose 95% interval holds the mean over all audits. Besides, how the strongest attack is best
chosen: of all data with a simultaneous interval, as an audit does; on one half of the examples and
judged on the other; or of all data with a plain interval. And the trace that being each other's
references leaves in the balanced accuracy where nothing leaks.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks._common import write_result
from benchmarks._simulated_attacks import CLASSES, World, attacked, margins_of, members_of
from gossamer.records.leakage import AttackResult, Estimate

WORLDS = {
    "nothing leaks": World(),
    "all leak alike": World(gain=1.0, drift=0.2),
    "some are memorised": World(gain=1.0, memorised=True, drift=0.2),
    "a fifth learnt nothing": World(gain=1.0, drift=0.2, collapsed=0.2),
}
ALONE = ("loss", "modified_entropy")
NAMES = (*ALONE, "rmia", "base", "lira_offline", "lira_online")
READINGS: Mapping[str, Callable[[AttackResult], Estimate]] = {
    "auc": lambda found: found.auc,
    "balanced_accuracy": lambda found: found.balanced_accuracy,
    "tpr@0.01": lambda found: found.rate_at(0.01).tpr,
}
EXAMPLES, AUDITS = 1000, 200


def main() -> None:
    """Simulate, print, write the result."""
    audits = int(sys.argv[1]) if len(sys.argv) > 1 else AUDITS
    result = {
        "audits": audits,
        "examples": EXAMPLES,
        "coverage": {
            name: {
                f"{pairs} pairs" if pairs else "1 model": coverage(world, pairs, audits)
                for pairs in (0, 4, 8, 16)
            }
            for name, world in WORLDS.items()
        },
        "choosing": {pairs: choosing(pairs, audits) for pairs in (4, 8)},
        "trace": {
            kind: trace(kind == "paired", 25 * audits) for kind in ("paired", "independent")
        },
    }  # fmt: skip
    print(write_result("attack-coverage", 1, result))


def coverage(
    world: World, pairs: int, audits: int, examples: int = EXAMPLES
) -> dict[str, dict[str, float | None]]:
    """Return the share of intervals that hold, by attack and reading.

    None where most audits give none.

    Parameters
    ----------
    world
        How margins come about.
    pairs
        Of models; 0 for a single model.
    audits, examples
        Audits to simulate, and examples of each.
    """
    names = NAMES if pairs else ALONE
    found = [_audit(world, pairs, examples, seed, names) for seed in range(audits)]
    told = {
        name: {reading: _held([of(one[name]) for one in found]) for reading, of in READINGS.items()}
        for name in names
    }
    print(world, pairs, told, flush=True)
    return told


def choosing(pairs: int, audits: int, examples: int = EXAMPLES) -> dict[str, dict[str, float]]:
    """Return how three ways to choose the strongest attack hold, flatter and find it."""
    names = ("loss", "rmia", "base", "lira_offline", "lira_online")
    world = WORLDS["some are memorised"]
    drawn = [
        _audit(world, pairs, examples, seed, names, parts=3, compared=len(names))
        for seed in range(audits)
    ]
    truth = {n: float(np.mean([READINGS["tpr@0.01"](d[0][n]).value for d in drawn])) for n in names}
    strongest = max(truth, key=lambda name: truth[name])

    def best(found: Mapping[str, AttackResult]) -> str:
        return max(names, key=lambda name: found[name].rate_at(0.01).tpr.value)

    ways: dict[str, list[tuple[str, Estimate]]] = {"together": [], "halves": [], "plain": []}
    for whole, first, second in drawn:
        at = whole[best(whole)].rate_at(0.01)
        ways["together"].append((best(whole), at.together or at.tpr))
        ways["plain"].append((best(whole), at.tpr))
        ways["halves"].append((best(first), second[best(first)].rate_at(0.01).tpr))
    told = {
        way: {
            "holds": _mean((e.low or 0) <= truth[name] <= (e.high or 1) for name, e in chosen),
            "points too high": 100 * _mean(e.value - truth[name] for name, e in chosen),
            "points wide": 100 * _mean((e.high or 1) - (e.low or 0) for _, e in chosen),
            "names the strongest": _mean(name == strongest for name, _ in chosen),
        }
        for way, chosen in ways.items()
    }
    print("choosing", pairs, told, flush=True)
    return told


def trace(paired: bool, audits: int, examples: int = 300) -> dict[str, float]:
    """Return by how many points LiRA's balanced accuracy departs from a half if nothing leaks."""
    values = []
    for seed in range(audits):
        found = _audit(World(), 4, examples, seed, ("lira_online",), paired=paired)
        values.append(found["lira_online"].balanced_accuracy.value)
    told = {
        "points": 100 * (float(np.mean(values)) - 0.5),
        "standard error": 100 * float(np.std(values, ddof=1)) / len(values) ** 0.5,
    }
    print("trace", paired, told, flush=True)
    return told


def _audit(
    world: World,
    pairs: int,
    examples: int,
    seed: int,
    names: Sequence[str],
    *,
    paired: bool = True,
    parts: int = 1,
    compared: int = 1,
) -> Any:
    """Simulate one audit; with three parts of the whole, its first and its second half."""
    shared = np.random.default_rng(0)
    hardness = shared.normal(2, 2, examples)
    vulnerable = shared.exponential(1.0, examples)
    labels = shared.integers(0, CLASSES, examples)
    generator = np.random.default_rng(seed + 1)
    members = members_of(generator, max(pairs, 1), examples, paired=paired)
    members = members if pairs else members[:1]
    margins = margins_of(generator, members, world, hardness, vulnerable)
    first = np.arange(examples) < examples // 2
    chosen = [np.ones_like(first), first, ~first][:parts]
    found = [
        attacked(margins[:, some], members[:, some], labels[some], names, compared)
        for some in chosen
    ]
    return found[0] if parts == 1 else found


def _held(estimates: Sequence[Estimate]) -> float | None:
    centre = float(np.mean([one.value for one in estimates]))
    known = [(one.low, one.high) for one in estimates]
    inside = [low <= centre <= high for low, high in known if low is not None and high is not None]
    return _mean(inside) if 2 * len(inside) > len(known) else None


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


if __name__ == "__main__":
    main()
