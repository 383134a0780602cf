"""How often the network that a search takes keeps its budget: the winner's curse included.

    python -m benchmarks.shrink_bound

Simulated searches: candidates whose true drop grows from one to the next, and the answers of
each on the same validation examples, right or wrong. Counted: how often the candidate that is taken
has a true drop above the budget, and how deep the search gets.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import write_result
from gossamer.shrinking.ordering import Order, early_of
from gossamer.stats.paired_drop import Pairs, drop_p_value

BUDGET = 0.005
LEVEL = 0.05
CANDIDATES = 11
ACCURACY = 0.91


@dataclass(frozen=True)
class Setting:
    """How candidates lose: the drop of the last, its curve, and how many answers change beside."""

    examples: int
    last: float
    """True drop of the sparsest candidate."""
    power: float
    """Of the rise: 1 is a straight line."""
    churn: float
    """Share of the examples that the sparsest answers otherwise without losing on the whole."""
    shared: float
    """Correlation of what neighbours answer otherwise: 0 is none."""


@dataclass(frozen=True)
class Outcome:
    """Of many searches; shares of all of them."""

    broken: float
    """The candidate that was taken loses more than the budget."""
    taken: float
    """Any was taken."""
    depth: float
    """Mean number of the candidate taken, 0 for none, over the last that truly keeps the budget."""


SETTINGS: Mapping[str, Setting] = {
    "5,000 examples, drops rise late": Setting(5_000, 0.03, 3.0, 0.04, 0.8),
    "5,000 examples, drops hover at the budget": Setting(5_000, 0.0052, 0.05, 0.03, 0.8),
    "5,000 examples, all just above the budget": Setting(5_000, 0.00501, 0.0, 0.03, 0.0),
    "20,000 examples, drops rise late": Setting(20_000, 0.03, 3.0, 0.06, 0.8),
    "20,000 examples, drops hover at the budget": Setting(20_000, 0.0051, 0.02, 0.04, 0.0),
    "20,000 examples, straight": Setting(20_000, 0.02, 1.0, 0.05, 0.5),
    "50,000 examples, straight": Setting(50_000, 0.02, 1.0, 0.05, 0.5),
}


@cache
def keeps(examples: int, lost: int, won: int, level: float) -> bool:
    """Tell whether such pairs show the budget."""
    return drop_p_value(Pairs(examples, lost, won), BUDGET) <= level


def searched(pairs: list[Pairs]) -> int:
    """Return the last candidate that passes before the first that ends the search."""
    order, within = Order(early_of(len(pairs)), 1 - LEVEL), list[bool]()
    for one in pairs:
        if order.has_ended(within):
            break
        passes = keeps(one.examples, one.lost, one.won, 1 - order.sure(within))
        within.append(passes and order.is_tested(within))
    return max((i + 1 for i, passes in enumerate(within) if passes), default=0)


def in_order(pairs: list[Pairs]) -> int:
    """Return how many candidates pass one after the other, each at the full level."""
    for number, one in enumerate(pairs):
        if not keeps(one.examples, one.lost, one.won, LEVEL):
            return number
    return len(pairs)


def corrected(pairs: list[Pairs]) -> int:
    """Return the last candidate that passes at the level divided by their number."""
    passing = [keeps(one.examples, one.lost, one.won, LEVEL / len(pairs)) for one in pairs]
    return max((i + 1 for i, passes in enumerate(passing) if passes), default=0)


def by_estimate(pairs: list[Pairs]) -> int:
    """Return the last candidate whose estimate is within the budget: what people do."""
    return max((i + 1 for i, one in enumerate(pairs) if one.drop <= BUDGET), default=0)


def any_that_passes(pairs: list[Pairs]) -> int:
    """Return the last candidate that passes at the full level, whatever the others do."""
    passing = [keeps(one.examples, one.lost, one.won, LEVEL) for one in pairs]
    return max((i + 1 for i, passes in enumerate(passing) if passes), default=0)


CHOICES: Mapping[str, Callable[[list[Pairs]], int]] = {
    "gossamer": searched,
    "in order": in_order,
    "Bonferroni": corrected,
    "any that passes": any_that_passes,
    "by estimate": by_estimate,
}


def true_drops(setting: Setting) -> NDArray[np.float64]:
    """Return the drop of each candidate."""
    steps = np.arange(1, CANDIDATES + 1) / CANDIDATES
    return np.asarray(setting.last * steps**setting.power)


def drawn(setting: Setting, rng: np.random.Generator) -> list[Pairs]:
    """Draw what each candidate answers on the same examples.

    Each example has a number for losing it and one for winning it, which change a little from
    candidate to candidate; it is lost or won where the number is below the candidate's share.
    """
    n, drops = setting.examples, true_drops(setting)
    right = rng.random(n) < ACCURACY
    noise = rng.standard_normal(n)
    found = []
    for number, drop in enumerate(drops):
        fresh = rng.standard_normal(n)
        noise = np.sqrt(setting.shared) * noise + np.sqrt(1 - setting.shared) * fresh
        uniform = _normal_share(noise)
        churn = setting.churn * (number + 1) / CANDIDATES / 2
        lost = right & (uniform < (churn + drop) / ACCURACY)
        won = ~right & (uniform < churn / (1 - ACCURACY))
        found.append(Pairs(n, int(lost.sum()), int(won.sum())))
    return found


def _normal_share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy import special

    return np.asarray(special.ndtr(values))


def simulated(setting: Setting, searches: int) -> dict[str, Outcome]:
    """Search many times, and choose in each of the ways."""
    rng = np.random.default_rng(0)
    drops = true_drops(setting)
    best = max(1, int((drops <= BUDGET).sum()))
    taken: dict[str, list[int]] = {name: [] for name in CHOICES}
    for _ in range(searches):
        pairs = drawn(setting, rng)
        for name, choose in CHOICES.items():
            taken[name].append(choose(pairs))
    return {
        name: Outcome(
            broken=float(np.mean([n > 0 and drops[n - 1] > BUDGET for n in numbers])),
            taken=float(np.mean([n > 0 for n in numbers])),
            depth=float(np.mean(numbers)) / best,
        )
        for name, numbers in taken.items()
    }


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="write results/shrink-bound.json")
    given = parser.parse_args()
    result = {}
    for name, setting in SETTINGS.items():
        found = simulated(setting, given.searches)
        print(name)
        for choice, outcome in found.items():
            print(
                f"  {choice:<22} breaks the budget {outcome.broken:6.1%}, takes one "
                f"{outcome.taken:6.1%}, reaches {outcome.depth:5.2f} of the deepest that keeps it"
            )
        result[name] = {
            "setting": asdict(setting),
            **{choice: asdict(outcome) for choice, outcome in found.items()},
        }
    if given.write:
        write_result("shrink-bound", 1, {"searches": given.searches, "settings": result})


if __name__ == "__main__":
    main()
