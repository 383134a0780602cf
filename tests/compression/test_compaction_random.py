"""Random networks: the compact one computes the same, and nothing is left to remove."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.compression import CompactionReport, compact, compaction_report
from gossamer.compression.compaction import compactions
from gossamer.graph.arguments import Arguments

ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU, nn.Sigmoid, nn.ELU, nn.Identity, lambda: nn.Hardtanh(-0.5, 0.5), nn.PReLU, nn.Dropout,
    lambda: nn.ReLU(inplace=True),
]  # fmt: skip


@dataclass
class Chance:
    """Draws what a network is made of."""

    generator: torch.Generator = field(default_factory=torch.Generator)

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def coin(self, chance: float = 0.5) -> bool:
        return float(torch.rand((), generator=self.generator)) < chance

    def of(self, *things: object) -> object:
        return things[self.integer(0, len(things) - 1)]

    def flags(self, count: int, chance: float) -> Tensor:
        return torch.rand(count, generator=self.generator) < chance


class Branching(nn.Module):
    """Steps on images, each from earlier results: convolutions, sums, gates, concatenations."""

    def __init__(self, chance: Chance, steps: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        self.plan: list[tuple[str, list[int], int]] = []
        shapes = [torch.Size((2, 3, 9, 9))]
        for _ in range(steps):
            self._grow(chance, shapes)
        self.head_in = len(shapes) - 1
        features = shapes[-1].numel() // 2
        pooled = chance.coin(0.3)
        self.pooled = pooled
        hidden = chance.integer(1, 5)
        self.first = nn.Linear(shapes[-1][1] if pooled else features, hidden, bias=chance.coin())
        self.active = chance.of(*ACTIVATIONS)()  # type: ignore[operator]
        self.last = nn.Linear(hidden, 2, bias=chance.coin())

    def _grow(self, chance: Chance, shapes: list[torch.Size]) -> None:
        kind = chance.of("conv", "conv", "conv", "norm", "act", "act", "pool", "add", "cat", "gate")
        source = len(shapes) - 1 if chance.coin(0.7) else chance.integer(0, len(shapes) - 1)
        sources = [source]
        channels = shapes[source][1]
        part: nn.Module = nn.Identity()
        if kind == "conv":
            part = convolution(chance, channels, shapes[source])
        elif kind == "norm":
            part = nn.BatchNorm2d(channels, affine=chance.coin(0.8))
        elif kind == "act":
            part = chance.of(*ACTIVATIONS, lambda: nn.PReLU(channels))()  # type: ignore[operator]
        elif kind == "pool" and shapes[source][2] >= 4:
            part = chance.of(  # type: ignore[assignment]
                nn.MaxPool2d(2, padding=chance.integer(0, 1)),
                nn.AvgPool2d(2, padding=chance.integer(0, 1), count_include_pad=chance.coin()),
                nn.AdaptiveAvgPool2d(3),
                nn.ZeroPad2d(1),
            )
        elif kind in ("add", "cat", "gate"):
            fits = [
                n
                for n, shape in enumerate(shapes)
                if (shape == shapes[source] if kind != "cat" else shape[2:] == shapes[source][2:])
            ]
            sources.append(int(chance.of(*fits)))  # type: ignore[call-overload]
        self.parts.append(part)
        self.plan.append((str(kind), sources, len(self.parts) - 1))
        self.eval()
        with torch.no_grad():
            values = [torch.zeros(shapes[n]) for n in sources]
            shapes.append(self._step(self.plan[-1], values).shape)

    def _step(self, step: tuple[str, list[int], int], values: list[Tensor]) -> Tensor:
        kind, _, part = step
        if kind == "add":
            return values[0] + values[1]
        if kind == "cat":
            return torch.cat(values, dim=1)
        if kind == "gate":
            return values[0] * values[1].mean((2, 3), keepdim=True)
        return self.parts[part](values[0])  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        values = [images]
        for step in self.plan:
            values.append(self._step(step, [values[n] for n in step[1]]))
        last = values[self.head_in]
        flat = last.mean((2, 3)) if self.pooled else last.flatten(1)
        return self.last(self.active(self.first(flat)))  # type: ignore[no-any-return]


def convolution(chance: Chance, channels: int, shape: torch.Size) -> nn.Module:
    size = 3 if shape[2] >= 3 and chance.coin() else 1
    groups = int(chance.of(1, 1, channels, 2 if channels % 2 == 0 else 1))  # type: ignore[call-overload]
    outputs = groups * chance.integer(1, 3 if groups < 4 else 2)
    outputs = outputs if groups > 1 else chance.integer(1, 6)
    if chance.coin(0.15):
        return nn.ConvTranspose2d(channels, outputs, 2, groups=groups, bias=chance.coin())
    mode: Literal["zeros", "replicate"] = "replicate" if chance.coin(0.3) else "zeros"
    padding = chance.integer(0, 1) if size == 3 else 0
    return nn.Conv2d(
        channels, outputs, size, padding=padding, groups=groups, bias=chance.coin(),
        padding_mode=mode,
    )  # fmt: skip


def fill(network: nn.Module, chance: Chance) -> None:
    """Draw weights of which whole rows and columns, and single ones, are zero."""
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        weight.data = torch.randn(weight.shape, generator=chance.generator)
        if weight.dim() > 1:
            weight.data[chance.flags(weight.shape[0], 0.4)] = 0
            weight.data[:, chance.flags(weight.shape[1], 0.3)] = 0
            weight.data[torch.rand(weight.shape, generator=chance.generator) < 0.2] = 0
        elif weight.numel() > 1:
            weight.data[chance.flags(len(weight), 0.2)] = 0
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.data = torch.randn(bias.shape, generator=chance.generator)
            bias.data[chance.flags(len(bias), 0.5)] = 0
        if isinstance(module, nn.BatchNorm2d):
            mean = module.get_buffer("running_mean")
            mean.copy_(100 * torch.randn(mean.shape, generator=chance.generator))
            module.get_buffer("running_var").uniform_(0.01, 50.0, generator=chance.generator)


def random_network(seed: int, steps: int) -> Branching:
    chance = Chance(torch.Generator().manual_seed(seed))
    network = Branching(chance, steps)
    fill(network, chance)
    return network.double().eval()


def widths(report: CompactionReport) -> dict[str, int]:
    return {name: int(layer.outputs.sum()) for name, layer in report.layers.items()}


def outputs(network: nn.Module, images: Tensor) -> Tensor:
    """Run a network on a copy, as it may begin with an activation in place."""
    with torch.no_grad():
        return network(images.clone())  # type: ignore[no-any-return]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 12))
def test_the_compact_network_computes_the_same(seed: int, steps: int) -> None:
    network = random_network(seed, steps)
    before = copy.deepcopy(network.state_dict())
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64) * 10
    expected = outputs(network, images)
    report = compaction_report(network, images.clone())
    assert report.unfollowed == {}
    scale = max(float(expected.abs().max()), 1.0)
    assert float((outputs(report.network, images) - expected).abs().max()) <= 1e-12 * scale
    again = compaction_report(report.network, images.clone())
    assert again.unfollowed == {}
    assert widths(again) == widths(report), "compacting twice removes no more than once"
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


class Blocks(nn.Module):
    """Convolutions pruned in blocks, some in groups, some added to what they read."""

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        self.parts = nn.ModuleList()
        for _ in range(chance.integer(1, 3)):
            groups = (1, 2, 4)[chance.integer(0, 2)]
            self.parts.append(nn.Conv2d(16, 16, 3, padding=1, groups=groups, bias=chance.coin()))
        self.adds = [chance.coin() for _ in self.parts]
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for part, adds in zip(self.parts, self.adds, strict=True):
            x = torch.relu(part(x)) + (x if adds else 0)
        return self.last(self.norm(x).mean((2, 3)))  # type: ignore[no-any-return]


def random_blocks(seed: int) -> Blocks:
    chance = Chance(torch.Generator().manual_seed(seed))
    network = Blocks(chance)
    torch.manual_seed(seed)
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() > 1:
            weight.data = torch.randn(weight.shape, generator=chance.generator)
            read = torch.rand(weight.flatten(1).shape, generator=chance.generator) < 0.4
            if len(weight) > 3:
                weight.data *= read[torch.arange(len(weight)) // 4 * 4].view(weight.shape)
            weight.data[:, chance.flags(weight.shape[1], 0.15)] = 0
    return network.double().eval()


def test_the_network_with_whole_blocks_computes_the_same() -> None:
    kept = 0
    for seed in range(40):
        network = random_blocks(seed)
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
        report, in_blocks = compactions(network, Arguments.of(network, images))
        if in_blocks is None:
            continue
        kept += 1
        expected = outputs(network, images)
        scale = max(float(expected.abs().max()), 1.0)
        assert float((outputs(in_blocks, images) - expected).abs().max()) <= 1e-12 * scale
        smallest, larger = (
            {name: len(value) for name, value in found.named_parameters()}
            for found in (report.network, in_blocks)
        )
        assert smallest != larger
        assert all(larger[name] >= count for name, count in smallest.items() if name in larger)
    assert kept >= 5


class Skipping(nn.Module):
    """Two layers of units, the first of which is a sum; tanh is never flat nor straight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(2, 3, bias=False), nn.Linear(3, 3)
        self.back, self.last = nn.Linear(3, 3, bias=False), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.back(torch.tanh(self.inner(torch.tanh(x))))
        return self.last(torch.tanh(x))  # type: ignore[no-any-return]


