import copy
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from gossamer.core.errors import InputError
from gossamer.engine.native import INSTRUCTION_SET_VARIABLE
from gossamer.networks import (
    NetworkSpec,
    SparseConv,
    SparseLinear,
    accepts_channels_last,
    build,
    pack,
    packed_names,
    unpack,
)
from gossamer.networks.packing import faster_packed
from gossamer.networks.sparse_operators import kernels_are_there

IMAGES = (3, 12, 12)
HALVED = ("conv1.weight", "dense1.weight", "output.weight")


def make() -> nn.Module:
    """Return a published network in float64."""
    return build(NetworkSpec(name="fashion-cnn"), IMAGES, 4, seed=0).double()


def drawn_mask(shape: torch.Size, density: float, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < density


def masks_of(network: nn.Module, names: tuple[str, ...] = HALVED) -> dict[str, Tensor]:
    return {
        name: drawn_mask(network.get_parameter(name).shape, 0.5, seed)
        for seed, name in enumerate(names)
    }


def masked(network: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    network = copy.deepcopy(network)
    for name, kept in masks.items():
        network.get_parameter(name).data *= kept
    return network


def examples() -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(5, *IMAGES, generator=generator, dtype=torch.float64)


def test_packed_network_gives_the_outputs_of_the_masked_one() -> None:
    network = make()
    masks = masks_of(network)
    expected = masked(network, masks)(examples())
    bias = network.get_parameter("dense1.bias")
    assert pack(network, masks) is network
    assert packed_names(network) == HALVED
    assert torch.equal(network(examples()), expected)
    assert network.get_parameter("dense1.bias") is bias
    assert isinstance(network.get_submodule("conv1"), SparseConv)
    assert isinstance(network.get_submodule("conv2"), nn.Conv2d)


def test_state_holds_non_zeros_only_and_keeps_its_names() -> None:
    network = make()
    masks = masks_of(network)
    dense_names = list(network.state_dict())
    state = pack(network, masks).state_dict()
    for name, kept in masks.items():
        module = name.removesuffix(".weight")
        assert state[f"{module}.values"].shape == (int(kept.sum()),)
        assert state[f"{module}.positions"].tolist() == kept.flatten().nonzero().flatten().tolist()
    assert {name for name in state if not name.endswith(("values", "positions"))} == (
        set(dense_names) - set(masks)
    )
    assert list(unpack(network).state_dict()) == dense_names


def test_unpacking_gives_the_masked_network_back() -> None:
    network = make()
    masks = masks_of(network)
    expected = masked(network, masks)
    assert unpack(pack(network, masks)) is network
    assert packed_names(network) == ()
    assert repr(network) == repr(expected)
    for name, parameter in expected.named_parameters():
        assert torch.equal(network.get_parameter(name), parameter)


def test_unpacking_an_unpacked_network_changes_nothing() -> None:
    network = make()
    before = dict(network.named_modules())
    assert dict(unpack(network).named_modules()) == before


def test_full_and_empty_masks() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    full, empty = torch.ones(3, 4, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.bool)
    dense = network[0]
    pack(network, {"0.weight": full, "2.weight": empty}, initialisation="he")
    assert network[0] is dense
    assert packed_names(network) == ("2.weight",)
    network(torch.ones(5, 4)).sum().backward()
    assert gradient(network, "2.values").shape == (0,)
    assert gradient(network, "2.bias").tolist() == [5, 5]
    assert gradient(network, "0.weight").count_nonzero() == 0


def gradient(network: nn.Module, name: str) -> Tensor:
    found = network.get_parameter(name).grad
    assert found is not None
    return found


def test_kept_zeros_are_stored_and_train_on() -> None:
    layer = nn.Linear(2, 1)
    nn.init.zeros_(layer.weight)
    network = pack(nn.Sequential(layer), {"0.weight": torch.tensor([[True, False]])})
    network(torch.ones(1, 2)).sum().backward()
    assert network.get_parameter("0.values").tolist() == [0]
    assert gradient(network, "0.values").tolist() == [1]


def test_the_network_may_be_the_layer_itself() -> None:
    kept = torch.tensor([[True, False, True]])
    twin = pack(nn.Linear(3, 1), {"weight": kept})
    assert isinstance(twin, SparseLinear)
    assert packed_names(twin) == ("weight",)
    assert isinstance(unpack(twin), nn.Linear)


def test_nested_names() -> None:
    network = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
    pack(network, {"a.1.weight": torch.eye(2, dtype=torch.bool)})
    assert packed_names(network) == ("a.1.weight",)
    assert isinstance(network.get_submodule("a.1"), SparseLinear)


def test_mode_precision_and_freezing_are_kept() -> None:
    network = nn.Sequential(nn.Linear(3, 2).bfloat16(), nn.Conv1d(2, 2, 2, bias=False)).eval()
    network[0].weight.requires_grad_(False)
    masks = {
        name: drawn_mask(p.shape, 0.4) for name, p in network.named_parameters() if p.dim() > 1
    }
    pack(network, masks)
    for _ in range(2):
        assert not any(module.training for module in network.modules())
        trained = [p.requires_grad for module in network for p in module.parameters()]
        assert sorted(trained) == [False, True, True]
        assert not next(iter(network[0].parameters())).requires_grad
        assert {p.dtype for p in network[0].parameters()} == {torch.bfloat16}
        unpack(network)


def test_new_weights_are_seeded_by_name_and_biases_stay() -> None:
    kept = drawn_mask(torch.Size((30, 30)), 0.5)
    masks = {"0.weight": kept, "1.weight": kept}
    before = torch.get_rng_state()
    dense = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30))
    after = torch.get_rng_state()
    first, again, other = (
        pack(copy.deepcopy(dense), masks, initialisation="he", seed=seed) for seed in (1, 1, 2)
    )
    assert not torch.equal(before, after)
    assert torch.equal(torch.get_rng_state(), after)
    values = first.get_parameter("0.values")
    assert torch.equal(values, again.get_parameter("0.values"))
    assert not torch.equal(values, other.get_parameter("0.values"))
    assert not torch.equal(values, first.get_parameter("1.values"))
    assert torch.equal(first.get_parameter("0.bias"), dense.get_parameter("0.bias"))
    assert float(values.detach().var()) == pytest.approx(2 / 15, rel=0.25)


