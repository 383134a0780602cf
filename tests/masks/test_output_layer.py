"""The output layer is found from what a network computes, whatever its Python code does."""

import copy
import dataclasses
import types
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gossamer import compact, find_mask, prune
from gossamer.core.errors import InputError
from gossamer.masks import OUTPUT_LAYER, prunable_weights


class Net(nn.Module):
    """The head is registered first, and much that no output depends on behind it."""

    def __init__(self, run: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.head, self.body, self.mid = nn.Linear(8, 3), nn.Linear(6, 8), nn.Linear(8, 8)
        self.w = nn.Parameter(torch.randn(3, 8))
        self.compiled = torch.compile(nn.Linear(8, 3), backend="eager")
        self.experts = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 3)])
        self.lstm, self.norm = nn.LSTM(8, 8, batch_first=True), nn.LayerNorm(8)
        self.aux = nn.Linear(8, 3)
        self.register_buffer("count", torch.zeros(()))
        self.cache: list[Tensor] = []
        self.calls = 0
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def features(net: Any, x: Tensor) -> Any:
    return net.mid(net.body(x).relu()).relu()


def length(net: Any, x: Tensor) -> Any:
    return net.head(features(net, x.view(len(x), -1)))


def rank(net: Any, x: Tensor) -> Any:
    return net.head(features(net, x[None] if x.dim() == 1 else x))


def finite(net: Any, x: Tensor) -> Any:
    assert torch.isfinite(x).all()
    assert x.shape[1] == 6
    return net.head(features(net, x))


def rows(net: Any, x: Tensor) -> Any:
    return torch.stack([net.head(features(net, x[row])) for row in range(x.size(0))])


def in_place(net: Any, x: Tensor) -> Any:
    hidden = functional.relu(net.mid(torch.relu_(net.body(x))), inplace=True)
    result = net.head(hidden)
    result += 1
    result[:, 0] = 0
    return result


def written_to(net: Any, x: Tensor) -> Any:
    result = x.new_zeros(len(x), 3)
    result[:, :2] = net.head(features(net, x))[:, :2]
    return result


def written_through_a_view(net: Any, x: Tensor) -> Any:
    result = torch.empty(len(x) * 3)
    result.view(len(x), 3).copy_(net.head(features(net, x)))
    return result


def with_traces(net: Any, x: Tensor) -> Any:
    net.cache.append(x)
    net.calls += 1
    net.count += 1
    net.seen = net.aux(features(net, x))  # computed, and no output
    return net.head(features(net, x))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient * 2


def doubled(x: Tensor) -> Any:
    return Doubled.apply(x)  # type: ignore[no-untyped-call]


def checkpointed(net: Any, x: Tensor) -> Any:
    hidden = checkpoint(lambda given: features(net, given), x, use_reentrant=False)
    return checkpoint(net.head, hidden, use_reentrant=True)


def limited(net: Any, x: Tensor) -> Any:
    net.head.weight.data = torch.renorm(net.head.weight.data, p=2, dim=0, maxnorm=0.01)
    with torch.no_grad():
        net.mid.weight.clamp_(-0.01, 0.01)
    return net.head(features(net, x)) if len(x) else x


def by_experts(net: Any, x: Tensor) -> Any:
    hidden = features(net, x)
    result = hidden.new_zeros(len(x), 3)
    for number, expert in enumerate(net.experts):
        chosen = torch.arange(len(x)) % 2 == number
        if chosen.any():
            result[chosen] = expert(hidden[chosen])
    return result


@dataclasses.dataclass
class Output:
    logits: Any
    more: Any = None


FOUND: list[tuple[Callable[[Any, Tensor], Any], set[str]]] = [
    (length, {"head.weight"}),
    (rank, {"head.weight"}),
    (finite, {"head.weight"}),
    (rows, {"head.weight"}),
    (in_place, {"head.weight"}),
    (written_to, {"head.weight"}),
    (written_through_a_view, {"head.weight"}),
    (with_traces, {"head.weight"}),
    (checkpointed, {"head.weight"}),
    (limited, {"head.weight"}),
    (by_experts, {"experts.0.weight", "experts.1.weight"}),
    (lambda net, x: doubled(net.head(doubled(features(net, x)))), {"head.weight"}),
    (lambda net, x: net.head(features(net, x)).data * 2, {"head.weight"}),
    (lambda net, x: net.compiled(features(net, x)) if len(x) else x, {"compiled.weight"}),
    (lambda net, x: torch.einsum("bi,oi->bo", features(net, x), net.w), {"w"}),
    (lambda net, x: functional.linear(features(net, x), net.w * 2), {"w"}),
    (lambda net, x: net.head(features(net, x)) + torch.zeros_like(net.aux(features(net, x))),
     {"head.weight"}),
    (lambda net, x: net.norm(net.mid(net.body(x))).softmax(-1), {"mid.weight"}),
    (lambda net, x: net.lstm(net.body(x)[:, None])[1][0],
     {"lstm.weight_ih_l0", "lstm.weight_hh_l0"}),
    (lambda net, x: Output(net.head(features(net, x))), {"head.weight"}),
    (lambda net, x: Output(None, {"deep": [net.aux(features(net, x)), None, 3]}), {"aux.weight"}),
    (lambda net, x: types.SimpleNamespace(logits=net.head(features(net, x))), {"head.weight"}),
    (lambda net, x: net.head(features(net, x)).topk(2), {"head.weight"}),
    (lambda net, x: (net.head(features(net, x)), net.aux(net.body(x))),
     {"head.weight", "aux.weight"}),
    (lambda net, x: net.head(net.body(x) + net.mid(net.body(x))), {"head.weight"}),
]  # fmt: skip


