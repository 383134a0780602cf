"""Optimizers that keep weights of their own, wrap others, or write to weights outside `step`."""

import copy
import gc
import io
import pickle
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gossamer import Mask, compact, compress, prune
from gossamer.core.errors import InputError
from gossamer.masks.names import parameters_by_name
from gossamer.masks.optimizer_tensors import held_tensors, optimizers_within


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))


def backward(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(16, 6, generator=generator)
    (model(inputs) - 1).square().mean().backward()


def step(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    backward(model)
    optimizer.step()


class ScheduleFree(Optimizer):
    """Schedule-free SGD: weights change places between two sequences outside of `step`."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr, "steps": 0, "training": True})

    @torch.no_grad()
    def exchange(self, training: bool) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                for p in group["params"]:
                    p.lerp_(self.state[p]["z"], 0.1 if training else 1 - 1 / 0.9)
            group["training"] = training

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            share = 1 / (group["steps"] + 1)
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, share)
                p.add_(p.grad, alpha=group["lr"] * (0.9 * (1 - share) - 1))
                z.sub_(p.grad, alpha=group["lr"])
            group["steps"] += 1


class Wrapping:
    """Passes on to the optimizer inside, as wrappers of training frameworks do."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()


class Uninitialised(Wrapping, Optimizer):  # type: ignore[misc]
    """One that calls itself an optimizer, but never initialises it."""

    param_groups = property(lambda self: self.optimizer.param_groups)
    state = property(lambda self: self.optimizer.state)


class SlowWeights:
    """The arithmetic of Lookahead, over slow weights that are kept in one way or another."""

    def __init__(self, optimizer: Optimizer, keep: Callable[[Optimizer], Any]) -> None:
        self.count = 0
        self.inside = optimizer
        self.slow = keep(optimizer)

    @torch.no_grad()
    def synchronise(self) -> None:
        self.count += 1
        parameters = [p for group in self.inside.param_groups for p in group["params"]]
        if self.count % 2 == 0:
            for fast, slow in zip(parameters, _tensors(self.slow), strict=True):
                slow.lerp_(fast, 0.5)
                fast.copy_(slow)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, nn.Module):
        return list(value.parameters())
    inside = value.values() if isinstance(value, dict) else value
    inside = vars(inside).values() if isinstance(inside, SimpleNamespace) else inside
    return [tensor for one in inside for tensor in _tensors(one)]


class PlainLookahead(SlowWeights):
    """Lookahead that is no optimizer of torch."""

    def step(self) -> None:
        self.inside.step()
        self.synchronise()

    def zero_grad(self) -> None:
        self.inside.zero_grad()


class TorchLookahead(SlowWeights, Optimizer):
    """Lookahead that is one."""

    def __init__(self, optimizer: Optimizer, keep: Callable[[Optimizer], Any]) -> None:
        Optimizer.__init__(self, optimizer.param_groups, {})
        SlowWeights.__init__(self, optimizer, keep)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inside.step()
        self.synchronise()


def clones(optimizer: Optimizer) -> list[Tensor]:
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


def all_parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")
KEPT: dict[str, Callable[[Optimizer], Any]] = {
    "under the parameter": lambda o: dict(zip(all_parameters(o), clones(o), strict=True)),
    "under its identity": lambda o: dict(zip(map(id, all_parameters(o)), clones(o), strict=True)),
    "under its name": lambda o: dict(zip(NAMES, clones(o), strict=True)),
    "under its wrapped name": lambda o: {
        f"module.{name}": value for name, value in zip(NAMES, clones(o), strict=True)
    },
    "in a list": clones,
    "in a tuple": lambda o: tuple(clones(o)),
    "in a list by group": lambda o: [clones(o)],
    "numbered": lambda o: dict(enumerate(clones(o))),
    "in a mapping of each": lambda o: {
        p: {"slow": value} for p, value in zip(all_parameters(o), clones(o), strict=True)
    },
    "in an object of its own": lambda o: SimpleNamespace(shadow=clones(o)),
    "in a network": lambda _: network(),
}


def pruned_after(wrapper: Any, model: nn.Sequential) -> Mask:
    """Prune after some steps, so that everything that is kept holds what will be pruned."""
    for _ in range(3):
        step(model, wrapper)
    return prune(model, 0.6, exclude="2")


@pytest.mark.parametrize("how", KEPT)
@pytest.mark.parametrize("kind", [PlainLookahead, TorchLookahead])
def test_slow_weights_are_held_wherever_they_are_kept(how: str, kind: Any) -> None:
    model = network()
    wrapper = kind(optim.SGD(model.parameters(), 0.1, momentum=0.9), KEPT[how])
    mask = pruned_after(wrapper, model)
    given = nn.DataParallel(model) if "wrapped" in how else model
    mask.enforce(given, wrapper)
    before = model.get_parameter("0.weight").detach().clone()
    slow = _tensors(wrapper.slow)
    for _ in range(5):
        step(model, wrapper)
        assert mask.violations(model) == {}
    for name, values in zip(NAMES, slow, strict=True):
        kept = mask[name] if name in mask else torch.ones(values.shape).bool()
        assert not values[~kept].any()
        assert values[kept].any()
    assert (model.get_parameter("0.weight").detach() != before)[mask["0.weight"]].all()


@pytest.mark.parametrize("how", ["under the parameter", "in a list", "in a network"])
def test_a_wrapper_of_torch_is_found_from_the_inside(how: str) -> None:
    model = network()
    wrapper = TorchLookahead(optim.SGD(model.parameters(), 0.1), KEPT[how])
    mask = pruned_after(wrapper, model)
    mask.enforce(model, wrapper.inside)
    for _ in range(5):
        step(model, wrapper)
        assert mask.violations(model) == {}
    assert not any(
        bool(values[~mask[name]].any())
        for name, values in zip(NAMES, _tensors(wrapper.slow), strict=True)
        if name in mask
    )


class Outermost(Optimizer):
    """An optimizer of torch around whatever steps."""

    def __init__(self, around: Any, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})
        self.around = around

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.around.step()