def test_vector_glorot_weights() -> None:
    kept = drawn_mask(torch.Size((30, 30)), 0.5)
    network = pack(nn.Sequential(nn.Linear(30, 30)), {"0.weight": kept}, "vector-glorot")
    limit = (3 / int(kept.sum())) ** 0.5
    largest = float(network.get_parameter("0.values").detach().abs().max())
    assert 0.95 * limit < largest <= limit * (1 + 1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_packed_networks_can_be_copied(copied: Callable[[nn.Module], nn.Module]) -> None:
    network = make()
    pack(network, masks_of(network))
    twin = copied(network)
    assert torch.equal(twin(examples()), network(examples()))
    assert packed_names(twin) == HALVED


def test_state_loads_into_a_network_packed_with_the_same_mask() -> None:
    network, other = make(), build(NetworkSpec(name="fashion-cnn"), IMAGES, 4, seed=1).double()
    masks = masks_of(network)
    pack(network, masks)
    pack(other, masks)
    assert not torch.equal(other(examples()), network(examples()))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(examples()), network(examples()))


def test_state_of_another_mask_or_of_a_dense_network_is_refused() -> None:
    network, other, dense = make(), make(), make()
    masks = masks_of(network)
    pack(network, masks)
    pack(other, {**masks, "dense1.weight": ~masks["dense1.weight"]})
    with pytest.raises(
        RuntimeError, match=r"layer 'dense1': the state has .* pack the network with"
    ):
        other.load_state_dict(network.state_dict())
    with pytest.raises(RuntimeError, match="layer 'conv1': the state has a dense weight with 432 "):
        network.load_state_dict(dense.state_dict())


def test_packed_images_may_be_stored_channels_last() -> None:
    network = make()
    pack(network, masks_of(network))
    assert accepts_channels_last(network, IMAGES)
    last = examples().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network(last), network(examples()))


def test_biases_of_pruned_units_are_left_to_enforcement() -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    kept = torch.tensor([[True] * 3, [False] * 3])
    pack(network, {"0.weight": kept, "0.bias": torch.tensor([True, False])})
    assert network.get_parameter("0.bias").shape == (2,)
    assert network.get_buffer("0.positions").tolist() == [0, 1, 2]


PRUNED = torch.eye(3, dtype=torch.bool)


