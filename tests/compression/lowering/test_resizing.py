"""Images made larger and smaller, margins and transposed convolutions are what PyTorch computes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer.engine import Convolution, PixelShuffle
from lowered_functions import Behind, errors, network_of


def images(*shape: int, seed: int = 0) -> Tensor:
    """Return numbers of many sizes, from 0.01 to 100."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (4 * torch.rand(shape, generator=generator) - 2)
    return sizes * torch.randn(shape, generator=generator)


def resized(**options: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: functional.interpolate(x, **options)


RESIZED: dict[str, Callable[[Tensor], Tensor]] = {
    "nearest": resized(scale_factor=2),
    "nearest size": resized(size=(13, 3)),
    "nearest odd": resized(scale_factor=(1.7, 0.6), mode="nearest"),
    "nearest exact": resized(size=(9, 4), mode="nearest-exact"),
    "bilinear": resized(scale_factor=2, mode="bilinear"),
    "bilinear odd": resized(scale_factor=(1.7, 0.6), mode="bilinear"),
    "bilinear recomputed": resized(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
    "bilinear corners": resized(size=(11, 1), mode="bilinear", align_corners=True),
    "bicubic": resized(size=(11, 3), mode="bicubic"),
    "bicubic corners": resized(size=(4, 12), mode="bicubic", align_corners=True),
    "area": resized(size=(4, 3), mode="area"),
    "adaptive average": nn.AdaptiveAvgPool2d((5, None)),
    "adaptive maximum": nn.AdaptiveMaxPool2d((4, 5)),
    "reflection": nn.ReflectionPad2d((1, 2, 3, 0)),
    "replication": nn.ReplicationPad2d((4, 0, 1, 7)),
    "circular": nn.CircularPad2d((1, 2, 3, 4)),
    "zeros": nn.ZeroPad2d((1, -2, -1, 3)),
    "zeros of channels": lambda x: functional.pad(x, (0, 1, 0, 0, 2, 1)),
    "sequence": lambda x: functional.interpolate(x.flatten(2), size=17, mode="linear"),
    "sequence, nearest": lambda x: functional.interpolate(x.flatten(2), scale_factor=3.0),
    "circular convolution": nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("name", RESIZED)
def test_images_are_resized_and_padded_as_in_pytorch(name: str) -> None:
    torch.manual_seed(0)
    assert max(errors(Behind(RESIZED[name], 2), images(3, 2, 7, 6)).values()) < 2e-6


@settings(max_examples=12)
@given(data=st.data())
def test_transposed_convolutions_are_what_pytorch_computes(data: st.DataObject) -> None:
    draw = data.draw
    stride, dilation = (tuple(draw(st.integers(1, 3)) for _ in "hw") for _ in "sd")
    kernel = tuple(draw(st.integers(1, 4)) for _ in "hw")
    reach = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
    padding = tuple(draw(st.integers(0, reach[axis])) for axis in (0, 1))
    more = tuple(draw(st.integers(0, max(stride[a], dilation[a]) - 1)) for a in (0, 1))
    groups = draw(st.sampled_from([1, 2]))
    sizes: Any = (kernel, stride, padding, more, groups, draw(st.booleans()), dilation)
    layer = nn.ConvTranspose2d(2 * groups, 3 * groups, *sizes)
    size = [draw(st.integers(3, 5)) for _ in "hw"]
    ends = [(size[a] - 1) * stride[a] - 2 * padding[a] + reach[a] + more[a] for a in (0, 1)]
    assume(min(ends) >= 0)
    assert max(errors(layer, images(2, 2 * groups, *size)).values()) < 5e-6


def test_a_transposed_convolution_takes_in_what_follows() -> None:
    torch.manual_seed(0)
    layers = (nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.Sequential(*layers, nn.ConvTranspose2d(4, 2, 3, 2, output_padding=1), nn.Tanh())
    with torch.no_grad():
        for parameter in (*layers[1].parameters(), *layers[1].buffers()):
            if parameter.is_floating_point():
                parameter.uniform_(0.5, 2)
    example = images(2, 3, 4, 4)
    assert max(errors(model, example).values()) < 2e-6
    found = [type(layer) for layer in network_of(model, example).layers]
    assert found[:3] == [Convolution, PixelShuffle, Convolution]


def test_sequences_are_transposed_too() -> None:
    torch.manual_seed(0)
    model = nn.ConvTranspose1d(3, 2, 5, 3, 1, 2)
    assert max(errors(model, images(4, 3, 9)).values()) < 2e-6


@pytest.mark.parametrize(("dilation", "kernel"), [(1, 3), (7, 3), (8, 1), (36, 1)])
def test_weights_that_read_zeros_alone_cost_nothing(dilation: int, kernel: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, padding=dilation, dilation=dilation)
    example = images(2, 2, 8, 8)
    assert max(errors(layer, example).values()) < 2e-6
    (found,) = network_of(layer, example).layers
    assert isinstance(found, Convolution)
    assert found.kernel == (kernel, kernel)


def test_a_stride_may_reach_what_the_first_output_does_not() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, (5, 3), (3, 2), (12, 9), (6, 9))
    assert max(errors(layer, images(2, 2, 10, 8)).values()) < 2e-6


VOLUMES: dict[str, nn.Module] = {
    "convolution": nn.Conv3d(4, 6, (3, 2, 3), (2, 1, 1), (1, 0, 1), (1, 2, 1), groups=2),
    "pools": nn.Sequential(
        nn.Conv3d(4, 2, 1),
        nn.MaxPool3d((2, 1, 2), padding=(1, 0, 1)),
        nn.AvgPool3d(2, 1, 1, ceil_mode=True, count_include_pad=False),
        nn.AdaptiveAvgPool3d((2, 3, 1)),
    ),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_are_convolved_and_pooled(name: str) -> None:
    torch.manual_seed(0)
    assert max(errors(VOLUMES[name], images(2, 4, 5, 4, 6)).values()) < 5e-6
