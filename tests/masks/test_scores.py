"""Scores that see more than weights, against closed forms and brute force."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import ERK, Block, FixedFanIn, InputError, NByM, find_mask, prune
from gossamer.masks import Score, ScoreContext, prunable_weights
from gossamer.masks.calibration import Calibration
from gossamer.masks.layers import PrunableWeight
from gossamer.masks.patterns import resolved_pattern
from gossamer.masks.saliency import ranked
from gossamer.masks.scores import SCORES, squared_sum


def context_of(model: nn.Module, name: str, batches: Any, loss: Any = None) -> ScoreContext:
    layers = prunable_weights(model)
    (layer,) = [layer for layer in layers if layer.name == name]
    return ScoreContext(layer, Calibration(model, [layer], batches, loss))


def squares(output: Tensor, labels: Tensor) -> Tensor:
    return (output - labels).square().sum(1).mean()


def linear(seed: int = 0) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(seed)
    return nn.Linear(5, 3).double(), torch.randn(12, 5).double(), torch.randn(12, 3).double()


def in_parts(inputs: Tensor, labels: Tensor, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    return list(
        zip(torch.split(inputs, list(sizes)), torch.split(labels, list(sizes)), strict=True)
    )


def test_taylor_of_linear_regression_has_a_closed_form() -> None:
    model, x, y = linear()
    gradient = 2 / len(x) * (x @ model.weight.T + model.bias - y).T @ x
    context = context_of(model, "weight", [(x, y)], squares)
    torch.testing.assert_close(context.gradient, gradient.detach())
    change = (gradient * model.weight).detach()
    going = change.square().flatten().argsort()[:7]
    mask = find_mask(model, 7 / 15, score="taylor", batches=[(x, y)], loss=squares)
    assert (~mask["weight"]).flatten().nonzero().flatten().tolist() == sorted(going.tolist())
    # Of a unit, changes add up before they are squared (Molchanov et al. 2019, eq. 8).
    units = find_mask(model, 1 / 3, score="taylor", pattern="unit", batches=[(x, y)], loss=squares)
    assert (~units["bias"]).nonzero().item() == change.sum(1).square().argmin()


def test_signed_changes_of_a_unit_cancel_before_they_are_squared() -> None:
    model = nn.Linear(2, 2, bias=False).double()
    model.weight.data = torch.tensor([[1.0, -1.0], [0.1, 0.2]]).double()
    x = torch.ones(1, 2).double()
    # The loss is the sum of the outputs, so that each gradient is 1.
    score = {"score": "taylor", "batches": [(x, None)], "loss": lambda out, _: out.sum()}
    mask = find_mask(model, 0.5, pattern=Block(1, 2), **cast("Any", score))
    assert mask["weight"].tolist() == [[False, False], [True, True]]


def test_the_gradient_is_of_the_mean_over_examples_not_over_batches() -> None:
    model, x, y = linear()
    whole = context_of(model, "weight", [(x, y)], squares).gradient
    parts = in_parts(x, y, 1, 7, 4)
    torch.testing.assert_close(context_of(model, "weight", parts, squares).gradient, whole)
    classes = y.argmax(1)
    cross = context_of(model, "weight", [(x, classes)]).gradient
    parts = in_parts(x, classes, 2, 9, 1)
    torch.testing.assert_close(context_of(model, "weight", parts).gradient, cross)
    probabilities = (x @ model.weight.T + model.bias).softmax(1) - functional.one_hot(classes, 3)
    torch.testing.assert_close(cross, (probabilities.T @ x / 12).detach())


@pytest.mark.parametrize("pattern", ["weight", "unit", Block(3, 1)])
def test_taylor_is_the_mean_over_examples_of_what_batches_give(pattern: Any) -> None:
    """Molchanov et al. (2019) average the squares of minibatches; the mean gradient is none."""
    model, x, y = linear()
    sizes, axis = (2, 9, 1), {"weight": None, "unit": 1}.get(pattern, 0)

    def summed(change: Tensor) -> Tensor:
        return change.flatten() if axis is None else change.sum(axis)

    changes = summed(torch.zeros(3, 5, dtype=torch.float64))
    for inputs, labels in in_parts(x, y, *sizes):
        slope = 2 / len(inputs) * (inputs @ model.weight.T + model.bias - labels).T @ inputs
        changes += len(inputs) / 12 * summed(slope * model.weight).detach().square()
    layer = prunable_weights(model)
    contexts = [ScoreContext(layer[0], Calibration(model, layer, in_parts(x, y, *sizes), squares))]
    (found,) = ranked(contexts, SCORES["taylor"], resolved_pattern(pattern), seed=0)
    torch.testing.assert_close(found.scores, changes)


def test_second_moments_of_single_examples_are_the_fisher_diagonal() -> None:
    model, x, y = linear()
    single = 2 * (x @ model.weight.T + model.bias - y)[:, :, None] * x[:, None]
    context = context_of(model, "weight", in_parts(x, y, *[1] * 12), squares)
    torch.testing.assert_close(context.second_moment, single.square().mean(0).detach())
    torch.testing.assert_close(context.gradient, single.mean(0).detach())


def test_gradient_prunes_where_the_loss_is_flat() -> None:
    model, x, y = linear()
    slope = context_of(model, "weight", [(x, y)], squares).gradient.abs()
    mask = find_mask(model, 0.4, score="gradient", batches=[(x, y)], loss=squares)
    assert slope[~mask["weight"]].max() < slope[mask["weight"]].min()
    rows = {"score": "gradient", "batches": [(x, y)], "loss": squares}
    units = find_mask(model, 1 / 3, pattern="unit", **cast("Any", rows))
    assert (~units["bias"]).nonzero().item() == slope.mean(1).argmin()


def test_wanda_compares_within_each_row() -> None:
    model = nn.Linear(4, 2, bias=False).double()
    model.weight.data = torch.tensor([[9.0, 8, 7, 6], [1, 2, 3, 4]]).double()
    x = torch.tensor([[3.0, 0, 0, 0], [4, 1, 0, 0], [0, 0, 2, 10]]).double()
    norms = torch.tensor([5.0, 1, 2, 10]).double()
    context = context_of(model, "weight", [(x, None)])
    torch.testing.assert_close(context.input_norms, norms.expand(2, 4))
    # 45 8 14 60 and 5 2 6 40: in each row the two smallest go.
    mask = find_mask(model, 0.5, score="wanda", batches=[(x, None)])
    assert mask["weight"].int().tolist() == [[1, 0, 0, 1], [0, 0, 1, 1]]
    assert mask.provenance["score"] == "wanda"
    assert mask.provenance["examples"] == 3
    # Of five weights that go one row loses a third: the one whose next is smaller, 6 against 14.
    mask = find_mask(model, 5 / 8, score="wanda", batches=[(x, None)])
    assert mask["weight"].int().tolist() == [[1, 0, 0, 1], [0, 0, 0, 1]]
    mask = find_mask(model, score="wanda", batches=[(x, None)], pattern=NByM(1, 2))
    assert mask["weight"].int().tolist() == [[1, 0, 0, 1], [1, 0, 0, 1]]
    mask = find_mask(model, score="wanda", batches=[(x, None)], allocation=FixedFanIn(1))
    assert mask["weight"].int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("allocation", ["global", "uniform", ERK(), {"0": 0.3}])
def test_rows_lose_alike_and_the_count_is_exact(sparsity: float, allocation: Any) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(96, 10))
    batches = [(torch.rand(2, 3, 6, 6), None)]
    mask = find_mask(model, sparsity, score="wanda", batches=batches, allocation=allocation)
    layers = {name: round(float(1 - d) * mask[name].numel()) for name, d in mask.densities.items()}
    if allocation in ("global", "uniform"):
        assert layers == {n: round(sparsity * v.numel()) for n, v in mask.weights.items()}
    for value in mask.weights.values():
        kept = value.flatten(1).sum(1)
        assert kept.max() - kept.min() <= 1


class Twice(nn.Module):
    """Uses one weight twice, once transposed, and slices another."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(3, 4))
        self.b = nn.Parameter(torch.randn(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = x @ self.a
        back = functional.linear(hidden, self.a)
        return back @ self.b[:3].T + torch.einsum("ni,oi->no", x, self.b[3:])


def test_uses_of_a_weight_add_up_and_parts_are_told_apart() -> None:
    torch.manual_seed(0)
    model, x = Twice().double(), torch.randn(7, 3).double()
    hidden = (x @ model.a).detach()
    back = (hidden @ model.a.T).detach()
    layers = [PrunableWeight(name, "", value, None) for name, value in model.named_parameters()]
    found = Calibration(model, layers, [(x[:3], None), (x[3:], None)], None).input_squares
    a = x.square().sum(0)[:, None] + hidden.square().sum(0)[None]
    torch.testing.assert_close(found.norms("a"), a.sqrt())
    b = torch.cat([back.square().sum(0).expand(3, 3), x.square().sum(0).expand(3, 3)])
    torch.testing.assert_close(found.norms("b"), b.sqrt())


CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "1d": lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(4, 6, 3, dilation=2, padding=2),
    "grouped": lambda: nn.Conv2d(4, 6, (3, 2), groups=2, padding=1, stride=(1, 2)),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, groups=4),
    "circular": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed, grouped": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2),
    "linear, three dimensions": lambda: nn.Linear(9, 5),
    "linear without a bias": lambda: nn.Linear(9, 5, bias=False),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_inputs_are_all_that_an_element_multiplies(kind: str) -> None:
    """By brute force: alone at 1, an element passes through just the inputs that it multiplies."""
    torch.manual_seed(0)
    layer = CONVOLUTIONS[kind]().double()
    x = torch.randn(3, 4, 9) if kind in ("1d",) or "linear" in kind else torch.randn(3, 4, 7, 8)
    x = x.double()
    weight = layer.get_parameter("weight")
    context = context_of(layer, "weight", [(x[:1], None), (x[1:], None)])
    norms = context.input_norms
    passed = []
    values = weight.detach().clone()
    with torch.no_grad():
        nothing = layer(x) * 0
        for place in np.ndindex(tuple(weight.shape)):
            weight.zero_()
            bias = layer(x)
            weight[place] = 1
            alone = layer(x) - bias + nothing
            assert norms[place] == pytest.approx(float(alone.norm()), rel=1e-12, abs=1e-12)
            passed.append(alone.flatten())
        weight.copy_(values)
    rows, together = torch.stack(passed), torch.stack(passed) @ torch.stack(passed).T
    (found,) = context.contractions
    assert sorted(found.elements.flatten().tolist()) == list(range(len(rows)))
    for group, hessian in zip(found.elements, found.hessian, strict=True):
        for row in group:
            torch.testing.assert_close(hessian, together[row][:, row], rtol=1e-12, atol=1e-12)
    # Each row is an output of its own: what others pass on is elsewhere.
    same = torch.zeros_like(together, dtype=torch.bool)
    for row in found.elements.flatten(0, 1):
        same[row[:, None], row] = True
    assert not together[~same].any()


def test_attention_sees_what_each_projection_is_given() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(4, 2, batch_first=True).double()
    query, other = torch.randn(3, 5, 4).double(), torch.randn(3, 6, 4).double()
    same = context_of(model, "in_proj_weight", [((query, query, query), None)]).input_norms
    torch.testing.assert_close(same, query.flatten(0, 1).norm(dim=0).expand(12, 4))
    cross = context_of(model, "in_proj_weight", [((query, other, other), None)]).input_norms
    rows = torch.cat(
        [query.flatten(0, 1).norm(dim=0).expand(4, 4), other.flatten(0, 1).norm(dim=0).expand(8, 4)]
    )
    torch.testing.assert_close(cross, rows)
    model.out_proj.weight.data = torch.eye(4).double()
    model.out_proj.bias.data.zero_()  # its outputs are its inputs then
    output = model(query, other, other)[0].flatten(0, 1).detach()
    norms = context_of(model, "out_proj.weight", [((query, other, other), None)]).input_norms
    torch.testing.assert_close(norms, output.norm(dim=0).expand(4, 4))


def test_recurrent_cells_see_inputs_and_hidden_states() -> None:
    torch.manual_seed(0)
    model, x = nn.LSTM(3, 4).double(), torch.randn(6, 2, 3).double()
    hidden, _ = model(x)
    norms = context_of(model, "weight_hh_l0", [(x, None)]).input_norms
    torch.testing.assert_close(norms, hidden[:-1].flatten(0, 1).norm(dim=0).expand(16, 4).detach())
    norms = context_of(model, "weight_ih_l0", [(x, None)]).input_norms
    torch.testing.assert_close(norms, x.flatten(0, 1).norm(dim=0).expand(16, 3))


def test_a_function_is_a_score() -> None:
    model, x, y = linear()

    def fisher(context: ScoreContext) -> Tensor:
        return context.second_moment * context.weight.square()

    batches = in_parts(x, y, *[1] * 12)
    mask = prune(model, 0.6, score=fisher, batches=batches, loss=squares)
    saliency = fisher(context_of(linear()[0], "weight", batches, squares))
    assert saliency[~mask["weight"]].max() < saliency[mask["weight"]].min()
    assert "pruned by " in repr(mask)
    assert repr(mask).count("fisher") == 1
    units = find_mask(
        linear()[0], 1 / 3, score=fisher, pattern="unit", batches=batches, loss=squares
    )
    assert (~units["bias"]).nonzero().item() == saliency.mean(1).argmin()
    own = Score(fisher, reduce=squared_sum, compares="unit")
    rows = find_mask(linear()[0], 0.4, score=own, batches=batches, loss=squares)
    assert rows["weight"].sum(1).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda context: context.weight[0], r"must give a tensor of shape \[3, 5\].*not \[5\]"),
        (lambda _: 1.0, r"must give a tensor of shape .* for each weight of weight, not flo"),
        (lambda context: context.weight / 0, r"gives values that are not finite for weight"),
        (lambda context: context.gradient, r"needs gradients: pass batches=\[\(inputs, labels\)"),
        (lambda context: context.input_norms, r"needs the inputs of layers: pass batches="),
    ],
)
def test_functions_that_give_no_score_are_refused(function: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        find_mask(linear()[0], 0.5, score=function)


def test_what_is_zero_goes_first_whatever_the_score() -> None:
    for score in SCORES:
        model, x, y = linear()
        model.weight.data[0, :2] = 0
        mask = find_mask(model, 2 / 15, score=score, batches=[(x, y)], loss=squares)
        if SCORES[score].compares == "network":
            assert (~mask["weight"]).nonzero().tolist() == [[0, 0], [0, 1]]
        else:
            assert not mask["weight"][0, 0]


def test_every_score_says_what_it_is_and_needs() -> None:
    model, x, y = linear()
    for name, score in SCORES.items():
        assert score.summary, name
        assert score.called == name
        if not score.needs_batches:
            example = None if score.needs == "nothing" else x
            mask = find_mask(model, 0.5, score=name, example=example)
            assert mask.provenance.get("examples") is None
        else:
            with pytest.raises(InputError, match="pass batches="):
                find_mask(model, 0.5, score=name)
            mask = find_mask(model, 0.5, score=name, batches=[(x, y)], loss=squares)
            assert mask.provenance["examples"] == 12
