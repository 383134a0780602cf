"""Which units stay: what the output needs, and what keeps its place.

A unit is needed if it must stay (it gives the output, or something of fixed width reads it), or if
a needed unit reads it, or a sum or product with it, through a weight that is not zero and no bias
can stand for what is read. All else goes, but for idle units that fill a place: what is added to a
needed unit has a unit there too, a layer keeps at least one unit, and the groups of a convolution
stay equal in size. Nothing reads an idle unit, and it reads nothing.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from gossamer.compression.compacting.counting import alike, equal_counts
from gossamer.compression.compacting.layers import (
    cut_channels,
    cut_layer,
    cut_vector,
    linear_like,
    put_projections,
    silence,
)
from gossamer.compression.storing import is_pruned_in_blocks, suits_blocks
from gossamer.engine import BLOCK_ROWS
from gossamer.graph.channels import Findings, Layer, Width
from gossamer.graph.layers import (
    ChannelwiseLayer,
    Projection,
    WeightedLayer,
    contribution,
    inputs_of,
)

NARROWED = "_narrowed"
"""Attribute of a module that names those of its whole numbers that were changed."""


@dataclass(frozen=True, eq=False)
class LayerCut:
    """What becomes of a layer.

    `inputs` and `outputs` stay, both bool; of these the `idle` ones (first inputs, then outputs)
    are not read, or read nothing, any more; `shift` is what each output that there was gains
    instead, float64.
    """

    inputs: Tensor
    outputs: Tensor
    idle: tuple[Tensor, Tensor]
    shift: Tensor


@dataclass(frozen=True, eq=False)
class ChannelCut:
    """What a normalisation or PReLU keeps, and what goes from its running mean; both [channels]."""

    kept: Tensor
    shift: Tensor


@dataclass(frozen=True, eq=False)
class Plan:
    """How to cut a network, by the names of its modules."""

    layers: Mapping[str, LayerCut]
    channelwise: Mapping[str, ChannelCut]
    attributes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Whole numbers that modules compute with, by the names of module and attribute."""
    vectors: Mapping[tuple[str, str], tuple[int, Tensor]] = field(default_factory=dict)
    """Of parameters with a number for each channel, by names: the dimension, and which stay."""
    projections: Mapping[str, Projection] = field(default_factory=dict)
    """Those of `layers` that are parameters of other modules."""

    @property
    def removed(self) -> int:
        """How many units and inputs go."""
        parts = [part for cut in self.layers.values() for part in (cut.inputs, cut.outputs)]
        return sum(int((~part).sum()) for part in parts)

    def apply(self, network: nn.Module) -> None:
        """Cut a network in place."""
        modules = dict(network.named_modules())
        for (name, attribute), number in self.attributes.items():
            setattr(modules[name], attribute, number)
            noted = vars(modules[name]).get(NARROWED, ())
            setattr(modules[name], NARROWED, tuple(dict.fromkeys((*noted, attribute))))
        for (name, short), (along, stay) in self.vectors.items():
            cut_vector(modules[name], short, along, stay)
        pieces = []
        for name, cut in self.layers.items():
            layer = modules.get(name)
            if (projection := self.projections.get(name)) is not None:
                projection = replace(projection, holder=modules[projection.path])
                layer = linear_like(projection)
                pieces.append((projection, layer))
            assert isinstance(layer, WeightedLayer)
            silence(layer, *cut.idle)
            cut_layer(layer, cut.inputs, cut.outputs, cut.shift)
        put_projections(pieces)
        for name, channels in self.channelwise.items():
            module = modules[name]
            assert isinstance(module, ChannelwiseLayer)
            cut_channels(module, channels.kept, channels.shift)


