"""Batches of all kinds tell of a network without changing it, or are refused in a sentence."""

import copy
import random
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from gossamer import InputError, find_mask, prune
from gossamer.masks import prunable_weights
from gossamer.masks.batches import Batches
from gossamer.masks.calibration import Calibration

SCORES = ("taylor", "wanda")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    )


def data(count: int = 10) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, 6), torch.arange(count) % 3


def gradients(model: nn.Module, batches: Any, loss: Any = None) -> dict[str, Tensor]:
    found = Calibration(model, prunable_weights(model), batches, loss).gradients
    return {name: one.mean for name, one in found.items()}


def reference(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    twin = copy.deepcopy(model).double().eval()
    weights = {n: p for n, p in twin.named_parameters() if p.dim() > 1}
    loss = functional.cross_entropy(twin(x.double()), y)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


class Noisy(nn.Module):
    """Draws random numbers of every kind, counts its calls, and writes into what it is given."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = network()
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(1)
        random.random()
        np.random.rand()  # noqa: NPY002 - a user may use it
        self.calls += 1
        self.seen.append(len(x))
        x *= 1.0
        x += torch.zeros(())
        result: Tensor = self.body(x)
        return result


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("training", [True, False])
def test_everything_is_as_before(score: str, training: bool) -> None:
    model = Noisy().train(training)
    model.body[1].eval()
    model.body[4].weight.requires_grad_(False)
    model.body[0].weight.grad = torch.ones(8, 6)
    called: list[str] = []
    model.body[0].register_forward_hook(lambda *_: called.append("hook"))
    x, y = data()
    given, before = x.clone(), copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    expected = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
    find_mask(model, 0.5, score=score, batches=[(x, y)])
    drawn = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
    assert drawn == expected
    assert called  # the user's own hook ran, and is still there
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert modes == [module.training for module in model.modules()]
    assert model.seen == []
    assert torch.equal(x, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.body[0].weight.grad, torch.ones(8, 6))
    assert model.body[0].bias.grad is None
    assert [p.requires_grad for p in model.parameters()].count(False) == 1


def test_dropout_is_off_and_batch_normalisation_keeps_its_statistics() -> None:
    model, (x, y) = network(), data()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean, module.running_var = torch.randn(8), torch.rand(8) + 0.5
    found = gradients(model.train(), [(x[:3], y[:3]), (x[3:], y[3:])])
    for name, expected in reference(model, x, y).items():
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("score", ["gradient", "wanda"])
def test_how_the_examples_are_batched_does_not_matter(score: str) -> None:
    model, (x, y) = network().double(), data(12)
    x = x.double()
    loader = DataLoader(TensorDataset(x, y), batch_size=5)

    def generator() -> Iterator[tuple[Tensor, Tensor]]:
        yield x[:1], y[:1]
        yield x[1:], y[1:]

    ways: list[Batches] = [[(x, y)], generator(), loader, tuple(zip(x[:, None], y[:, None]))]  # noqa: B905
    masks = [find_mask(model, 0.6, score=score, batches=way) for way in ways]
    assert all(mask == masks[0] for mask in masks)
    assert all(mask.provenance["examples"] == 12 for mask in masks)


def test_a_generator_is_gone_through_once_for_all_that_is_asked() -> None:
    model, (x, y) = network(), data()

    def both(context: Any) -> Tensor:
        return cast("Tensor", context.gradient.abs() * context.input_norms)

    once = find_mask(model, 0.5, score=both, batches=iter([(x, y)]))
    assert once == find_mask(model, 0.5, score=both, batches=[(x, y)])


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        return {"logits": scale * self.layer(x)}


@pytest.mark.parametrize("inputs", ["tuple", "list", "dict"])
def test_inputs_may_be_several_arguments(inputs: str) -> None:
    model, (x, y) = Named(), data()
    given: Any = {"tuple": (x, 2.0), "list": [x, 2.0], "dict": {"x": x, "scale": 2.0}}[inputs]

    def loss(output: dict[str, Tensor], labels: Tensor) -> Tensor:
        return functional.cross_entropy(output["logits"], labels)

    found = gradients(model, [(given, y)], loss)["layer.weight"]
    twin = copy.deepcopy(model)
    expected = functional.cross_entropy(2 * twin.layer(x), y)
    torch.testing.assert_close(found, *torch.autograd.grad(expected, [twin.layer.weight]))


def test_frozen_weights_have_gradients_all_the_same() -> None:
    model, (x, y) = network(), data()
    expected = gradients(model, [(x, y)])
    model.requires_grad_(False)
    found = gradients(model, [(x, y)])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(outer: Any) -> None:
    model, (x, y) = network(), data()
    expected = gradients(model, [(x, y)])
    with outer():
        found = gradients(model, [(x + 0, y)])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


class Tied(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(6, 4, bias=False)
        self.decoder = nn.Linear(4, 6, bias=False)
        if how == "transposed":
            self.decoder.weight = nn.Parameter(self.encoder.weight.detach().t())
        self.shared = how == "shared"

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.encoder(x)
        back: Tensor = hidden @ self.encoder.weight if self.shared else self.decoder(hidden)
        return back


def test_tied_weights_are_one_whatever_ties_them() -> None:
    x, _ = data()

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return (output - labels).square().mean()

    shared, tied = Tied("shared"), Tied("transposed")
    del shared.decoder
    expected = gradients(shared, [(x, x)], loss)["encoder.weight"]
    torch.testing.assert_close(gradients(tied, [(x, x)], loss)["encoder.weight"], expected)
    norms = [
        Calibration(model, prunable_weights(model), [(x, x)], None).input_squares.norms(
            "encoder.weight"
        )
        for model in (shared, tied)
    ]
    torch.testing.assert_close(norms[0], norms[1])
    hidden = shared.encoder(x).square().sum(0)[:, None]
    torch.testing.assert_close(
        norms[0], (x.square().sum(0) + hidden).sqrt().double().detach(), rtol=1e-5, atol=1e-6
    )


def test_bfloat16_networks_are_summed_up_in_float32() -> None:
    model, (x, y) = network().bfloat16(), data(64)
    x = x.bfloat16()
    found = gradients(model, [(x[n : n + 1], y[n : n + 1]) for n in range(64)])
    for name, expected in reference(model, x, y).items():
        assert found[name].dtype == torch.float32
        assert float((found[name] - expected).norm() / expected.norm()) < 0.02
    assert find_mask(model, 0.5, score="wanda", batches=[(x, y)]).sparsity == 0.5


def test_gradients_too_small_for_float16_are_told() -> None:
    model, (x, y) = nn.Linear(6, 3).half(), data()
    found = gradients(model, [(x.half(), y)])["weight"]
    expected = reference(model, x.half(), y)["weight"]
    assert float((found - expected).norm() / expected.norm()) < 0.01
    tiny = [(x.half(), y)], lambda out, labels: 1e-9 * functional.cross_entropy(out.float(), labels)
    with pytest.raises(InputError, match="weight are too small for float16: turn the network into"):
        gradients(model, *tiny)


class Half(nn.Module):
    """Uses a layer under a condition, cuts another off, and standardises the weight of a third."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "cut":
            x = self.first(x).detach()
        if self.how == "standardised":
            weight = self.first.weight
            x = functional.linear(x, weight - weight.mean(1, keepdim=True))
        if self.how == "cast":
            x = functional.linear(x.double(), self.first.weight.double()).float()
        result: Tensor = self.second(x)
        return result


def test_weights_that_batches_do_not_reach_are_refused_by_name() -> None:
    x, y = data()
    for how in ("unused", "cut"):
        with pytest.raises(InputError, match=r"no gradient reaches first\.weight: .*exclude it"):
            prune(Half(how), 0.5, score="taylor", batches=[(x, y)], include="first.weight")
    with pytest.raises(InputError, match=r"the batches never reach first\.weight: exclude it"):
        prune(Half("unused"), 0.5, score="wanda", batches=[(x, y)])
    mask = prune(Half("unused"), 0.5, score="wanda", batches=[(x, y)], exclude="first")
    assert list(mask.weights) == ["second.weight"]


@pytest.mark.parametrize(("how", "into"), [("standardised", "mean"), ("cast", "_to_copy")])
def test_weights_that_are_computed_with_first_have_no_input_norms(how: str, into: str) -> None:
    sentence = rf"first\.weight goes into {into}, which is no product .*: exclude it, or choose"
    with pytest.raises(InputError, match=sentence):
        prune(Half(how), 0.5, score="wanda", batches=[data()])
    assert prune(Half(how), 0.5, score="wanda", batches=[data()], exclude="first").sparsity == 0.5


def test_embeddings_have_gradients_but_no_input_norms() -> None:
    for sparse in (False, True):
        model = nn.Sequential(nn.Embedding(5, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 3))
        batches = [(torch.tensor([[0, 1], [2, 2]]), torch.tensor([0, 2]))]
        with pytest.raises(InputError, match=r"0\.weight is an embedding.*exclude it, or choose"):
            find_mask(model, 0.5, score="wanda", batches=batches)
        unused = gradients(model, batches)["0.weight"][3:]
        assert unused.shape == (2, 4)
        assert not unused.any()


X, Y = data()
NAN = X.clone()
NAN[2, 3] = float("nan")


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        (3, r"batches must be pairs of inputs and labels, \[\(inputs, labels\), \.\.\.\], not int"),
        ([], r"batches is empty, but the score (or the allocation )?needs"),
        (iter(()), r"batches is empty, but the score (or the allocation )?needs"),
        ((X, Y), r"batch 1 is a Tensor of 10: where there are no labels, write \(inputs, None\)"),
        ([X], r"batch 1 is a Tensor of 10"),
        ([(X, Y), (X,)], r"batch 2 is a tuple of 1"),
        ([7], r"batch 1 is a 7"),
        ([("text", Y)], r"the inputs of batch 1 must be a tensor, a tuple .*, not str"),
        ([(X[:0], Y[:0])], r"batch 1 of batches holds no examples"),
        (
            [(X, Y), (X[:, :5], Y)],
            r"fails on batch 2 of batches \(float32 \[10, 5\]; Runt",
        ),
        ([(X.double(), Y)], r"fails on batch 1 of batches \(float64 \[10, 6\]; RuntimeError"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_batches_that_are_none_are_refused(score: str, batches: Any, sentence: str) -> None:
    batches = iter(()) if hasattr(batches, "__next__") else batches
    with pytest.raises(InputError, match=sentence):
        find_mask(network(), 0.5, score=score, batches=batches)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ((NAN, Y), r"the loss of batch 1 is nan"),
        ((X, Y + 1), r"labels of batch 1 go from 1 to 3, but the network gives 3 classes"),
        ((X, Y - 1), r"labels of batch 1 go from -1 to 1"),
        ((X, None), r"outputs torch.float32 \[10, 3\] and labels NoneType: pass loss="),
        ((X, Y.float()), r"labels torch.float32 \[10\]: pass loss="),
        ((X, Y > 1), r"labels torch.bool \[10\]: pass loss="),
        ((X, Y[:, None]), r"labels torch.int64 \[10, 1\]: pass loss="),
        ((X, Y[:9]), r"labels torch.int64 \[9\]: pass loss="),
    ],
)
def test_labels_that_are_no_classes_are_refused(batch: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        find_mask(network(), 0.5, score="taylor", batches=[batch])


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        ("cross entropy", r"loss must be a function of outputs and labels, not str"),
        (lambda out, _: out, r"must be one number that .*, not a tensor of shape \[10, 3\]"),
        (lambda *_: 1.0, r"must be one number that depends on the weights.*, not float"),
        (lambda out, _: out.detach().sum(), r"depends on the weights.*, not a detached tens"),
        (lambda out, _: out.sum() / 0, r"the loss of batch 1 is -?(inf|nan)"),
        (lambda out: out.sum(), r"the loss fails on batch 1 of batches \(TypeError"),
        (
            lambda out, _: (out[:, 0] - out[:, 0].detach()).abs().sqrt().sum(),
            r"the gradient of 0\.weight is not finite for batch 1",
        ),
    ],
)  # fmt: skip
def test_losses_that_are_none_are_refused(loss: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        find_mask(network(), 0.5, score="taylor", batches=[(X, Y)], loss=loss)


def test_inputs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match=r"the inputs of 0\.weight are not finite"):
        find_mask(network(), 0.5, score="wanda", batches=[(NAN, None)])


def test_batches_come_to_the_device_of_the_network() -> None:
    """On a machine with one device, the meta device stands for another: there is no way back."""
    with pytest.raises(InputError, match=r"batch 1 .*cannot be brought to cpu"):
        find_mask(network(), 0.5, score="wanda", batches=[(X.to("meta"), None)])