def with_constants(network: Skipping, x: Tensor, stream: list[int], inner: list[int]) -> Tensor:
    """Run a network while some units of the stream and the inner layer give their mean."""

    def held(values: Tensor, units: list[int]) -> Tensor:
        return values.index_copy(
            1, torch.tensor(units, dtype=torch.long), values.mean(0).expand_as(values)[:, units]
        )

    start = held(network.first(x), stream)
    inside = held(network.inner(torch.tanh(start)), inner)
    return network.last(torch.tanh(start + held(network.back(torch.tanh(inside)), stream)))  # type: ignore[no-any-return]


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31))
def test_no_set_of_units_that_is_left_could_be_constants(seed: int) -> None:
    """Brute force over all sets of units that leave a unit in each layer."""
    chance = Chance(torch.Generator().manual_seed(seed))
    network = Skipping()
    fill(network, chance)
    for weight in (network.first.weight, network.inner.weight, network.back.weight):
        weight.data *= torch.rand(weight.shape, generator=chance.generator) < 0.6
    x = torch.randn(40, 2, generator=chance.generator).double()
    small = compact(network.double(), x)
    assert isinstance(small, Skipping)
    with torch.no_grad():
        expected = small(x)
        for stream in proper_subsets(small.first.out_features):
            for inner in proper_subsets(small.inner.out_features):
                if stream or inner:
                    given = with_constants(small, x, stream, inner)
                    assert float((given - expected).abs().max()) > 1e-9


def proper_subsets(count: int) -> list[list[int]]:
    return [[unit for unit in range(count) if number >> unit & 1] for number in range(2**count - 1)]
