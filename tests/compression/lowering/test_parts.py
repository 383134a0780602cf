"""What is lowered, folded and fused computes what PyTorch computes, whatever the network."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression.lowering.parts import divide
from gossamer.compression.lowering.rewriting import divided
from gossamer.compression.lowering.tracing import trace
from gossamer.engine import Convolution, Linear, Network, run_portable

TOLERANCE = 1e-5
ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    lambda: nn.LeakyReLU(0.2),
    lambda: nn.LeakyReLU(-0.5),
    lambda: nn.ELU(0.7),
    nn.SELU,
    nn.GELU,
    lambda: nn.GELU("tanh"),
    nn.SiLU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
    nn.Sigmoid,
    nn.Tanh,
    nn.PReLU,
    lambda: nn.ReLU(inplace=True),
)


def network_of(model: nn.Module, example: Tensor) -> Network:
    traced = trace(model.eval(), example)
    division = divide(traced.graph)
    assert not division.rest
    whole = division.whole(traced.graph)
    assert whole is not None
    return whole.network


def error(model: nn.Module, example: Tensor) -> float:
    """Return the largest difference from the float64 model over its largest output."""
    network = network_of(model, example.clone())
    with torch.no_grad():
        reference = copy.deepcopy(model).double()(example.double()).numpy()
    found = run_portable(network, example.numpy().reshape(len(example), *network.input_shape))
    return float(np.abs(found.reshape(reference.shape) - reference).max() / np.abs(reference).max())


def far_statistics(norm: nn.modules.batchnorm._BatchNorm, draw: st.DrawFn) -> None:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    channels = norm.num_features
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.rand(channels, generator=generator) * 200 - 100)
    norm.running_var.copy_(10 ** (torch.rand(channels, generator=generator) * 6 - 3))
    with torch.no_grad():
        norm.weight.copy_(torch.randn(channels, generator=generator))
        norm.bias.copy_(torch.randn(channels, generator=generator))


class Steps(nn.Module):
    """Runs modules on values by their numbers; two inputs are added or concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        self.reads: list[tuple[int, ...]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        values = [inputs]
        for step, read in zip(self.steps, self.reads, strict=True):
            values.append(step(*(values[number] for number in read)))
        return values[-1]


class Joined(nn.Module):
    def __init__(self, *, add: bool) -> None:
        super().__init__()
        self.add = add

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right if self.add else torch.cat([left, right], 1)


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """Draw a network of convolutions, sums and concatenations with a head, and an example."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    example = torch.randn(draw(st.integers(1, 3)), draw(st.integers(1, 5)), *size)
    network, shapes = Steps(), [tuple(example.shape[1:])]
    for _ in range(draw(st.integers(1, 9))):
        read = draw(st.integers(max(0, len(shapes) - 3), len(shapes) - 1))
        step, reads = draw_step(draw, shapes, read)
        network.steps.append(step)
        network.reads.append(reads)
        with torch.no_grad():
            shapes.append(tuple(network.eval()(example).shape[1:]))
    draw_head(draw, network, shapes)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(
                    torch.rand(parameter.shape) < draw(st.sampled_from([0, 0.1, 0.5, 1]))
                )
    return network, example


def draw_step(
    draw: st.DrawFn, shapes: list[tuple[int, ...]], read: int
) -> tuple[nn.Module, tuple[int, ...]]:
    channels, *size = shapes[read]
    kind = draw(
        st.sampled_from(["convolution"] * 3 + ["norm"] * 2 + ["activation", "pool", "join"])
    )
    same = [n for n, shape in enumerate(shapes) if shape == shapes[read]]
    beside = [n for n, shape in enumerate(shapes) if shape[1:] == shapes[read][1:]]
    if kind == "join":
        add = draw(st.booleans())
        return Joined(add=add), (read, draw(st.sampled_from(same if add else beside)))
    if kind == "convolution":
        return draw_convolution(draw, channels, size), (read,)
    if kind == "norm":
        norm = nn.BatchNorm2d(channels)
        far_statistics(norm, draw)
        return norm, (read,)
    if kind == "pool" and min(size) > 1:
        stride, padding, ceil = (draw(st.integers(0, 1)) for _ in range(3))
        average = draw(st.booleans())
        if average:
            return nn.AvgPool2d(2, stride + 1, padding, bool(ceil)), (read,)
        return nn.MaxPool2d(2, stride + 1, padding, ceil_mode=bool(ceil)), (read,)
    return draw(st.sampled_from(ACTIVATIONS))(), (read,)


def draw_convolution(draw: st.DrawFn, channels: int, size: list[int]) -> nn.Module:
    groups = draw(st.sampled_from([1, channels]))
    filters = groups * draw(st.integers(1, 3)) if groups > 1 else draw(st.integers(1, 9))
    kernel = (draw(st.integers(1, min(3, size[0]))), draw(st.integers(1, min(3, size[1]))))
    choices: list[str | int | tuple[int, int]] = ["same", "valid", 0, 1, (1, 0)]
    padding = draw(st.sampled_from(choices))
    stride = 1 if padding == "same" else draw(st.integers(1, 2))
    return nn.Conv2d(
        channels,
        filters,
        kernel,
        stride,
        padding,
        groups=groups,
        bias=draw(st.booleans()),
        dilation=draw(st.integers(1, 2)) if max(kernel) == 1 or padding == "same" else 1,
    )


def draw_head(draw: st.DrawFn, network: Steps, shapes: list[tuple[int, ...]]) -> None:
    channels, *size = shapes[-1]
    global_pool = draw(st.booleans())
    features = channels if global_pool else channels * size[0] * size[1]
    norm = nn.BatchNorm1d(6)
    far_statistics(norm, draw)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1) if global_pool else nn.Identity(),
        nn.Flatten(),
        nn.Linear(features, 6),
        *([norm] if draw(st.booleans()) else []),
        draw(st.sampled_from(ACTIVATIONS))(),
        nn.Dropout(),
        nn.Linear(6, 3),
        draw(st.sampled_from([nn.Identity(), nn.Softmax(1), nn.LogSoftmax(-1)])),
    )
    network.steps.append(head)
    network.reads.append((len(shapes) - 1,))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(max_examples=12)
@given(networks())
def test_any_network_computes_what_its_model_computes(drawn: tuple[nn.Module, Tensor]) -> None:
    assert error(*drawn) <= TOLERANCE


class Function(nn.Module):
    """A network whose middle is a function: a convolution, the function, a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, flat: bool = False) -> None:
        super().__init__()
        self.before: nn.Module = nn.Linear(6, 8) if flat else nn.Conv2d(3, 4, 3)
        self.function = function
        self.after = nn.LazyLinear(3)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.after(self.function(self.before(inputs)).flatten(1))
        return out


