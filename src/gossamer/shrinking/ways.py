"""The ways down that suit a network: their patterns, and how sparse each makes which layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

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
from gossamer.shrinking.descent import Ground, Rung, Way, mask_of, resolved, weighted
from gossamer.shrinking.fine_tuning import Pulse
from gossamer.shrinking.layer_times import timed_layers
from gossamer.shrinking.options import Options

_MOST_EXAMPLES, _FEWEST_EXAMPLES = 1024, 128
_SENSITIVITY_SHARE = 0.1
"""Of the time of fine-tuning, about, that sensitivity may take."""
_PASSES = 3
"""How many times as long as looking at an example it takes to learn from it."""
_REFERENCE = 1 / 6
"""Share of the multiply-adds that is left of the layers beside the one that is timed."""
_LAYER_SECONDS = 0.3
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


def ways_of(dense: nn.Module, ground: Ground, meter: Meter, pulse: Pulse, *, usual: bool) -> Ways:
    """Return the ways of the patterns that suit a network.

    Parameters
    ----------
    dense, ground, meter, pulse
        What the search works with.
    usual
        Whether weights are also shared out as is usual, evenly and by magnitude.

    Raises
    ------
    InputError
        If a pattern that was asked for does not suit the network.
    """
    options = ground.options
    sizes = {name: one.numel() for name, one in dense.named_parameters()}
    ways: dict[str, Way] = {}
    found: dict[str, tuple[Tolerance, ...]] = {}
    known: dict[str, list[Weighted]] = {}
    for pattern in _asked(options):
        try:
            pulse(0.0)
            kind = "block" if pattern == "block" else "weight"
            if kind not in known:
                known[kind] = _layers(kind, dense, ground, meter, pulse)
            found[pattern] = tuple(one.tolerance for one in known[kind])
            own = {
                name: Way(pattern, allocate, sizes)
                for name, allocate in _allocations(pattern, known[kind], dense, usual=usual)
            }
            for way in own.values():
                mask_of(way.rung(0), dense, None, ground)
        except InputError:
            if options.pattern != "auto":
                raise
        else:
            ways |= own
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


def ways_expected(options: Options, *, usual: bool) -> tuple[int, int]:
    """Return how many kinds of weights are looked at layer by layer, and how many ways there are.

    Examples
    --------
    >>> from gossamer.shrinking.options import options_of
    >>> ways_expected(options_of(), usual=True), ways_expected(options_of(), usual=False)
    ((2, 7), (2, 4))
    """
    asked = _asked(options)
    more = 2 * ("weight" in asked) + ("unit+weight" in asked) if usual else 0
    return len({one == "block" for one in asked}), len(asked) + more


def _allocations(
    pattern: str, layers: Sequence[Weighted], dense: nn.Module, *, usual: bool
) -> Iterator[tuple[str, Allocate]]:
    """Yield the names of a pattern's ways, and how each shares out what stays."""
    yield pattern, partial(allocated, layers)
    if not usual or "weight" not in pattern:
        return
    names = [one.tolerance.name for one in layers]
    yield f"{pattern} by magnitude", partial(by_magnitude, magnitudes(dense, names), layers)
    if pattern == "weight":
        yield f"{pattern} evenly", partial(evenly, layers)


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


def _layers(
    kind: str, dense: nn.Module, ground: Ground, meter: Meter, pulse: Pulse
) -> list[Weighted]:
    """Return how layers answer to a pattern, and what their weights cost."""
    options = ground.options
    count = len(layers_of(dense, ground))
    some = ground.split.sample(sensitivity_examples(count, ground), options.seed)
    found = tolerances(dense, some, ground.task, resolved(kind), ground.few, list(options.exclude))
    layers = weighted(dense, found, ground.example, options.target)
    if options.target != "latency" or not any(one.cost for one in layers):
        return layers

    def time_at(sparsities: Sequence[Mapping[str, float]]) -> list[float]:
        networks = []
        for shares in sparsities:
            pulse(0.0)
            network = plain_copy(dense)
            mask_of(Rung(kind, 0.0, shares), network, None, ground).apply(network)
            networks.append(network.cpu().eval())
        return meter.seconds_of(networks, _LAYER_SECONDS)

    return timed_layers(layers, allocated(layers, _REFERENCE), time_at)
