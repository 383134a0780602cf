import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.engine.native import INSTRUCTION_SET_VARIABLE, available_instruction_sets
from gossamer.networks import SparseConv, SparseConv2d, sparse_convolution

COMPILED = available_instruction_sets()[:-1]
pytestmark = pytest.mark.skipif(not COMPILED, reason="the kernels are not built")


FORMATS = torch.contiguous_format, torch.channels_last


def randoms(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def differentiated(
    function: Callable[..., Tensor], *arguments: Tensor, seed: int = 7
) -> list[Tensor]:
    """Return the outputs, and the gradients of a weighted sum of them."""
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    outputs = function(*leaves)
    weights = torch.empty_like(outputs).copy_(randoms(*outputs.shape, seed=seed))
    return [outputs.detach(), *torch.autograd.grad(outputs, leaves, weights)]


def by_kernels(layer: SparseConv) -> Callable[..., Tensor]:
    """Return the layer as a function of inputs, values and bias, refused where it goes dense."""

    def function(inputs: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        geometry = layer._geometry(layer._margins())
        kept = pytest.MonkeyPatch()
        with kept.context() as patch:
            patch.setattr(sparse_convolution, "MOST_DENSITY", 10)
            fits = sparse_convolution.convolves_in_kernels
            assert fits(values, layer.positions, inputs, geometry)
        return sparse_convolution.sparse_conv2d(values, inputs, bias, layer.positions, geometry)

    return function


def densely(layer: SparseConv) -> Callable[..., Tensor]:
    """Return the same function by PyTorch's dense convolution."""
    dense = layer.dense()

    def function(inputs: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        zeros = values.new_zeros(layer.weight_shape.numel())
        weight = zeros.index_copy(0, layer.positions, values).view(layer.weight_shape)
        changed = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return torch.func.functional_call(dense, changed, (inputs,))  # type: ignore[no-any-return]

    return function


def arguments(layer: SparseConv, inputs: Tensor) -> list[Tensor]:
    return [inputs, layer.values, *([] if layer.bias is None else [layer.bias])]


def check_equals_dense(layer: SparseConv, inputs: Tensor) -> None:
    """Compare outputs and gradients with those of the dense layer in float64."""
    given = arguments(layer, inputs)
    found = differentiated(by_kernels(layer), *given)
    expected = differentiated(densely(layer), *(one.double() for one in given))
    terms = max(*expected[0].shape[::2], layer.weight_shape[1:].numel()) * inputs.shape[3]
    error = 2**-24 * 8 * terms
    for one, wanted in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), wanted, rtol=error, atol=error)


def filled(layer: SparseConv) -> SparseConv:
    layer.values.data.copy_(randoms(layer.connections, seed=2))
    if layer.bias is not None:
        layer.bias.data.copy_(randoms(len(layer.bias), seed=3))
    return layer


def small(**options: object) -> SparseConv2d:
    layer = SparseConv2d(3, 4, 3, connections=25, seed=1, **options)  # type: ignore[arg-type]
    filled(layer)
    return layer


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[SparseConv, Tensor]:
    """Return a sparse convolution and inputs that suit it."""
    groups = draw(st.integers(1, 3))
    before, after = (groups * draw(st.integers(1, 3)) for _ in range(2))
    kernel, stride, dilation = (
        (draw(st.integers(1, most)), draw(st.integers(1, most))) for most in (4, 3, 3)
    )
    padding: str | tuple[int, int] = (draw(st.integers(0, 4)), draw(st.integers(0, 4)))
    if stride == (1, 1):
        padding = draw(st.sampled_from([padding, "same", "valid"]))
    size = after * before // groups * kernel[0] * kernel[1]
    layer = SparseConv2d(
        *(before, after, kernel, stride, padding, dilation, groups, draw(st.booleans())),
        connections=draw(st.integers(0, size)),
        seed=draw(st.integers(0, 9)),
    )
    least = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, tuple):
        least = [max(1, size - 2 * zeros) for size, zeros in zip(least, padding, strict=True)]
    sides = [draw(st.integers(size, size + draw(st.sampled_from([3, 20])))) for size in least]
    images = randoms(draw(st.sampled_from([1, 2, 3, 8, 35])), before, *sides, seed=4)
    return filled(layer), images.to(memory_format=draw(st.sampled_from(FORMATS)))


@pytest.fixture(params=COMPILED)
def each_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, request.param)


