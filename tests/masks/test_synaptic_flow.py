"""Synaptic flow: closed forms, its conservation, its rounds, and what it leaves untouched."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import ERK, Block, ErdosRenyi, InputError, NByM, find_mask
from gossamer.masks import Score, ScoreContext, prunable_weights
from gossamer.masks.calibration import Calibration
from gossamer.masks.scores import SCORES, synflow


def saliencies(model: nn.Module, example: Any) -> dict[str, Tensor]:
    layers = prunable_weights(model)
    calibration = Calibration(model, layers, None, None, example)
    return {layer.name: synflow(ScoreContext(layer, calibration)) for layer in layers}


def perceptron(*widths: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, units in pairwise(widths):
        layers += [nn.Linear(inputs, units, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Dropout(), nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False),
    )  # fmt: skip


def test_two_layers_have_a_closed_form() -> None:
    model = perceptron(3, 4, 2).double()
    first, second = (one.detach().abs() for one in model.parameters())
    found = saliencies(model, torch.randn(5, 3).double())
    torch.testing.assert_close(found["0.weight"], 5 * first * second.sum(0)[:, None])
    torch.testing.assert_close(found["2.weight"], 5 * second * first.sum(1))


def test_every_layer_carries_the_same_flow() -> None:
    """Tanaka et al. (2020), theorem 2: each layer that cuts inputs from outputs sums to R."""
    model = convolutional()
    example = torch.randn(1, 2, 8, 8)
    found = saliencies(model.train(), example)
    twin = copy.deepcopy(model).double().eval()
    for parameter in twin.parameters():
        parameter.data.abs_()
    flow = twin(torch.ones_like(example).double()).sum().item()
    assert [one.sum().item() for one in found.values()] == pytest.approx([flow] * 4, rel=1e-9)
    # And every unit: what comes in goes out (theorem 1).
    incoming, outgoing = found["9.weight"].sum(1), found["10.weight"].sum(0)
    torch.testing.assert_close(incoming, outgoing)


class Twice(nn.Module):
    """One matrix on the way to both outputs, there and back, and one looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.there = nn.Linear(4, 3)
        self.back = nn.Linear(3, 4, bias=False)
        self.back.weight = nn.Parameter(self.there.weight.detach().t())

    def forward(self, tokens: Tensor, scale: Tensor) -> dict[str, Tensor]:
        there = self.there(self.table(tokens).mean(1)).relu()
        return {"there": there * scale, "back": self.back(there).sigmoid()}


def test_weights_used_twice_tokens_and_several_outputs() -> None:
    torch.manual_seed(0)
    model = Twice()
    example = {"tokens": torch.tensor([[1, 4], [4, 5]]), "scale": torch.tensor(-7.0)}
    found = saliencies(model, example)
    assert list(found) == ["table.weight", "there.weight"]
    assert not found["table.weight"][[0, 2, 3]].any()
    weight = model.there.weight.detach().double().abs()
    for place in ((0, 1), (2, 3)):
        flows = []
        for step in (1e-6, -1e-6):
            moved = weight.clone()
            moved[place] += step
            hidden = model.table.weight.double().abs()[example["tokens"]].mean(1)
            there = hidden @ moved.T + model.there.bias.double().abs()
            flows.append((there.sum() + (there @ moved).sigmoid().sum()).item())
        slope = (flows[0] - flows[1]) / 2e-6
        assert found["there.weight"][place].item() == pytest.approx(
            slope * weight[place].item(), rel=1e-6
        )


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_a_hundred_rounds_are_those_of_the_paper(allocation: str) -> None:
    """Algorithm 1, in float64 by hand: the density falls to its hundredth root each time."""
    model = perceptron(8, 12, 6, 3)
    magnitudes = [one.detach().double().abs() for one in model.parameters()]
    sizes = [one.numel() for one in magnitudes]
    kept = [torch.ones_like(one) for one in magnitudes]
    for number in range(1, 101):
        a, b, c = (one * mask for one, mask in zip(magnitudes, kept, strict=True))
        into, out = (a.sum(1), b @ a.sum(1)), (c.sum(0) @ b, c.sum(0))
        scores = [a * out[0][:, None], b * out[1][:, None] * into[0], c * into[1]]
        scores = [one.masked_fill(mask == 0, -1) for one, mask in zip(scores, kept, strict=True)]
        density = 0.1 ** (number / 100)
        if allocation == "global":
            flat = torch.cat([one.flatten() for one in scores])
            going = flat.argsort(stable=True)[: round((1 - density) * len(flat))]
            alive = torch.ones(len(flat)).double()
            alive[going] = 0
            kept = [m.view_as(k) for m, k in zip(torch.split(alive, sizes), kept, strict=True)]
        else:
            for one, mask in zip(scores, kept, strict=True):
                going = one.flatten().argsort(stable=True)[: round((1 - density) * one.numel())]
                mask.view(-1)[going] = 0
    found = find_mask(model, 0.9, score="synflow", allocation=allocation, example=torch.randn(2, 8))
    assert all(
        torch.equal(one, mine.bool())
        for one, mine in zip(found.weights.values(), kept, strict=True)
    )
    assert found.provenance["score"] == "synflow"


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97, 1.0])
def test_the_count_is_exact_and_no_layer_is_cut(sparsity: float) -> None:
    model = convolutional()
    example = torch.zeros(1, 2, 8, 8)
    mask = find_mask(model, sparsity, score="synflow", example=example)
    assert mask.zeros == round(sparsity * mask.size)
    if sparsity < 1:  # what is left still carries something: every kept weight, in fact
        mask.apply(model)
        found = saliencies(model, example)
        assert all(bool((found[name] > 0)[kept].all()) for name, kept in mask.weights.items())


