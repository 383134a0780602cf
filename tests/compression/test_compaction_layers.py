"""What compaction reads off single layers, against what these layers compute."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.compression.compacting.layers import cut_layer
from gossamer.graph.layers import (
    WeightedLayer,
    connections,
    contribution,
    foldable,
    inputs_of,
    outputs_of,
)
from gossamer.graph.shape_rules import merged_axis

LAYERS: dict[str, WeightedLayer] = {
    "linear": nn.Linear(6, 4),
    "convolution": nn.Conv2d(6, 4, 3, padding=1),
    "grouped": nn.Conv2d(6, 4, 3, groups=2),
    "depthwise": nn.Conv2d(6, 12, 3, groups=6),
    "transposed": nn.ConvTranspose2d(6, 4, 2, groups=2),
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> WeightedLayer:
    torch.manual_seed(0)
    module = copy.deepcopy(LAYERS[request.param]).double()
    module.weight.data *= torch.rand(module.weight.shape) < 0.3
    return module


def run(layer: WeightedLayer, channels: Tensor) -> Tensor:
    """Run a layer on images, or on one pixel of them if it is linear: [images, outputs, places]."""
    with torch.no_grad():
        if isinstance(layer, nn.Linear):
            return layer(channels[:, :, 2, 2])[:, :, None]  # type: ignore[no-any-return]
        return layer(channels).flatten(2)  # type: ignore[no-any-return]


def test_an_output_changes_with_the_inputs_it_is_connected_to(layer: WeightedLayer) -> None:
    images = torch.eye(6).double()[:, :, None, None] * torch.rand(1, 1, 5, 5).double()
    changed = (run(layer, images) != run(layer, images * 0)).any(2).T
    assert torch.equal(connections(layer), changed)


def test_foldable_constants_add_their_contribution_at_all_places(layer: WeightedLayer) -> None:
    values = torch.tensor([0.0, 1.5, -2.0, 0.0, 0.25, torch.nan], dtype=torch.float64)
    folded = foldable(layer, values).nan_to_num(0.0)
    sees_border = isinstance(layer, nn.ConvTranspose2d) or getattr(layer, "padding", 0) == (1, 1)
    assert torch.equal(folded, values.nan_to_num(0.0) * (0 if sees_border else 1))
    images = torch.randn(2, 6, 5, 5).double()
    added = run(layer, images + folded.view(1, -1, 1, 1)) - run(layer, images)
    expected = contribution(layer, folded).view(1, -1, 1).expand_as(added)
    torch.testing.assert_close(added, expected)


def test_a_cut_layer_computes_the_outputs_it_keeps(layer: WeightedLayer) -> None:
    inputs = torch.tensor([True, False, True, True, False, True])
    outputs = torch.arange(outputs_of(layer)) % 2 == 0  # as many of each group
    if outputs_of(layer) == 12:
        outputs = inputs.repeat_interleave(2)  # the depthwise filters of these inputs
    shift = torch.randn(outputs_of(layer)).double()
    images = torch.randn(2, 6, 5, 5).double() * inputs.view(1, -1, 1, 1)
    expected = (run(layer, images) + shift[None, :, None])[:, outputs]
    cut_layer(layer, inputs, outputs, shift)
    assert (inputs_of(layer), outputs_of(layer)) == (int(inputs.sum()), int(outputs.sum()))
    torch.testing.assert_close(run(layer, images[:, inputs]), expected)


@given(
    sizes=st.lists(st.integers(2, 4), min_size=1, max_size=3),
    channels=st.integers(2, 5),
    before=st.lists(st.integers(1, 3), max_size=1),
)
def test_a_merged_dimension_holds_each_channel_where_it_is_said_to(
    sizes: list[int], channels: int, before: list[int]
) -> None:
    shape = (7, *before, channels, *sizes)
    axis = 1 + len(before)
    numbers = torch.arange(channels).view(-1, *[1] * len(sizes)).expand(shape)
    results = [
        (7, math.prod(shape[1:])),
        (7, *before, math.prod(shape[axis:])),
        (7, *before, channels, math.prod(sizes)),
        (7, *before, channels * sizes[0], *sizes[1:]),
    ]
    for result in results:
        place = merged_axis(shape, axis, result)
        assert place is not None
        where, outer, inner = place
        labels = torch.arange(channels).repeat_interleave(inner).repeat(outer)
        lying = labels.view(-1, *[1] * (len(result) - where - 1)).expand(result)
        assert torch.equal(numbers.reshape(result), lying)
    assert merged_axis((7, 2 * channels, 4), 1, (7, 2, channels, 4)) is None
    assert merged_axis(shape, axis, (math.prod(shape),)) is None
