"""Widths behind normalisations over channels: what is zero goes, and still counts."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer import compact, compress, prune
from gossamer.compression.compaction import compaction_report
from gossamer.networks.normalisation import narrow, normalised_axis
from gossamer.shrinking.loading import load_shrunk, save_shrunk

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class OfImages(nn.LayerNorm):
    """A normalisation of one's own over the channels of images, as ConvNeXt has it."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Doubling(nn.LayerNorm):
    """A kind of one's own that does something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Block(nn.Module):
    """Attention and a perceptron, each behind a normalisation and beside a residual."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int = 16) -> None:
        super().__init__()
        self.first, self.second = norm(width), norm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 24), nn.Linear(24, width)

    def forward(self, x: Tensor) -> Tensor:
        read = self.first(x)
        x = x + self.attention(read, read, read, need_weights=False)[0]
        return x + self.down(functional.gelu(self.up(self.second(x))))  # type: ignore[no-any-return]


class Vision(nn.Module):
    """A vision transformer with a class token and an embedding of each place."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.LayerNorm, blocks: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 5, 16))
        self.blocks = nn.Sequential(*(Block(norm) for _ in range(blocks)))
        self.norm, self.head = norm(16), nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        x = self.blocks(x + self.places)
        return self.head(self.norm(x)[:, 0])  # type: ignore[no-any-return]


class Convolutional(nn.Module):
    """Blocks of ConvNeXt: a normalisation of images, and one of the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 2, 2), OfImages(8))
        self.depthwise, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 20), nn.Linear(20, 8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.last, self.head = OfImages(8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        x = x + self.scale * self.down(functional.gelu(self.up(y))).permute(0, 3, 1, 2)
        return self.head(self.last(x).mean((2, 3)))  # type: ignore[no-any-return]


def made(kind: Callable[[], nn.Module]) -> nn.Module:
    """Return a network whose scales and shifts differ."""
    torch.manual_seed(0)
    network = kind().eval()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
                for parameter in norm.parameters():
                    parameter.uniform_(0.5, 1.5)
    return network


def halved(kind: Callable[[], nn.Module]) -> nn.Module:
    network = made(kind)
    prune(network, 0.5, pattern="unit", allocation="uniform", example=IMAGES)
    return network


def agree(first: nn.Module, second: nn.Module, inputs: Tensor = IMAGES) -> bool:
    """Tell whether two networks give the same in float64."""
    given = inputs.double()
    with torch.no_grad():
        expected, found = (
            copy.deepcopy(first).double()(given),
            copy.deepcopy(second).double()(given),
        )
    return torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


KINDS: list[Callable[[], nn.Module]] = [Vision, lambda: Vision(nn.RMSNorm), Convolutional]


@pytest.mark.parametrize("kind", KINDS, ids=["layer", "RMS", "images"])
def test_half_of_all_widths_is_removed_exactly(kind: Callable[[], nn.Module]) -> None:
    network = halved(kind)
    small = compact(network, IMAGES)
    for name, parameter in network.named_parameters():
        halves = [
            long if long == short else 2 * short
            for long, short in zip(parameter.shape, small.get_parameter(name).shape, strict=True)
        ]
        assert halves == list(parameter.shape)
    width = network.get_parameter("head.weight").shape[1]
    assert small.get_parameter("head.weight").shape == (3, width // 2)
    assert agree(network, small)
    assert agree(network, small, 100 * torch.randn(3, 3, 8, 8))


def test_what_is_left_trains_loads_and_gets_smaller_again(tmp_path: Path) -> None:
    fresh, network = made(Vision), halved(Vision)
    small = compact(network, IMAGES)
    save_shrunk(small, tmp_path / "small.safetensors")
    loaded = load_shrunk(fresh, tmp_path / "small.safetensors")
    assert torch.equal(loaded(IMAGES), small(IMAGES))
    small.train()(IMAGES).square().sum().backward()
    torch.optim.SGD(small.parameters(), 0.01).step()
    prune(small.eval(), 0.5, pattern="unit", allocation="uniform", example=IMAGES)
    smaller = compact(small, IMAGES)
    assert smaller.get_parameter("head.weight").shape == (3, 4)
    assert agree(small, smaller)


def test_the_engine_gives_the_same() -> None:
    network = halved(lambda: Vision(blocks=1))
    found = compress(network, IMAGES, choose="engine")
    assert not found.remaining
    with torch.no_grad():
        exact = copy.deepcopy(network).double()(IMAGES.double())
    assert torch.allclose(torch.as_tensor(found(IMAGES)).double(), exact, atol=1e-5)


@given(
    width=st.integers(1, 9),
    zeros=st.integers(0, 40),
    size=st.sampled_from([1e-3, 1.0, 1e4]),
    affine=st.booleans(),
    kind=st.sampled_from([nn.LayerNorm, nn.RMSNorm]),
)
@settings(max_examples=40, deadline=None)
def test_a_narrow_normalisation_is_the_whole_one_over_zeros(
    width: int, zeros: int, size: float, affine: bool, kind: type[nn.LayerNorm | nn.RMSNorm]
) -> None:
    whole = kind(width + zeros, elementwise_affine=affine).double()
    part = copy.deepcopy(whole)
    narrow(part, zeros, -1)
    for name, parameter in whole.named_parameters():
        with torch.no_grad():
            parameter.normal_()
        setattr(part, name, nn.Parameter(parameter.detach()[:width]))
    x = size * torch.randn(2, 5, width, dtype=torch.float64)
    expected = whole(functional.pad(x, (0, zeros)))[..., :width]
    assert torch.allclose(part(x), expected, rtol=1e-12, atol=1e-12)


def test_only_a_kind_that_normalises_channels_is_taken_for_one() -> None:
    known = [nn.LayerNorm(6), OfImages(6), nn.RMSNorm(6)]
    assert [normalised_axis(norm) for norm in known] == [-1, 1, -1]
    others = [Doubling(6), nn.LayerNorm((5, 6)), nn.Linear(2, 2), None]
    assert [normalised_axis(norm) for norm in others] == [None] * 4


class Chain(nn.Sequential):
    def __init__(self, norm: type[nn.LayerNorm] = nn.LayerNorm) -> None:
        super().__init__(nn.Linear(5, 8), norm(8), nn.Linear(8, 3))


FEATURES = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def silenced(kind: Callable[[], nn.Module], units: slice, *, constant: float = 0.0) -> nn.Module:
    network = made(kind).double()
    with torch.no_grad():
        network.get_parameter("0.weight")[units] = 0
        network.get_parameter("0.bias")[units] = constant
    return network


def test_a_shift_of_a_channel_that_goes_is_taken_in_by_what_reads_it() -> None:
    network = silenced(Chain, slice(3, 6))
    with torch.no_grad():
        network.get_parameter("1.weight")[3:6] = 0
    report = compaction_report(network, FEATURES)
    assert report.layers["0"].outputs.tolist() == [True] * 3 + [False] * 3 + [True] * 2
    assert agree(network, report.network, FEATURES)


@pytest.mark.parametrize("constant", [0.0, 2.0])
def test_channels_stay_whose_numbers_the_normalisation_or_a_layer_needs(constant: float) -> None:
    network = silenced(Chain, slice(3, 6), constant=constant)
    if constant:
        with torch.no_grad():
            network.get_parameter("2.weight")[:, 3:6] = 0
    report = compaction_report(network, FEATURES)
    assert report.layers["0"].outputs.all()
    assert agree(network, report.network, FEATURES)


def test_a_kind_of_ones_own_keeps_its_width() -> None:
    network = silenced(lambda: Chain(Doubling), slice(3, 6))
    with torch.no_grad():
        network.get_parameter("1.weight")[3:6] = 0
        network.get_parameter("1.bias")[3:6] = 0
    report = compaction_report(network, FEATURES)
    assert report.layers["0"].outputs.all()
    assert agree(network, report.network, FEATURES)


def test_places_that_no_parameter_embeds_keep_the_width() -> None:
    class Fixed(Vision):
        def __init__(self) -> None:
            super().__init__()
            del self.places
            self.register_buffer("places", torch.randn(1, 5, 16))

    network = halved(Fixed)
    report = compaction_report(network, IMAGES)
    assert report.layers["patches"].outputs.all()
    assert agree(network, report.network)
