import copy
import importlib
import warnings
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as torch_prune

from gossamer import OUTPUT_LAYER, find_mask, prune
from gossamer.core.errors import InputError
from gossamer.masks import prunable_weights
from gossamer.networks import SparseLinear, pack, unpack

WEIGHTS: list[tuple[nn.Module, list[str]]] = [
    (nn.Linear(3, 2), ["weight"]),
    (nn.Conv1d(2, 4, 3), ["weight"]),
    (nn.Conv2d(2, 4, 3), ["weight"]),
    (nn.Conv3d(2, 4, 3), ["weight"]),
    (nn.ConvTranspose1d(2, 4, 3), ["weight"]),
    (nn.ConvTranspose2d(2, 4, 3), ["weight"]),
    (nn.ConvTranspose3d(2, 4, 3), ["weight"]),
    (nn.Embedding(5, 3, padding_idx=0), ["weight"]),
    (nn.EmbeddingBag(5, 3), ["weight"]),
    (nn.RNN(3, 2), ["weight_ih_l0", "weight_hh_l0"]),
    (nn.GRU(3, 2), ["weight_ih_l0", "weight_hh_l0"]),
    (nn.LSTM(3, 4, proj_size=2), ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]),
    (nn.MultiheadAttention(4, 2, add_bias_kv=True), ["in_proj_weight", "out_proj.weight"]),
    (nn.Bilinear(2, 3, 4), ["weight"]),
]


@pytest.mark.parametrize(("module", "names"), WEIGHTS)
def test_weights_of_two_dimensions_are_pruned_exactly(module: nn.Module, names: list[str]) -> None:
    model = copy.deepcopy(module)
    mask = prune(model, 0.5)
    assert list(mask) == names
    size = sum(dict(module.named_parameters())[name].numel() for name in names)
    assert mask.zeros == round(0.5 * size)
    for name, value in model.named_parameters():
        before = dict(module.named_parameters())[name]
        assert torch.equal(value, before * mask[name] if name in names else before)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4),
        nn.LayerNorm((4, 3)), nn.RMSNorm((4, 3)), nn.LocalResponseNorm(2), nn.PReLU(4),
    ],
)  # fmt: skip
def test_normalisations_and_biases_are_never_pruned(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(3, 2), norm)
    assert [layer.name for layer in prunable_weights(model)] == ["0.weight"]
    with pytest.raises(InputError, match="no weight to prune"):
        prune(norm, 0.5)


def test_the_padding_row_counts_as_zeros_that_go_first() -> None:
    model = nn.Embedding(5, 4, padding_idx=2)
    mask = prune(model, 0.2)
    assert not mask["weight"][2].any()
    assert mask["weight"][[0, 1, 3, 4]].all()


def test_empty_complex_and_integer_parameters_are_no_weights() -> None:
    model = nn.ParameterDict({
        "empty": torch.zeros(3, 0),
        "complex": torch.ones(2, 2, dtype=torch.complex64),
        "w": torch.ones(2, 2),
    })  # fmt: skip
    model["whole"] = nn.Parameter(torch.ones(2, 2, dtype=torch.int64), requires_grad=False)
    assert list(find_mask(model, 0.5, include="*")) == ["w"]


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7))
    model[2].weight = model[0].weight
    return model


def test_tied_weights_are_pruned_once() -> None:
    model = tied()
    mask = prune(model, 0.5)
    assert list(mask) == ["0.weight", "1.weight"]
    assert mask.size == 60
    assert model[2].weight is model[0].weight
    assert int((model.get_parameter("2.weight") == 0).sum()) == int((~mask["0.weight"]).sum())


def test_tied_weights_have_units_only_if_all_their_holders_do() -> None:
    assert list(find_mask(tied(), 0.5, pattern="unit").weights) == ["1.weight"]
    model = nn.Sequential(nn.Linear(5, 7), nn.Embedding(7, 5))
    model[1].weight = model[0].weight
    with pytest.raises(InputError, match="no layer has the pattern"):
        find_mask(model, 0.5, pattern="unit")


def test_frozen_weights_are_pruned_and_stay_frozen() -> None:
    model = nn.Linear(4, 4).requires_grad_(False)
    assert prune(model, 0.5).violations(model) == {}
    assert int((model.weight == 0).sum()) == 8
    assert not model.weight.requires_grad