@pytest.mark.parametrize(("run", "left_out"), FOUND)
def test_on_an_example_the_layer_of_the_output_is_found_and_nothing_changes(
    run: Callable[[Any, Tensor], Any], left_out: set[str]
) -> None:
    torch.manual_seed(0)
    net, example = Net(run), torch.randn(4, 6)
    net.mid.eval()
    before = copy.deepcopy(net.state_dict())
    attributes = {name: set(vars(module)) for name, module in net.named_modules()}
    state, given = torch.get_rng_state(), example.clone()
    names = {found.name for found in prunable_weights(net, include="w", example=example)}
    kept = {
        found.name for found in prunable_weights(net, OUTPUT_LAYER, include="w", example=example)
    }
    assert names - kept == left_out
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert attributes == {name: set(vars(module)) for name, module in net.named_modules()}
    assert (net.cache, net.calls, net.training, net.mid.training) == ([], 0, True, False)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(given, example)


@pytest.mark.parametrize("run", [length, rank, finite])
def test_pruned_units_never_silence_a_class(run: Callable[[Any, Tensor], Any]) -> None:
    torch.manual_seed(0)
    net, example = Net(run), torch.randn(16, 6)
    prune(net, 0.5, pattern="unit", exclude=OUTPUT_LAYER, example=example)
    assert (net(example).std(0) > 0).all()


def test_without_an_example_what_cannot_be_traced_is_refused() -> None:
    net = Net(length)
    with pytest.raises(InputError, match=r"output layer cannot be found: Net .*pass example="):
        find_mask(net, 0.5, exclude=[OUTPUT_LAYER, "w"])
    single = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    single.forward = lambda x: single[1](single[0](x)) if len(x) else x  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"its forward was replaced on the object.*pass example="):
        find_mask(single, 0.5, exclude=OUTPUT_LAYER)
    assert list(find_mask(single, 0.5, exclude=OUTPUT_LAYER, example=torch.ones(2, 4))) == [
        "0.weight"
    ]


def test_ordinary_layers_need_no_example() -> None:
    net = Net(length)
    del net.w
    names = ["head", "body", "mid", "compiled", "experts.0", "experts.1"]
    assert find_mask(net, 0.5, exclude=["lstm", "aux"]).weights.keys() == {
        f"{name}.weight" for name in names
    }


@pytest.mark.parametrize(
    "run",
    [
        lambda net, x: torch.from_numpy(net.head(features(net, x)).detach().numpy() * 2),
        lambda net, x: torch.vmap(net.head)(features(net, x)) * 1,
        lambda _, x: x * 2,
        lambda net, x: net.head(features(net, x)).tolist(),
    ],
)
def test_what_cannot_be_followed_to_the_output_is_refused(
    run: Callable[[Any, Tensor], Any],
) -> None:
    with pytest.raises(InputError, match=r"output layer cannot be found: .* name the layer in"):
        find_mask(Net(run), 0.5, exclude=OUTPUT_LAYER, example=torch.randn(4, 6))


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.one, self.two = nn.Linear(4, 2), nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, one: Tensor, two: Any = None, *, scale: float = 1) -> Any:
        two = two["two"] if isinstance(two, dict) else two
        assert len(one)
        return self.head(self.one(one) + self.two(two) * scale)


@pytest.mark.parametrize(
    "example",
    [
        (torch.rand(2, 3), torch.rand(2, 5)),
        (torch.rand(2, 3), {"two": torch.rand(2, 5)}),
        {"one": torch.rand(2, 3), "two": torch.rand(2, 5), "scale": 2.0},
    ],
)
def test_examples_may_be_several_arguments(example: Any) -> None:
    mask = find_mask(Several(), 0.5, exclude=OUTPUT_LAYER, example=example)
    assert set(mask.weights) == {"one.weight", "two.weight"}


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        (torch.rand(2, 7), r"fails on the example \(float32 \[2, 7\]; RuntimeError: mat1.*give an"),
        ({"x": torch.rand(2, 6)}, r"fails on the example .*; TypeError: .*'x'"),
        ([1, 2], r"example must be a tensor, a tuple .* or a dict of keyword arguments, not list"),
        ({1: 2}, r"example must be a tensor, .*not dict"),
    ],
)
def test_examples_that_do_not_fit_get_a_sentence(example: Any, sentence: str) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)).eval()
    with pytest.raises(InputError, match=sentence):
        prune(model, 0.5, example=example)
    assert not any(module.training for module in model.modules())
    assert not (cast("Tensor", model[0].weight) == 0).any()


def test_lazy_networks_are_not_run() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    with pytest.raises(InputError, match="weights without values yet: run one batch"):
        find_mask(model, 0.5, example=torch.rand(2, 3))
    assert isinstance(model[0], nn.LazyLinear)


def test_a_head_registered_first_survives_compaction() -> None:
    torch.manual_seed(0)
    net, example = Net(finite), torch.randn(16, 6)
    prune(net, 0.5, pattern="unit", exclude=OUTPUT_LAYER, example=example)
    net.run = lambda net, x: net.head(features(net, x))
    with pytest.warns(RuntimeWarning, match=r"aux \(Linear\) is not run"):
        small = compact(net.eval(), example)
    assert torch.allclose(small(example), net(example), atol=1e-6)