MIDDLE: dict[str, Callable[[Tensor], Tensor]] = {
    "functions in a row": lambda x: functional.hardtanh(functional.elu(x).clamp(min=-0.5), -1, 0.5),
    "relu as a method": lambda x: x.relu().sigmoid().tanh(),
    "clamp as relu6": lambda x: x.clamp(0, 6) + torch.clamp_min(x, 0),
    "clamps with bounds far from the numbers": lambda x: (
        x.clamp(-1e4, 1e4) + x.clamp(min=-1e6) + x.clamp(-1e-6, 1e6)
    ),
    "clamps on one side of zero": lambda x: x.clamp(max=0.3) - x.clamp(-0.5, 0) + x.clamp(0, 0.2),
    "arithmetic with numbers": lambda x: 3 - (2 * x + 1) / 4 - x,
    "difference of values": lambda x: torch.relu(x) - 2 * x,
    "subtraction with a factor": lambda x: torch.sub(x, torch.relu(x), alpha=3),
    "negation": lambda x: -x,
    "a value and itself": lambda x: x + x,
    "a number for each channel": lambda x: x * torch.arange(1.0, 5)[:, None, None] - 7,
    "a number for each place": lambda x: torch.relu(x * torch.arange(36.0).view(6, 6) + 1),
    "mean over places": lambda x: x.mean((-1, 2)),
    "mean over the width": lambda x: x.mean(3),
    "mean with the axes kept": lambda x: x.mean((2, 3), keepdim=True),
    "sum over places": lambda x: x.sum((2, 3)),
    "largest over places": lambda x: x.amax((2, 3)),
    "adaptive average": lambda x: functional.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive maximum": lambda x: functional.adaptive_max_pool2d(x, 2),
    "maximum with dilation": lambda x: functional.max_pool2d(x, 2, 1, dilation=2).relu(),
    "average without the border": lambda x: functional.avg_pool2d(
        x, 3, 2, 1, count_include_pad=False
    ),
    "uneven zeros": lambda x: functional.conv2d(
        functional.pad(x, (0, 1, 2, 0)), x.new_ones(2, 4, 3, 3), stride=2
    ),
    "zeros before a pooling": lambda x: functional.max_pool2d(functional.pad(x, (1, 2, 0, 1)), 2),
    "zeros read twice": lambda x: (
        lambda y: y.relu() + functional.conv2d(y, y.new_ones(4, 4, 1, 1))
    )(functional.pad(x, (1, 1))),
    "a sequence": lambda x: functional.max_pool1d(
        functional.conv1d(x.flatten(2), x.new_ones(2, 4, 5), padding=2), 3
    ).squeeze(1),
    "views": lambda x: x.view(len(x), -1).unsqueeze(1).reshape(x.shape[0], 12, 12),
    "axes of size 1 moved": lambda x: x.mean(3, keepdim=True).permute(0, 3, 1, 2).transpose(1, 1),
    "half of everything": lambda x: x[:, :][:] * 0.5,
    "softmax over channels": lambda x: torch.softmax(x, 1),
}
FLAT_MIDDLE: dict[str, Callable[[Tensor], Tensor]] = {
    "matmul": lambda x: x @ torch.arange(40.0).view(8, 5).to(x.dtype),
    "addmm": lambda x: torch.addmm(x.new_ones(5), x, x.new_ones(8, 5), beta=2, alpha=3),
    "scale behind relu": lambda x: torch.relu(x) * torch.linspace(-1, 1, 8) + 5,
    "concatenation": lambda x: torch.cat([x, x.relu(), -x], -1),
    "log-softmax": lambda x: functional.log_softmax(x, dim=-1),
}