def wrapped(model: nn.Sequential) -> list[nn.Module]:
    inside = nn.Sequential(
        cast("nn.Module", torch.compile(model[:2], backend="eager")), model[2], model[3]
    )
    return [
        cast("nn.Module", torch.compile(model, backend="eager")),
        nn.DataParallel(model),
        cast("nn.Module", torch.compile(nn.DataParallel(model), backend="eager")),
        inside,
    ]


def test_wrapped_models_give_and_take_the_masks_of_bare_ones() -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 3, 1))
    for pattern in ("weight", "unit"):
        mask = find_mask(model, 0.5, pattern=pattern, exclude=OUTPUT_LAYER)
        for wrapper in wrapped(model)[:3]:
            assert find_mask(wrapper, 0.5, pattern=pattern, exclude=OUTPUT_LAYER) == mask
            mask.bind(wrapper)
        nested = find_mask(wrapped(model)[3], 0.5, pattern=pattern, exclude=OUTPUT_LAYER)
        names = {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}
        assert set(nested) == ({"0.0.weight"} if pattern == "weight" else names)
        assert all(torch.equal(nested[name], mask[name[2:]]) for name in nested)
    single = nn.Sequential(cast("nn.Module", torch.compile(model[0], backend="eager")), model[1])
    mask = find_mask(single, 0.5, pattern="unit", allocation={"0": 0.25})
    assert set(mask) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert mask.sparsity == 0.25


def test_a_compiled_model_runs_pruned() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    compiled = torch.compile(model, backend="eager")
    given = torch.rand(3, 4)
    compiled(given)
    prune(cast("nn.Module", compiled), 1.0)
    assert torch.equal(compiled(given), model.get_parameter("0.bias").relu().expand(3, 4))


class Net(nn.Module):
    """Applies a function to its layers a, b, c and its matrix d."""

    def __init__(self, run: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.d = nn.Parameter(torch.rand(4, 4))
        self.lstm = nn.LSTM(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def branching(net: Any, x: Tensor) -> Any:
    return net.a(x) if x.sum() > 0 else net.b(x)


LSTM = {"lstm.weight_ih_l0", "lstm.weight_hh_l0"}
ATTENTION = {"attention.in_proj_weight", "attention.out_proj.weight"}
OUTPUTS: list[tuple[Callable[[Any, Tensor], Any], set[str]]] = [
    (lambda net, x: net.a(net.c(x)), {"a.weight"}),
    (lambda net, x: net.norm(net.a(net.b(x)).relu()), {"a.weight"}),
    (lambda net, x: functional.softmax(net.b(net.a(x)), 1), {"b.weight"}),
    (lambda net, x: {"first": net.a(x), "more": [net.c(net.b(x))]}, {"a.weight", "c.weight"}),
    (lambda net, x: x + net.a(net.b(x)), {"a.weight"}),
    (lambda net, x: net.a(x) + net.b(x) * net.d, {"a.weight", "b.weight"}),
    (lambda net, x: net.lstm(net.a(x))[0], LSTM),
    (lambda net, x: net.attention(net.a(x), x, x)[0], ATTENTION),
    (lambda net, x: functional.linear(net.a(x), net.d), {"d"}),
    (lambda net, x: net.a(x) @ net.d.T, {"d"}),
    (lambda net, x: functional.linear(net.a(x), net.b.weight), {"b.weight"}),
    (branching, {"a.weight"}),
]


@pytest.mark.parametrize(("run", "left_out"), OUTPUTS)
def test_the_output_layer_is_what_gives_the_output(
    run: Callable[[Any, Tensor], Any], left_out: set[str]
) -> None:
    model = Net(run)
    given = torch.rand(4, 4)
    for example in (None, given) if run is not branching else (given + 1,):
        names = {layer.name for layer in prunable_weights(model, example=example)}
        kept = {layer.name for layer in prunable_weights(model, OUTPUT_LAYER, example=example)}
        assert names - kept == left_out


class OwnLinear(nn.Linear):
    """A subclass, which symbolic tracing would look into."""

    def forward(self, given: Tensor) -> Tensor:
        return functional.linear(given, self.weight * 2)


def test_the_output_layer_may_be_a_subclass_a_transformer_or_parametrized() -> None:
    head = nn.Sequential(nn.Linear(3, 3), OwnLinear(3, 3))
    assert list(find_mask(head, 0.5, exclude=OUTPUT_LAYER)) == ["0.weight"]
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    names = {found.name for found in prunable_weights(layer)}
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(layer))
    example = torch.rand(2, 3, 4)
    left = {found.name for found in prunable_weights(model, OUTPUT_LAYER, example=example)}
    # What skips the layer reaches the output, too.
    assert {"0.weight", *(f"1.0.{name}" for name in names)} - left == {
        "0.weight", "1.0.linear2.weight", "1.0.self_attn.in_proj_weight",
        "1.0.self_attn.out_proj.weight",
    }  # fmt: skip
    head = nn.Sequential(nn.Linear(3, 3), parametrizations.weight_norm(nn.Linear(3, 3)))
    assert list(find_mask(head, 0.5, exclude=OUTPUT_LAYER)) == ["0.weight"]


def test_a_tied_output_layer_leaves_its_twin_alone_too() -> None:
    assert list(find_mask(tied(), 0.5, exclude=OUTPUT_LAYER)) == ["1.weight"]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("a", {"b.0.weight", "b.1.weight", "ab.weight"}),
        ("a*", {"b.0.weight", "b.1.weight"}),
        ("b", {"a.weight", "ab.weight"}),
        ("b.", {"a.weight", "ab.weight"}),
        ("b.1.weight", {"a.weight", "ab.weight", "b.0.weight"}),
        (["?.weight", "b.0"], {"ab.weight", "b.1.weight"}),
        (("*.bias",), {"a.weight", "ab.weight", "b.0.weight", "b.1.weight"}),
    ],
)
def test_exclude_names_parameters_and_modules(exclude: Any, left: set[str]) -> None:
    model = nn.ModuleDict({
        "a": nn.Linear(2, 2),
        "ab": nn.Linear(2, 2),
        "b": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
    })  # fmt: skip
    before = copy.deepcopy(model.state_dict())
    assert set(prune(model, 1.0, exclude=exclude)) == left
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in left)