@pytest.mark.usefixtures("each_set")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # of torch
@settings(max_examples=40)
@given(convolutions())
def test_outputs_and_gradients_are_those_of_the_dense_masked_layer(
    drawn: tuple[SparseConv, Tensor],
) -> None:
    check_equals_dense(*drawn)


@pytest.mark.usefixtures("each_set")
def test_images_of_several_tiles_and_of_many_channels() -> None:
    layer = filled(SparseConv2d(20, 17, 3, padding=1, connections=300, seed=0))
    check_equals_dense(layer, randoms(3, 20, 28, 27))
    check_equals_dense(layer, randoms(2, 20, 9, 9))  # of another size than before


def test_outputs_that_see_none_of_the_image() -> None:
    layer = SparseConv2d(1, 1, (4, 1), 3, (4, 0), (3, 1), connections=1, seed=0)
    outputs = layer(randoms(1, 1, 2, 3).requires_grad_())
    other, inputs = SparseConv2d(1, 1, 3, connections=2, seed=0), randoms(1, 1, 9, 9)
    other(inputs).sum().backward()  # leaves its gradients in the memory that kernels work in
    assert other.values.grad is not None
    assert other.values.grad.all()
    outputs.sum().backward()
    assert layer.values.grad is not None
    assert layer.values.grad.tolist() == [0]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("side", [6, 20])
def test_bits_are_the_same_with_any_number_of_threads(side: int) -> None:
    layer = filled(SparseConv2d(8, 8, 3, padding=1, connections=100, seed=0))
    given = arguments(layer, randoms(75, 8, side, side))
    torch.set_num_threads(1)
    expected = differentiated(by_kernels(layer), *given)
    for count in (2, 3, 7):
        torch.set_num_threads(count)
        assert all(map(torch.equal, differentiated(by_kernels(layer), *given), expected))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_of_other_modes(mode: str) -> None:
    layer, inputs = small(padding=(2, 1), padding_mode=mode), randoms(2, 3, 5, 6)
    found = differentiated(lambda x: layer(x), inputs)
    expected = differentiated(lambda x: layer.dense()(x), inputs)
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one, wanted)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_outputs_and_gradients_lie_as_the_inputs_do(
    layout: torch.memory_format, channels: int
) -> None:
    layer = filled(SparseConv2d(channels, 4, 3, connections=9, seed=0))
    inputs = randoms(2, channels, 5, 6).to(memory_format=layout).requires_grad_()
    outputs = layer(inputs)
    dense = layer.dense().to(memory_format=layout)(inputs)  # type: ignore[call-overload]
    assert outputs.stride() == dense.stride()
    other = FORMATS[layout is FORMATS[0]]
    coming = randoms(*outputs.shape)
    found = [
        torch.autograd.grad(outputs, inputs, coming.to(memory_format=each), retain_graph=True)[0]
        for each in (layout, other)
    ]
    assert torch.equal(*found)
    assert all(gradient.stride() == inputs.stride() for gradient in found)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_follows_may_write_in_place(layout: torch.memory_format) -> None:
    layer = SparseConv2d(16, 16, 3, padding=1, connections=200, seed=0)
    images = randoms(2, 16, 6, 6).contiguous(memory_format=layout)

    def function(given: Tensor, in_place: bool) -> Tensor:
        hidden = functional.relu(layer(given), inplace=in_place)
        return functional.relu(layer(hidden), inplace=in_place)

    expected = differentiated(lambda given: function(given, False), images)
    found = differentiated(lambda given: function(given, True), images)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_images_that_lie_apart() -> None:
    layer, inputs = small(stride=2), randoms(2, 3, 5, 6)
    spread = torch.full((2, 3, 10, 12), torch.nan)
    spread[..., ::2, ::2] = inputs
    assert torch.equal(layer(spread[..., ::2, ::2]), layer(inputs))


def test_what_is_not_trained_has_no_gradient() -> None:
    layer, inputs = small(), randoms(2, 3, 5, 6)
    expected = differentiated(by_kernels(layer), *arguments(layer, inputs))[1:]
    for trained in [(True, False), (False, True), (False, False)]:
        layer.values.requires_grad_(trained[0])
        layer.bias.requires_grad_(trained[1])  # type: ignore[union-attr]
        layer.zero_grad()
        given = inputs.clone().requires_grad_()
        outputs = layer(given)
        outputs.backward(randoms(*outputs.shape, seed=7))
        found = given.grad, layer.values.grad, layer.bias.grad  # type: ignore[union-attr]
        assert (found[1] is not None, found[2] is not None) == trained
        for one, wanted in zip(found, expected, strict=True):
            if one is not None:
                torch.testing.assert_close(one, wanted)