@pytest.mark.parametrize("name", MIDDLE)
def test_functions_of_images(name: str) -> None:
    torch.manual_seed(0)
    example = torch.randn(3, 3, 8, 8)
    model = Function(MIDDLE[name])
    model(example)
    assert error(model, example) <= TOLERANCE


@pytest.mark.parametrize("name", FLAT_MIDDLE)
def test_functions_of_features(name: str) -> None:
    torch.manual_seed(0)
    example = torch.randn(3, 6)
    model = Function(FLAT_MIDDLE[name], flat=True)
    model(example)
    assert error(model, example) <= TOLERANCE


def test_a_number_for_each_of_many_features_is_no_square_matrix() -> None:
    """As a matrix, the numbers of one 128 x 128 image would take 18 GiB."""
    places = torch.arange(3.0 * 128 * 128).view(3, 128, 128) / 5e4
    image = nn.Sequential(Subtracts(places), nn.ReLU(), nn.Conv2d(3, 2, 1))
    features = nn.Sequential(nn.BatchNorm1d(20000), nn.ReLU(), nn.Linear(20000, 2))
    for model, shape in ((image, (3, 128, 128)), (features, (20000,))):
        example = torch.randn(2, *shape)
        assert error(model.eval(), example) <= TOLERANCE
        layers = network_of(model, example).layers
        products = [layer for layer in layers if isinstance(layer, Linear | Convolution)]
        assert len(products) == 1


class Subtracts(nn.Module):
    offset: Tensor

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("offset", offset)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - self.offset


def test_numbers_that_float32_cannot_hold_keep_only_what_has_them_in_pytorch() -> None:
    norm = nn.BatchNorm1d(4).eval()
    norm.running_var = torch.full((4,), -1.0)
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 2)).eval()
    division = divide(trace(model, torch.randn(2, 3)).graph)
    assert division.rest == ("1 (batch_norm)",)
    assert division.refused == ()
    assert len(division.parts) == 2


