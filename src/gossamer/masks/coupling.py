"""Units that go together: which groups of coupled channels the units of each layer are in."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.graph.capture import Structure
from gossamer.graph.groups import CoupledUnits, coupled_units
from gossamer.graph.layers import Projection, parameter_of
from gossamer.graph.symbolic import UntraceableError
from gossamer.graph.walk import UnclearTiesError
from gossamer.graph.weights import used_parameters
from gossamer.masks.allocations import Allocation, ByName
from gossamer.masks.attached import AttachedParameter
from gossamer.masks.layers import PrunableWeight, excluded_parameters
from gossamer.masks.names import modules_by_name, names_it, parameters_by_name
from gossamer.masks.saliency import Members
from gossamer.masks.scores import Score
from gossamer.masks.selection import (
    RankedLayer,
    last_to_go,
    lowest_but,
    unless_alike,
    unless_single,
)
from gossamer.masks.storages import first_names
from gossamer.masks.units import UnitLayout

_OTHERWISE = "pass coupled=False to choose units one by one"


@dataclass(frozen=True, eq=False)
class Coupling:
    """The groups that the units of some layers are in.

    Parameters
    ----------
    layers
        Those of which some units can go.
    numbers
        For each layer the group of each unit, numbered in the order of layers and units.
    pinned
        Which groups stay, ``[groups]``.
    stuck
        By name, layers of which no unit can go, with the reason.
    scaled
        Scales and shifts of normalisations, each with the group of each entry, -1 for one that
        stays.
    """

    layers: list[PrunableWeight]
    numbers: list[Tensor]
    pinned: Tensor
    stuck: Mapping[str, str]
    scaled: Sequence[tuple[AttachedParameter, Tensor]]

    def lowest(
        self,
        ranked: Sequence[RankedLayer],
        score: Score,
        allocation: Allocation,
        asked: float | Sequence[float],
    ) -> list[Tensor]:
        """Return which units of each layer go, group by group.

        One sparsity is that of all layers compared together. Those of layers hold for those
        together that are tied to each other.

        Raises
        ------
        InputError
            If a sparsity by name differs between layers that are tied to each other.
        """
        if not isinstance(asked, Sequence):
            going = self._lowest(ranked, self.numbers, score, asked, unless_single)
            return [going[numbers] for numbers in self.numbers]
        going = torch.zeros_like(self.pinned)
        for tied in self.tied():
            share = self._agreed([asked[i] for i in tied], tied, allocation)
            own, numbers = [ranked[i] for i in tied], [self.numbers[i] for i in tied]
            going |= self._lowest(own, numbers, score, share, unless_alike)
        return [going[numbers] for numbers in self.numbers]

    def check_named(self, allocation: Allocation) -> None:
        """Refuse a name that is about layers alone of which no unit can go."""
        for pattern in allocation.shares if isinstance(allocation, ByName) else ():
            named = [name for name in self.stuck if names_it(pattern, name)]
            if named and not any(names_it(pattern, layer.name) for layer in self.layers):
                raise InputError(
                    f"allocation names {pattern!r}, but {named[0]} {self.stuck[named[0]]}; "
                    f"{_OTHERWISE}"
                )

    def _agreed(self, asked: list[float], tied: list[int], allocation: Allocation) -> float:
        """Return the sparsity of layers together."""
        if len(set(asked)) == 1:
            return asked[0]
        if isinstance(allocation, ByName):
            other = next(i for i, share in enumerate(asked) if share != asked[0])
            raise InputError(
                f"allocation gives {self.layers[tied[0]].name} the sparsity {asked[0]:g} and "
                f"{self.layers[tied[other]].name} {asked[other]:g}, but their units go together: "
                f"give them the same, or {_OTHERWISE}"
            )
        sizes = [self.layers[i].weight.numel() for i in tied]
        zeros: float = sum(map(operator.mul, asked, sizes))
        return zeros / sum(sizes)

    def attached(self, kept: Sequence[Tensor]) -> list[tuple[AttachedParameter, Tensor]]:
        """Return the scales and shifts of normalisations, and which of their entries stay."""
        groups = torch.ones(len(self.pinned) + 1, dtype=torch.bool)  # the last is for -1
        for numbers, units in zip(self.numbers, kept, strict=True):
            groups[numbers] = units
        found: dict[str, tuple[AttachedParameter, Tensor]] = {}
        for parameter, numbers in self.scaled:
            # What several groups share keeps what any of them keeps.
            _, before = found.get(parameter.name, (parameter, groups[numbers]))
            found[parameter.name] = parameter, before | groups[numbers]
        return list(found.values())

    def _lowest(
        self,
        ranked: Sequence[RankedLayer],
        numbers: Sequence[Tensor],
        score: Score,
        sparsity: float,
        as_they_count: Callable[[Tensor], Tensor | None],
    ) -> Tensor:
        """Return which groups of these layers go; the best group of each layer stays."""
        present, own = torch.unique(torch.cat(list(numbers)), return_inverse=True)
        sizes = torch.cat([one.sizes for one in ranked])
        scores = torch.cat([one.scores for one in ranked]).double()
        dead = scores == -math.inf
        members = Members(scores.masked_fill(dead, 0.0), sizes, own, dead)
        scores, held = members.joined(score.join), members.total(sizes)
        safe = self.pinned[present]
        if sparsity < 1:
            safe = safe.clone()
            for units in own.split([len(one) for one in numbers]):
                if not self.pinned[present][units].any():
                    safe[units[last_to_go(scores[units])]] = True
        going = torch.zeros_like(self.pinned)
        going[present] = lowest_but(safe, scores, as_they_count(held), sparsity)
        return going

    def tied(self) -> list[list[int]]:
        """Return the positions of layers that share groups, all of one or several at a time."""
        pairs = [(i, number) for i, own in enumerate(self.numbers) for number in set(own.tolist())]
        layers, groups = zip(*pairs, strict=True)
        shape = (len(self.numbers), len(self.pinned))
        shared = coo_array(([1] * len(pairs), (layers, groups)), shape=shape).tocsr()
        labels = connected_components(shared @ shared.T, directed=False)[1].tolist()
        return [
            [i for i, label in enumerate(labels) if label == wanted]
            for wanted in dict.fromkeys(labels)
        ]


def with_units(
    root: nn.Module, layers: Sequence[PrunableWeight], structure: Structure
) -> list[PrunableWeight]:
    """Return the layers with the units that modules of other kinds are seen to compute with.

    They are those of attention and recurrence, and of what multiplies with a parameter of its own.
    """
    unclear = [layer for layer in layers if layer.units is None]
    if not unclear:
        return list(layers)
    purpose = "which units go together"
    modules = modules_by_name(root)
    graph = structure.graph(purpose, _OTHERWISE)
    called = {value.call.module for value in graph.values if value.call is not None}
    for layer in unclear if not structure.has_example else ():
        kind = modules[layer.module]
        if isinstance(kind, nn.MultiheadAttention | nn.RNNBase | nn.RNNCellBase) and kind in called:
            reason = UntraceableError(f"{layer.name} shows its units on an example only")
            raise structure.needs_an_example(purpose, reason, _OTHERWISE)
    try:
        coupled = coupled_units(root, graph)
    except UnclearTiesError as error:
        raise structure.needs_an_example(purpose, error, _OTHERWISE) from error
    found = {
        id(one.module.parameter): UnitLayout(dimension=int(one.module.transposed))
        for one in coupled.found.layers.values()
        if isinstance(one.module, Projection)
    }
    return [
        layer if layer.units is not None else replace(layer, units=found.get(id(layer.weight)))
        for layer in layers
    ]


def coupling(
    root: nn.Module,
    layers: Sequence[PrunableWeight],
    structure: Structure,
    exclude: str | Sequence[str] = (),
) -> Coupling:
    """Find the groups of the units of some layers.

    Units stay that share their channels with something that has no units here: the network's
    input, or a layer, or an embedding, that is left alone.

    Raises
    ------
    InputError
        If that cannot be found, or no unit can go.
    """
    purpose = "which units go together"
    graph = structure.graph(purpose, _OTHERWISE)
    try:
        coupled = coupled_units(root, graph)
    except UnclearTiesError as error:
        raise structure.needs_an_example(purpose, error, _OTHERWISE) from error
    names = first_names(parameters_by_name(root))
    firsts = {id(parameter): names[n] for n, parameter in parameters_by_name(root).items()}
    seen: dict[str, Tensor] = {}
    for layer in coupled.found.layers.values():
        name = firsts[id(parameter_of(layer.module))]
        own = coupled.of(layer)
        # One parameter may hold several layers, such as those of queries, keys and values.
        whole = isinstance(layer.module, Projection) and layer.module.part > 0
        seen[name] = torch.cat([seen[name], own]) if whole else own
    seen |= _embeddings_left_alone(root, coupled, exclude, structure)
    pinned = _pinned(coupled, seen, layers)
    used = {firsts[key] for key in used_parameters(graph)}
    count, numbers, stuck = len(coupled.numbers), [], {}
    for one in layers:
        if one.name in seen:
            own = seen[one.name]
        elif one.name in used:
            raise InputError(
                f"{purpose} cannot be found: what {one.name} computes is not seen; exclude it, or "
                f"{_OTHERWISE}"
            )
        else:  # nothing is computed with it
            own, count = torch.arange(count, count + one.sizes[0]), count + one.sizes[0]
        numbers.append(own)
        if all(number in pinned for number in own.tolist()):
            stuck[one.name] = f"has units that go together with {pinned[int(own[0])]}"
    if len(stuck) == len(layers):
        name, reason = next(iter(stuck.items()))
        raise InputError(
            f"no unit can go: {name}, for one, {reason}; pass coupled=False to set units to zero "
            "and leave the network its widths"
        )
    free = [i for i, one in enumerate(layers) if one.name not in stuck]
    present = dict.fromkeys(torch.cat([numbers[i] for i in free]).tolist())
    renumbered = torch.full((count,), -1)
    renumbered[torch.tensor(list(present))] = torch.arange(len(present))
    return Coupling(
        layers=[layers[i] for i in free],
        numbers=[renumbered[numbers[i]] for i in free],
        pinned=torch.tensor([number in pinned for number in present]),
        stuck=stuck,
        scaled=[
            (AttachedParameter(firsts[id(parameter)], parameter.shape, dimension), entries)
            for parameter, dimension, units in coupled.found.scaled
            if id(parameter) not in coupled.found.unscaled
            if bool(((entries := renumbered[coupled.numbers[units]]) >= 0).any())
        ],
    )


def _pinned(
    coupled: CoupledUnits, groups: Mapping[str, Tensor], layers: Sequence[PrunableWeight]
) -> dict[int, str]:
    """Return the groups that stay and why; they hold parameters that are none of some layers."""
    pinned = {
        number: f"{name}, which is left alone"
        for name in groups.keys() - {layer.name for layer in layers}
        for number in groups[name].tolist()
    }
    return pinned | dict(coupled.pinned)


def _embeddings_left_alone(
    root: nn.Module,
    coupled: CoupledUnits,
    exclude: str | Sequence[str],
    structure: Structure,
) -> dict[str, Tensor]:
    """Return the groups of the columns of embeddings that are excluded, by their names."""
    excluded = excluded_parameters(root, exclude, structure)
    return {
        ".".join(filter(None, (path, name))): coupled.numbers[channels]
        for (path, name), (_, channels) in coupled.found.vectors.items()
        if id(root.get_submodule(path)._parameters.get(name)) in excluded
    }
