import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.engine.native import INSTRUCTION_SET_VARIABLE, available_instruction_sets
from gossamer.networks import SparseLinear, sparse_operators, sparse_product

COMPILED = available_instruction_sets()[:-1]
pytestmark = pytest.mark.skipif(not COMPILED, reason="the kernels are not built")


def randoms(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def differentiated(
    function: Callable[..., Tensor], *arguments: Tensor, seed: int = 7
) -> tuple[Tensor, ...]:
    """Return the outputs, and the gradients of a weighted sum of them."""
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    outputs = function(*leaves)
    weights = randoms(*outputs.shape, seed=seed).to(outputs.dtype)
    return outputs.detach(), *torch.autograd.grad(outputs, leaves, weights)


def dense_results(layer: SparseLinear, inputs: Tensor) -> list[Tensor]:
    """Return what a dense masked layer gives in float64: outputs, gradients."""
    weight = layer.weight.detach().double()
    bias = [] if layer.bias is None else [layer.bias.double()]
    outputs, by_inputs, by_weight, *by_bias = differentiated(
        functional.linear, inputs.double(), weight, *bias
    )
    return [outputs, by_inputs, by_weight.flatten()[layer.positions], *by_bias]


def results(layer: SparseLinear, inputs: Tensor) -> list[Tensor]:
    bias = [] if layer.bias is None else [layer.bias]

    def function(given: Tensor, values: Tensor, *bias: Tensor) -> Tensor:
        assert sparse_operators.runs_in_kernels(values, layer.positions, given, 10**9)
        return sparse_product.sparse_linear(
            values, given, bias[0] if bias else None, layer.positions, layer.weight_shape
        )

    return list(differentiated(function, inputs, layer.values, *bias))


def check_close(found: list[Tensor], expected: list[Tensor], terms: int) -> None:
    """Compare sums of so many products of normal numbers."""
    assert len(found) == len(expected)
    for one, wanted in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        error = 2**-24 * 8 * max(terms, 4)
        torch.testing.assert_close(one.double(), wanted, rtol=error, atol=error)


def layer_of(inputs: int, units: int, density: float, bias: bool = True) -> SparseLinear:
    layer = SparseLinear(
        inputs, units, connections=round(density * inputs * units), bias=bias, seed=1
    )
    layer.values.data.copy_(randoms(layer.connections, seed=2))
    if layer.bias is not None:
        layer.bias.data.copy_(randoms(units, seed=3))
    return layer


def laid_out(inputs: Tensor, how: str) -> Tensor:
    if how == "features first":
        return inputs.t().contiguous().t()
    if how == "spread":
        spread = torch.full((inputs.shape[0] * 2, inputs.shape[1] * 3), torch.nan)
        spread[::2, ::3] = inputs
        return spread[::2, ::3]
    if how == "offset":
        longer = torch.full((inputs.shape[0] + 1, inputs.shape[1] + 1), torch.nan)
        longer[1:, 1:] = inputs
        return longer[1:, 1:]
    return inputs


@pytest.fixture(params=COMPILED)
def each_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, request.param)


@pytest.mark.usefixtures("each_set")
@settings(max_examples=30)
@given(
    inputs=st.integers(1, 60),
    units=st.integers(1, 60),
    examples=st.one_of(st.sampled_from([0, 1, 16, 32, 128, 144, 272]), st.integers(0, 300)),
    density=st.floats(0, 1),
    bias=st.booleans(),
    how=st.sampled_from(["examples first", "features first", "spread", "offset"]),
)
def test_outputs_and_gradients_are_those_of_the_dense_masked_layer(
    inputs: int, units: int, examples: int, density: float, bias: bool, how: str
) -> None:
    layer = layer_of(inputs, units, density, bias)
    given = randoms(examples, inputs, seed=4)
    found = results(layer, laid_out(given, how))
    check_close(found, dense_results(layer, given), terms=max(inputs, units, examples))


