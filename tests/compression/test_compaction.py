"""Compaction in cases whose widths can be counted, and what it leaves alone."""

import copy
import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from gossamer import networks
from gossamer.compression import compaction
from gossamer.compression.compacting.solving import solve
from gossamer.compression.compaction import (
    _followed,
    compact,
    compaction_report,
    compactions,
)
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.masks import Block, prune

Mode = Literal["zeros", "reflect", "replicate", "circular"]

PUBLISHED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[int]]] = {
    "mlp": (lambda: networks.mlp(784, 10), (1, 28, 28), [250, 250, 125, 50, 10]),
    "fashion": (lambda: networks.fashion_cnn((1, 28, 28), 10), (1, 28, 28), [8, 16, 62, 10]),
    "mnist": (lambda: networks.mnist_cnn((1, 28, 28), 10), (1, 28, 28), [8, 16, 32, 10]),
    "cifar": (lambda: networks.cifar_cnn((3, 32, 32), 10), (3, 32, 32), [8, 8, 16, 16, 32, 32, 10]),
    "dropout": (
        lambda: networks.cifar_dropout_cnn((3, 32, 32), 10),
        (3, 32, 32),
        [8, 8, 16, 16, 32, 32, 128, 32, 10],
    ),
    "wide": (
        lambda: networks.cifar_wide_cnn((3, 32, 32), 10, hidden=(64, 32)),
        (3, 32, 32),
        [8, 8, 32, 32, 128, 128, 16, 8, 10],
    ),
}