def test_what_stands_between_an_optimizer_and_its_wrapper_is_held_with_them() -> None:
    model = network()
    between = PlainLookahead(optim.SGD(model.parameters(), 0.1), KEPT["in a list"])
    wrapper = Outermost(between, model.parameters())
    mask = pruned_after(wrapper, model)
    mask.enforce(model, between.inside)
    for _ in range(5):
        step(model, wrapper)
        assert mask.violations(model) == {}
    assert not between.slow[0][~mask["0.weight"]].any()


def test_what_writes_outside_the_steps_is_found_at_the_next() -> None:
    model = network()
    wrapper = PlainLookahead(optim.SGD(model.parameters(), 0.1), KEPT["in a list"])
    mask = pruned_after(wrapper, model)
    mask.enforce(model, wrapper.inside)
    wrapper.count = 0
    step(model, wrapper)
    step(model, wrapper)  # which brings the slow weights back
    count = mask.violations(model)["0.weight"]
    with pytest.raises(InputError, match=rf"{count} pruned weights of 0.weight are not zero"):
        step(model, wrapper)
    mask.enforce(model, wrapper)  # as the message says
    for _ in range(4):
        step(model, wrapper)
        assert mask.violations(model) == {}


@pytest.mark.parametrize("wrap", [Wrapping, Uninitialised, lambda o: Wrapping(cast("Any", o))])
@pytest.mark.parametrize("inside", [False, True])
def test_wrappers_are_followed_to_the_optimizer_inside(wrap: Any, inside: bool) -> None:
    model = network()
    optimizer = optim.Adam(model.parameters(), 0.05, weight_decay=0.1)
    wrapper = wrap(optimizer)
    if inside:
        wrapper = SimpleNamespace(
            step=wrapper.step, zero_grad=wrapper.zero_grad, optimizers=[wrapper]
        )
    mask = pruned_after(wrapper, model)
    mask.enforce(model, wrapper)
    assert not optimizer.state[model[0].weight]["exp_avg"][~mask["0.weight"]].any()
    for _ in range(4):
        step(model, wrapper)
        assert mask.violations(model) == {}