@pytest.mark.usefixtures("each_set")
def test_rows_and_columns_without_connections() -> None:
    kept = torch.zeros(6, 9, dtype=torch.bool)
    kept[1, [0, 4]] = kept[4, 8] = True
    layer = SparseLinear(9, 6, connections=kept, seed=0)
    inputs = randoms(20, 9)
    found = results(layer, inputs)
    check_close(found, dense_results(layer, inputs), terms=20)
    assert torch.equal(found[0][:, 0], torch.zeros(20))
    assert torch.equal(found[1][:, 3], torch.zeros(20))


@pytest.mark.usefixtures("each_set")
def test_a_matrix_that_is_cut_into_slices_of_its_columns() -> None:
    layer = layer_of(40, 20_000, density=0.3)  # the gradient of the inputs reads 20,000 units
    inputs = randoms(33, 40)
    check_close(results(layer, inputs), dense_results(layer, inputs), terms=6000)


@pytest.mark.usefixtures("each_set")
@pytest.mark.parametrize("shape", [(3000, 30), (30, 3000)])
def test_slices_of_which_several_tiles_each_add_to_the_gradients(shape: tuple[int, int]) -> None:
    layer = layer_of(*shape, density=0.1)
    inputs = randoms(150, shape[0])  # two tiles where vectors are long, three and five where not
    check_close(results(layer, inputs), dense_results(layer, inputs), terms=300)


def test_inputs_of_any_axes() -> None:
    layer = layer_of(9, 5, density=0.3)
    for shape in [(9,), (4, 9), (2, 3, 9), (2, 0, 9), (2, 1, 3, 9)]:
        inputs = randoms(*shape)
        found = results(layer, inputs)
        assert found[0].shape == (*shape[:-1], 5)
        check_close(found, dense_results(layer, inputs), terms=9)
        assert found[0].is_contiguous() or len(shape) == 2


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("examples", [128, 500])
def test_bits_are_the_same_with_any_number_of_threads(examples: int) -> None:
    layer = layer_of(300, 400, density=0.2)
    inputs = randoms(examples, 300)
    torch.set_num_threads(1)
    expected = results(layer, inputs)
    for count in (2, 3, 7):
        torch.set_num_threads(count)
        assert all(map(torch.equal, results(layer, inputs), expected))


def test_what_is_not_trained_has_no_gradient() -> None:
    layer = layer_of(9, 5, density=0.3)
    inputs = randoms(4, 9)
    expected = dense_results(layer, inputs)
    for trained in [(True, False), (False, True), (False, False)]:
        layer.values.requires_grad_(trained[0])
        layer.bias.requires_grad_(trained[1])  # type: ignore[union-attr]
        layer.zero_grad()
        given = inputs.clone().requires_grad_()
        layer(given).backward(randoms(4, 5, seed=7))
        assert (layer.values.grad is not None, layer.bias.grad is not None) == trained  # type: ignore[union-attr]
        check_close([given.grad], expected[1:2], 9)  # type: ignore[list-item]
        for found, wanted in zip((layer.values, layer.bias), expected[2:], strict=True):
            if found is not None and found.grad is not None:
                check_close([found.grad], [wanted], 9)


