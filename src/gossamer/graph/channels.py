"""Which units the channels of a value come from, which are constant, and what ties units together.

Every output of a linear layer or convolution is a *unit* and has a number. Most operations keep
channels apart, so that each channel of a value comes from one unit; a flattened image has several
channels (features) of each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from gossamer.graph.calls import Call
from gossamer.graph.layers import (
    ChannelwiseLayer,
    UnitLayer,
    connections,
    foldable,
    groups_of,
    inputs_of,
)
from gossamer.graph.numbers import AttributeOf, Number, SizeOf, value_with


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a value: `axis` is the dimension they lie along, from the back.

    `origins`, int64 [origins, channels], are the units that each is computed from: one, or several
    where values were added or multiplied. `constants`, float64
    [channels], are their values where these are the same for all inputs at all places, else NaN.
    """

    axis: int
    origins: Tensor
    constants: Tensor

    @property
    def units(self) -> Tensor:
        """Return one unit of each channel, [channels]; its others are tied to it."""
        return self.origins[0]


@dataclass(frozen=True)
class Sizes:
    """Numbers that a forward computes from sizes; `units` are those of the channels it counted."""

    units: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class WholeShape:
    """The shape of a value that has `rank` dimensions; None where that is not known."""

    channels: Channels
    rank: int | None

    def size(self, dimensions: int | slice) -> Sizes:
        """Return what the size of one dimension, or of some, was computed from."""
        if self.rank is None:
            return Sizes((self.channels.units,))
        chosen = range(self.rank)[dimensions]
        place = self.channels.axis + self.rank
        counted = place in ([chosen] if isinstance(chosen, int) else chosen)
        return Sizes((self.channels.units,) if counted else ())


@dataclass(frozen=True, eq=False)
class Unclear:
    """What a call gives depends on shapes, and these are not known without an example."""

    call: Call


@dataclass(frozen=True, eq=False)
class Width:
    """A whole number that a forward computes, and how large it must be for what is left.

    `units` are the channels that it must count, or it must be `fixed`. It is computed from sizes
    that count channels (`counted`) and from attributes of modules, by name of both.
    """

    number: int
    units: Tensor | None
    fixed: int
    counted: Mapping[SizeOf, Tensor]
    attributes: Mapping[AttributeOf, tuple[str, str]]
    decides: bool = False
    """Whether the forward decides by it, or makes other than whole numbers of it."""

    @property
    def attribute(self) -> tuple[str, str] | None:
        """The attribute that it is, by name of module and attribute; None for any other."""
        origin = self.number.origin if isinstance(self.number, Number) else None
        return self.attributes.get(origin) if isinstance(origin, AttributeOf) else None

    def wanted(self, kept: Callable[[Tensor], int]) -> int:
        """Return what it has to be."""
        return self.fixed if self.units is None else kept(self.units)

    def given(
        self, kept: Callable[[Tensor], int], attributes: Mapping[tuple[str, str], int]
    ) -> int:
        """Return what it will be, with some attributes different."""

        def of(leaf: SizeOf | AttributeOf) -> int:
            if isinstance(leaf, AttributeOf):
                old = int(vars(leaf.module)[leaf.name])
                return attributes.get(self.attributes[leaf], old)
            if leaf in self.counted:
                return kept(self.counted[leaf])
            return (leaf.value.shape or ())[leaf.axis] or 0

        return value_with(self.number, of)


Description = Channels | Sizes | WholeShape | Unclear | None
"""What is known of a value; None for one of fixed width, such as the network's input."""


@dataclass(eq=False)
class Layer:
    """A linear layer or convolution with the numbers of its units and what it reads in each call.

    A call that reads a value of fixed width is None in `sources`. `followers` are the names of the
    normalisations that directly follow, with None for anything else that reads its result.
    """

    module: UnitLayer
    units: Tensor
    sources: list[Channels | None] = field(default_factory=list)
    followers: set[str | None] = field(default_factory=set)

    @cached_property
    def connected(self) -> Tensor:
        """Which outputs read which inputs by weights that are not zero, [outputs, inputs]."""
        return connections(self.module)

    @property
    def groups(self) -> int:
        """Return into how many groups inputs and outputs fall."""
        return groups_of(self.module)

    @property
    def input_units(self) -> Tensor | None:
        """Return the unit of each input; None if the width of the input is fixed."""
        widths = [source.units for source in self.sources if source is not None]
        return widths[0] if widths and len(widths) == len(self.sources) else None

    @property
    def foldable_inputs(self) -> Tensor:
        """Return the constant of each input that a bias can stand for in all calls, NaN else."""
        if self.input_units is None:
            return torch.full((inputs_of(self.module),), torch.nan, dtype=torch.float64)
        return same([foldable(self.module, s.constants) for s in self.sources if s is not None])