Network = TypeVar("Network", bound=nn.Module)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def settle(network: Network) -> Network:
    """Give normalisations statistics far from those they begin with, and the network float64."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.get_buffer("running_mean").normal_(0, 30)
            module.get_buffer("running_var").uniform_(0.1, 9)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network.double().eval()


def images(channels: int = 3, side: int = 8, count: int = 2) -> Tensor:
    return torch.randn(count, channels, side, side, dtype=torch.float64)


def remove(layer: nn.Module, *units: int, bias: float | None = 0.0) -> None:
    """Zero what leads into some units, and set their bias."""
    for unit in units:
        layer.get_parameter("weight").data[unit] = 0
        if layer.bias is not None and bias is not None:
            layer.get_parameter("bias").data[unit] = bias


def ignore(layer: nn.Module, *inputs: int) -> None:
    """Zero what a layer reads from some inputs."""
    for number in inputs:
        layer.get_parameter("weight").data[:, number] = 0


def compacted(network: nn.Module, example: Tensor) -> nn.Module:
    """Compact a network, and check that it computes the same."""
    smaller = compact(network, example.clone())
    with torch.no_grad():
        expected, given = (copy.deepcopy(n).eval()(example.clone()) for n in (network, smaller))
    torch.testing.assert_close(
        given, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max())
    )
    return smaller


def widths(network: nn.Module) -> dict[str, int]:
    """Return the first size of every weight."""
    return {
        name.removesuffix(".weight"): len(value)
        for name, value in network.named_parameters()
        if name.endswith("weight")
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_shrink_to_the_units_that_are_kept(name: str) -> None:
    build, shape, expected = PUBLISHED[name]
    network = settle(build())
    prune(network, 0.75, pattern="unit", allocation="uniform", exclude="output layer")
    smaller = compacted(network, torch.randn(2, *shape, dtype=torch.float64))
    found = [len(p) for name, p in smaller.named_parameters() if p.dim() > 1]
    assert found == expected
    norms = [m.num_features for m in smaller.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == {
        "cifar": expected[:6],
        "dropout": expected[1:6:2],
        "wide": expected[1:6:2],
    }.get(name, [])


def test_the_constants_of_removed_units_go_into_the_next_bias() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2)).double()
    remove(network[0], 1, 2, bias=None)
    values = network.state_dict()
    gained = values["2.weight"][:, 1:3] @ torch.sigmoid(values["0.bias"][1:3])
    expected = values["2.bias"] + gained
    smaller = compacted(network, torch.randn(5, 3).double())
    assert widths(smaller) == {"0": 2, "2": 2}
    torch.testing.assert_close(smaller.get_parameter("2.bias").detach(), expected)


def test_a_layer_without_bias_gains_one_only_if_it_must() -> None:
    network = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.Sigmoid(), nn.Linear(4, 2, bias=False)
    ).double()
    assert compacted(network, torch.ones(1, 3).double()).get_submodule("2").bias is None
    remove(network[0], 1, bias=None)
    smaller = compacted(network, torch.ones(1, 3).double())
    torch.testing.assert_close(
        smaller.state_dict()["2.bias"], network.state_dict()["2.weight"][:, 1] / 2
    )
    relu = nn.Sequential(network[0], nn.ReLU(), network[2])
    assert compacted(relu, torch.ones(1, 3).double()).get_submodule("2").bias is None


def test_the_norm_directly_behind_a_layer_without_bias_takes_in_the_constant() -> None:
    network = settle(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5)
        )
    )
    remove(network[0], 2, bias=1.5)
    smaller = compacted(network, images())
    values = network.state_dict()
    shift = 1.5 * values["2.weight"][:, 2].sum((1, 2))
    assert smaller.get_submodule("2").bias is None
    torch.testing.assert_close(
        smaller.get_buffer("3.running_mean"), values["3.running_mean"] - shift
    )


def test_a_norm_that_also_reads_something_else_stays_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.left, self.right = (nn.Conv2d(4, 5, 1, bias=False) for _ in range(2))
            self.norm = nn.BatchNorm2d(5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.norm(self.left(x)) + self.norm(self.right(x))  # type: ignore[no-any-return]

    network = settle(Twice())
    remove(network.get_submodule("first"), 0, bias=2.0)
    smaller = compacted(network, images())
    assert widths(smaller) == {"first": 3, "left": 5, "right": 5, "norm": 5}
    torch.testing.assert_close(
        smaller.get_buffer("norm.running_mean"), network.get_buffer("norm.running_mean")
    )
    assert smaller.get_submodule("left").bias is not None


@pytest.mark.parametrize(
    ("padding", "mode", "constant", "kept"),
    [
        (1, "zeros", 1.0, 4),
        (1, "zeros", 0.0, 3),
        (1, "zeros", -1.0, 3),  # the ReLU makes it 0
        ("same", "zeros", 1.0, 4),
        ("valid", "zeros", 1.0, 3),
        (0, "zeros", 1.0, 3),
        (1, "reflect", 1.0, 3),
        (1, "replicate", 1.0, 3),
        (1, "circular", 1.0, 3),
    ],
)
def test_a_constant_channel_stays_before_zero_padding(
    padding: Any, mode: Mode, constant: float, kept: int
) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=padding, padding_mode=mode)
    ).double()
    remove(network[0], 1, bias=constant)
    assert widths(compacted(network, images())) == {"0": kept, "2": 2}


@pytest.mark.parametrize(
    ("between", "kept"),
    [
        (nn.MaxPool2d(3, padding=1), 3),
        (nn.AvgPool2d(2), 3),
        (nn.AvgPool2d(3, stride=2, ceil_mode=True), 3),
        (nn.AvgPool2d(2, padding=1), 4),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), 3),
        (nn.AvgPool2d(2, divisor_override=3), 4),
        (nn.AdaptiveAvgPool2d(3), 3),
        (nn.AdaptiveMaxPool2d(3), 3),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 3),
        (nn.ZeroPad2d(1), 4),
        (nn.ReflectionPad2d(1), 3),
        (nn.Dropout2d(0.5), 3),
        (nn.BatchNorm2d(4, affine=False), 3),
        (nn.PReLU(4), 3),
        (nn.PReLU(), 3),
        (nn.GroupNorm(2, 4), 4),
        (nn.LayerNorm((6, 6)), 4),
        (nn.InstanceNorm2d(4), 3),
        (nn.InstanceNorm2d(4, affine=True), 3),
        (nn.InstanceNorm2d(4, track_running_stats=True), 3),
        (nn.Softmax2d(), 4),
        (nn.PixelShuffle(2), 4),
    ],
)
def test_constants_pass_what_leaves_them_constant(between: nn.Module, kept: int) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.between = nn.Conv2d(3, 4, 3), between
            self.last = nn.LazyConv2d(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.between(self.first(x)))  # type: ignore[no-any-return]

    network = Pooled().double().eval()
    network(images())
    remove(network.first, 1, bias=-2.5)
    assert widths(compacted(network, images()))["first"] == kept


def test_flattening_removes_all_features_of_a_channel() -> None:
    network = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 5, 3),
            pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            dense=nn.Linear(45, 7),
        )
    ).double()
    remove(network.get_submodule("conv"), 0, bias=3.0)
    for place in (9 * 2, 9 * 4):  # all features of channel 2, and one alone of channel 4
        ignore(network.get_submodule("dense"), *range(place, place + (9 if place == 18 else 1)))
    smaller = compacted(network, images())
    assert smaller.get_parameter("conv.weight").shape == (3, 3, 3, 3)
    assert smaller.get_parameter("dense.weight").shape == (7, 27)
    assert smaller.get_submodule("dense").in_features == 27
    assert smaller.get_submodule("conv").out_channels == 3


def test_removal_goes_on_backwards_and_forwards_to_the_end() -> None:
    layers: list[nn.Module] = []
    for _ in range(5):
        layers += [nn.Linear(6, 6), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(6, 6)).double()
    # Backwards: unit 0 of each layer is read by unit 0 of the next alone, and that by nobody.
    for place in range(2, 10, 2):
        network.get_parameter(f"{place}.weight").data[1:, 0] = 0
    ignore(network[10], 0)
    # Forwards: unit 5 of each layer reads unit 5 of the one before alone, and that reads nothing.
    remove(network[0], 5)
    for place in range(2, 10, 2):
        network.get_parameter(f"{place}.weight").data[5, :5] = 0
    smaller = compacted(network, torch.randn(3, 6).double())
    assert widths(smaller) == {"0": 4, "2": 4, "4": 4, "6": 4, "8": 4, "10": 6}


class Residual(nn.Module):
    """A stem, two blocks that add to it, and a head, as in a ResNet."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(6, 4, 3, padding=1, bias=False),
                nn.BatchNorm2d(4),
                nn.ReLU(inplace),
                nn.Conv2d(4, 6, 3, padding=1, bias=False),
                nn.BatchNorm2d(6),
            )
            for _ in range(2)
        )
        self.inplace = inplace
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)), inplace=self.inplace)
        for block in self.blocks:
            if self.inplace:
                x += block(x)
                x.relu_()
            else:
                x = functional.relu(x + block(x))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("inplace", [False, True])
def test_a_channel_of_a_sum_goes_when_it_goes_in_all_addends(inplace: bool) -> None:
    network = settle(Residual(inplace))
    streams: list[tuple[nn.Module, nn.Module]] = [
        (network.stem, network.norm),
        *(
            (network.get_submodule(f"blocks.{n}.3"), network.get_submodule(f"blocks.{n}.4"))
            for n in (0, 1)
        ),
    ]
    for conv, norm in streams:
        remove(conv, 1)
        for parameter in norm.parameters():
            parameter.data[1] = 0
    remove(streams[0][0], 2)  # still added to by both blocks
    remove(streams[0][1], 2)
    smaller = compacted(network, images())
    assert widths(smaller) == {
        "stem": 5, "norm": 5, "head": 2,
        "blocks.0.0": 4, "blocks.0.1": 4, "blocks.0.3": 5, "blocks.0.4": 5,
        "blocks.1.0": 4, "blocks.1.1": 4, "blocks.1.3": 5, "blocks.1.4": 5,
    }  # fmt: skip