@pytest.mark.parametrize("axes", [(5,), (2, 3)])
def test_what_follows_may_write_in_place(axes: tuple[int, ...]) -> None:
    layers = SparseLinear(40, 30, connections=90, seed=0), SparseLinear(30, 20, connections=60)
    inputs = randoms(*axes, 40)

    def function(given: Tensor, in_place: bool) -> Tensor:
        hidden = functional.relu(layers[0](given), inplace=in_place)
        return functional.relu(layers[1](hidden), inplace=in_place)

    expected = differentiated(lambda given: function(given, False), inputs)
    found = differentiated(lambda given: function(given, True), inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_gradient_without_a_layout_of_its_own() -> None:
    layer = layer_of(9, 5, density=0.3)
    inputs = randoms(20, 9).requires_grad_()
    layer(inputs).sum().backward()  # a gradient of strides 0
    assert inputs.grad is not None
    expected = layer.weight.detach().double().sum(0).expand(20, 9)
    check_close([inputs.grad], [expected], terms=5)


def test_second_and_third_derivatives() -> None:
    layer = layer_of(6, 5, density=0.3)
    inputs = randoms(4, 6)

    def penalised(function: Callable[..., Tensor], *given: Tensor) -> Tensor:
        total = function(*given).tanh().square().sum()
        first = torch.autograd.grad(total, given, create_graph=True)
        second = torch.autograd.grad(
            torch.cat([g.flatten() for g in first]).norm(), given, create_graph=True
        )
        return torch.cat([g.flatten() for g in second])

    def sparse(given: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        return sparse_product.sparse_linear(
            values, given, bias, layer.positions, layer.weight_shape
        )

    def dense(given: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        weight = values.new_zeros(30).index_copy(0, layer.positions, values).view(5, 6)
        return functional.linear(given, weight, bias)

    assert layer.bias is not None
    given = inputs, layer.values.detach(), layer.bias.detach()
    found = differentiated(lambda *a: penalised(sparse, *a), *given)
    expected = differentiated(lambda *a: penalised(dense, *a), *(one.double() for one in given))
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), wanted, rtol=1e-3, atol=1e-3)


def test_the_operators_are_registered_as_pytorch_expects() -> None:
    layer = layer_of(9, 5, density=0.3)
    values, positions = layer.values.detach().requires_grad_(), layer.positions
    inputs, gradient = randoms(4, 9).requires_grad_(), randoms(4, 5).requires_grad_()
    bias = randoms(5).requires_grad_()
    forward, backward = torch.ops.gossamer.sparse_linear, torch.ops.gossamer.sparse_linear_backward
    torch.library.opcheck(forward.default, (values, inputs, bias, positions, (5, 9)))
    arguments = values, inputs, gradient, positions, (5, 9), True, True
    torch.library.opcheck(backward.default, arguments)


def small_network() -> nn.Sequential:
    return nn.Sequential(layer_of(9, 8, 0.3), nn.ReLU(), layer_of(8, 3, 0.25))


def gradients(network: nn.Module, call: Callable[[Tensor], Tensor], inputs: Tensor) -> list[Tensor]:
    network.zero_grad()
    call(inputs).square().sum().backward()  # type: ignore[no-untyped-call]
    return [
        parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None
    ]


def test_compiled_networks_give_the_same() -> None:
    network, inputs = small_network(), randoms(6, 9)
    expected = gradients(network, network, inputs)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    assert all(map(torch.equal, gradients(network, compiled, inputs), expected))
    assert len(expected) == 4


def test_copies_are_apart() -> None:
    network, inputs = small_network(), randoms(6, 9)
    before = network(inputs)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(inputs), before)
    positions = twin.get_buffer("0.positions")
    positions.copy_(71 - positions.flip(0))
    assert not torch.equal(twin(inputs), before)
    assert torch.equal(network(inputs), before)


def test_connections_may_move() -> None:
    layer, inputs = layer_of(9, 5, density=0.3), randoms(4, 9)
    layer(inputs)
    layer.positions.copy_(torch.arange(layer.connections) * 3)
    check_close(results(layer, inputs), dense_results(layer, inputs), terms=9)
    layer.positions.copy_(layer.positions.flip(0))
    with pytest.raises(InputError, match=r"positions of a sparse layer of sizes \(5, 9\) do"):
        layer(inputs)
    layer.positions.copy_(torch.arange(layer.connections) + 40)
    with pytest.raises(InputError, match="positions must be ascending ones within the weight"):
        layer(inputs)


def test_positions_at_the_same_place_in_memory_are_not_taken_for_those_of_before() -> None:
    inputs = randoms(4, 9)
    for seed in range(20):  # each layer's memory is free again when the next is made
        layer = SparseLinear(9, 5, connections=13, seed=seed)
        check_close(results(layer, inputs), dense_results(layer, inputs), terms=9)
    assert sum(not index.is_stale() for index in sparse_operators._indices.values()) < 20


