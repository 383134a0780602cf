"""Pruning groups of coupled channels, and compaction that removes exactly these everywhere."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gossamer import compact, prune
from gossamer.graph.groups import coupled_units
from gossamer.graph.recording import recorded


def convolution(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False),
        nn.BatchNorm2d(outputs), nn.SiLU(inplace=True),
    )  # fmt: skip


class Residual(nn.Module):
    """A block of ResNet-18, its parts registered in another order than they are called."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        plain = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if plain else nn.Conv2d(inputs, outputs, 1, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs))
        self.first = convolution(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.second(self.first(x)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """An inverted residual of MobileNetV2, or a block of ResNeXt if it has few groups."""

    def __init__(self, inputs: int, outputs: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.expand = convolution(inputs, hidden)
        self.depthwise = convolution(hidden, hidden, groups=groups)
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1), nn.BatchNorm2d(outputs))
        self.adds = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y  # type: ignore[no-any-return]


class Dense(nn.Module):
    """A block and a transition of DenseNet."""

    def __init__(self, inputs: int, growth: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs + growth * i for i in range(3)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(width), nn.SiLU(), convolution(width, growth))
            for width in widths
        )
        self.transition = nn.Conv2d(inputs + 3 * growth, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return functional.avg_pool2d(self.transition(torch.cat(features, dim=1)), 3, 1, 1)


class UNet(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.out = convolution(2 * width, width)
        self.up = nn.ConvTranspose2d(width + 2, width, 2, 2)
        self.down = convolution(width, width + 2)
        self.first = convolution(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.first(x)
        deep = self.down(functional.max_pool2d(wide, 2))
        return self.out(torch.cat([self.up(deep), wide], dim=-3))  # type: ignore[no-any-return]


class Squeezed(nn.Module):
    """A convolution with the gate of SENet."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(width, 3), nn.Linear(3, width)
        self.conv = convolution(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = self.excite(self.squeeze(x.mean((2, 3))).tanh()).sigmoid()
        return x * gate[:, :, None, None]  # type: ignore[no-any-return]


class Shared(nn.Module):
    """A layer that is called twice, and a normalisation that is."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        self.first = nn.Conv2d(inputs, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).tanh()
        return self.norm(self.conv(self.conv(x).tanh()))  # type: ignore[no-any-return]


BLOCKS: list[Callable[[int, int], nn.Module]] = [
    convolution,
    Residual,
    lambda i, _: Residual(i, i),
    lambda i, o: Bottleneck(i, i, 2 * o, 2 * o),
    lambda i, o: Bottleneck(i, o, 12, 6),
    lambda i, o: Bottleneck(i, o, 12, 2),
    lambda i, o: Dense(i, 3, o),
    UNet,
    Squeezed,
    Shared,
    lambda i, o: nn.Sequential(nn.ConvTranspose2d(i, 4 * o, 3, 1, 1), nn.PReLU(4 * o)),
    lambda i, _: convolution(i, 2 * i, groups=i),
]  # fmt: skip


class Net(nn.Module):
    """A stem, blocks, and a head on flattened images."""

    def __init__(self, blocks: list[tuple[Callable[[int, int], nn.Module], int]]) -> None:
        super().__init__()
        self.stem = convolution(3, 6)
        parts, images = [], self.stem.eval()(torch.zeros(1, 3, 8, 8))
        for block, width in blocks:
            parts.append(block(images.shape[1], width).eval())
            images = parts[-1](images)
        self.hidden, self.head = nn.Linear(images[0].numel(), 7), nn.Linear(7, 3)
        self.blocks = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.head(functional.silu(self.hidden(torch.flatten(x, 1))))  # type: ignore[no-any-return]


def filled(network: nn.Module, seed: int) -> nn.Module:
    """Give a network values of which none is zero, in float64."""
    generator = torch.Generator().manual_seed(seed)
    for value in [*network.parameters(), *network.buffers()]:
        if value.is_floating_point():
            value.data = 0.3 + torch.rand(value.shape, generator=generator).double()
            signs = torch.rand(value.shape, generator=generator) < 0.5
            if value.dim() > 1:
                value.data[signs] *= -1
                value.data /= value[0].numel() ** 0.5
    return network.double().eval()


def channels_in_use(network: nn.Module, example: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return which channels of what each layer reads and gives are not zero throughout."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor], result: Tensor) -> None:
            axis = -1 if isinstance(module, nn.Linear) else 1
            used = tuple(
                (tensor.transpose(0, axis).flatten(1) != 0).any(1) for tensor in (*given, result)
            )
            before = seen.get(name, tuple(map(torch.zeros_like, used)))
            seen[name] = (before[0] | used[0], before[1] | used[1])

        return hook

    twin = copy.deepcopy(network)
    for name, module in twin.named_modules():
        if isinstance(module, nn.Linear | _ConvNd | _BatchNorm | nn.PReLU):
            module.register_forward_hook(watch(name))
    twin(example)
    return seen


def counted(network: nn.Module, used: dict[str, tuple[Tensor, Tensor]]) -> Iterator[int]:
    """Yield how many parameters each layer has left without the channels that are not in use."""
    for name, module in network.named_modules():
        if name not in used:
            continue
        inputs, outputs = used[name]
        if isinstance(module, _BatchNorm | nn.PReLU):
            yield int(inputs.sum()) * len(list(module.parameters()))
            continue
        groups, kernel = 1, 1
        if isinstance(module, _ConvNd):
            groups, kernel = module.groups, torch.Size(module.kernel_size).numel()
        pairs = zip(inputs.view(groups, -1).sum(1), outputs.view(groups, -1).sum(1), strict=True)
        weights = sum(int(i) * int(o) for i, o in pairs) * kernel
        yield weights + (int(outputs.sum()) if getattr(module, "bias", None) is not None else 0)


def check_removal(network: nn.Module, example: Tensor, sparsity: float, **options: Any) -> float:
    """Prune groups, and check that compaction removes exactly these; return the sparsity."""
    mask = prune(
        network, sparsity, pattern="unit", exclude="output layer", example=example, **options
    )
    used = channels_in_use(network, example)
    for name, (_, outputs) in used.items():
        module = network.get_submodule(name)
        if f"{name}.weight" in mask.weights:
            dimension = 1 if isinstance(module, _ConvTransposeNd) else 0
            kept = mask[f"{name}.weight"].transpose(0, dimension).flatten(1).any(1)
            assert torch.equal(outputs, kept), name
    small = compact(network, example)
    assert sum(p.numel() for p in small.parameters()) == sum(counted(network, used))
    assert all(bool((p != 0).all()) for p in small.parameters())
    torch.testing.assert_close(small(example), network(example), rtol=1e-9, atol=1e-12)
    return mask.sparsity


@settings(max_examples=10)
@given(
    blocks=st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(3, 8)), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    allocation=st.sampled_from(["global", "uniform"]),
)
def test_half_of_the_groups_go_everywhere(
    blocks: list[tuple[Callable[[int, int], nn.Module], int]], seed: int, allocation: str
) -> None:
    network = filled(Net(blocks), seed)
    example = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    check_removal(network, example, 0.5, allocation=allocation, score="random", seed=seed)


def mobile(inputs: int, outputs: int) -> nn.Module:
    return Bottleneck(inputs, outputs, 3 * inputs, 3 * inputs)


def paths(inputs: int, outputs: int) -> nn.Module:
    return Bottleneck(inputs, outputs, 16, 8)


def dense(inputs: int, outputs: int) -> nn.Module:
    return Dense(inputs, 4, outputs)


def smaller(inputs: int, outputs: int) -> nn.Module:
    return Residual(inputs, outputs, 2)


NETWORKS: dict[str, list[tuple[Callable[[int, int], nn.Module], int]]] = {
    "resnet": [(Residual, 6), (smaller, 12), (Residual, 12)],
    "mobilenet": [(mobile, 6), (mobile, 10), (mobile, 10)],
    "resnext": [(paths, 6), (paths, 6)],
    "densenet": [(dense, 9), (dense, 9)],
    "u-net": [(UNet, 8), (UNet, 6)],
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sparsity", [0.25, 0.4, 0.6])
def test_known_networks_become_as_small_as_their_groups_say(name: str, sparsity: float) -> None:
    network = filled(Net(NETWORKS[name]), 0)
    example = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    weights = {n: w for n, w in network.named_parameters() if w.dim() > 1 and "head" not in n}
    largest = 0
    for group in coupled_units(network, recorded(network, example)):
        units = [m for m in group.members if m.part == "units" and m.parameter in weights]
        largest = max(largest, sum(len(m.indices) * fan_in(network, m.parameter) for m in units))
    achieved = check_removal(copy.deepcopy(network), example, sparsity)
    total = sum(weight.numel() for weight in weights.values())
    assert abs(achieved - sparsity) * total <= largest / 2


def fan_in(network: nn.Module, name: str) -> int:
    module = network.get_submodule(name.removesuffix(".weight"))
    weight = network.get_parameter(name)
    units = module.out_channels if isinstance(module, _ConvNd) else len(weight)
    return weight.numel() // units


def test_a_resnet_loses_the_same_channels_on_both_branches() -> None:
    """Of single units hardly any channel is gone on both, so that nothing can be removed."""
    network = filled(Net([(Residual, 16), (Residual, 16)]), 3)
    example = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    single = copy.deepcopy(network)
    prune(single, 0.4, pattern="unit", example=example, exclude="output layer", coupled=False)
    loose = compact(single, example).get_parameter("blocks.1.second.0.weight")
    mask = prune(network, 0.4, pattern="unit", example=example, exclude="output layer")
    small = compact(network, example)
    ends = ("blocks.0.shortcut", "blocks.0.second.0", "blocks.1.second.0")
    gone = [~mask[f"{name}.bias"] for name in ends]
    assert torch.equal(gone[0], gone[1])
    assert torch.equal(gone[0], gone[2])
    kept = 16 - int(gone[0].sum())
    assert [len(small.get_parameter(f"{name}.weight")) for name in ends] == [kept] * 3
    assert kept < 12 <= len(loose)


def test_one_slope_for_layers_of_several_widths_ties_nothing() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.o = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 3)
            self.p = nn.PReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.o(self.p(self.b(self.p(self.a(x)))))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model, x = Net().double().eval(), torch.randn(7, 6).double()
    prune(model, 0.5, pattern="unit", exclude="output layer", example=x)
    small = compact(model, x)
    torch.testing.assert_close(small(x), model(x), rtol=0, atol=1e-12)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