def test_weights_of_a_first_layer() -> None:
    layer, inputs = small(padding=1), randoms(2, 3, 5, 6)
    outputs = layer(inputs)
    found = torch.autograd.grad(outputs, list(layer.parameters()), randoms(*outputs.shape, seed=7))
    expected = differentiated(by_kernels(layer), *arguments(layer, inputs))[2:]
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one, wanted)


def test_second_derivatives() -> None:
    layer, inputs = small(stride=(2, 1), padding=(1, 0)), randoms(2, 3, 4, 4)

    def penalised(function: Callable[..., Tensor], *given: Tensor) -> Tensor:
        total = function(*given).tanh().square().sum()
        first = torch.autograd.grad(total, given, create_graph=True)
        return torch.cat([gradient.flatten() for gradient in first])

    given = arguments(layer, inputs)
    found = differentiated(lambda *a: penalised(by_kernels(layer), *a), *given)
    expected = differentiated(
        lambda *a: penalised(densely(layer), *a), *(one.double() for one in given)
    )
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), wanted, rtol=1e-4, atol=1e-4)


def test_gradients_are_exact_in_float64() -> None:
    layer = small(groups=1, dtype=torch.float64)
    inputs = randoms(1, 3, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, inputs)


@pytest.mark.slow
def test_the_operators_are_registered_as_pytorch_expects() -> None:
    layer, inputs = small(), randoms(2, 3, 5, 6).requires_grad_()
    geometry = layer._geometry(layer._margins())
    values, bias = layer.values.detach().requires_grad_(), randoms(4).requires_grad_()
    gradient = randoms(2, 4, 3, 4).requires_grad_()
    forward, backward = torch.ops.gossamer.sparse_conv2d, torch.ops.gossamer.sparse_conv2d_backward
    torch.library.opcheck(forward.default, (values, inputs, bias, layer.positions, geometry))
    given = values, inputs, gradient, layer.positions, geometry, True, True
    torch.library.opcheck(backward.default, given)


@pytest.mark.slow
def test_compiled_networks_give_the_same() -> None:
    network, inputs = nn.Sequential(small(padding=1), nn.ReLU()), randoms(2, 3, 5, 6)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    found = []
    for each in (network, compiled):
        network.zero_grad()
        each(inputs).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in network.parameters()])  # type: ignore[union-attr]
    assert all(map(torch.equal, *found))


def test_copies_are_apart() -> None:
    layer, inputs = small(), randoms(2, 3, 5, 6)
    before = layer(inputs)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(inputs), before)
    twin.positions.copy_(107 - twin.positions.flip(0))
    assert not torch.equal(twin(inputs), before)
    assert torch.equal(layer(inputs), before)
    check_equals_dense(twin, inputs)


def test_a_dense_state_goes_in_and_out() -> None:
    layer, other, inputs = small(), small(), randoms(2, 3, 5, 6)
    other.values.data.zero_()
    other.load_state_dict(layer.dense().state_dict())
    assert torch.equal(other(inputs), layer(inputs))


def test_autocast_leaves_the_convolution_in_float32() -> None:
    layer, inputs = small(), randoms(2, 3, 5, 6)
    expected = layer(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(inputs), expected)
        assert torch.equal(layer(inputs.bfloat16()), layer(inputs.bfloat16().float()))


def test_what_kernels_do_not_compute_goes_the_dense_way() -> None:
    layer = small()
    assert layer(torch.zeros(0, 3, 5, 6)).shape == (0, 4, 3, 4)
    single = randoms(3, 5, 6)
    torch.testing.assert_close(layer(single), layer(single[None])[0])
    for wrong in (randoms(2, 4, 5, 6), randoms(2, 3, 2, 6)):
        with pytest.raises(RuntimeError, match=r"channels|[Kk]ernel size"):
            layer(wrong)


def test_impossible_positions_are_refused() -> None:
    layer, inputs = small(), randoms(2, 3, 5, 6)
    layer.positions.copy_(torch.arange(25) + 84)
    with pytest.raises(InputError, match="positions must be ascending ones within the weight"):
        layer(inputs)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"SparseConv2d got what torch.nn.Conv2d refuses, in_chan"):
        SparseConv2d(3, 4, 3, groups=2, connections=3)