def test_what_holds_no_optimizer_is_refused() -> None:
    model = network()
    mask = prune(model, 0.5)
    for other in (SimpleNamespace(), [optim.SGD(model.parameters())], nn.Linear(2, 2), None):
        with pytest.raises(InputError, match=r"torch.optim.Optimizer was expected.* not "):
            mask.enforce(model, cast("Any", other))


@pytest.mark.parametrize("early", [True, False])
def test_weights_that_change_places_outside_of_steps_stay_zero(early: bool) -> None:
    model = network()
    optimizer = ScheduleFree(model.parameters())
    mask = prune(model, 0.6) if early else pruned_after(optimizer, model)
    mask.enforce(model, optimizer)
    for _ in range(3):
        step(model, optimizer)
        optimizer.exchange(training=False)
        assert mask.violations(model) == {}
        optimizer.exchange(training=True)
        assert mask.violations(model) == {}


def test_a_loaded_state_is_cleared_before_it_moves_anything() -> None:
    dense = network()
    other = ScheduleFree(dense.parameters())
    for _ in range(3):
        step(dense, other)
    model = network()
    optimizer = ScheduleFree(model.parameters())
    mask = prune(model, 0.6)
    mask.enforce(model, optimizer)
    optimizer.load_state_dict(other.state_dict())
    optimizer.exchange(training=False)
    assert mask.violations(model) == {}
    assert optimizer.state[model[0].weight]["z"][mask["0.weight"]].all()


class SharpnessAware(Optimizer):
    """SAM: a step up, then a step down from where it was; users call the halves by themselves."""

    def __init__(self, parameters: Iterable[nn.Parameter], inside: type[Optimizer]) -> None:
        super().__init__(parameters, {})
        self.inside = inside(self.param_groups, lr=0.1)  # type: ignore[call-arg]
        self.param_groups = self.inside.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        for p in self.param_groups[0]["params"]:
            self.state[p]["old_p"] = p.data.clone()
            p.add_(p.grad, alpha=0.5)

    @torch.no_grad()
    def second_step(self) -> None:
        for p in self.param_groups[0]["params"]:
            p.data = self.state[p]["old_p"]
        self.inside.step()


@pytest.mark.parametrize("inside", [optim.SGD, optim.Adam])
def test_both_halves_of_a_step_leave_pruned_weights_alone(inside: type[Optimizer]) -> None:
    model = network()
    optimizer = SharpnessAware(model.parameters(), inside)
    mask = prune(model, 0.6, exclude="2")
    mask.enforce(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        backward(model)
        before = model.get_parameter("0.weight").detach().clone()
        optimizer.first_step()
        assert (model.get_parameter("0.weight") != before)[mask["0.weight"]].all()
        assert mask.violations(model) == {}
        optimizer.zero_grad()
        backward(model)
        optimizer.second_step()
        assert mask.violations(model) == {}


def test_gradients_are_zero_from_the_moment_they_are_there() -> None:
    model = network()
    mask = prune(model, 0.6)
    backward(model)
    mask.enforce(model, optim.SGD(model.parameters()))
    free = network()
    free.load_state_dict(model.state_dict())
    for number in (1, 2):  # the first was there before; the second is added to it
        backward(free)
        for name, kept in mask.items():
            gradient, expected = (m.get_parameter(name).grad for m in (model, free))
            assert gradient is not None
            assert expected is not None
            assert torch.allclose(gradient, expected * kept)
        if number == 1:
            backward(model)
    norms = [float(nn.utils.clip_grad_norm_(m.parameters(), 1e-3)) for m in (model, free)]
    assert norms[0] < 0.99 * norms[1]
    # Whoever wants those of pruned weights, to let some grow back, can have them.
    weight = model.get_parameter("0.weight")
    (asked,) = torch.autograd.grad(model(torch.ones(1, 6)).sum(), weight)
    assert asked[~mask["0.weight"]].any()


def test_optimizers_of_single_parameters_may_step_inside_backward() -> None:
    model = network()
    optimizers = {p: optim.Adam([p], 0.05, foreach=False) for p in model.parameters()}

    def hook(parameter: Tensor) -> None:
        optimizer = optimizers[cast("nn.Parameter", parameter)]
        optimizer.step()
        optimizer.zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(hook)
    for _ in range(2):
        backward(model)
    mask = prune(model, 0.6, exclude="2")
    before = copy.deepcopy(model)
    mask.enforce(model, optimizers[model[0].weight])
    for _ in range(3):
        backward(model)
        assert mask.violations(model) == {}
    for name, kept in mask.items():
        moved = model.get_parameter(name) != before.get_parameter(name)
        assert moved[kept].all()


def test_an_optimizer_that_nothing_was_enforced_on_is_refused_on_the_same_weights() -> None:
    model = network()
    mask = prune(model, 0.6)
    first = optim.SGD(model.parameters(), 0.1)
    enforcement = mask.enforce(model, first)
    other = optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match=r"this SGD trains weights on which a mask is enforced"):
        step(model, other)
    mask.enforce(model, other)
    for optimizer in (other, first, other):
        step(model, optimizer)
        assert mask.violations(model) == {}
    enforcement.remove()
    step(model, other)
    assert mask.violations(model) == {}