def test_a_deep_network_does_not_overflow() -> None:
    model = perceptron(*[100] * 41)
    for parameter in model.parameters():
        parameter.data.mul_(10)
    assert not model(torch.ones(1, 100) * 1e30).isfinite().all()
    found = saliencies(model, torch.randn(1, 100))
    totals = [one.sum().item() for one in found.values()]
    assert totals[0] > torch.finfo(torch.float32).max
    assert totals == pytest.approx([totals[0]] * 40, rel=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.5, "pattern": "unit", "exclude": "output layer"},
        {"sparsity": 0.5, "pattern": "unit", "coupled": False},
        {"sparsity": 0.75, "pattern": Block(2, 1)},
        {"sparsity": 0.75, "allocation": ERK()},
        {"allocation": ErdosRenyi(1)},
        {"pattern": NByM(1, 2)},
    ],
)
def test_every_pattern_and_allocation_takes_it(options: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    with torch.no_grad():
        model.get_parameter("0.bias").fill_(0.3)
    example = torch.zeros(1, 8)
    mask = find_mask(model, score="synflow", example=example, **options)
    same = find_mask(model, score="magnitude", example=example, **options)
    if options.get("pattern") != "unit":
        assert {n: v for n, v in mask.densities.items() if "allocation" in options} == {
            n: v for n, v in same.densities.items() if "allocation" in options
        }
        assert mask.zeros == same.zeros
    else:
        pruned = ~mask["0.bias"]
        assert pruned.any()
        assert not mask["0.weight"][pruned].any()


def test_rounds_are_for_other_scores_too() -> None:
    """Each round sees the gradients and inputs of the network as the one before left it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    batches = [(torch.randn(9, 5), torch.arange(9) % 3)]
    for name, ask in (("snip", lambda c: c.gradient), ("wanda", lambda c: c.input_norms)):
        seen: list[tuple[Tensor, Tensor]] = []

        def score(context: ScoreContext, seen: Any = seen, ask: Any = ask) -> Tensor:
            value: Tensor = ask(context) * context.weight.abs()
            seen.append((context.weight, ask(context)))
            return value.abs()

        both = Score(score, needs=SCORES[name].needs, rounds=2)
        mask = find_mask(model, 0.75, score=both, batches=iter(batches))
        half = find_mask(model, 0.5, score=score, batches=batches)
        twin = copy.deepcopy(model)
        half.apply(twin)
        again = find_mask(twin, 0.75, score=score, batches=batches)
        assert mask == again
        for place in (2, 3):  # of the second round, and of the network pruned by hand
            for mine, other in zip(seen[place], seen[place + 4], strict=True):
                torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_as_before_also_when_a_round_fails(fails: bool) -> None:
    calls: list[int] = []

    def hook(*_: Any) -> None:
        calls.append(1)
        if fails and len(calls) == 20:
            raise ValueError("no")

    model = convolutional().train()
    model[1].eval()
    model.get_parameter("4.weight").requires_grad_(False)
    first = model.get_parameter("0.weight")
    first.grad = torch.ones_like(first)
    with torch.no_grad():
        model.get_parameter("0.weight").view(-1)[:3] = torch.tensor([-0.0, 0.0, -1.0])
    model[9].register_forward_hook(hook)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    places = [parameter.data_ptr() for parameter in model.parameters()]
    example = torch.randn(2, 2, 8, 8)
    given = example.clone()
    if fails:
        with pytest.raises(InputError, match="cannot be run in float64 on inputs of ones"):
            find_mask(model, 0.5, score="synflow", example=example)
    else:
        find_mask(model, 0.5, score="synflow", example=example)
        assert len(calls) > 100
    assert torch.equal(example, given)
    for name, value in model.state_dict().items():
        assert torch.equal(value.view(-1).signbit(), before[name].view(-1).signbit())
        assert torch.equal(value, before[name])
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert [m.training for m in model.modules()].count(False) == 1
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert first.grad is not None
    assert torch.equal(first.grad, torch.ones_like(first))
    assert [p.grad is None for p in model.parameters()].count(False) == 1


def test_what_is_missing_is_said() -> None:
    model = perceptron(3, 4, 2)
    with pytest.raises(InputError, match="needs to know what the network takes: pass example="):
        find_mask(model, 0.5, score="synflow")
    batches = [(torch.randn(4, 3), None)]
    assert find_mask(model, 0.5, score="synflow", batches=batches) == find_mask(
        model, 0.5, score="synflow", example=torch.zeros(1, 3)
    )

    class Idle(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self[0](x)
            return result

    idle = Idle(nn.Linear(3, 3), nn.Linear(3, 3))
    layers = prunable_weights(nn.Sequential(*idle))
    with pytest.raises(InputError, match=r"1\.weight has no synaptic flow, the network's output d"):
        Calibration(idle, layers, None, None, torch.zeros(1, 3)).synaptic_flows.keys()
