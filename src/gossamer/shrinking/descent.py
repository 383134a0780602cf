"""The way down: from a network nearly as dense as it was to one that keeps almost nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import Example
from gossamer.masks import OUTPUT_LAYER, Block, Mask, Pattern, find_mask
from gossamer.records.shrinking import Target
from gossamer.shrinking.costs import quietly
from gossamer.shrinking.options import Options
from gossamer.shrinking.split import Batch, Split, first
from gossamer.shrinking.task import Task

STEP = 1.3
"""By how much each candidate costs less than the one before."""
_FIRST = 1.7
"""The dense network's cost over the first candidate's."""
MOST = 11
"""Candidates of a whole descent."""
LEAST_STEPS = 20
"""Of the optimizer, without which a candidate is not worth its test."""
_WIDEST = 2.0
_EVEN = 0.75
_UNITS_STEP = 0.8
"""Share of the units that each candidate keeps of the one before."""
_UNIT_COST_STEP = 0.7
"""The same of what they cost, where that is known layer by layer."""
_UNITS_BEFORE_WEIGHTS = 3
_SCORE_EXAMPLES = 1024


@dataclass(frozen=True)
class Rung:
    """One candidate before it is trained: what is pruned beside what was pruned before."""

    pattern: str
    """"weight", "block" or "unit"."""
    sparsity: float
    """Of the network, about."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of each layer by name; none where scores are compared across layers."""

    def __str__(self) -> str:
        return f"{self.pattern}s, {self.sparsity:.0%}"


@dataclass(frozen=True, eq=False)
class Ground:
    """What masks are found on."""

    example: Example
    split: Split
    task: Task
    options: Options
    may_lose: float
    """By how much the metric may get worse."""
    judged_on: int = 1
    """How many validation examples there are."""
    given: Mask | None = None
    """What the network kept when it was given, where it was pruned before; zeros stay zeros."""

    @property
    def few(self) -> Example:
        """Two examples, for what looks at what a network computes."""
        found: Example = first(self.example, 2)
        return found


@dataclass(frozen=True, eq=False)
class Way:
    """The candidates of a pattern, from the safest to the sparsest, at any depth from 0 on.

    Parameters
    ----------
    pattern
        "weight", "block", "unit", or "unit+weight": fewer units first, then fewer weights.
    allocate
        From a share of the cost to the sparsity of each layer; not asked for units.
    weights
        How many weights each layer has.
    allocate_units
        The same of the units of each layer; None: units are compared across layers.
    """

    pattern: str
    allocate: Callable[[float], Mapping[str, float]]
    weights: Mapping[str, int]
    allocate_units: Callable[[float], Mapping[str, float]] | None = None

    def rung(self, depth: float) -> Rung:
        """Return the candidate at a depth: each whole step costs 1.3 times less."""
        unit = self.pattern == "unit"
        if unit or (self.pattern == "unit+weight" and depth < _UNITS_BEFORE_WEIGHTS):
            if self.allocate_units is None:
                return Rung("unit", 1 - _UNITS_STEP ** (depth + 1))
            return self._pruned("unit", self.allocate_units(_UNIT_COST_STEP ** (depth + 1)))
        kind = "block" if self.pattern == "block" else "weight"
        return self._pruned(kind, self.allocate(share_at(depth)))

    def _pruned(self, kind: str, shares: Mapping[str, float]) -> Rung:
        pruned = sum(share * self.weights[name] for name, share in shares.items())
        return Rung(kind, pruned / sum(self.weights[name] for name in shares), shares)

    @property
    def deepest_start(self) -> int:
        """How deep the first candidate may lie: where units come first, not beyond them."""
        return _UNITS_BEFORE_WEIGHTS - 1 if self.pattern == "unit+weight" else MOST - 1

    def at_once(self, depth: float) -> tuple[Rung, ...]:
        """Return what leads to a candidate without the ones before it."""
        last = self.rung(depth)
        if self.pattern == "unit+weight" and last.pattern != "unit":
            return (self.rung(_UNITS_BEFORE_WEIGHTS - 1), last)
        return (last,)


def share_at(depth: float) -> float:
    """Return what a candidate costs of the dense network."""
    return float(1 / (_FIRST * STEP**depth))


def count_of(epochs: float, steps: int, *, whole: bool) -> int:
    """Return how many candidates so many epochs are shared out over, at most `MOST`.

    Parameters
    ----------
    epochs
        Of fine-tuning in all.
    steps
        Of an epoch.
    whole
        Whether each takes whole epochs, as a training of one's own does; otherwise `LEAST_STEPS`
        steps will do.

    Examples
    --------
    >>> count_of(3, 700, whole=True), count_of(3, 700, whole=False), count_of(1, 5, whole=False)
    (3, 11, 1)
    """
    by_steps = 0 if whole else int(epochs * steps / LEAST_STEPS)
    return max(1, min(MOST, max(int(epochs), by_steps)))


def depths(count: int) -> tuple[float, ...]:
    """Return the depths of so many candidates, at most `MOST`, the first of them at 0.

    Few lie no further apart than `_WIDEST`: a leap that is too far ends the search.

    Examples
    --------
    >>> depths(1), depths(3), depths(MOST)[-1]
    ((0.0,), (0.0, 2.0, 4.0), 10.0)
    """
    count = min(count, MOST)
    step = min(_WIDEST, (MOST - 1) / max(1, count - 1))
    return tuple(step * i for i in range(count))