def test_weights_are_free_again_once_the_enforcement_was_removed() -> None:
    model = network()
    mask = prune(model, 0.6)
    mask.enforce(model, optim.SGD(model.parameters(), 0.1))
    gc.collect()  # the optimizer is gone; gradients are still held, and nobody is misled
    optimizer = optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match="or end the enforcement"):
        step(model, optimizer)
    mask.enforce(model, optimizer).remove()  # as the message says
    step(model, optimizer)
    assert mask.violations(model)


@pytest.mark.parametrize("circular", [True, False])
def test_an_enforcement_whose_optimizer_is_gone_does_not_come_back(circular: bool) -> None:
    model = network()
    mask = prune(model, 0.6)
    old = cast("Any", optim.SGD(model.parameters(), 0.1))
    old.itself = old if circular else None
    enforcement = mask.enforce(model, old)
    del old
    optimizer = optim.SGD(model.parameters(), 0.1)
    mask.enforce(model, optimizer).remove()
    assert enforcement.removed
    step(model, optimizer)
    assert mask.violations(model)


def test_a_later_mask_takes_the_place_of_an_earlier_one_on_another_optimizer() -> None:
    model = network()
    first = prune(model, 0.6, exclude="2")
    old = optim.SGD(model.parameters(), 0.1)
    first.enforce(model, old)
    second = Mask({"0.weight": ~first["0.weight"]})
    optimizer = optim.SGD(model.parameters(), 0.1)
    second.enforce(model, optimizer)
    for _ in range(2):
        step(model, optimizer)
    assert second.violations(model) == {}
    assert model.get_parameter("0.weight")[second["0.weight"]].all()
    assert old.param_groups


def test_copies_and_files_of_an_enforced_model_are_as_without() -> None:
    model = network()
    optimizer = optim.Adam(model.parameters(), 0.1)
    mask = prune(model, 0.6)
    mask.enforce(model, optimizer)
    step(model, optimizer)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        free = optim.Adam(twin.parameters(), 0.1)
        step(twin, free)
        assert mask.violations(twin)
    assert mask.violations(model) == {}


def test_frozen_weights_are_held_when_they_are_trained_after_all() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
    mask = prune(model, 0.6)
    mask.enforce(model, optimizer)
    step(model, optimizer)
    model[0].weight.requires_grad_(True)
    for _ in range(2):
        step(model, optimizer)
        assert mask.violations(model) == {}
    assert model[0].weight.grad is not None
    assert not model[0].weight.grad[~mask["0.weight"]].any()