def test_a_channel_of_a_sum_that_nothing_reads_goes_everywhere() -> None:
    network = settle(Residual())
    ignore(network.get_submodule("head"), 0)
    ignore(network.get_submodule("blocks.0.0"), 0)
    smaller = compacted(network, images())
    assert widths(smaller)["stem"] == 6, "the second block reads it"
    ignore(network.get_submodule("blocks.1.0"), 0)
    smaller = compacted(network, images())
    assert (widths(smaller)["stem"], widths(smaller)["blocks.1.3"]) == (5, 5)


def test_what_only_adds_to_a_channel_that_nobody_reads_any_more_goes() -> None:
    network = settle(Residual())
    ignore(network.get_submodule("head"), 0)  # the blocks read channel 0 before their sums
    for name in ("blocks.0.3", "blocks.1.3"):
        network.get_parameter(f"{name}.weight").data[1:, 2] = 0
    smaller = compacted(network, images())
    found = widths(smaller)
    # The first block adds to what the second one reads; the second adds to what nobody reads.
    assert (found["stem"], found["blocks.0.0"], found["blocks.1.0"]) == (6, 4, 3)
    assert not smaller.get_parameter("blocks.1.3.weight")[0].any()


def test_the_sum_of_constants_is_folded() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.left(x) + 2 * self.right(x)))  # type: ignore[no-any-return]

    network = Sum().double()
    remove(network.left, 1, 2, bias=0.5)
    remove(network.right, 1, 3, bias=0.25)
    smaller = compacted(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"left": 3, "right": 3, "head": 2}
    shift = network.head.weight.detach()[:, 1] * torch.tanh(torch.tensor(1.0).double())
    torch.testing.assert_close(
        smaller.get_parameter("head.bias").detach(), network.head.bias.detach() + shift
    )