def old_weight_norm(layer: nn.Linear) -> nn.Module:
    old = importlib.import_module("torch.nn.utils")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cast("nn.Module", old.weight_norm(layer))


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.parametrize(
    "computed",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        lambda layer: parametrize.register_parametrization(layer, "weight", Doubled()),
        old_weight_norm,
        lambda layer: cast("Any", torch_prune).random_unstructured(layer, "weight", 0.5),
    ],
)
def test_weights_computed_from_others_are_refused(
    computed: Callable[[nn.Module], nn.Module],
) -> None:
    model = nn.Sequential(nn.Linear(3, 3), computed(nn.Linear(3, 3)))
    with pytest.raises(InputError, match=r"weight of layer '1' is computed from others.*exclude"):
        prune(model, 0.5)
    assert list(prune(model, 0.5, exclude="1")) == ["0.weight"]


def test_packed_layers_are_refused_unless_they_are_left_out() -> None:
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 3))
    pack(network, {"0.weight": torch.arange(30).view(5, 6) % 3 == 0})
    stored = cast("SparseLinear", network[0]).values.detach().clone()
    with pytest.raises(InputError, match=r"non-zeros only \(0\).*unpack\(model\)"):
        prune(network, 0.5)
    assert set(prune(network, 0.5, exclude="0")) == {"2.weight", "3.weight"}
    assert torch.equal(cast("SparseLinear", network[0]).values, stored)
    assert "0.weight" in prune(unpack(network), 0.8)


def test_lazy_weights_are_refused_until_they_have_values() -> None:
    model = nn.Sequential(nn.LazyConv1d(4, 1), nn.LazyBatchNorm1d())
    with pytest.raises(InputError, match="layer '0' has no weights yet: run one batch"):
        prune(model, 0.5)
    half = nn.Sequential(nn.Conv1d(2, 4, 1), nn.LazyBatchNorm1d(), nn.LazyConv1d(2, 1))
    assert list(find_mask(half, 0.5, exclude="2")) == ["0.weight"]
    with pytest.raises(InputError, match="behind layer '0' has no values yet"):
        prune(half, 0.5, pattern="unit", exclude="2")
    half(torch.rand(2, 2, 3))
    assert prune(half, 0.5).sparsity == 0.5