@pytest.mark.parametrize("swap", [False, True])
def test_a_model_may_change_its_type_and_swap_its_tensors(swap: bool) -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
    mask = prune(model, 0.6)
    mask.enforce(model, optimizer)
    torch.__future__.set_swap_module_params_on_conversion(swap)
    try:
        model.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 6, dtype=torch.float64)).sum().backward()
        optimizer.step()
        assert mask.violations(model) == {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it compiles
def test_a_step_may_be_compiled() -> None:
    model = network()
    optimizer = optim.Adam(model.parameters(), 0.05)
    mask = prune(model, 0.6, exclude="2")
    mask.enforce(model, optimizer)
    before = model.get_parameter("0.weight").detach().clone()
    compiled = torch.compile(optimizer.step, backend="eager")
    for _ in range(2):
        optimizer.zero_grad()
        backward(model)
        compiled()
        assert mask.violations(model) == {}
    assert (model.get_parameter("0.weight") != before)[mask["0.weight"]].all()


class Factored(Optimizer):
    """Keeps square factors for each weight, as Shampoo and SOAP do, and averages of gradients."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            width = len(p)
            state["factor"] = torch.rand(width, width).sub(0.5)
            state["factors"] = [state["factor"] @ state["factor"].T, torch.rand(2, 2)]
            state["basis"] = torch.linalg.qr(state["factor"])[0]
            state["average"] = p.grad.clone()


@pytest.mark.parametrize("others", [True, False])
def test_square_factors_are_not_taken_for_entries_of_square_weights(others: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 5, bias=others), *([nn.Linear(5, 3)] if others else [])]
    model = nn.Sequential(*layers)
    optimizer = Factored(model.parameters())
    model(torch.rand(4, 5)).square().sum().backward()
    optimizer.step()
    state = optimizer.state[model.get_parameter("0.weight")]
    before = copy.deepcopy(dict(state))
    mask = prune(model, 0.6)
    mask.enforce(model, optimizer)
    kept = mask["0.weight"]
    assert torch.equal(state["average"], before["average"] * kept)
    assert torch.equal(state["basis"], before["basis"])
    assert torch.equal(state["factors"][0], before["factors"][0])
    if others:  # that the bias has a factor of 25 numbers tells that these are no entries
        assert torch.equal(state["factor"], before["factor"])


def squares(initialise: Callable[[Tensor], object], width: int = 16) -> nn.Sequential:
    """Two square weights without biases: nothing but values tells copies of them from factors."""
    torch.manual_seed(0)
    layers = [nn.Linear(width, width, bias=False) for _ in range(2)]
    for layer in layers:
        initialise(layer.weight)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def symmetric_(weight: Tensor) -> None:
    with torch.no_grad():
        weight.add_(weight.T.clone())


def unit_columns_(weight: Tensor) -> None:
    with torch.no_grad():
        weight.div_(weight.norm(dim=0))


SQUARE_WEIGHTS: dict[str, Callable[[Tensor], object]] = {
    "orthogonal": nn.init.orthogonal_,
    "scaled orthogonal": lambda weight: nn.init.orthogonal_(weight, 2**0.5),
    "identity": nn.init.eye_,
    "columns of length one": unit_columns_,
    "symmetric": symmetric_,
    "any": nn.init.kaiming_normal_,
}


@pytest.mark.parametrize("how", SQUARE_WEIGHTS)
@pytest.mark.parametrize("sparse_already", [False, True])
def test_copies_of_square_weights_are_cleared_whatever_they_look_like(
    how: str, sparse_already: bool
) -> None:
    model = squares(SQUARE_WEIGHTS[how])
    optimizer = ScheduleFree(model.parameters(), 1e-4)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.rand(8, 16)).square().mean().backward()
            optimizer.step()

    train(1)
    mask = prune(model, 0.97 if how == "identity" else 0.5)
    if sparse_already:
        mask.apply(model)
    mask.enforce(model, optimizer)
    train(2)
    optimizer.exchange(training=False)
    assert mask.violations(model) == {}


def test_loaded_copies_of_other_orthogonal_weights_are_cleared() -> None:
    torch.manual_seed(1)
    other = squares(nn.init.orthogonal_)
    state = ScheduleFree(other.parameters()).state_dict()
    state["state"] = {n: {"z": p.detach().clone()} for n, p in enumerate(other.parameters())}
    model = squares(nn.init.kaiming_normal_)
    optimizer = ScheduleFree(model.parameters())
    mask = prune(model, 0.5)
    mask.enforce(model, optimizer)
    optimizer.load_state_dict(state)
    optimizer.exchange(training=False)
    assert mask.violations(model) == {}


def kronecker(gradient: Tensor, kind: str) -> dict[str, Any]:
    """Return what is kept for a square weight by optimizers that precondition each side."""
    sides = [gradient @ gradient.T, gradient.T @ gradient]
    eigenvectors = [torch.linalg.eigh(side)[1] for side in sides]
    triangles = [torch.linalg.cholesky(side + torch.eye(len(side))).T for side in sides]
    kept: dict[str, dict[str, Any]] = {
        "list": {
            "factors": sides,
            "inverses": [torch.linalg.inv(s + torch.eye(len(s))) for s in sides],
        },
        "names": {"left": sides[0], "right": sides[1]},
        "one side": {"covariance": sides[0], "basis": eigenvectors[0]},
        "bases": {"bases": eigenvectors, "sides": sides},
        "bases alone": {"bases": eigenvectors},
        "triangles": {"q": triangles},
        "lower": {"q": tuple(triangle.T for triangle in triangles)},
        "new": {"q": [torch.eye(len(side)) for side in sides]},
        "object": {"kept": SimpleNamespace(left=sides[0], right=sides[1])},
    }
    return kept[kind]


@pytest.mark.parametrize(
    "kind",
    ["list", "names", "one side", "bases", "bases alone", "triangles", "lower", "new", "object"],
)
@pytest.mark.parametrize("how", ["orthogonal", "any"])
def test_kronecker_factors_of_square_weights_are_left_alone(kind: str, how: str) -> None:
    model = squares(SQUARE_WEIGHTS[how])
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.rand(8, 16)).square().mean().backward()
    optimizer.step()
    for parameter in model.parameters():
        assert parameter.grad is not None
        optimizer.state[parameter] |= kronecker(parameter.grad, kind)
        optimizer.state[parameter]["copy"] = parameter.detach().clone()
    names = parameters_by_name(model)
    found = held_tensors(optimizer, names)
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        expected = {id(state["momentum_buffer"]), id(state["copy"])}
        assert {id(tensor) for tensor in found[parameter]} == expected


def test_replaced_parameters_are_found_at_the_next_step() -> None:
    for how in ("assign", "layer", "parameter"):
        model = network()
        loaded = copy.deepcopy(model.state_dict())
        mask = prune(model, 0.6)
        optimizer = optim.SGD(model.parameters(), 0.1)
        mask.enforce(nn.DataParallel(model), optimizer)
        step(model, optimizer)
        if how == "assign":
            model.load_state_dict(loaded, assign=True)
        elif how == "layer":
            model[0] = nn.Linear(6, 10)
        else:
            model[0].weight = nn.Parameter(torch.rand(10, 6))
        for _ in range(2):
            with pytest.raises(InputError, match=r"0.weight of the model is not the parameter any"):
                step(model, optimizer)
        anew = optim.SGD(model.parameters(), 0.1)  # as the message says
        mask.enforce(model, anew)
        for _ in range(2):
            step(model, anew)
            assert mask.violations(model) == {}
        optimizer.param_groups[0]["params"] = list(model.parameters())
        mask.enforce(model, optimizer)  # the one from before may go on, too
        step(model, optimizer)
        assert mask.violations(model) == {}


def test_parameters_that_only_move_in_their_model_are_held_on() -> None:
    model = network()
    mask = prune(model, 0.6)
    optimizer = optim.SGD(model.parameters(), 0.1)
    mask.enforce(model, optimizer)
    weight = model[0].weight
    model[0] = nn.Sequential(model[0])
    for _ in range(2):
        step(model, optimizer)
        assert not weight[~mask["0.weight"]].any()


def test_of_two_enforcements_each_may_end_without_the_other() -> None:
    for first_ends in (True, False):
        model = network()
        mask = prune(model, 0.6)
        optimizers = [optim.SGD(model.parameters(), 0.1) for _ in range(2)]
        enforcements = [mask.enforce(model, optimizer) for optimizer in optimizers]
        enforcements[0 if first_ends else 1].remove()
        left = optimizers[1 if first_ends else 0]
        backward(model)
        for name, kept in mask.items():
            gradient = model.get_parameter(name).grad
            assert gradient is not None
            assert not gradient[~kept].any()
        left.step()
        assert mask.violations(model) == {}
        with pytest.raises(InputError, match="trains weights on which a mask is enforced"):
            optim.SGD(model.parameters(), 0.1).step()
        enforcements[1 if first_ends else 0].remove()
        step(model, optimizers[0])
        assert mask.violations(model)


def test_lists_belong_to_the_parameters_whose_order_they_follow() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False))
    optimizer = optim.SGD([{"params": [layer.weight]} for layer in model])
    holder = cast("Any", optimizer)
    holder.each = [[torch.ones(2, 3)], [torch.ones(2, 3) * 2]]
    holder.flat = [torch.ones(2, 3), torch.ones(2, 3) * 2]
    holder.other = [torch.ones(2, 3), torch.ones(2, 4)]
    holder.ambiguous = [torch.ones(2, 3)]
    for number, group in enumerate(optimizer.param_groups):
        group["average"] = [torch.ones(2, 3) * (number + 1)]
    found = held_tensors(optimizer, {})
    values = {int(p is model[1].weight): [t[0, 0].item() for t in found[p]] for p in found}
    assert values == {0: [1.0, 1.0, 1.0], 1: [2.0, 2.0, 2.0]}


def test_wrappers_in_circles_end() -> None:
    inner = Wrapping(optim.SGD(network().parameters()))
    outer = Wrapping(cast("Any", inner))
    inner.outer = outer  # type: ignore[attr-defined]
    assert [type(one).__name__ for one in optimizers_within(outer)] == [
        "Wrapping",
        "Wrapping",
        "SGD",
    ]


def test_an_average_of_the_weights_stays_sparse_once_it_was_masked() -> None:
    model = network()
    averaging = get_ema_multi_avg_fn(0.9)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=averaging)
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        step(model, optimizer)
        average.update_parameters(model)
    mask = prune(model, 0.6)
    mask.enforce(model, optimizer)
    assert mask.violations(average) == {n: int((~m).sum()) for n, m in mask.items() if not m.all()}
    mask.apply(average)
    for _ in range(3):
        step(model, optimizer)
        average.update_parameters(model)
        assert mask.violations(average) == {}
    given = torch.rand(5, 6)
    assert prune(average, 0.6) == mask
    for smaller in (compact(average, given), compress(average, given, choose="engine")):
        assert torch.allclose(smaller(given), average(given), atol=1e-6)


class Keeper(nn.Module):
    """An averaged copy as timm's: a module without a forward that keeps another."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)


class Scaled(nn.Module):
    """A network with a forward of its own, whose one child happens to be called `module`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = model

    def forward(self, given: Tensor) -> Tensor:
        return 2 * self.module(given)  # type: ignore[no-any-return]


def test_a_module_that_only_keeps_another_is_looked_into_and_one_that_computes_is_not() -> None:
    model = network()
    mask = prune(model, 0.6)
    assert set(prune(Keeper(model), 0.6)) == set(mask)
    container = nn.ModuleDict({"module": network()})
    assert set(prune(container, 0.6)) == {"module.0.weight", "module.2.weight"}
    scaled = Scaled(model)
    assert set(prune(scaled, 0.6)) == {"module.0.weight", "module.2.weight"}
    given = torch.rand(5, 6)
    assert torch.allclose(compact(scaled, given)(given), scaled(given), atol=1e-6)
    with pytest.raises(InputError, match=r"give the network that it wraps, its \.module"):
        mask.apply(scaled)
    mask.apply(scaled.module)