class Concatenating(nn.Module):
    """Each layer reads all before it, as in a DenseNet; the input is among them."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(3 + 4 * n) for n in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(3 + 4 * n, 4, 3, padding=1) for n in range(3))
        self.head = nn.Linear(15, 2)

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(functional.relu(norm(x)))], 1)
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_values_that_meet_themselves_over_and_over_are_followed() -> None:
    class Gating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for _ in range(50):
                x = x + x * torch.sigmoid(x)
            return self.last(x / (1 + x.abs()))  # type: ignore[no-any-return]

    network = Gating().double()
    remove(network.first, 2)
    assert widths(compacted(network, torch.randn(2, 3).double())) == {"first": 3, "last": 2}


def test_concatenation_removes_channels_at_their_offsets() -> None:
    network = settle(Concatenating())
    remove(network.get_submodule("convs.0"), 3)  # channel 6 of what follows
    for name in ("norms.1", "norms.2"):
        remove(network.get_submodule(name), 6)
    for reader in ("convs.2", "head"):  # channel 8, unit 1 of the second convolution
        ignore(network.get_submodule(reader), 8)
    smaller = compacted(network, images())
    assert widths(smaller) == {
        "norms.0": 3, "norms.1": 6, "norms.2": 9,
        "convs.0": 3, "convs.1": 3, "convs.2": 4, "head": 2,
    }  # fmt: skip
    assert smaller.get_submodule("head").in_features == 3 + 3 + 3 + 4


def test_depthwise_channels_go_with_what_they_read() -> None:
    network = settle(
        nn.Sequential(
            nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4),
        )
    )  # fmt: skip
    for place in (0, 1):
        remove(network[place], 0)  # forwards: the depthwise filter gives a constant
    ignore(network[6], 5)  # backwards
    smaller = compacted(network, images())
    assert list(widths(smaller).values()) == [6, 6, 6, 6, 4, 4]
    assert smaller.get_submodule("3").groups == 6
    assert smaller.get_submodule("3").in_channels == 6


def test_groups_stay_equal_in_size() -> None:
    def grouped() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 6, 1),
            nn.ReLU(),
            nn.Conv2d(6, 9, 1, groups=3),
            nn.ReLU(),
            nn.Conv2d(9, 2, 1),
        ).double()

    uneven = grouped()
    remove(uneven[2], 0)
    assert list(widths(compacted(uneven, images())).values()) == [6, 9, 2]
    even = grouped()
    remove(even[2], 0, 4, 8)
    smaller = compacted(even, images())
    assert list(widths(smaller).values()) == [6, 6, 2]
    assert smaller.get_submodule("2").groups == 3
    whole = grouped()
    remove(whole[2], 3, 4, 5)
    smaller = compacted(whole, images())
    assert list(widths(smaller).values()) == [4, 6, 2]
    assert smaller.get_submodule("2").groups == 2
    inputs = grouped()
    remove(inputs[0], 0, 3, 5)
    smaller = compacted(inputs, images())
    assert list(widths(smaller).values()) == [3, 9, 2]
    assert smaller.get_parameter("2.weight").shape == (9, 1, 1, 1)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_convolutions_of_other_dimensions(dimensions: int) -> None:
    conv: Any = (nn.Conv1d, nn.Conv3d)[dimensions // 2]
    norm: Any = (nn.BatchNorm1d, nn.BatchNorm3d)[dimensions // 2]
    pool: Any = (nn.MaxPool1d, nn.AvgPool3d)[dimensions // 2]
    network = settle(
        nn.Sequential(
            conv(3, 6, 3), norm(6), nn.SiLU(), conv(6, 6, 2, groups=2), pool(2), nn.Flatten(1),
            nn.Linear(6 * 2**dimensions, 5), nn.BatchNorm1d(5), nn.PReLU(5), nn.Linear(5, 2),
        )
    )  # fmt: skip
    remove(network[0], 1, 4)
    remove(network[3], 0, 5, bias=1.0)
    ignore(network[9], 3)
    example = torch.randn(2, 3, *[7] * dimensions, dtype=torch.float64)
    smaller = compacted(network, example)
    assert widths(smaller) == {"0": 4, "1": 4, "3": 4, "6": 4, "7": 4, "8": 4, "9": 2}
    assert smaller.get_submodule("8").num_parameters == 4
    assert smaller.get_submodule("7").num_features == 4


def test_a_graph_module_is_a_network_like_any_other() -> None:
    network = settle(Residual())
    remove(network.get_submodule("blocks.1.0"), 0)
    remove(network.get_submodule("blocks.1.1"), 0)
    smaller = compacted(torch.fx.symbolic_trace(network), images())
    assert widths(smaller)["blocks.1.0"] == 3


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_are_cut_along_their_second_dimension(groups: int) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=groups), nn.ReLU(),
        nn.Conv2d(6, 2, 1),
    ).double()  # fmt: skip
    remove(network[0], 0, 2)
    ignore(network[4], 1, 4)
    smaller = compacted(network, images())
    assert smaller.get_parameter("2.weight").shape == (2, 4 // groups, 2, 2)
    assert smaller.get_submodule("2").out_channels == 4


def test_gates_go_with_the_channels_they_scale() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.squeeze, self.excite = (
                nn.Conv2d(3, 6, 1),
                nn.Linear(6, 4),
                nn.Linear(4, 6),
            )
            self.head = nn.Conv2d(6, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.relu(self.stem(x))
            gate = functional.relu(self.squeeze(x.mean((2, 3))))
            return self.head(x * torch.sigmoid(self.excite(gate))[:, :, None, None])  # type: ignore[no-any-return]

    network = Gated().double()
    remove(network.stem, 1, 4)
    assert widths(compacted(network, images())) == {"stem": 4, "squeeze": 4, "excite": 4, "head": 2}

    class Viewed(Gated):
        def forward(self, x: Tensor) -> Tensor:
            x = functional.relu(self.stem(x))
            gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
            gate = gate.unsqueeze(-1).view(x.size(0), x.size(1), 1, 1)
            return self.head(x * gate)  # type: ignore[no-any-return]

    viewed = Viewed().double()
    remove(viewed.stem, 1, 4)
    assert widths(compacted(viewed, images())) == {"stem": 4, "squeeze": 4, "excite": 4, "head": 2}


@pytest.mark.parametrize(
    ("pick", "kept"),
    [
        (lambda x: x[:, :, 0, 0], 3),
        (lambda x: x[:, :, None, 1:, -1].mean((2, 3)), 3),
        (lambda x: x[:2].mean((2, 3)), 3),
        (lambda x: x.permute(0, 2, 3, 1)[:, 0, 1], 3),
        (lambda x: x.permute(0, 2, 3, 1)[:, 0, 1, :], 3),
        (lambda x: x[:, :4, 0, 0], 3),
        (lambda x: x[:, -9:, 0, 0], 3),
        (lambda x: torch.cat((x[:, 3:], x[:, :3]), 1)[:, :, 0, 0], 4),
        (lambda x: x[..., 0, 0], 3),
        (lambda x: torch.chunk(x, 1, 1)[0][:, :, 0, 0], 3),
        (lambda x: functional.avg_pool2d(x, x.shape[2:]).flatten(1), 3),
        (lambda x: functional.avg_pool2d(x, x.size()[2:]).squeeze(-1).squeeze(-1), 3),
        (lambda x: functional.adaptive_max_pool2d(x, (1, 1)).squeeze(), 4),
        (lambda x: functional.interpolate(x, x.shape[2:]).amax((-1, -2)), 3),
        (lambda x: functional.pad(x, (0, 1)).mean((2, 3)), 4),
        (lambda x: functional.pad(x, (1, 1, 0, 0), mode="reflect").mean((2, 3)), 3),
        (lambda x: functional.pad(x, (0, 0, 0, 0, 0, 0)).mean((2, 3)), 4),
        (lambda x: functional.dropout(x, 0.5, False).mean((2, 3)), 3),
        (lambda x: torch.sum(x, (2, 3)), 4),
        (lambda x: torch.softmax(x, 1).mean((2, 3)), 4),
        (lambda x: (torch.relu(x) ** 2 - 1).clamp(min=-2).div(3).mean((2, 3)), 3),
        (lambda x: (x * x.new_ones(x.size(0), 1, 1, 1)).mean((2, 3)), 4),
    ],
)
def test_parts_and_pools_by_functions(pick: Callable[[Tensor], Tensor], kept: int) -> None:
    class Picking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(pick(self.conv(x)))  # type: ignore[no-any-return]

    network = Picking().double()
    remove(network.conv, 2, bias=0.7)
    report = compaction_report(network, images())
    assert report.unfollowed == {}
    assert widths(compacted(network, images())) == {"conv": kept, "last": 2}


def test_a_network_that_draws_numbers_in_evaluation_mode_is_copied() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(functional.dropout(self.first(x)))  # type: ignore[no-any-return]

    network = Dropping().double()
    remove(network.first, 1)
    with pytest.warns(RuntimeWarning, match="different answers for the same inputs: it draws"):
        smaller = compact(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"first": 4, "last": 2}


def test_paths_dropped_in_training_do_not_matter() -> None:
    class Path(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                return x
            shape = (x.shape[0],) + (1,) * (x.ndim - 1)
            return x.div(0.5) * x.new_empty(shape).bernoulli_(0.5)

    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Path(), nn.Linear(4, 2)).double()
    remove(network[0], 1)
    assert widths(compacted(network, torch.randn(2, 3).double())) == {"0": 3, "3": 2}


@pytest.mark.parametrize("dense", [False, True])
def test_a_layer_that_would_vanish_keeps_one_unit(dense: bool) -> None:
    kind: Any = nn.Linear if dense else nn.Conv2d
    options: dict[str, int] = {} if dense else {"kernel_size": 3, "padding": 1}
    network = nn.Sequential(
        kind(3, 4, **options), nn.ReLU(), kind(4, 5, **options), nn.ReLU(), kind(5, 2, **options)
    ).double()
    example = torch.randn(2, 3).double() if dense else images()
    remove(network[2], *range(5))
    assert list(widths(compacted(network, example)).values()) == [1, 1, 2]
    remove(network[0], *range(4), bias=1.0)
    nn.init.normal_(network.get_parameter("2.weight"))
    smaller = compacted(network, example)
    # Dense layers pass the constant on; before padding a constant stays.
    assert list(widths(smaller).values()) == ([1, 1, 2] if dense else [4, 5, 2])


class Viewing(nn.Module):
    """Flattens what a convolution gives, in one of the ways that people write."""

    def __init__(self, view: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.hidden, self.last = nn.Conv2d(3, 4, 3), nn.Linear(144, 5), nn.Linear(5, 2)
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(self.view(self.conv(x)))))  # type: ignore[no-any-return]


def unpacked(x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    return x.view(count, channels * height * width)


VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "flatten": (lambda x: x.flatten(1), 3),
    "torch.flatten": (lambda x: torch.flatten(x, 1), 3),
    "start_dim": (lambda x: torch.flatten(x, start_dim=1), 3),
    "view": (lambda x: x.view(x.size(0), -1), 3),
    "shape": (lambda x: x.view(x.shape[0], -1), 3),
    "reshape": (lambda x: x.reshape(x.size(0), -1), 3),
    "tuple": (lambda x: x.reshape((x.shape[0], -1)), 3),
    "product": (lambda x: x.view(-1, x.size(1) * x.size(2) * x.size(3)), 3),
    "unpacked": (unpacked, 3),
    "fixed": (lambda x: x.view(-1, 144), 4),
    "fixed in part": (lambda x: x.view(x.size(0), 4, -1).flatten(1), 4),
    "both fixed": (lambda x: x.reshape(2, 144), 4),
    "transposed": (lambda x: x.permute(0, 2, 3, 1).flatten(1), 3),
    "swapped": (lambda x: x.transpose(1, 2).contiguous().view(x.size(0), -1), 3),
}


@pytest.mark.parametrize("name", VIEWS)
def test_reshapes_to_computed_sizes_are_followed_and_fixed_ones_keep_their_size(name: str) -> None:
    view, kept = VIEWS[name]
    network = Viewing(view).double()
    remove(network.conv, 2, bias=0.7)
    remove(network.hidden, 1)
    report = compaction_report(network, images())
    assert report.unfollowed == {}
    assert widths(compacted(network, images())) == {"conv": kept, "hidden": 4, "last": 2}
    if name == "fixed":
        assert "fixed size 144" in report.layers["conv"].fixed


def test_sizes_used_as_numbers_keep_the_width_they_count() -> None:
    network = Viewing(lambda x: (x / x.size(1)).flatten(1)).double()
    remove(network.conv, 2)
    assert widths(compacted(network, images()))["conv"] == 4
    network = Viewing(lambda x: (x / x.size(2)).flatten(1)).double()
    remove(network.conv, 2)
    report = compaction_report(network, images())
    assert report.unfollowed == {}


def test_a_module_called_twice_is_cut_for_both_calls() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 4), nn.Linear(3, 4)
            self.shared, self.head = nn.Linear(4, 5), nn.Linear(10, 2)

        def forward(self, x: Tensor) -> Tensor:
            both = [self.shared(torch.relu(layer(x))) for layer in (self.left, self.right)]
            return self.head(torch.cat([torch.relu(y) for y in both], dim=-1))  # type: ignore[no-any-return]

    network = Shared().double()
    remove(network.left, 0, 1, bias=2.0)
    remove(network.right, 0, bias=3.0)
    example = torch.randn(2, 3).double()
    assert widths(compacted(network, example)) == {"left": 4, "right": 4, "shared": 5, "head": 2}
    remove(network.right, 0, 1, bias=2.0)
    assert widths(compacted(network, example)) == {"left": 2, "right": 2, "shared": 5, "head": 2}
    ignore(network.head, 3)
    assert widths(compacted(network, example))["shared"] == 5
    ignore(network.head, 8)
    assert widths(compacted(network, example))["shared"] == 4


def test_a_recurrent_layer_is_cut_on_both_sides() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.step, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.start(x)
            for _ in range(3):
                x = torch.relu(self.step(x))
            return self.head(x)  # type: ignore[no-any-return]

    network = Recurrent().double()
    ignore(network.step, 2)
    ignore(network.head, 2)
    smaller = compacted(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"start": 3, "step": 3, "head": 2}


def keep_tied(network: nn.Sequential) -> None:
    network[2].weight = network[0].weight


def keep_parametrized(network: nn.Sequential) -> None:
    parametrizations.spectral_norm(network[0])


def keep_custom(network: nn.Sequential) -> None:
    class Summed(nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            return super().forward(values).cumsum(-1)

    layer = Summed(4, 4)
    layer.load_state_dict(network[0].state_dict())
    network[0] = layer


@pytest.mark.parametrize("change", [keep_tied, keep_parametrized, keep_custom])
def test_weights_that_cannot_be_cut_keep_their_units(
    change: Callable[[nn.Sequential], None],
) -> None:
    network = nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(),
        nn.Linear(3, 2),
    )  # fmt: skip
    remove(network[0], 1)
    remove(network[4], 1)
    change(network)
    example = torch.randn(2, 4).double()
    report = compaction_report(network.double(), example)
    assert report.unfollowed == {}
    smaller = compacted(network, example)
    assert smaller.get_submodule("0").out_features == 4
    assert smaller.get_submodule("4").out_features == 2


def test_layers_of_own_kinds_are_cut_where_their_forward_keeps_units_apart() -> None:
    class Doubled(nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            return super().forward(values) * 2 + 1

    network = nn.Sequential(Doubled(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    remove(network[0], 1, bias=3.0)
    smaller = compacted(network, torch.randn(2, 4).double())
    assert smaller.get_submodule("0").out_features == 3


def test_weights_read_by_the_forward_itself_keep_their_size() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.first(x))
            return self.last(hidden) + functional.linear(hidden, self.first.weight.T)  # type: ignore[no-any-return]

    network = Reading().double()
    remove(network.first, 1)
    assert widths(compacted(network, torch.randn(2, 3).double())) == {"first": 4, "last": 3}


def test_transformers_keep_the_widths_they_add_and_normalise() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(11, 8)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.norm = nn.LayerNorm(8)
            self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embed(tokens)
            x = x + self.attend(x, x, x)[0]
            x = self.norm(x + self.down(functional.gelu(self.up(x))))
            return self.head(x.mean(1))  # type: ignore[no-any-return]

    network = Block().double().eval()
    remove(network.up, *range(0, 16, 2), bias=0.3)
    ignore(network.down, 1)
    remove(network.down, 4)
    tokens = torch.randint(0, 11, (2, 5))
    smaller = compacted(network, tokens)
    assert widths(smaller)["up"] == 7
    assert widths(smaller)["down"] == 8


def test_a_branch_for_training_alone_is_cut_as_well() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head, self.aside = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Any:
            x = torch.relu(self.trunk(x))
            return (self.head(x), self.aside(x)) if self.training else self.head(x)

    network = Auxiliary().double().train()
    remove(network.trunk, 0, 1)
    ignore(network.head, 2)  # the other branch reads it
    smaller = compacted(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"trunk": 4, "head": 2, "aside": 2}
    assert smaller.training
    example = torch.randn(5, 3).double()
    torch.testing.assert_close(smaller(example), network(example))


def test_arguments_with_defaults_are_not_followed_as_if_given() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, extra: Tensor | None = None, *, scale: float = 2.0) -> Tensor:
            x = torch.relu(self.first(x)) * scale
            return self.last(x if extra is None else x + extra)  # type: ignore[no-any-return]

    network = Optional().double()
    remove(network.first, 3)
    assert widths(compacted(network, torch.randn(2, 3).double())) == {"first": 3, "last": 2}


def test_what_is_written_in_place_is_what_later_readers_read() -> None:
    class Preactivated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.active = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            inner = self.second(self.active(x))  # x is rectified from here on
            return self.head(x) + self.head(inner)  # type: ignore[no-any-return]

    network = Preactivated().double()
    remove(network.first, 0, bias=-1.0)
    remove(network.second, 0, bias=0.0)
    smaller = compacted(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"first": 3, "second": 3, "head": 2}


def test_sparse_layers_become_dense_ones_first() -> None:
    network = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    network.double()
    mask = prune(network, 0.5, pattern="unit", allocation="uniform", exclude="4")
    packed = networks.pack(copy.deepcopy(network), mask)
    smaller = compacted(packed, torch.randn(2, 3).double())
    assert widths(smaller) == {"0": 3, "2": 2, "4": 2}
    assert type(smaller.get_submodule("0")) is nn.Linear


def test_networks_masked_by_torch_itself_become_plain_ones() -> None:
    network = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    torch_prune.ln_structured(network[0], "weight", amount=2, n=2, dim=0)  # type: ignore[no-untyped-call]
    torch_prune.random_unstructured(network[2], "weight", amount=0.3)  # type: ignore[no-untyped-call]
    pruned = network.get_parameter("0.weight_orig") * network.get_buffer("0.weight_mask") == 0
    network.get_parameter("0.bias").data[pruned.all(1)] = 0
    network(torch.randn(2, 3).double())
    kept = network.state_dict()
    smaller = compact(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"0": 4, "2": 2}
    assert list(smaller.state_dict()) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    example = torch.randn(2, 3).double()
    torch.testing.assert_close(smaller(example), network(example))
    assert list(network.state_dict()) == list(kept)


def test_wrapped_networks_give_the_bare_one() -> None:
    bare = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    remove(bare[0], 0, 1)
    smaller = compact(nn.DataParallel(bare), torch.randn(2, 3).double())
    assert widths(smaller) == {"0": 4, "2": 2}
    compiled: Any = torch.compile(bare, backend="eager")
    inner = nn.Sequential(compiled, nn.ReLU())
    assert widths(compact(inner, torch.randn(2, 3).double())) == {"0.0": 4, "0.2": 2}


class Choosing(nn.Module):
    """Cannot be followed: what it computes depends on the values."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.sum() > 0 else -self.inner(x)  # type: ignore[no-any-return]