@dataclass(eq=False)
class Channelwise:
    """A layer with numbers for each channel, the units of these, and who gives its input.

    `sources` holds the name of the layer that it directly follows, or None, of each call.
    """

    module: ChannelwiseLayer
    units: Tensor
    sources: set[str | None] = field(default_factory=set)


@dataclass(eq=False)
class Findings:
    """What following a network found; grows call by call."""

    layers: dict[str, Layer] = field(default_factory=dict)
    channelwise: dict[str, Channelwise] = field(default_factory=dict)
    fixed: list[tuple[Tensor, str]] = field(default_factory=list)
    """Units that must stay if all that is computed is to stay as it is, and why."""
    pinned: list[tuple[Tensor, str]] = field(default_factory=list)
    """Units that share their channels with something that is not computed by units, and what."""
    ties: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Units that go together or not at all."""
    called_otherwise: set[str] = field(default_factory=set)
    """Modules with a call that cannot be cut, so that no call of theirs can."""
    scaled: list[tuple[nn.Parameter, int, Tensor]] = field(default_factory=list)
    """Scales and shifts of normalisations, and what is added to units: a dimension, and the unit of
    each entry along it."""
    widths: list[Width] = field(default_factory=list)
    """Numbers that have to be right for what is left."""
    alike: list[tuple[Tensor, ...]] = field(default_factory=list)
    """Channels of which as many have to stay of each."""
    vectors: dict[tuple[str, str], tuple[int, Tensor]] = field(default_factory=dict)
    """Parameters with a number for each channel, by names of module and parameter: the dimension
    and the channels along it."""
    unscaled: set[int] = field(default_factory=set)
    """Ids of scales and shifts that also act on something else than units."""
    count: int = 0
    """How many units there are."""

    def new_units(self, count: int) -> Tensor:
        """Give numbers to further units."""
        self.count += count
        return torch.arange(self.count - count, self.count)

    def layer(self, name: str, module: UnitLayer, outputs: int) -> Layer:
        """Return the layer of that name; its units are numbered when it is first asked for."""
        if name not in self.layers:
            self.layers[name] = Layer(module, self.new_units(outputs))
        return self.layers[name]

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Let units go together."""
        if first is not second:
            self.ties.append((first, second))

    def fix(self, descriptions: Sequence[Description], reason: str) -> None:
        """Let the units behind some values stay."""
        for description in descriptions:
            self.fixed += [(units, reason) for units in _units_behind(description)]

    def fix_called_otherwise(self) -> None:
        """Let the units stay of layers that have also been called in a way that cannot be cut."""
        for name in self.called_otherwise:
            for record in (self.layers.get(name), self.channelwise.get(name)):
                if record is not None:
                    widths = [record.units, *_input_units(record)]
                    self.fixed += [(units, "it is called in several ways") for units in widths]

    def bundles(self, more: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
        """Return the number of the bundle that each unit is in; what is tied has one number."""
        ties = [*self.ties, *more]
        if not ties:
            return torch.arange(self.count)
        first, second = (torch.cat(side).numpy() for side in zip(*ties, strict=True))
        edges = coo_array((first * 0 + 1, (first, second)), shape=(self.count, self.count))
        return torch.from_numpy(connected_components(edges, directed=False)[1]).long()


def _input_units(record: Layer | Channelwise) -> list[Tensor]:
    units = record.input_units if isinstance(record, Layer) else None
    return [] if units is None else [units]


def _units_behind(description: Description) -> tuple[Tensor, ...]:
    match description:
        case Channels(origins=origins) | WholeShape(channels=Channels(origins=origins)):
            return (origins.flatten(),)
        case Sizes(units=several):
            return several
    return ()


def not_constant(count: int) -> Tensor:
    """Return the constants of channels of which none is constant."""
    return torch.full((count,), torch.nan, dtype=torch.float64)


def same(constants: Sequence[Tensor]) -> Tensor:
    """Return the constants that are finite and equal in all of several, NaN for others.

    Examples
    --------
    >>> same([torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])])
    tensor([1., nan])
    """
    stacked = torch.stack(list(constants))
    equal = (stacked == stacked[0]).all(0) & stacked[0].isfinite()
    return torch.where(equal, stacked[0], torch.nan)
