"""What is settled before validation data is looked at: the pattern, the way down, the time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scipy import special
from torch import Tensor, nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import MOST, Ground, Rung, Way, count_of, depths, shared_out
from gossamer.shrinking.fine_tuning import Lesson, Pulse, estimate_statistics
from gossamer.shrinking.options import DEFAULT_RATE
from gossamer.shrinking.piloting import (
    Follow,
    Speed,
    can_tell_allocations,
    masked_to,
    piloted,
    tried_rate,
)
from gossamer.shrinking.task import evaluate
from gossamer.shrinking.ways import ways_of

_START_EXAMPLES = 8192
"""On so many training examples it is looked at where a descent may begin."""
_HELPS = 1.1
"""Speed-up below which a smaller network is not worth its drop."""


@dataclass(frozen=True)
class Plan:
    """The way down, and why it was chosen."""

    pattern: str
    """Of the way down, and how it shares out weights where that is not by sensitivity."""
    rungs: tuple[Rung, ...]
    epochs: tuple[float, ...]
    """Of fine-tuning, of each candidate."""
    tolerances: tuple[Tolerance, ...]
    reason: str
    spent: float = 0.0
    """Epochs that choosing the pattern took."""
    helps: bool = True
    """Whether any candidate was faster at all."""
    rate: float = DEFAULT_RATE
    """Of Adam, for fine-tuning the last candidate."""
    early: int = 0
    """How many candidates are tried before the first that may end the search."""

    def place(self, number: int) -> float:
        """Return how far down a candidate is, from 0, the first, to 1, the last."""
        return number / max(1, len(self.rungs) - 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as JSON has it."""
        return {
            "pattern": self.pattern,
            "rungs": [[r.pattern, r.sparsity, dict(r.shares)] for r in self.rungs],
            "epochs": list(self.epochs),
            "tolerances": [one.model_dump(mode="json") for one in self.tolerances],
            "reason": self.reason,
            "spent": self.spent,
            "helps": self.helps,
            "rate": self.rate,
            "early": self.early,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Plan":
        """Return what `to_dict` gave."""
        return cls(
            told["pattern"],
            tuple(Rung(*each) for each in told["rungs"]),
            tuple(told["epochs"]),
            tuple(Tolerance.model_validate(one) for one in told["tolerances"]),
            told["reason"],
            told["spent"],
            told["helps"],
            told.get("rate", DEFAULT_RATE),
            told.get("early", 0),
        )


def plan(
    dense: nn.Module,
    learnt: Lesson,
    ground: Ground,
    meter: Meter,
    epochs: float,
    pulse: Pulse,
    follow: Follow,
    *,
    timed: bool,
) -> Plan:
    """Settle rate, pattern and candidates, by sensitivity, times and training data alone.

    Parameters
    ----------
    dense, learnt, ground, meter
        What the search works with.
    epochs
        Of fine-tuning, of which the planning takes its share.
    pulse, follow
        See `Pulse` and `Follow`.
    timed
        Whether each layer is timed, where latency counts.

    Raises
    ------
    InputError
        If a pattern that was asked for does not suit the network.
    """
    follow("measuring how sensitive each layer is, and how long it takes")
    usual = can_tell_allocations(epochs, learnt)
    ways = ways_of(dense, ground, meter, pulse, usual=usual, timed=timed)
    follow("timing candidates before anything is trained")
    speeds = {name: Speed.of(way, dense, ground, meter, pulse) for name, way in ways.ways.items()}
    best = {name: speed.at(MOST - 1) for name, speed in speeds.items()}
    shown = ", ".join(f"{name} {value:.1f} times" for name, value in best.items())
    helping = ways.narrowed([name for name in best if best[name] >= _HELPS])
    rate, spent = learnt.rate, 0.0
    if helping:
        first = next(iter(helping.values()))
        rate, spent = tried_rate(first, dense, learnt, ground, epochs, pulse, follow)
        learnt = replace(learnt, rate=rate)
    if not helping:
        name = max(best, key=lambda one: best[one])
        reason = f"nothing that was pruned before training was faster than the network ({shown})"
    elif len(helping) == 1:
        name, reason = next(iter(helping)), f"before training its sparsest candidate is: {shown}"
    else:
        name, reason, more = piloted(
            helping, speeds, dense, learnt, ground, meter, epochs, pulse, follow
        )
        spent += more
    way, whole = ways.ways[name], learnt.train is not None
    left = max(1.0, epochs - spent) if whole else max(0.1 * epochs, epochs - spent)
    rungs, shares = way_down(way, dense, learnt, ground, left, pulse)
    return Plan(
        pattern=name,
        rungs=rungs,
        epochs=shares,
        tolerances=ways.tolerances_of(name),
        reason=reason,
        spent=spent,
        helps=bool(helping),
        rate=rate,
    )


def way_down(
    way: Way, dense: nn.Module, learnt: Lesson, ground: Ground, epochs: float, pulse: Pulse
) -> tuple[tuple[Rung, ...], tuple[float, ...]]:
    """Return the candidates of a way, from where nothing has to be learnt, and their epochs."""
    whole = learnt.train is not None
    start = _start(way, dense, ground, pulse)
    found = [
        way.rung(start + depth) for depth in depths(count_of(epochs, learnt.steps, whole=whole))
    ]
    # Where nothing more can go candidates would be the same.
    rungs = tuple(r for i, r in enumerate(found) if not i or r != found[i - 1])
    return rungs, shared_out(epochs, len(rungs), whole=whole)


def _start(way: Way, dense: nn.Module, ground: Ground, pulse: Pulse) -> float:
    """Return the depth down to which nothing has to be learnt anew, for the first candidate.

    There the network loses less than half of the budget on training examples when it is pruned at
    once and not trained at all, and as many examples as it is judged on would show that it keeps
    the budget.
    """
    some = ground.split.sample(_START_EXAMPLES, ground.options.seed)
    before = evaluate(dense, some, ground.task)
    found = 0.0
    for depth in range(1, way.deepest_start + 1):
        pulse(0.0)
        network = plain_copy(dense)
        masked_to(network, way, depth, ground)
        estimate_statistics(network, ground.split, ground.options.seed, 2000)
        drops = ground.task.drop(before, evaluate(network, some, ground.task))
        if not is_safe(drops, ground):
            break
        found = float(depth)
    return found


def is_safe(drops: Tensor, ground: Ground) -> bool:
    """Return whether such drops of training examples leave room for what few examples show."""
    drop, spread = float(drops.mean()), float(drops.std(correction=0))
    own, error = spread / math.sqrt(len(drops)), spread / math.sqrt(ground.judged_on)
    reach = float(special.ndtri(ground.options.confidence))
    return drop + own <= ground.may_lose / 2 and drop + reach * error <= ground.may_lose