def solve(found: Findings) -> Plan:
    """Return the plan that removes all that can go.

    Where what is left does not agree with the numbers that the forward computes with, idle units
    make it agree, or all stays that these count.
    """
    kept, tried = _Kept(found), set[Width]()
    attributes, wrong, widths = _settled(found, kept)
    while wrong:
        pairs = equal_counts(found, [width for width in widths if width not in tried])
        tried.update(widths)
        found.alike += pairs
        found.fixed += [] if pairs else wrong
        kept = _Kept(found)
        attributes, wrong, widths = _settled(found, kept)
    cuts = {name: _layer_cut(layer, kept) for name, layer in found.layers.items()}
    layers = found.layers
    norms = {name: _norm_behind(name, found) for name in cuts}
    return Plan(
        {name: cut if norms[name] is None else _unshifted(cut) for name, cut in cuts.items()},
        {
            name: ChannelCut(
                kept.units(channelwise.units),
                sum(
                    (cuts[layer].shift for layer, norm in norms.items() if norm == name),
                    start=torch.zeros(len(channelwise.units), dtype=torch.float64),
                ),
            )
            for name, channelwise in found.channelwise.items()
        },
        attributes,
        {name: (along, kept.units(units)) for name, (along, units) in found.vectors.items()},
        {name: one.module for name, one in layers.items() if isinstance(one.module, Projection)},
    )


def _settled(
    found: Findings, kept: "_Kept"
) -> tuple[dict[tuple[str, str], int], list[tuple[Tensor, str]], list[Width]]:
    """Return what attributes become, units that must stay as numbers would be wrong, and these."""
    attributes: dict[tuple[str, str], int] = {}
    wrong = [
        (torch.cat(parts), "the forward parts what it gives into pieces of one size")
        for parts in found.alike
        if len({kept.count(part) for part in parts}) > 1
    ]
    for width in found.widths:
        if (name := width.attribute) is not None and width.units is not None:
            attributes.setdefault(name, width.wanted(kept.count))
    changed = {
        name
        for width in found.widths
        if (name := width.attribute) in attributes and attributes[name] != width.number
    }
    widths = []
    for width in found.widths:
        touched = [name for name in width.attributes.values() if name in changed]
        if width.given(kept.count, attributes) == width.wanted(kept.count):
            continue
        widths.append(width)
        concerned = [width, *(w for w in found.widths if w.attribute in touched)]
        units = [w.units for w in concerned if w.units is not None]
        units += [own for w in concerned for own in w.counted.values()]
        named = ", ".join(".".join(filter(None, name)) for name in width.attributes.values())
        reason = f"the forward computes its size {int(width.number)}" + f" of {named}" * bool(named)
        reason = "the forward decides by it" if width.decides else reason
        wrong += [(own, reason) for own in units if kept.count(own) < len(own)]
    return {name: attributes[name] for name in changed}, wrong, widths


def with_whole_blocks(found: Findings, plan: Plan) -> Plan | None:
    """Return a plan that removes whole blocks of four rows where the given one breaks blocks.

    A unit that goes from among four rows that share their pattern saves nothing, and the rows
    behind it no longer share theirs. None if no blocks are broken that are worth keeping.
    """
    tied = replace(found, ties=list(found.ties))
    for name, cut in plan.layers.items():
        layer = found.layers[name]
        if _breaks_blocks(layer, cut):
            first = torch.arange(len(cut.outputs)) // BLOCK_ROWS * BLOCK_ROWS
            tied.tie(layer.units[first], layer.units)
    if len(tied.ties) == len(found.ties):
        return None
    whole = solve(tied)
    same = all(
        torch.equal(cut.outputs, plan.layers[name].outputs) for name, cut in whole.layers.items()
    )
    return None if same else whole


def _breaks_blocks(layer: Layer, cut: LayerCut) -> bool:
    """Tell whether what is left of a layer lay in blocks, and would not any more."""
    if isinstance(layer.module, _ConvTransposeNd):
        return False  # it runs in PyTorch, which gains nothing from blocks
    if cut.outputs.all():
        return False
    idle_inputs, idle_units = cut.idle
    module = layer.module
    twin = linear_like(module) if isinstance(module, Projection) else copy.deepcopy(module)
    silence(twin, ~cut.inputs | idle_inputs, ~cut.outputs | idle_units)
    left = (twin.weight.detach() != 0).cpu().flatten(1).float().numpy()
    kept = left[cut.outputs.numpy()]
    groups_kept = int(cut.outputs.view(layer.groups, -1).any(1).sum())
    return is_pruned_in_blocks(left, layer.groups) and not suits_blocks(kept, groups_kept)


