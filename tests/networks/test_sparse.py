import copy
import io
import math
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.networks import SparseConv, SparseLinear, cifar_dropout_cnn, cifar_wide_cnn, unpack

CONVOLUTIONS: tuple[Callable[..., nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CIFAR = (3, 32, 32)
CONV = nn.Conv2d(2, 3, 3)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trainable(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def stored_positions(layer: SparseLinear | SparseConv) -> list[int]:
    found: list[int] = layer.weight.flatten().nonzero().flatten().tolist()
    return found


@pytest.mark.parametrize("connections", [0, 1, 7, 19, 20])
def test_weight_has_the_connections_asked_for(connections: int) -> None:
    layer = SparseLinear(5, 4, connections=connections, seed=3)
    assert layer.weight.shape == (4, 5)
    assert stored_positions(layer) == layer.positions.tolist()
    assert len(layer.values) == layer.connections == connections
    assert layer.sparsity == pytest.approx(1 - connections / 20)
    assert trainable(layer) == connections + 4


def test_weight_holds_values_at_positions() -> None:
    layer = SparseLinear(3, 2, connections=3)
    layer.positions.copy_(torch.tensor([0, 2, 4]))
    layer.values.data = torch.tensor([1.0, 2.0, 3.0])
    assert layer.weight.tolist() == [[1, 0, 2], [0, 3, 0]]


def test_connections_are_uniform_without_replacement() -> None:
    draws, size, connections = 600, 12, 5
    counts = torch.zeros(size)
    for seed in range(draws):
        positions = SparseLinear(4, 3, connections=connections, seed=seed).positions
        assert positions.tolist() == sorted(set(positions.tolist()))
        counts[positions] += 1
    share = connections / size
    deviation = math.sqrt(draws * share * (1 - share))
    assert (counts - draws * share).abs().max() < 4 * deviation


def test_seeds_tell_layers_apart() -> None:
    first, again, other = (SparseLinear(20, 20, connections=50, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.positions, other.positions)
    assert not torch.equal(first.values, other.values)


def test_a_given_seed_leaves_the_global_generator() -> None:
    before = torch.get_rng_state()
    SparseLinear(20, 20, connections=50, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_layers_differ_and_follow_the_global_generator() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, second = (SparseLinear(20, 20, connections=50) for _ in range(2))
        torch.manual_seed(5)
        again = SparseLinear(20, 20, connections=50)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.positions, second.positions)


def test_connections_may_be_given() -> None:
    kept = numbers(4, 5) > 0
    layer = SparseLinear(5, 4, connections=kept, seed=0)
    assert torch.equal(layer.weight != 0, kept)


def test_he_weights_have_the_variance_of_their_units_fan_in() -> None:
    fan_ins = (1, 10, 400)
    kept = torch.zeros(3000, 400, dtype=torch.bool)
    for unit, fan_in in enumerate(fan_ins * 1000):
        kept[unit, :fan_in] = True
    weight = SparseLinear(400, 3000, connections=kept, seed=0).weight.detach().double()
    for first, fan_in in enumerate(fan_ins):
        drawn = weight[first::3, :fan_in].flatten()
        variance = 2 / fan_in
        # The standard error of the variance of n normal numbers is variance * sqrt(2 / n).
        assert drawn.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / len(drawn)))
        assert abs(drawn.mean()) < 4 * math.sqrt(variance / len(drawn))


def test_he_leaves_units_without_connections_at_zero() -> None:
    kept = torch.zeros(4, 3, dtype=torch.bool)
    kept[1, 2] = True
    layer = SparseLinear(3, 4, connections=kept, seed=0)
    assert bool(layer.values.isfinite().all())
    assert layer(torch.ones(1, 3)).nonzero().tolist() == [[0, 1]]


def test_vector_glorot_is_the_published_scale() -> None:
    layer = SparseLinear(2048, 512, connections=51_200, initialisation="vector-glorot", seed=0)
    limit = math.sqrt(3 / 51_200)
    assert limit == pytest.approx(0.0077, abs=5e-5)
    largest = float(layer.values.detach().abs().max())
    assert 0.999 * limit < largest <= limit * (1 + 1e-6)
    assert float(layer.values.detach().double().var()) == pytest.approx(limit**2 / 3, rel=0.02)


@pytest.mark.parametrize("initialisation", ["he", "vector-glorot"])
def test_biases_start_from_zero(initialisation: Any) -> None:
    layer = SparseLinear(3, 2, connections=0, initialisation=initialisation)
    assert layer.bias is not None
    assert layer.bias.tolist() == [0, 0]
    assert layer.values.shape == (0,)


def test_precision_and_device_are_those_asked_for() -> None:
    layer = SparseLinear(6, 5, connections=9, seed=1, dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    single = SparseLinear(6, 5, connections=9, seed=1)
    assert torch.equal(layer.weight.float(), single.weight)
    layer.half()
    assert (layer.values.dtype, layer.positions.dtype) == (torch.float16, torch.int64)
    assert SparseLinear(6, 5, connections=9, device="meta").weight.is_meta
    with torch.device("meta"):
        assert SparseLinear(6, 5, connections=9).values.is_meta


def test_repr_tells_sizes_and_sparsity() -> None:
    assert repr(SparseLinear(4, 3, connections=3, bias=False)) == (
        "SparseLinear(in_features=4, out_features=3, connections=3, bias=False, sparsity=0.7500)"
    )
    layer = SparseConv(nn.Conv1d(2, 3, 5, padding="same", groups=1, bias=False), connections=15)
    assert repr(layer) == (
        "SparseConv(2, 3, kernel_size=(5,), stride=(1,), padding='same', dilation=(1,), groups=1, "
        "padding_mode='zeros', connections=15, bias=False, sparsity=0.5000)"
    )


@pytest.mark.parametrize("connections", [-1, 21, 2.0, True, "3", None])
def test_other_numbers_of_connections_are_refused(connections: Any) -> None:
    with pytest.raises(InputError, match=r"'connections' is .* a whole number from 0 to 20"):
        SparseLinear(5, 4, connections=connections)


@pytest.mark.parametrize("connections", [torch.ones(4, 5), torch.ones(5, 4, dtype=torch.bool)])
def test_other_tensors_of_connections_are_refused(connections: Tensor) -> None:
    with pytest.raises(InputError, match=r"the weight has shape \(4, 5\): give a boolean tensor"):
        SparseLinear(5, 4, connections=connections)


def test_other_refusals() -> None:
    with pytest.raises(InputError, match="SparseLinear got 0 inputs and 4 units"):
        SparseLinear(0, 4, connections=0)
    unknown: Any = "glorot"
    with pytest.raises(InputError, match="The initialisation is 'glorot', but 'he' or"):
        SparseLinear(5, 4, connections=3, initialisation=unknown)
    dense: Any = nn.ConvTranspose2d(2, 2, 3)
    with pytest.raises(InputError, match="SparseConv got a layer of type ConvTranspose2d"):
        SparseConv(dense, connections=3)


@pytest.mark.parametrize("connections", [0, 11, 30])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_the_dense_masked_layer(connections: int, bias: bool) -> None:
    layer = SparseLinear(6, 5, connections=connections, bias=bias, seed=2, dtype=torch.float64)
    if layer.bias is not None:
        layer.bias.data = numbers(5, seed=1)
    inputs = numbers(3, 4, 6)
    check_equals_dense(layer, lambda w, x: functional.linear(x, w, layer.bias), inputs)


def check_equals_dense(
    layer: SparseLinear | SparseConv, dense: Callable[[Tensor, Tensor], Tensor], inputs: Tensor
) -> None:
    """Compare outputs and gradients with those of the dense weight, masked after the fact."""
    kept = torch.zeros(layer.weight_shape.numel(), dtype=torch.bool)
    kept[layer.positions] = True
    weight = torch.zeros(layer.weight_shape.numel(), dtype=torch.float64)
    weight[kept] = layer.values.detach()
    weight = weight.view(layer.weight_shape).requires_grad_()
    outputs, gradients = differentiated(layer, inputs, [layer.values, *biases(layer)])
    expected, (by_inputs, by_weight, *by_bias) = differentiated(
        lambda x: dense(weight, x), inputs, [weight, *biases(layer)]
    )
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)
    for found, wanted in zip(
        gradients, [by_inputs, by_weight.flatten()[kept], *by_bias], strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


def biases(layer: SparseLinear | SparseConv) -> list[Tensor]:
    return [] if layer.bias is None else [layer.bias]


def differentiated(
    function: Callable[[Tensor], Tensor], inputs: Tensor, parameters: Iterable[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    inputs = inputs.clone().requires_grad_()
    outputs = function(inputs)
    weighted = (outputs * numbers(*outputs.shape, seed=9)).sum()
    return outputs.detach(), torch.autograd.grad(weighted, [inputs, *parameters])


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """Return a dense convolution and inputs that suit it."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 2))
    before, after = (groups * draw(st.integers(1, 2)) for _ in range(2))
    padding = draw(st.sampled_from(["same", "valid", 0, 1, 2]))
    axes = st.lists(st.integers(1, 3), min_size=dims, max_size=dims).map(tuple)
    layer = CONVOLUTIONS[dims - 1](
        before,
        after,
        draw(axes),
        stride=1 if padding == "same" else draw(st.integers(1, 2)),
        padding=padding,
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        dtype=torch.float64,
    )
    sides = draw(st.lists(st.integers(5, 6), min_size=dims, max_size=dims))
    return layer, numbers(2, before, *sides)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # of torch, for both
@settings(max_examples=150)
@given(convolutions(), st.floats(0, 1), st.integers(0, 99))
def test_convolution_equals_the_dense_masked_one(
    drawn: tuple[nn.Conv2d, Tensor], density: float, seed: int
) -> None:
    dense, inputs = drawn
    connections = round(density * dense.weight.numel())
    layer = SparseConv(dense, connections, seed=seed)
    assert layer.connections == connections
    if layer.bias is not None:
        layer.bias.data = numbers(len(layer.bias), seed=1)
        dense.bias = layer.bias

    def masked(weight: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(dense, {"weight": weight}, (x,))  # type: ignore[no-any-return]

    check_equals_dense(layer, masked, inputs)
    assert torch.equal(layer.dense()(inputs), layer(inputs))
    assert repr(layer.dense()) == repr(dense)


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adadelta": torch.optim.Adadelta,
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_training_follows_that_of_a_masked_dense_layer(name: str) -> None:
    sparse = nn.Sequential(
        SparseConv(nn.Conv2d(2, 4, 3, dtype=torch.float64), connections=20, seed=0),
        nn.Flatten(),
        nn.ReLU(),
        SparseLinear(64, 3, connections=50, seed=1, dtype=torch.float64),
    )
    layers = [layer for layer in sparse if isinstance(layer, (SparseConv, SparseLinear))]
    dense = nn.Sequential(layers[0].dense(), nn.Flatten(), nn.ReLU(), layers[1].dense())
    for module in dense:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.bias = nn.Parameter(module.bias.detach().clone())  # type: ignore[union-attr]
    weights = [dense.get_parameter("0.weight"), dense.get_parameter("3.weight")]
    kept = [weight != 0 for weight in weights]
    start = layers[1].values.detach().clone()
    optimizers = [OPTIMIZERS[name](network.parameters()) for network in (sparse, dense)]
    inputs, labels = numbers(16, 2, 6, 6), torch.arange(16) % 3
    for _ in range(40):
        for network, optimizer in zip((sparse, dense), optimizers, strict=True):
            optimizer.zero_grad()
            functional.cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]
            if network is dense:
                for weight, mask in zip(weights, kept, strict=True):
                    assert weight.grad is not None
                    weight.grad *= mask
            optimizer.step()
    for layer, weight in zip(layers, weights, strict=True):
        torch.testing.assert_close(layer.weight, weight, rtol=0, atol=1e-12)
    assert (layers[1].values - start).abs().max() > 0.01


def test_second_derivatives_are_exact() -> None:
    layer = SparseLinear(3, 2, connections=4, seed=0, dtype=torch.float64)
    inputs = numbers(2, 3).requires_grad_()

    def function(x: Tensor, values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"values": values}, (x,)).tanh()  # type: ignore[no-any-return]

    values = layer.values.detach().clone().requires_grad_()
    assert torch.autograd.gradgradcheck(function, (inputs, values))


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch"])
def test_copies_are_whole_and_apart(how: str) -> None:
    layer = SparseConv(nn.Conv2d(2, 3, 3, padding=1), connections=9, seed=0).eval()
    inputs = numbers(1, 2, 4, 4).float()
    expected = layer(inputs).detach()
    twin = copied(layer, how)
    assert not twin.training
    assert torch.equal(twin(inputs), expected)
    twin.values.data.zero_()
    assert torch.equal(layer(inputs), expected)
    assert not torch.equal(twin(inputs), expected)


def copied(layer: SparseConv, how: str) -> SparseConv:
    if how == "deepcopy":
        return copy.deepcopy(layer)
    if how == "pickle":
        return pickle.loads(pickle.dumps(layer))  # type: ignore[no-any-return]
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # type: ignore[no-any-return]


def test_a_state_brings_its_positions() -> None:
    source, target = (SparseLinear(9, 8, connections=20, seed=seed) for seed in (0, 1))
    assert not torch.equal(source.weight, target.weight)
    target.load_state_dict(source.state_dict())
    assert torch.equal(source.weight, target.weight)


def test_a_state_of_another_number_of_connections_is_refused() -> None:
    layer = SparseLinear(9, 8, connections=21)
    source, target = nn.Sequential(SparseLinear(9, 8, connections=20)), nn.Sequential(layer)
    before = layer.weight
    with pytest.raises(RuntimeError, match="layer '0': the state has 20 connections, but the lay"):
        target.load_state_dict(source.state_dict())
    assert torch.equal(layer.weight, before)


def test_a_state_of_the_dense_layer_goes_in_and_out() -> None:
    source, target = (
        nn.Sequential(SparseLinear(9, 8, connections=20, seed=0), SparseConv(CONV, 7, seed=0))
        for _ in range(2)
    )
    for parameter in source.parameters():
        parameter.data.normal_()
    dense = unpack(copy.deepcopy(source)).state_dict()
    assert list(dense) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    target.load_state_dict(dense)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_a_dense_state_with_other_connections_is_refused() -> None:
    layer = SparseLinear(3, 2, connections=3)
    before = layer.weight
    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    with pytest.raises(RuntimeError, match="dense weight with 3 entries other than 0 where the la"):
        layer.load_state_dict(state)
    with pytest.raises(
        RuntimeError, match=r"dense weight of shape \(3, 2\), but the layer's has s"
    ):
        layer.load_state_dict(state | {"weight": torch.ones(3, 2)})
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("positions", [[0, 0, 1], [2, 1, 3], [-1, 0, 1], [0, 1, 6], [0, 1]])
def test_a_state_of_impossible_positions_is_refused(positions: list[int]) -> None:
    layer = SparseLinear(3, 2, connections=3)
    state = layer.state_dict() | {"positions": torch.tensor(positions)}
    with pytest.raises(RuntimeError, match="not 3 ascending ones within the weight of 6 entries"):
        layer.load_state_dict(state)


def test_a_state_without_positions_is_incomplete() -> None:
    layer = SparseLinear(3, 2, connections=3)
    state = layer.state_dict()
    del state["positions"]
    with pytest.raises(RuntimeError, match=r'Missing key.* "positions"'):
        layer.load_state_dict(state)


def with_sparse_head(
    network: nn.Sequential, epsilons: dict[str, int]
) -> tuple[nn.Sequential, list[int]]:
    """Replace dense layers by sparse ones of epsilon x (inputs + units) connections."""
    counts = []
    for name, epsilon in epsilons.items():
        dense = network.get_submodule(name)
        assert isinstance(dense, nn.Linear)
        inputs, units = dense.in_features, dense.out_features
        counts.append(epsilon * (inputs + units))
        network.set_submodule(name, SparseLinear(inputs, units, connections=counts[-1], seed=0))
    return network, counts


def test_published_parameters_of_the_first_sparse_network() -> None:
    network, counts = with_sparse_head(
        cifar_dropout_cnn(CIFAR, 10), epsilons={"dense1": 20, "dense2": 20}
    )
    assert counts == [51_200, 12_800]
    assert trainable(network) == 353_386


def test_published_parameters_of_the_second_sparse_network() -> None:
    network, counts = with_sparse_head(
        cifar_wide_cnn(CIFAR, 10, hidden=(128, 32)), epsilons={"dense1": 21, "dense2": 15}
    )
    assert counts == [174_720, 2_400]
    assert trainable(network) == 3_323_818


def test_parameters_of_the_second_sparse_network_as_written_up() -> None:
    network, counts = with_sparse_head(
        cifar_wide_cnn(CIFAR, 10),
        epsilons=dict.fromkeys(("dense1", "dense2", "dense3", "dense4"), 20),
    )
    assert counts == [204_800, 51_200, 12_800, 3_200]
    assert trainable(network) == 3_421_258