def test_what_overflows_when_it_is_folded_stays_in_pytorch_and_says_so() -> None:
    norm = nn.BatchNorm1d(4).eval()
    nn.init.constant_(norm.weight, 1e30)
    layer = nn.Linear(3, 4)
    nn.init.constant_(layer.weight, 1e30)
    model = nn.Sequential(layer, norm).eval()
    division = divide(trace(model, torch.randn(2, 3)).graph)
    assert [part.exits[0].name for part in division.parts] == ["linear"]
    assert division.rest == ("1 (batch_norm)",)
    (refused,) = division.refused
    assert refused.startswith("what leads to 1 (layer 0 (Linear): ")
    assert "finite" in refused


@pytest.mark.parametrize("indices", [False, True])
def test_a_part_begins_with_one_value_where_pytorch_gives_several(indices: bool) -> None:
    model = nn.Sequential(Median(indices), First(), nn.Flatten(), nn.Linear(39, 5)).eval()
    division = divide(trace(model, torch.randn(2, 3, 13, 8)).graph)
    assert division.rest == ("0 (median)",)
    (part,) = division.parts
    assert part.entries[0].name == "getitem"
    assert part.network.input_shape == (3, 1, 13)


class Median(nn.Module):
    def __init__(self, indices: bool) -> None:
        super().__init__()
        self.indices = indices

    def forward(self, inputs: Tensor) -> Any:
        values, indices = inputs.median(3)
        return (values, indices) if self.indices else values


class First(nn.Module):
    def forward(self, values: Any) -> Tensor:
        out: Tensor = values[0] if isinstance(values, tuple) else values
        return out


class Beside(nn.Module):
    """Modules that each act on the same values; their results are concatenated."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(modules)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([branch(inputs) for branch in self.branches], 1)


def test_activations() -> None:
    torch.manual_seed(0)
    branches: list[nn.Module] = [nn.Sequential(nn.Linear(4, 50), make()) for make in ACTIVATIONS]
    model = nn.Sequential(Beside(branches))
    assert error(model, 3 * torch.randn(20, 4)) <= TOLERANCE


@pytest.mark.parametrize("padding", [1, (2, 0), "same"])
def test_border_pixels(padding: int | tuple[int, int] | str) -> None:
    # Normalisation of large means before zero padding: a shift folded across it shows here.
    model = nn.Sequential(
        nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3, padding=padding, dilation=1)
    ).eval()
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean = torch.tensor([100.0, -50.0, 3.0])
    norm.running_var = torch.tensor([1e-3, 1e3, 1.0])
    example = torch.randn(2, 3, 6, 6)
    network = network_of(model, example)
    with torch.no_grad():
        reference = copy.deepcopy(model).double()(example.double()).numpy()
    difference = np.abs(run_portable(network, example.numpy()) - reference)
    border = np.ones(reference.shape[2:], bool)
    border[1:-1, 1:-1] = False
    assert difference[:, :, border].max() <= TOLERANCE * np.abs(reference[:, :, border]).max()


def test_a_sequence_network_is_one_of_images_of_height_one() -> None:
    model = nn.Sequential(
        nn.Conv1d(2, 4, 5, padding=2), nn.BatchNorm1d(4), nn.ReLU(), nn.AvgPool1d(3), nn.Flatten(),
        nn.Linear(12, 2),
    )  # fmt: skip
    network = network_of(model, torch.randn(2, 2, 10))
    assert network.input_shape == (2, 1, 10)
    assert error(model, torch.randn(2, 2, 10)) <= TOLERANCE


class Scanned(nn.Module):
    """Steps that go on from one another, each of which reads a place behind what is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.wait = nn.Linear(4, 8), nn.Linear(4, 8)
        self.mix = nn.Conv1d(8, 8, 3, padding=2, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mix(self.enter(x).transpose(1, 2))[..., : x.shape[1]]
        seen = functional.silu(mixed).transpose(1, 2)
        wait = functional.softplus(self.wait(x))
        state = torch.zeros_like(seen[:, 0])
        for step in range(3):
            state = torch.exp(-wait[:, step]) * state + seen[:, step]
        return state


def test_layers_are_named_where_places_are_left_out() -> None:
    model, example = Scanned().eval(), torch.randn(2, 6, 4)
    traced, division = divided(model, example)
    whole = division.whole(traced.graph)
    assert whole is not None
    assert {"enter", "wait", "mix"} <= {name for one in whole.modules for name in one.split(", ")}