def test_a_part_that_cannot_be_followed_is_kept_and_named() -> None:
    network = nn.Sequential(
        nn.Linear(3, 4),
        nn.ReLU(),
        Choosing(),
        nn.ReLU(),
        nn.Linear(4, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    ).double()
    remove(network[0], 0)
    remove(network.get_submodule("2.inner"), 1)
    remove(network[4], 2)
    with pytest.warns(RuntimeWarning, match=r"Parts of the network Sequential .*\(2: Trace"):
        smaller = compacted(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"0": 4, "2.inner": 4, "4": 4, "6": 2}


def test_a_network_that_cannot_be_followed_is_copied() -> None:
    network = Choosing().double()
    with pytest.warns(RuntimeWarning, match="The network Choosing cannot be followed"):
        smaller = compacted(network, torch.randn(2, 4).double())
    assert smaller is not network
    assert smaller.get_parameter("inner.weight") is not network.inner.weight


def test_a_compaction_that_would_change_the_outputs_is_undone() -> None:
    class Sized(nn.Module):
        """Computes with a width that the graph does not show."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.first(x))) * self.first.out_features  # type: ignore[no-any-return]

    network = Sized().double()
    remove(network.first, 0)
    with pytest.warns(RuntimeWarning, match="it gives other outputs"):
        smaller = compacted(network, torch.randn(2, 3).double())
    assert widths(smaller) == {"first": 4, "last": 2}


def test_a_unit_that_the_example_leaves_silent_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that drops a live unit is found out although all is zero on the example."""
    live = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)).double()
    dead = copy.deepcopy(live)
    remove(dead[0], 1)
    plan = solve(_followed(dead, Arguments.of(dead, torch.zeros(2, 3).double()))[0])
    monkeypatch.setattr(compaction, "solve", lambda _: plan)
    report = compaction_report(live, torch.zeros(2, 3).double())
    assert report.unfollowed == {"": "without its unused units, it gives other outputs"}
    assert widths(report.network) == {"0": 4, "2": 2}


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        ("model", torch.ones(1, 3), "a torch.nn.Module was expected, not str"),
        (nn.Linear(3, 2), [1.0], "example must be a tensor, a tuple"),
        (nn.Linear(3, 2), torch.ones(1, 4), r"fails on torch.float32 input of shape \(1, 4\)"),
        (nn.LazyLinear(2), torch.ones(1, 4), "The parameter 'weight' has no values yet"),
        (nn.Linear(3, 2, device="meta"), torch.ones(1, 3), "The parameter 'weight' has no values"),
    ],
)
def test_what_cannot_be_compacted_is_refused(model: Any, example: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compact(model, example)


def test_the_users_network_stays_as_it_is() -> None:
    network = settle(Residual()).train()
    network.get_submodule("norm").eval()
    remove(network.get_submodule("stem"), 0)
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    example, state = images(), torch.random.get_rng_state()
    smaller = compact(network, example)
    assert torch.equal(state, torch.random.get_rng_state())
    assert [module.training for module in network.modules()] == modes
    assert [module.training for module in smaller.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not {id(p) for p in network.parameters()} & {id(p) for p in smaller.parameters()}
    assert all(parameter.grad is None for parameter in smaller.parameters())


def test_types_and_flags_of_parameters_stay() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(),
        nn.Linear(64, 2),
    ).to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]  # fmt: skip
    network[3].weight.requires_grad_(requires_grad=False)
    network[1].num_batches_tracked.fill_(7)
    for place in (0, 1):
        remove(network[place], 2, 3)
    smaller = compact(network.eval(), images().bfloat16())
    assert {value.dtype for value in smaller.parameters()} == {torch.bfloat16}
    weight = smaller.get_parameter("3.weight")
    assert weight.shape == (4, 4, 3, 3)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.requires_grad
    assert smaller.get_parameter("3.bias").requires_grad
    assert int(smaller.get_buffer("1.num_batches_tracked")) == 7