class Subclass(nn.Linear):
    """Computes something of its own from its weight."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + self.weight.sum()


def shared() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    return network


def used_twice() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, layer)


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3))
    network[0].register_forward_hook(lambda *_: None)
    return network


def pruned_by_torch() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3))
    prune.random_unstructured(network[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    return network


def parametrized() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)))


def packed() -> nn.Module:
    return pack(nn.Sequential(nn.Linear(3, 3)), {"0.weight": PRUNED})


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (shared, "is shared, as 0.weight, 1.weight, but a packed layer has a weight of its own"),
        (used_twice, "is shared, as 0.weight, 1.weight"),
        (hooked, "The layer of the weight '0.weight' has hooks"),
        (pruned_by_torch, "no parameter of that name"),
        (parametrized, "no parameter of that name"),
        (packed, "no parameter of that name: pack the network that .* not one that is packed al"),
        (lambda: nn.Sequential(nn.Embedding(3, 3)), "belongs to a Embedding, but only Linear, Con"),
        (lambda: nn.Sequential(Subclass(3, 3)), "belongs to a Subclass, but only Linear"),
    ],
)
def test_what_cannot_be_packed_is_refused(made: Callable[[], nn.Module], sentence: str) -> None:
    network = made()
    before = repr(network)
    with pytest.raises(InputError, match=sentence) as caught:
        pack(network, {"0.weight": PRUNED})
    assert "\n" not in str(caught.value)
    assert repr(network) == before


def test_other_modules_may_be_in_a_mask_that_prunes_nothing_of_them() -> None:
    network = nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3))
    pack(network, {"0.weight": torch.ones(3, 3, dtype=torch.bool), "1.weight": PRUNED})
    assert packed_names(network) == ("1.weight",)


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (torch.ones(3, 3), r"is torch.float32 \(3, 3\), but a boolean tensor of shape \(3, 3\)"),
        (PRUNED[:2], r"is torch.bool \(2, 3\), but a boolean tensor of shape \(3, 3\)"),
        ([[True]], r"is \[\[True\]\], but a boolean tensor"),
    ],
)
def test_masks_that_do_not_fit_are_refused(kept: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        pack(nn.Sequential(nn.Linear(3, 3)), {"0.weight": kept})


def test_a_refusal_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Embedding(3, 3))
    with pytest.raises(InputError):
        pack(network, {"0.weight": PRUNED, "1.weight": PRUNED})
    assert isinstance(network[0], nn.Linear)
    unknown: Any = "zeros"
    with pytest.raises(InputError, match="The initialisation is 'zeros'"):
        pack(network, {"0.weight": PRUNED}, initialisation=unknown)
    assert isinstance(network[0], nn.Linear)


def test_a_layer_used_twice_is_unpacked_once() -> None:
    layer = SparseLinear(3, 3, connections=4)
    network = nn.Sequential(layer, layer)
    unpack(network)
    assert network[0] is network[1]
    assert isinstance(network[0], nn.Linear)


OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "plain": lambda p: torch.optim.SGD(p, lr=0.1),
}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_an_optimizer_goes_on_through_packing_and_unpacking(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    masks = {"0.weight": torch.rand(5, 6) < 0.4, "2.weight": torch.rand(3, 5) < 0.5}
    optimizers = [OPTIMIZERS[name](network.parameters())]
    other = copy.deepcopy(network)
    optimizers.append(OPTIMIZERS[name](other.parameters()))
    inputs, labels = torch.randn(8, 6).double(), torch.arange(8) % 3

    def steps(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]
            for name, parameter in network.named_parameters():
                if name in masks:
                    assert parameter.grad is not None
                    parameter.grad *= masks[name]
            optimizer.step()

    for one in (network, other):
        for weight, kept in masks.items():
            one.get_parameter(weight).data *= kept
    for after in (lambda: pack(other, masks, optimizer=optimizers[1]),
                  lambda: unpack(other, optimizer=optimizers[1]), lambda: None):  # fmt: skip
        steps(network, optimizers[0])
        steps(other, optimizers[1])
        after()
    for found, wanted in zip(other.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_an_optimizer_that_keeps_factors_is_refused() -> None:
    network = nn.Sequential(nn.Linear(6, 5))
    optimizer = torch.optim.Adafactor(network.parameters())
    network(torch.randn(2, 6)).sum().backward()
    optimizer.step()  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match=r"Adafactor keeps 'row_var' of shape .* one number for"):
        pack(network, {"0.weight": torch.eye(5, 6).bool()}, optimizer=optimizer)
    assert isinstance(network[0], nn.Linear)


def test_new_weights_have_no_momenta() -> None:
    network = nn.Sequential(nn.Linear(6, 5))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    pack(network, {"0.weight": torch.eye(5, 6).bool()}, "he", optimizer=optimizer)
    assert optimizer.param_groups[0]["params"][0] is network.get_parameter("0.values")
    assert list(optimizer.state) == [network.get_parameter("0.bias")]


@pytest.mark.skipif(not kernels_are_there(), reason="the kernels are not built")
def test_which_layers_train_faster_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(
        nn.Linear(128, 128),
        nn.Linear(128, 128),
        nn.Linear(128, 128),
        nn.Linear(128, 127),
        nn.Conv2d(16, 32, 3),
        nn.Conv2d(32, 32, 3, groups=2),
        nn.Linear(128, 128),
        nn.Linear(128, 128).double(),
    )
    network[6].register_forward_hook(lambda *_: None)
    densities = {0: 0.19, 1: 0.21, 2: 0.0, 3: 0.1, 4: 0.09, 5: 0.01, 6: 0.1, 7: 0.1}
    masks = {
        f"{i}.weight": drawn_mask(network[i].weight.shape, density)  # type: ignore[arg-type]
        for i, density in densities.items()
    }
    assert list(faster_packed(network, masks, 32)) == ["0.weight", "2.weight", "4.weight"]
    assert faster_packed(network, masks, 31) == {}
    assert faster_packed(network[0], {"weight": masks["0.weight"]}, 32) == {}
    tied = nn.Sequential(network[0], nn.ReLU(), network[0])
    assert faster_packed(tied, {"0.weight": masks["0.weight"]}, 32) == {}
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "numpy")
    assert faster_packed(network, masks, 32) == {}
