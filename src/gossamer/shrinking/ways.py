"""The ways down that suit a network: their patterns, and how sparse each makes which layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial

from torch import nn

from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.errors import InputError
from gossamer.masks import find_mask
from gossamer.records.shrinking import Tolerance
from gossamer.shrinking.allocating import (
    LEVELS,
    Weighted,
    allocated,
    by_magnitude,
    evenly,
    magnitudes,
    tolerances,
)
from gossamer.shrinking.costs import Meter
from gossamer.shrinking.descent import Ground, Rung, Way, costs_of, mask_of, resolved
from gossamer.shrinking.fine_tuning import Pulse, answered_by, mean_distance
from gossamer.shrinking.layer_times import kinds_of, timed_layers
from gossamer.shrinking.options import Options
from gossamer.shrinking.split import Split
from gossamer.shrinking.unit_layers import UnitLayers, unit_layers

_MOST_EXAMPLES, _FEWEST_EXAMPLES = 1024, 128
_SENSITIVITY_SHARE = 0.02
"""Of the time of fine-tuning, about, that looking at weights of one kind may take."""
_PASSES = 3
"""How many times as long as looking at an example it takes to learn from it."""
_REFERENCE = 1 / 6
"""Share of the multiply-adds that is left of the layers beside the one that is timed."""
LAYER_SECONDS = 0.3
"""For timing one layer at all of its sparsities."""

Allocate = Callable[[float], Mapping[str, float]]


@dataclass(frozen=True, eq=False)
class Ways:
    """The ways of a network, by name, and how sensitive its layers are."""

    ways: Mapping[str, Way]
    tolerances: Mapping[str, tuple[Tolerance, ...]]
    """By the pattern of a way."""

    def narrowed(self, names: Sequence[str]) -> dict[str, Way]:
        """Return some of the ways."""
        return {name: self.ways[name] for name in names}

    def tolerances_of(self, name: str) -> tuple[Tolerance, ...]:
        """Return how sensitive layers are to the pattern of a way."""
        return self.tolerances[self.ways[name].pattern]


def ways_of(
    dense: nn.Module, ground: Ground, meter: Meter, pulse: Pulse, *, usual: bool, timed: bool
) -> Ways:
    """Return the ways of the patterns that suit a network.

    Parameters
    ----------
    dense, ground, meter, pulse
        What the search works with.
    usual
        Whether weights are also shared out as is usual, evenly and by magnitude.
    timed
        Whether layers are timed; otherwise their time goes by their multiply-adds.

    Raises
    ------
    InputError
        If a pattern that was asked for does not suit the network.
    """
    options = ground.options
    sizes = {name: one.numel() for name, one in dense.named_parameters()}
    ways: dict[str, Way] = {}
    found: dict[str, tuple[Tolerance, ...]] = {}
    latency = options.target == "latency"
    looked = _Looked(dense, ground, meter, pulse, usual, timed and latency)
    for pattern in _asked(options):
        try:
            pulse(0.0)
            layers = looked.layers("block" if pattern == "block" else "weight")
            first, *others = (
                (name, Way(pattern, allocate, sizes, units))
                for name, allocate, units in _allocations(pattern, layers, looked)
            )
            mask_of(first[1].rung(0), dense, None, ground)
        except InputError:
            if options.pattern != "auto":
                raise
            continue
        found[pattern] = tuple(one.tolerance for one in layers)
        ways |= dict([first])
        for name, way in others:
            with suppress(InputError):
                mask_of(way.rung(0), dense, None, ground)
                ways[name] = way
    if not ways:
        raise InputError(
            f"{type(dense).__name__} has nothing that can be pruned: see `gossamer.prune`"
        )
    return Ways(ways, found)


def _asked(options: Options) -> tuple[str, ...]:
    if options.pattern != "auto":
        return (options.pattern,)
    if options.keep_units_multiple_of > 1:
        return ("unit",)
    return ("weight", "block", "unit", "unit+weight")


def ways_expected(options: Options, *, usual: bool) -> tuple[int, int, bool]:
    """Return how many kinds of weights are looked at layer by layer, and how many ways there are.

    The last says whether units are looked at layer by layer, too.

    Examples
    --------
    >>> from gossamer.shrinking.options import options_of
    >>> ways_expected(options_of(), usual=True), ways_expected(options_of(), usual=False)
    ((2, 9, True), (2, 4, False))
    """
    asked = _asked(options)
    more = sum({"weight": 2, "unit": 1, "unit+weight": 2}.get(one, 0) for one in asked)
    kinds = len({one == "block" for one in asked})
    if not usual:
        return kinds, len(asked), False
    return kinds, len(asked) + more, any("unit" in one for one in asked)


def _allocations(
    pattern: str, layers: Sequence[Weighted], looked: "_Looked"
) -> Iterator[tuple[str, Allocate, Allocate | None]]:
    """Yield the names of a pattern's ways, and how each shares out what stays, and units."""
    own = partial(allocated, layers)
    yield pattern, own, None
    if not looked.usual:
        return
    if "unit" in pattern and looked.units is not None:
        yield f"{pattern} by time", own, looked.units.shares
    if "weight" in pattern:
        names = [one.tolerance.name for one in layers]
        by = partial(by_magnitude, magnitudes(looked.dense, names), layers)
        yield f"{pattern} by magnitude", by, None
    if pattern == "weight":
        yield f"{pattern} evenly", partial(evenly, layers), None