def test_the_result_saves_copies_and_exports() -> None:
    network = settle(Residual())
    remove(network.get_submodule("blocks.0.0"), 1, 2)
    remove(network.get_submodule("blocks.0.1"), 1, 2)
    smaller = compacted(network, images())
    assert type(smaller) is Residual
    file = io.BytesIO()
    torch.save(smaller.state_dict(), file)
    file.seek(0)
    again = copy.deepcopy(smaller)
    nn.init.zeros_(again.get_parameter("stem.weight"))
    again.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(again(images() * 0 + 1), smaller(images() * 0 + 1))
    pickled = pickle.loads(pickle.dumps(smaller))
    torch.testing.assert_close(pickled(images() * 0 + 1), smaller(images() * 0 + 1))
    program = torch.export.export(smaller, (images(),))
    example = images()
    torch.testing.assert_close(program.module()(example), smaller(example))


def test_a_step_of_training_is_that_of_the_masked_network() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 10), nn.ReLU(), nn.Linear(10, 4),
    ).double()  # fmt: skip
    prune(network, 0.5, pattern="unit", allocation="uniform", exclude="8")
    report = compaction_report(network, images())
    example, targets = images(count=8), torch.randint(0, 4, (8,))
    for model in (network, report.network):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        functional.cross_entropy(model(example), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    trained = network.state_dict()
    for name, layer in report.layers.items():
        expected = trained[f"{name}.weight"][layer.outputs][:, layer.inputs]
        torch.testing.assert_close(report.network.state_dict()[f"{name}.weight"], expected)
        bias = report.network.state_dict()[f"{name}.bias"]
        torch.testing.assert_close(bias, trained[f"{name}.bias"][layer.outputs])


def test_a_network_that_runs_in_its_own_precision_alone_is_checked_in_that() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.first(x))) @ torch.ones(2, 2)  # type: ignore[no-any-return]

    network = Single()
    remove(network.first, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = compact(network, torch.randn(2, 3))
    assert widths(smaller) == {"first": 3, "last": 2}


def test_the_report_says_what_stayed() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2))
    remove(network[0], 1)
    layers: Mapping[str, Any] = compaction_report(network, torch.ones(1, 3)).layers
    assert layers["0"].outputs.tolist() == [True] * 4
    assert layers["0"].fixed == (
        "what it gives is read by 1 (LayerNorm), whose inputs keep their width"
    )
    assert layers["3"].fixed == "it gives the network's output"