class _Kept:
    """Which units are needed, and which stay."""

    def __init__(self, found: Findings) -> None:
        self._layers = list(found.layers.values())
        self._alike = alike(found)
        self._bundles = found.bundles()
        self._needed = torch.zeros(found.count, dtype=torch.bool)
        for units, _ in found.fixed:
            self._needed[units] = True
        self._find_needed()
        self._kept = torch.zeros(found.count, dtype=torch.bool)
        self._keep(self._needed.nonzero().flatten())
        self._fill_up()

    def units(self, units: Tensor) -> Tensor:
        """Return which of these units stay."""
        return self._kept[self._bundles[units]]

    def count(self, units: Tensor) -> int:
        """Return how many of these channels stay."""
        return int(self.units(units).sum())

    def inputs(self, layer: Layer) -> Tensor:
        """Return which inputs of a layer stay."""
        if layer.input_units is None:
            return torch.ones(inputs_of(layer.module), dtype=torch.bool)
        return self.units(layer.input_units)

    def idle_units(self, layer: Layer) -> Tensor:
        """Return which units of a layer are not needed."""
        return ~self._needed[layer.units]

    def idle_inputs(self, layer: Layer) -> Tensor:
        """Return which inputs of a layer are not needed, or not all that they are computed from."""
        idle = torch.zeros(inputs_of(layer.module), dtype=torch.bool)
        for source in layer.sources:
            if source is not None:
                idle |= ~self._needed[source.origins].all(0)
        return idle

    def _find_needed(self) -> None:
        before = -1
        while before != (before := int(self._needed.sum())):
            for layer in reversed(self._layers):  # a need travels from the last layer to the first
                read = layer.connected[self._needed[layer.units]].any(0)
                read &= layer.foldable_inputs.isnan()
                for source in layer.sources:
                    if source is not None:
                        self._needed[source.origins[:, read]] = True

    def _fill_up(self) -> None:
        before = -1
        while before != (before := int(self._kept.sum())):
            for layer in self._layers:
                outputs = self.units(layer.units).view(layer.groups, -1)
                inputs = self.inputs(layer).view(layer.groups, -1)
                alive = outputs.any(1) | inputs.any(1)
                if not alive.any():
                    alive[0] = True
                self._keep(layer.units[_filled(outputs, alive)])
                if layer.input_units is not None:
                    self._keep(layer.input_units[_filled(inputs, alive)])
            for parts in self._alike:
                together = torch.stack(parts)
                kept = self._kept[self._bundles[together]]
                self._keep(together.flatten()[_filled(kept, torch.ones(len(parts)).bool())])

    def _keep(self, units: Tensor) -> None:
        self._kept[self._bundles[units]] = True


def _filled(kept: Tensor, alive: Tensor) -> Tensor:
    """Return what is kept and, in the groups alive, more, until all have as many as the largest.

    `kept` is bool [groups, members], `alive` bool [groups], and the result bool [members of all].
    """
    count = max(int(kept.sum(1).max()), 1)
    kept_first = (~kept).int().argsort(dim=1, stable=True)
    first = torch.zeros_like(kept).scatter(1, kept_first[:, :count], True)
    return (kept | (first & alive[:, None])).flatten()


def _layer_cut(layer: Layer, kept: _Kept) -> LayerCut:
    idle_inputs, idle_units = kept.idle_inputs(layer), kept.idle_units(layer)
    constants = layer.foldable_inputs.nan_to_num(0.0).masked_fill(~idle_inputs, 0.0)
    return LayerCut(
        inputs=kept.inputs(layer),
        outputs=kept.units(layer.units),
        idle=(idle_inputs, idle_units),
        shift=contribution(layer.module, constants).masked_fill(idle_units, 0.0),
    )


def _norm_behind(name: str, found: Findings) -> str | None:
    """Return the normalisation that can take in the constants folded into a layer without bias."""
    layer = found.layers[name]
    follower = next(iter(layer.followers)) if len(layer.followers) == 1 else None
    if layer.module.bias is not None or follower not in found.channelwise:
        return None
    norm = found.channelwise[follower]
    fed_by_it_alone = norm.sources == {name}
    averaged = isinstance(norm.module, _BatchNorm) and norm.module.running_mean is not None
    return follower if fed_by_it_alone and averaged else None


def _unshifted(cut: LayerCut) -> LayerCut:
    return replace(cut, shift=torch.zeros_like(cut.shift))
