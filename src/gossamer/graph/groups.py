"""Which units of a network go together: groups of coupled channels.

What a residual sum, a concatenation, a normalisation, a shared layer or a convolution in groups
ties together can be removed as one, or not at all. Pruning chooses among these groups, and
compaction removes them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gossamer.graph.calls import Graph
from gossamer.graph.channels import Findings, Layer
from gossamer.graph.following import OUTPUT, follow
from gossamer.graph.layers import Projection, parameter_of
from gossamer.graph.ledger import storage_of

Ties = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Member:
    """What of one parameter belongs to a group.

    Attributes
    ----------
    parameter
        Its name.
    part
        ``"units"`` of a weight (rows of a linear layer or convolution, columns of a transposed
        one), ``"inputs"`` of a weight that reads these channels, or ``"entries"`` of a bias, or of
        the scale and shift of a normalisation.
    indices
        Which of them, in rising order.
    """

    parameter: str
    part: str
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together.

    Attributes
    ----------
    members
        All that belongs to them.
    pinned
        What else shares these channels, so that they cannot be removed; empty where nothing does.
    """

    members: tuple[Member, ...]
    pinned: str = ""


@dataclass(frozen=True, eq=False)
class CoupledUnits:
    """The groups of a network.

    Attributes
    ----------
    network
        The network.
    found
        What following it found.
    numbers
        The group of each unit, ``[units]``; the units of a layer are in its ``units``.
    pinned
        What shares the channels of a group that cannot be removed, by its number.
    """

    network: nn.Module
    found: Findings
    numbers: Tensor
    pinned: Mapping[int, str]

    def of(self, layer: Layer) -> Tensor:
        """Return the group of each unit of a layer."""
        return self.numbers[layer.units]

    def __iter__(self) -> Iterator[Group]:
        """Yield the groups that have units, in the order in which the network computes them."""
        units = [self.of(layer) for layer in self.found.layers.values()]
        for number in dict.fromkeys(torch.cat(units).tolist() if units else []):
            yield self[number]

    def __getitem__(self, number: int) -> Group:
        """Return a group by its number."""
        members = [
            Member(name, part, tuple(indices))
            for (name, part), numbers in self._parts.items()
            if (indices := (numbers == number).nonzero().flatten().tolist())
        ]
        return Group(tuple(members), self.pinned.get(number, ""))

    @cached_property
    def _parts(self) -> dict[tuple[str, str], Tensor]:
        """The group of each unit, input and entry, by the names of parameters."""
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        parts: dict[tuple[str, str], Tensor] = {}
        for layer in self.found.layers.values():
            weight = names[id(parameter_of(layer.module))]
            # One parameter may hold several layers, such as those of queries, keys and values.
            before = parts.get((weight, "units"), layer.units[:0])
            parts[weight, "units"] = torch.cat([before, self.of(layer)])
            if layer.module.bias is not None and not isinstance(layer.module, Projection):
                parts[names[id(layer.module.bias)], "entries"] = self.of(layer)
            if layer.input_units is not None:
                parts[weight, "inputs"] = self.numbers[layer.input_units]
        for channelwise in self.found.channelwise.values():
            for parameter in channelwise.module.parameters(recurse=False):
                if len(parameter) == len(channelwise.units):
                    parts[names[id(parameter)], "entries"] = self.numbers[channelwise.units]
        for parameter, _, units in self.found.scaled:
            parts.setdefault((names[id(parameter)], "entries"), self.numbers[units])
        return parts


def coupled_units(network: nn.Module, graph: Graph) -> CoupledUnits:
    """Find the groups of a network from what it computes.

    Parameters
    ----------
    network, graph
        The network and what it computes.

    Raises
    ------
    UnclearTiesError
        If which units a call ties together depends on shapes, and these are not known.

    Examples
    --------
    >>> from gossamer.graph.recording import recorded
    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    >>> first, *_ = coupled_units(network, recorded(network, torch.ones(1, 1, 4, 4)))
    >>> [(member.parameter, member.part, member.indices) for member in first.members]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('0.weight', 'units', (0,)), ('0.bias', 'entries', (0,)), ('2.weight', 'inputs', (0,)),
     ('1.weight', 'entries', (0,)), ('1.bias', 'entries', (0,))]
    """
    found = Findings()
    follow(graph, network, found)
    grouped = [tie for layer in found.layers.values() for tie in _in_groups(layer)]
    numbers = found.bundles([*grouped, *_in_the_same_memory(found)])
    pinned = {
        number: reason
        for units, reason in reversed(found.pinned)
        for number in numbers[units].tolist()
    }
    members = torch.zeros(int(numbers.max()) + 1 if len(numbers) else 0, dtype=torch.int64)
    for layer in found.layers.values():
        members += torch.bincount(numbers[layer.units], minlength=len(members))
    for units, reason in found.fixed:
        if reason == OUTPUT:
            several = numbers[units][members[numbers[units]] > 1]
            pinned |= dict.fromkeys(several.tolist(), "the network's output")
    return CoupledUnits(network, found, numbers, pinned)


def _in_groups(layer: Layer) -> Ties:
    """Return what a convolution in groups ties: it has to stay one.

    Either whole groups of it go, or the same places of all of them; whichever leaves more to choose
    from. Depthwise ones lose whole groups; one whose input keeps its width never does.
    """
    if layer.groups == 1:
        return []
    inputs = layer.input_units
    given = [layer.units] if inputs is None else [layer.units, inputs]
    sides = [units.view(layer.groups, -1) for units in given]
    if inputs is None or layer.groups < min(side.shape[1] for side in sides):
        return [(side[:1].expand_as(side).flatten(), side.flatten()) for side in sides]
    firsts = sides[0][:, :1]
    return [(firsts.expand_as(side).flatten(), side.flatten()) for side in sides]


def _in_the_same_memory(found: Findings) -> Ties:
    """Return what layers tie that hold one weight as parameters of their own."""
    firsts: dict[object, Layer] = {}
    ties = []
    for layer in found.layers.values():
        weight = layer.module.weight
        if not is_lazy(parameter_of(layer.module)):
            place = (storage_of(weight), weight.storage_offset(), weight.shape, weight.stride())
            ties.append((firsts.setdefault(place, layer).units, layer.units))
    return ties