def test_the_example_stays_as_it_is_where_the_forward_works_in_place() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        cast("nn.Linear", network[1]).weight[:4] = 0
    example = torch.randn(3, 6)
    before = example.clone()
    smaller = compact(network, example)
    assert torch.equal(example, before)
    assert cast("nn.Linear", smaller.get_submodule("1")).out_features == 4


def in_blocks(units: int, inputs: int, bias: bool = True) -> nn.Linear:
    """Return a layer of which every four rows read three of the inputs."""
    layer = nn.Linear(inputs, units, bias=bias)
    read = torch.zeros(-(-units // 4), inputs)
    for row in read:
        row[torch.randperm(inputs)[:3]] = 1
    layer.weight.data *= read.repeat_interleave(4, 0)[:units]
    return layer


def with_whole_blocks(network: nn.Module, example: Tensor) -> nn.Module | None:
    """Return the network that has kept its blocks, if there is one; check that it is right."""
    found = compactions(network, Arguments.of(network, example.clone()))[1]
    if found is None:
        return None
    with torch.no_grad():
        expected, given = (copy.deepcopy(n).eval()(example.clone()) for n in (network, found))
    torch.testing.assert_close(
        given, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max())
    )
    return found


@pytest.mark.parametrize(
    ("unread", "smallest", "in_whole_blocks"),
    [
        pytest.param((), 14, None, id="nothing goes"),
        pytest.param((4, 5, 6, 7), 10, None, id="a whole block"),
        pytest.param((1, 4, 5, 6, 7), 9, 10, id="a block, and one of another that stays for it"),
        pytest.param((0, 1, 2, 4, 5, 6, 9), 7, None, id="most of two blocks, which then go apart"),
        pytest.param((13,), 13, None, id="the last one, which breaks no block"),
        pytest.param((12, 13), 12, None, id="a last block of two"),
    ],
)
def test_blocks_of_four_rows_can_be_kept_whole(
    unread: tuple[int, ...], smallest: int, in_whole_blocks: int | None
) -> None:
    network = nn.Sequential(in_blocks(14, 9), nn.ReLU(), nn.Linear(14, 3)).double()
    ignore(network[2], *unread)
    example = torch.randn(5, 9, dtype=torch.float64)
    assert widths(compact(network, example))["0"] == smallest
    found = with_whole_blocks(network, example)
    assert (found and widths(found)["0"]) == in_whole_blocks


def test_only_networks_that_were_pruned_in_blocks_are_made_twice() -> None:
    def hidden() -> nn.Sequential:
        return nn.Sequential(nn.Linear(32, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU())

    networks = {name: nn.Sequential(*hidden(), nn.Linear(20, 4)) for name in ("dense", "scattered")}
    prune(networks["scattered"], 0.6, exclude="4")
    for network in networks.values():
        ignore(network[4], 1, 6)
    # A pattern of whole units has the same zeros in many rows, too.
    networks["units"] = nn.Sequential(*hidden(), nn.Linear(20, 4))
    for layer in (0, 2):
        remove(networks["units"][layer], 3, 7, 11, 15, 19)
        ignore(networks["units"][layer + 2], 3, 7, 11, 15, 19)
    for network in networks.values():
        example = Arguments.of(network, torch.randn(1, 32).double())
        assert compactions(network.double(), example)[1] is None


def test_units_removed_from_groups_are_no_blocks() -> None:
    """Different ones from each group, so that all columns of the weight's array are in use."""
    network = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=2), nn.Conv2d(16, 2, 1)
    ).double()
    ignore(network[2], 0, 1, 2)
    network[2].get_parameter("weight").data[:8, [0, 1, 2]] = 0
    network[2].get_parameter("weight").data[8:] = torch.randn(8, 8, 3, 3).double()
    network[2].get_parameter("weight").data[8:, [3, 4, 5]] = 0
    ignore(network[3], 3, 9)
    assert compactions(network, Arguments.of(network, images()))[1] is None