def layers_of(dense: nn.Module, ground: Ground) -> tuple[str, ...]:
    """Return the names of the weights that can be pruned."""
    exclude = list(ground.options.exclude)
    found = find_mask(dense, 0.0, allocation="uniform", exclude=exclude, example=ground.few)
    return tuple(found.weights)


def sensitivity_examples(layers: int, ground: Ground) -> int:
    """Return on how many examples so many layers are tried: fewer where little is trained."""
    passes = _PASSES * ground.options.epochs * len(ground.split)
    count = int(_SENSITIVITY_SHARE * passes / (layers * len(LEVELS)))
    return min(_MOST_EXAMPLES, max(_FEWEST_EXAMPLES, count))


@dataclass(eq=False)
class _Looked:
    """What is measured of layers, each once."""

    dense: nn.Module
    ground: Ground
    meter: Meter
    pulse: Pulse
    usual: bool
    timed: bool
    _known: dict[str, list[Weighted]] = field(default_factory=dict)

    def layers(self, kind: str) -> list[Weighted]:
        """Return how layers answer to a pattern, and what their weights cost."""
        if kind not in self._known:
            self._known[kind] = self._layers(kind)
        return self._known[kind]

    @cached_property
    def some(self) -> Split:
        """The examples that damage is measured on."""
        count = sensitivity_examples(len(layers_of(self.dense, self.ground)), self.ground)
        return self.ground.split.sample(count, self.ground.options.seed)

    @cached_property
    def units(self) -> UnitLayers | None:
        """How layers answer to the loss of units; None where that is not timed."""
        ground, dense = self.ground, self.dense
        if not self.timed or ground.options.keep_units_multiple_of > 1:
            return None
        with suppress(InputError):
            answered = list(answered_by(dense, self.some, ground.task))
            return unit_layers(
                dense, ground, self.some,
                lambda one: mean_distance(one, answered, ground.task), self._seconds,
            )  # fmt: skip
        return None

    def _layers(self, kind: str) -> list[Weighted]:
        options, dense, ground = self.ground.options, self.dense, self.ground
        exclude = list(options.exclude)
        found = tolerances(dense, self.some, ground.task, resolved(kind), ground.few, exclude)
        costs = costs_of(dense, [one.name for one in found], ground.example, options.target)
        layers = [Weighted(one, costs[one.name]) for one in found]
        if not self.timed or not any(one.cost for one in layers):
            return layers

        def time_at(sparsities: Sequence[Mapping[str, float]]) -> list[float]:
            networks = []
            for shares in sparsities:
                network = plain_copy(dense)
                mask_of(Rung(kind, 0.0, shares), network, None, ground).apply(network)
                networks.append(network.cpu().eval())
            return self._seconds(networks)

        reference = allocated(layers, _REFERENCE)
        return timed_layers(layers, kinds_of(dense, costs), reference, time_at)

    def _seconds(self, networks: Sequence[nn.Module]) -> list[float]:
        self.pulse(0.0)
        return self.meter.seconds_of(networks, LAYER_SECONDS)