def test_autocast_leaves_the_product_in_float32() -> None:
    layer, inputs = layer_of(9, 5, density=0.3), randoms(4, 9)
    expected = layer(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(inputs)
        rounded = layer(inputs.bfloat16())
        through_operator = torch.ops.gossamer.sparse_linear(
            layer.values, inputs.bfloat16(), layer.bias, layer.positions, (5, 9)
        )
    assert found.dtype == rounded.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(rounded, layer(inputs.bfloat16().float()))
    assert torch.equal(through_operator, rounded)


def test_what_kernels_do_not_compute_goes_the_dense_way() -> None:
    layer, inputs = layer_of(9, 5, density=0.3), randoms(4, 9)
    fits = sparse_product.multiplies_in_kernels
    assert fits(layer.values, layer.positions, inputs, (5, 9))
    assert not fits(layer.values, layer.positions, inputs, (5, layer.connections // 2))
    assert not fits(layer.values, layer.positions, inputs.double(), (5, 9))
    assert not fits(layer.values.detach().double(), layer.positions, inputs, (5, 9))
    assert not fits(layer.values, layer.positions, inputs.to("meta"), (5, 9))
    assert layer.to("meta")(inputs.to("meta")).shape == (4, 5)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by PyTorch's own jvp
def test_function_transforms_go_the_dense_way() -> None:
    layer, inputs = layer_of(9, 5, density=0.3), randoms(4, 9)
    jacobian = torch.func.vmap(torch.func.jacrev(layer))(inputs)
    torch.testing.assert_close(jacobian, layer.weight.expand(4, 5, 9))
    tangent = torch.func.jvp(layer, (inputs,), (torch.ones_like(inputs),))[1]
    torch.testing.assert_close(tangent, layer.weight.sum(1).expand(4, 5))


def test_numpy_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, inputs = layer_of(9, 5, density=0.3), randoms(4, 9)
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "numpy")
    expected = functional.linear(inputs, layer.weight, layer.bias)
    assert torch.equal(layer(inputs), expected)
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "sse9")
    with pytest.raises(InputError, match="GOSSAMER_INSTRUCTION_SET is 'sse9', which is not avail"):
        layer(inputs)


def test_inputs_of_other_features_are_refused() -> None:
    with pytest.raises(InputError, match=r"the inputs have shape \(4, 8\), but the layer takes 9"):
        layer_of(9, 5, density=0.3)(randoms(4, 8))


TRAIN_LARGE = """
import resource, torch
from gossamer.networks import SparseLinear
layer = SparseLinear(50_000, 200_000, connections=5_000_000, seed=0)
optimizer = torch.optim.Adam(layer.parameters())
inputs = torch.randn(128, 50_000)
losses = []
for _ in range(3):
    loss = (layer(inputs) - 1).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
assert losses[2] < losses[1] < losses[0], losses
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_a_layer_whose_dense_weight_fits_nowhere_trains() -> None:
    """Its dense weight would take 37 GiB."""
    command = [sys.executable, "-c", TRAIN_LARGE]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 4


def average_gradients(rank: int, store: str, results: str) -> None:
    """One of two processes, each with half of the examples."""
    from torch import distributed

    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    network = nn.parallel.DistributedDataParallel(small_network())
    halves = randoms(6, 9).chunk(2)
    network(halves[rank]).square().mean().backward()
    if rank == 0:
        torch.save([p.grad for p in network.parameters()], results)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_distributed_training_gives_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    store, results = str(tmp_path / "store"), tmp_path / "gradients"
    spawn(average_gradients, (store, str(results)), nprocs=2)  # type: ignore[no-untyped-call]
    network = small_network()
    network(randoms(6, 9)).square().mean().backward()
    for found, parameter in zip(torch.load(results), network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)