def test_a_group_that_goes_whole_breaks_no_blocks() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 2, 1)
    ).double()
    prune(network[2], 0.6, pattern=Block(4, 1), allocation="uniform")
    ignore(network[3], 4, 5, 6, 7)
    assert widths(compacted(network, images()))["2"] == 12
    assert compactions(network, Arguments.of(network, images()))[1] is None


def test_what_keeps_its_place_in_a_block_reads_nothing() -> None:
    network = nn.Sequential(in_blocks(12, 9), nn.ReLU(), nn.Linear(12, 3)).double()
    ignore(network[2], 2)
    remove(network[0], 7, bias=0.25)  # constant, which goes into the next layer's bias
    found = with_whole_blocks(network, torch.randn(2, 9).double())
    assert found is not None
    first, last = (cast("nn.Linear", found.get_submodule(name)) for name in "02")
    assert first.out_features == 12
    for unit in (2, 7):
        assert not first.weight[unit].any()
        assert not first.bias[unit].any()
        assert not last.weight[:, unit].any()


def test_blocks_are_kept_in_convolutions_and_what_is_tied_to_them() -> None:
    class Adding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
            self.other = nn.Conv2d(3, 16, 1)
            self.grouped = nn.Conv2d(16, 16, 3, groups=2, bias=False)
            self.last = nn.Conv2d(16, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.norm(self.first(x))) + self.other(x)
            return self.last(torch.relu(self.grouped(x)))  # type: ignore[no-any-return]

    network = settle(Adding())
    for layer in (network.first, network.grouped):
        prune(layer, 0.7, pattern=Block(4, 1), allocation="uniform")
    ignore(network.grouped, 0)  # in both groups: units 0 and 8 of the sum
    ignore(network.last, 2, 9)
    small = widths(compacted(network, images()))
    found = with_whole_blocks(network, images())
    assert found is not None
    kept = widths(found)
    assert small == {"first": 14, "norm": 14, "other": 14, "grouped": 14, "last": 2}
    assert kept == {"first": 16, "norm": 16, "other": 16, "grouped": 16, "last": 2}