def shared_out(epochs: float, count: int, *, whole: bool = False) -> tuple[float, ...]:
    """Share out epochs over candidates, the sparser the more: whole ones, or parts of them.

    Three quarters go to all alike, as a candidate that fails for want of training ends the search,
    and what it learnt is left to those after it; the rest by the square of their places.

    Examples
    --------
    >>> shared_out(8, 1), shared_out(12, 4, whole=True), sum(shared_out(30, 11, whole=True))
    ((8.0,), (2, 3, 3, 4), 30)
    """
    left, found = float(epochs), []
    squares = [(1 + i / 2) ** 2 for i in range(count)]
    ramp = [_EVEN / count + (1 - _EVEN) * one / sum(squares) for one in squares]
    if not whole:
        return tuple(epochs * share for share in ramp)
    for i in range(count):
        own = max(1, round(left * ramp[i] / sum(ramp[i:])))
        own = min(own, max(1, round(left) - (count - 1 - i)))
        found.append(own)
        left -= own
    return tuple(found)


def costs_of(
    network: nn.Module, names: Sequence[str], example: Example, target: Target
) -> dict[str, float]:
    """Return what weights cost, by name: bytes, or the multiply-adds that time goes by."""
    uses = _positions(network, example)
    sizes = {name: one.numel() for name, one in network.named_parameters()}
    return {
        name: float(sizes[name] * (1 if target == "size" else uses.get(name, 1))) for name in names
    }


def _positions(network: nn.Module, example: Example) -> dict[str, int]:
    """Return at how many positions each weight is used for one example."""
    from gossamer.measures.functional.work import weight_uses

    names = {id(one): name for name, one in network.named_parameters()}
    found: dict[str, int] = {}
    for weight, positions in weight_uses(network, Arguments.of(network, example)):
        if name := names.get(id(weight)):
            found[name] = found.get(name, 0) + positions
    return found


def kept_when_given(network: nn.Module, example: Example, exclude: Sequence[str]) -> Mask | None:
    """Return the mask of a network's weights that are not zero; None if none of them is."""
    weights = find_mask(
        network, 0.0, allocation="uniform", exclude=list(exclude), example=example
    ).bind(network)
    kept = {name: (parameter != 0).cpu() for name, parameter in weights.items()}
    return None if all(bool(one.all()) for one in kept.values()) else Mask(kept)


def resolved(pattern: str) -> str | Pattern:
    """Return a pattern of a rung as `find_mask` takes it."""
    return Block(4, 1) if pattern == "block" else pattern


def mask_of(rung: Rung, network: nn.Module, before: Mask | None, ground: Ground) -> Mask:
    """Return what a candidate keeps of a network, within what the one before it kept."""
    with quietly():  # whether little is left of a layer shows in what the candidate loses
        if rung.pattern == "unit":
            found = _units(rung, network, ground)
        else:
            found = find_mask(
                network, 0.0, allocation=dict(rung.shares), pattern=resolved(rung.pattern),
                exclude=list(ground.options.exclude), example=ground.few,
            )  # fmt: skip
    return found if before is None else before & found


def _units(rung: Rung, network: nn.Module, ground: Ground) -> Mask:
    """Return the units that matter most to the loss, by Taylor's expansion across layers."""
    options = ground.options
    some = ground.split.sample(_SCORE_EXAMPLES, options.seed)
    exclude = [*options.exclude, OUTPUT_LAYER]
    batches = list(some.batches(32))
    sparsity = 0.0 if rung.shares else rung.sparsity
    with torch.enable_grad():
        found = find_mask(
            network, sparsity, score="taylor", pattern="unit", exclude=exclude,
            allocation=dict(rung.shares) or "global", example=ground.few, batches=batches,
            loss=ground.task.loss,
        )  # fmt: skip
    if options.keep_units_multiple_of == 1:
        return found
    return _in_multiples(found, network, ground, batches)


def _in_multiples(
    found: Mask, network: nn.Module, ground: Ground, batches: Sequence[Batch]
) -> Mask:
    """Return the mask that keeps a multiple of units of each layer, as many or a few more."""
    options = ground.options
    shares = {}
    for name, kept in found.weights.items():
        dimension = found.unit_dimensions.get(name, 0)
        others = [axis for axis in range(kept.dim()) if axis != dimension]
        units = int(kept.amax(dim=others).sum()) if others else int(kept.sum())
        of = kept.shape[dimension]
        multiple = options.keep_units_multiple_of
        shares[name] = 1 - min(of, -(-units // multiple) * multiple) / of
    try:
        return find_mask(
            network, 0.0, score="taylor", allocation=shares, pattern="unit",
            exclude=[*options.exclude, OUTPUT_LAYER], example=ground.few, batches=batches,
            loss=ground.task.loss,
        )  # fmt: skip
    except InputError as error:
        raise InputError(
            f"keep_units_multiple_of: layers that are tied cannot keep such a number ({error})"
        ) from error
