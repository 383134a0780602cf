"""Folding and fusing leave what a program computes as it is; PyTorch in float64 is the judge."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression import compress
from gossamer.engine import (
    Activation,
    Concatenate,
    Convolution,
    Linear,
    Network,
    Operator,
    Pad,
    Pointwise,
    Pool,
    Pooling,
    Program,
    Reshape,
    Shape,
    Softmax,
    Value,
    dense,
    finished,
    fold,
    fuse,
    read_by,
    run_portable,
)
from gossamer.engine.ops.pointwise import activate, add, affine

ACTIVATIONS = (
    Activation("relu"), Activation("relu6"), Activation("leaky-relu", 0.2), Activation("sigmoid"),
    Activation("leaky-relu", -0.5), Activation("elu", 0.7), Activation("gelu"), Activation("tanh"),
    Activation("elu", -0.5),
)  # fmt: skip


def activated(values: Tensor, activation: Activation) -> Tensor:
    match activation.name:
        case "relu":
            return values.relu()
        case "relu6":
            return functional.relu6(values)
        case "leaky-relu":
            return functional.leaky_relu(values, activation.alpha)
        case "elu":
            return functional.elu(values, activation.alpha)
        case "gelu":
            return functional.gelu(values)
        case "sigmoid":
            return values.sigmoid()
        case "tanh":
            return values.tanh()
    raise AssertionError(activation)


def pooled(values: Tensor, pooling: Pooling) -> Tensor:
    place = (pooling.kernel, pooling.stride, pooling.padding)
    if pooling.kind == "max":
        return functional.max_pool2d(values, *place, pooling.dilation, pooling.ceil)
    return functional.avg_pool2d(values, *place, pooling.ceil, pooling.counts_padding)


def multiplied(values: Tensor, product: Linear | Convolution) -> Tensor:
    matrix = torch.from_numpy(product.weights.values)
    bias = None if product.bias is None else torch.from_numpy(product.bias)
    if isinstance(product, Linear):
        return functional.linear(values, matrix, bias)
    weight = matrix.view(len(matrix), -1, *product.kernel)
    place = (product.stride, product.padding, product.dilation, product.groups)
    return functional.conv2d(values, weight, bias, *place)


def finished_sums(values: Tensor, read: list[Tensor], operator: Pointwise) -> Tensor:
    epilogue = operator.epilogue
    if epilogue.residual is not None:
        return values + read[1]
    if epilogue.scale is None:
        return activated(values, epilogue.activation)
    shape = (-1, *[1] * (values.dim() - 2))
    return values * torch.tensor(epilogue.scale).view(shape) + torch.tensor(epilogue.shift).view(
        shape
    )


def computed(operator: Operator, values: dict[Value, Tensor]) -> Tensor:
    read = [values[name] for name in read_by(operator)]
    match operator:
        case Linear() | Convolution():
            return multiplied(read[0], operator)
        case Pointwise():
            return finished_sums(read[0], read, operator)
        case Pad(before=before, after=after):
            return functional.pad(read[0], (before[1], after[1], before[0], after[0]))
        case Pool(pooling=pooling):
            return pooled(read[0], pooling)
        case Concatenate():
            return torch.cat(read, 1)
        case Reshape(shape=shape):
            return read[0].reshape(len(read[0]), *shape)
        case Softmax(logarithm=logarithm):
            return (torch.log_softmax if logarithm else torch.softmax)(read[0], 1)
    raise AssertionError(operator)


def expected(program: Program, inputs: Tensor) -> Tensor:
    values: dict[Value, Tensor] = {"x": inputs}
    for name, operator in program.operators.items():
        values[name] = computed(operator, values)
    return values[program.outputs[0]]


class Drawing:
    """Draws one operator after the other."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.generator = np.random.default_rng(draw(st.integers(0, 2**32)))
        self.shapes: dict[Value, Shape] = {"x": self.drawn_shape()}
        self.operators: dict[Value, Operator] = {}

    def drawn_shape(self) -> Shape:
        lengths = st.integers(1, 6)
        return tuple(self.draw(lengths) for _ in range(self.draw(st.sampled_from([1, 3, 3]))))

    def array(self, *shape: int) -> np.ndarray:
        values = self.generator.standard_normal(shape)
        kind = self.draw(st.sampled_from(["any", "positive", "with zeros"]))
        if kind == "positive":
            return np.asarray(np.abs(values))
        return values * (self.generator.random(shape) < 0.5) if kind == "with zeros" else values

    def step(self) -> None:
        names = list(self.shapes)
        name = self.draw(st.sampled_from([names[-1]] * 3 + names))
        operator = self.operator(name, self.shapes[name])
        self.operators[f"v{len(names)}"] = operator
        self.shapes[f"v{len(names)}"] = operator.infer_shape(self.shapes)

    def operator(self, name: Value, shape: Shape) -> Operator:
        flat = ["product", "affine", "activate", "affine", "sum", "concatenate", "softmax"]
        kind = self.draw(
            st.sampled_from([*flat, *(["pool", "pad", "reshape"] if shape[1:] else [])])
        )
        match kind:
            case "product":
                return self.convolution(name, shape) if shape[1:] else self.linear(name, shape)
            case "affine":
                return affine(name, self.array(shape[0]), self.array(shape[0]) + 3)
            case "activate":
                return activate(name, self.draw(st.sampled_from(ACTIVATIONS)))
            case "sum":
                same = [other for other, found in self.shapes.items() if found == shape]
                return add(name, self.draw(st.sampled_from(same)))
            case "concatenate":
                beside = [other for other, found in self.shapes.items() if found[1:] == shape[1:]]
                return Concatenate((name, self.draw(st.sampled_from(beside))))
            case "pool":
                return Pool(name, self.pooling(shape))
            case "pad":
                sizes = [self.draw(st.integers(0, 2)) for _ in range(4)]
                return Pad(name, (sizes[0], sizes[1]), (sizes[2], sizes[3]))
            case "reshape":
                turned = (shape[0], 1, shape[1] * shape[2])
                return Reshape(
                    name, self.draw(st.sampled_from([(math.prod(shape),), shape, turned]))
                )
        return Softmax(name, self.draw(st.booleans()))

    def linear(self, name: Value, shape: Shape) -> Linear:
        rows = self.draw(st.integers(1, 6))
        return Linear(name, dense(self.array(rows, shape[0])), self.array(rows))

    def convolution(self, name: Value, shape: Shape) -> Convolution:
        channels, *size = shape
        groups = self.draw(st.sampled_from([1, channels]))
        rows = groups * self.draw(st.integers(1, 3))
        kernel = tuple(self.draw(st.integers(1, min(3, extent))) for extent in size)
        padding = tuple(self.draw(st.integers(0, 1)) for _ in size)
        reach = [extent + 2 * pad for extent, pad in zip(size, padding, strict=True)]
        roomy = all(2 * (k - 1) < room for k, room in zip(kernel, reach, strict=True))
        dilation = self.draw(st.integers(1, 2)) if roomy else 1
        stride = (self.draw(st.integers(1, 2)), 1)
        columns = channels // groups * kernel[0] * kernel[1]
        return Convolution(
            name, dense(self.array(rows, columns)), (kernel[0], kernel[1]), stride,
            (padding[0], padding[1]), (dilation, dilation), groups, self.array(rows),
        )  # fmt: skip

    def pooling(self, shape: Shape) -> Pooling:
        kernel = (min(2, shape[1]), min(2, shape[2]))
        padding = (self.draw(st.integers(0, kernel[0] // 2)), 0)
        stride, ceil = (self.draw(st.integers(1, 2)), 2), self.draw(st.booleans())
        if self.draw(st.booleans()):
            return Pooling("max", kernel, stride, padding, ceil=ceil)
        return Pooling(
            "average", kernel, stride, padding, ceil=ceil, counts_padding=self.draw(st.booleans())
        )


@st.composite
def programs(draw: st.DrawFn) -> Program:
    drawing = Drawing(draw)
    for _ in range(draw(st.integers(1, 10))):
        drawing.step()
    *_, last = drawing.operators
    return Program({"x": drawing.shapes["x"]}, drawing.operators, (last,))


def made(program: Program) -> Network:
    return finished(fuse(program))


def difference(network: Network, program: Program) -> float:
    inputs = torch.randn(2, *program.inputs["x"], generator=torch.Generator().manual_seed(0))
    reference = expected(program, inputs.double()).numpy()
    found = run_portable(network, inputs.double().numpy(), np.float64)
    return float(np.abs(found - reference).max() / max(np.abs(reference).max(), 1.0))


@settings(max_examples=300)
@given(programs())
def test_folding_and_fusing_keep_what_is_computed(program: Program) -> None:
    # Float64 up to the constants, which are rounded to float32 once.
    assert difference(made(program), program) <= 1e-5
    assert difference(made(fold(program)), program) <= 1e-5


@settings(max_examples=100)
@given(programs())
def test_folding_leaves_no_more_layers(program: Program) -> None:
    assert len(made(fold(program)).layers) <= len(made(program).layers)


def test_a_value_added_to_itself_stays_one_layer_with_its_activation() -> None:
    doubled: dict[Value, Operator] = {"sum": add("x", "x"), "out": activate("sum", RELU)}
    assert len(made(fold(Program({"x": (1,)}, doubled, ("out",)))).layers) == 1
    product: dict[Value, Operator] = {
        "p": Linear("x", dense(np.ones((1, 1)))),
        "sum": add("p", "p"),
    }
    (layer,) = made(fold(Program({"x": (1,)}, product, ("sum",)))).layers
    assert isinstance(layer, Linear)


def image_program(*operators: tuple[Value, Operator]) -> Program:
    return Program({"x": (2, 6, 6)}, dict(operators), (operators[-1][0],))


def convolution(name: str, padding: int = 0) -> Convolution:
    generator = np.random.default_rng(0)
    weights = dense(generator.standard_normal((2, 18)))
    return Convolution(name, weights, (3, 3), padding=(padding, padding), bias=np.ones(2))


AFFINE = (np.array([2.0, -3.0]), np.array([5.0, 7.0]))
RELU = Activation("relu")
MAXIMUM = Pooling("max", (2, 2), (2, 2))


def only_layer(program: Program) -> Convolution:
    (layer,) = made(fold(program)).layers
    assert isinstance(layer, Convolution)
    return layer


def test_normalisation_behind_a_convolution_is_folded_into_it() -> None:
    layer = only_layer(image_program(("a", convolution("x", 1)), ("b", affine("a", *AFFINE))))
    assert layer.epilogue.scale is None
    assert layer.bias is not None
    assert layer.bias.tolist() == [7.0, 4.0]


def test_activation_normalisation_and_pooling_make_one_layer() -> None:
    layer = only_layer(
        image_program(
            ("a", convolution("x")),
            ("b", activate("a", RELU)),
            ("c", affine("b", *AFFINE)),
            ("d", Pool("c", MAXIMUM)),
        )
    )
    assert layer.epilogue.activation == RELU
    assert layer.epilogue.scale is not None
    assert layer.epilogue.pooling == MAXIMUM


def test_relu_behind_a_max_pooling_moves_before_it() -> None:
    layer = only_layer(
        image_program(
            ("a", convolution("x")), ("b", Pool("a", MAXIMUM)), ("c", activate("b", RELU))
        )
    )
    assert layer.epilogue.activation == RELU
    assert layer.epilogue.pooling == MAXIMUM


def test_negative_scales_stay_behind_a_max_pooling() -> None:
    program = image_program(
        ("a", convolution("x")), ("b", Pool("a", MAXIMUM)), ("c", affine("b", *AFFINE))
    )
    network = made(fold(program))
    assert [type(layer) for layer in network.layers] == [Convolution, Pointwise]
    assert difference(network, program) <= 1e-6


def test_a_normalisation_goes_forwards_through_flattening_into_a_linear_layer() -> None:
    linear = Linear("d", dense(np.random.default_rng(0).standard_normal((3, 32))))
    program = image_program(
        ("a", convolution("x")),
        ("b", activate("a", RELU)),
        ("c", affine("b", *AFFINE)),
        ("d", Reshape("c", (32,))),
        ("e", linear),
    )
    network = made(fold(program))
    first = network.layers[0]
    assert isinstance(first, Convolution)
    assert first.epilogue.scale is None
    assert difference(network, program) <= 1e-6


def test_a_shift_does_not_cross_zero_padding() -> None:
    program = image_program(
        ("a", convolution("x")),
        ("b", activate("a", RELU)),
        ("c", affine("b", *AFFINE)),
        ("d", convolution("c", padding=1)),
    )
    network = made(fold(program))
    first = network.layers[0]
    assert isinstance(first, Convolution)
    assert first.epilogue.shift is not None
    assert difference(network, program) <= 1e-6


def test_a_residual_sum_joins_the_convolution_before_it() -> None:
    layer = only_layer(
        image_program(
            ("a", convolution("x", 1)),
            ("b", affine("a", *AFFINE)),
            ("c", add("b", "x")),
            ("d", activate("c", RELU)),
        )
    )
    assert layer.epilogue.residual == 0
    assert layer.epilogue.activation == RELU


def test_what_is_read_elsewhere_is_not_changed() -> None:
    program = image_program(
        ("a", convolution("x", 1)),
        ("b", affine("a", *AFFINE)),
        ("c", Concatenate(("a", "b"))),
    )
    assert difference(made(fold(program)), program) <= 1e-6


def test_dead_operators_go() -> None:
    program = image_program(("a", convolution("x", 1)), ("b", activate("x", RELU)))
    assert list(fold(program).operators) == ["b"]


def test_uneven_margins_become_zeros_of_the_kernel() -> None:
    program = image_program(("a", Pad("x", (0, 1), (1, 0))), ("b", convolution("a")))
    layer = only_layer(program)
    assert (layer.kernel, layer.padding) == ((4, 4), (1, 1))
    assert difference(made(fold(program)), program) <= 1e-6


# --- numbers far from zero


class Shifted(nn.Module):
    """A network that first takes numbers near zero."""

    def __init__(self, by: float, spread: float, spelling: str) -> None:
        super().__init__()
        self.by, self.spread, self.spelling = by, spread, spelling
        self.norm = nn.BatchNorm1d(20)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.fill_(by)
        self.norm.running_var.fill_(spread**2)
        self.layers = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))

    def forward(self, inputs: Tensor) -> Tensor:
        match self.spelling:
            case "differences":
                return self.layers((inputs - self.by) / self.spread)  # type: ignore[no-any-return]
            case "products":
                return self.layers((inputs - self.by) * (1 / self.spread))  # type: ignore[no-any-return]
        return self.layers(self.norm(inputs))  # type: ignore[no-any-return]


@pytest.mark.parametrize("spelling", ["differences", "products", "norm"])
@pytest.mark.parametrize(("by", "spread"), [(200.0, 2.0), (-1000.0, 1.0), (1e5, 3.0)])
def test_numbers_far_from_zero_are_centred_before_they_are_multiplied(
    spelling: str, by: float, spread: float
) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        model = Shifted(by, spread, spelling).eval()
        example = torch.randn(32, 20) * spread + by
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            small = compress(model, example, choose="engine")
        assert small.choice == "engine"
        exact = copy.deepcopy(model).double()(example.double()).detach()
        error = (small(example) - exact).abs().max() / exact.abs().max()
        assert error < 2e-6


def test_a_channel_far_from_zero_is_centred_and_the_others_folded() -> None:
    scale, shift = np.array([0.5, 2.0, 0.0, 1e-35]), np.array([-100.0, 3.0, 50.0, 40.0])
    matrix = np.arange(8.0).reshape(2, 4)
    operators: dict[Value, Operator] = {
        "affine": affine("x", scale, shift),
        "flat": Linear("affine", dense(matrix)),
    }
    folded = fold(Program({"x": (4,)}, operators, ("flat",)))
    centred, product = folded.operators.values()
    assert isinstance(centred, Pointwise)
    assert centred.epilogue.scale is not None
    assert centred.epilogue.shift is not None
    assert isinstance(product, Linear)
    assert product.bias is not None
    assert centred.epilogue.scale.tolist() == [1, 1, 1, 1]
    assert centred.epilogue.shift.tolist() == [-200, 0, 0, 0]
    assert product.weights.values.tolist() == (matrix * scale).tolist()
    assert product.bias.tolist() == (matrix @ [0, 3, 50, 40]).tolist()


@pytest.mark.parametrize("pooled_before", [False, True])
def test_images_far_from_zero_are_centred_before_they_are_flattened(pooled_before: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    assert norm.running_mean is not None
    norm.running_mean.copy_(torch.tensor([500.0, -2000.0, 0.5]))
    pool = nn.AvgPool2d(2) if pooled_before else nn.Identity()
    size = 12 if pooled_before else 48
    model = nn.Sequential(norm, pool, nn.Flatten(), nn.Linear(size, 5)).eval()
    example = torch.randn(8, 3, 4, 4) + norm.running_mean[:, None, None]
    small = compress(model, example, choose="engine")
    assert small.choice == "engine"
    exact = copy.deepcopy(model).double()(example.double()).detach()
    assert (small(example) - exact).abs().max() / exact.abs().max() < 2e-6


@pytest.mark.parametrize(
    ("mean", "deviation"), [(0.1307, 0.3081), (0.485, 0.229), (123.675, 58.395)]
)
def test_usual_normalisations_are_folded_whole(mean: float, deviation: float) -> None:
    matrix = np.array([[1.0, 2.0]])
    operators: dict[Value, Operator] = {
        "affine": affine("x", np.full(2, 1 / deviation), np.full(2, -mean / deviation)),
        "product": Linear("affine", dense(matrix)),
    }
    (product,) = fold(Program({"x": (2,)}, operators, ("product",))).operators.values()
    assert isinstance(product, Linear)
    assert product.bias is not None
    assert product.weights.values.tolist() == (matrix * np.full(2, 1 / deviation)).tolist()
