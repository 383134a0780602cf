import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.optim import Optimizer

from gossamer import prune
from gossamer.core.errors import InputError
from gossamer.masks import Mask, enforce

Make = Callable[[nn.Module], Optimizer]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    inputs = torch.rand(64, 6, generator=generator)
    return inputs, (inputs.sum(1, keepdim=True) - 3).sin()


def loss_of(model: nn.Module) -> Tensor:
    inputs, targets = batch()
    value = next(model.parameters())
    return functional.mse_loss(model(inputs.to(value)), targets.to(value))


def closure_of(model: nn.Module, optimizer: Optimizer) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def train(model: nn.Module, optimizer: Optimizer, steps: int = 30) -> None:
    for _ in range(steps):
        optimizer.step(closure_of(model, optimizer))  # type: ignore[arg-type]


OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "sgd foreach": lambda p: optim.SGD(p, 0.1, momentum=0.9, foreach=True),
    "sgd fused": lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, fused=True),
    "adam": lambda p: optim.Adam(p, 0.01, weight_decay=0.01, amsgrad=True),
    "adam foreach": lambda p: optim.Adam(p, 0.01, foreach=True),
    "adam fused": lambda p: optim.Adam(p, 0.01, fused=True),
    "adamw": lambda p: optim.AdamW(p, 0.01),
    "adamw fused": lambda p: optim.AdamW(p, 0.01, fused=True),
    "adamax": lambda p: optim.Adamax(p, 0.01, weight_decay=0.01),
    "nadam": lambda p: optim.NAdam(p, 0.01, weight_decay=0.01),
    "radam": lambda p: optim.RAdam(p, 0.03, decoupled_weight_decay=True),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, momentum=0.5, centered=True),
    "rprop": lambda p: optim.Rprop(p, 0.005),
    "adagrad": lambda p: optim.Adagrad(p, 0.05, weight_decay=0.01),
    "adagrad fused": lambda p: optim.Adagrad(p, 0.05, fused=True),
    "adadelta": lambda p: optim.Adadelta(p, 3.0, weight_decay=0.001),
    "asgd": lambda p: optim.ASGD(p, 0.1, weight_decay=0.01),
    "lbfgs": lambda p: optim.LBFGS(p, 0.1, max_iter=3),
    "lbfgs with line search": lambda p: optim.LBFGS(p, line_search_fn="strong_wolfe", max_iter=3),
    "adafactor": lambda p: optim.Adafactor(p, 0.05, weight_decay=0.01),
    "muon": lambda p: optim.Muon([q for q in p if q.dim() == 2], 0.02, weight_decay=0.01),
}


def test_every_optimizer_of_torch_is_tried() -> None:
    kinds = {type(make(list(network().parameters()))).__name__ for make in OPTIMIZERS.values()}
    there = {
        name
        for name, kind in vars(optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
    assert there - kinds == {"SparseAdam"}  # which has its own test


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_stay_zero_and_the_others_learn(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    train(model, optimizer, 3)  # momentum gathers where the mask will prune
    mask = prune(model, 0.5, exclude="2")  # so that no unit is cut off, and all can learn
    mask.enforce(model, optimizer)
    before, first = copy.deepcopy(model), loss_of(model).item()
    for _ in range(12):
        train(model, optimizer, 1)
        assert mask.violations(model) == {}
    assert loss_of(model).item() < 0.98 * first
    for key, kept in mask.items():
        values, old = model.get_parameter(key).detach(), before.get_parameter(key).detach()
        assert (values[kept] != old[kept]).float().mean() > 0.9


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw fused", "rmsprop"])
def test_enforced_training_is_that_of_a_smaller_network(name: str) -> None:
    model = network().double()
    mask = prune(model, 0.5, pattern="unit", exclude="2")
    kept = mask["0.bias"]
    small = nn.Sequential(nn.Linear(6, int(kept.sum())), nn.Tanh(), nn.Linear(int(kept.sum()), 1))
    small = small.double()
    small.get_parameter("0.weight").data = model.get_parameter("0.weight").data[kept].clone()
    small.get_parameter("0.bias").data = model.get_parameter("0.bias").data[kept].clone()
    small.get_parameter("2.weight").data = model.get_parameter("2.weight").data[:, kept].clone()
    small.get_parameter("2.bias").data = model.get_parameter("2.bias").data.clone()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    mask.enforce(model, optimizer)
    train(model, optimizer)
    train(small, OPTIMIZERS[name](list(small.parameters())))
    assert torch.allclose(
        model.get_parameter("0.weight")[kept], small.get_parameter("0.weight"), rtol=1e-9
    )
    assert torch.allclose(
        model.get_parameter("2.weight")[:, kept], small.get_parameter("2.weight"), rtol=1e-9
    )


def test_sparse_gradients_of_embeddings_are_enforced() -> None:
    model = nn.EmbeddingBag(9, 4, sparse=True, mode="sum")
    mask = prune(model, 0.5)
    optimizer = optim.SparseAdam(list(model.parameters()), 0.1)
    mask.enforce(model, optimizer)
    before = model.weight.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        (model(torch.arange(9).view(3, 3)) - 3).square().sum().backward()
        assert model.weight.grad is not None
        assert model.weight.grad.is_sparse
        optimizer.step()  # type: ignore[no-untyped-call]
        assert mask.violations(model) == {}
    assert (model.weight.detach() != before)[mask["weight"]].all()


def enforced(seed: int = 0) -> tuple[nn.Sequential, Optimizer, Mask]:
    model = network(seed)
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    mask = prune(model, 0.5)
    mask.enforce(model, optimizer)
    return model, optimizer, mask


def step(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def test_no_momentum_gathers_in_pruned_weights() -> None:
    model, optimizer, mask = enforced()
    train(model, optimizer, 3)
    for name, kept in mask.items():
        momentum = optimizer.state[model.get_parameter(name)]["momentum_buffer"]
        assert not momentum[~kept].any()
        assert momentum[kept].all()


def test_gradients_that_are_not_numbers_do_no_harm_where_pruned() -> None:
    model, optimizer, mask = enforced()
    loss_of(model).backward()  # type: ignore[no-untyped-call]
    for name, kept in mask.items():
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        gradient[~kept] = float("nan")
    optimizer.step()
    assert all(bool(value.isfinite().all()) for value in model.parameters())


def test_gradients_with_a_graph_of_their_own_are_cleared() -> None:
    model, optimizer, mask = enforced()
    weights = list(model.parameters())
    for weight, gradient in zip(
        weights, torch.autograd.grad(loss_of(model), weights, create_graph=True), strict=True
    ):
        weight.grad = gradient
    optimizer.step()
    assert mask.violations(model) == {}
    assert all(weight.is_leaf for weight in weights)


@pytest.mark.parametrize("named", [False, True])
def test_closures_have_their_gradients_cleared(named: bool) -> None:
    model = network()
    optimizer = optim.LBFGS(model.parameters(), max_iter=5)
    mask = prune(model, 0.5)
    mask.enforce(model, optimizer)
    plain, seen = closure_of(model, optimizer), []

    def closure() -> Tensor:
        seen.append(mask.violations(model))  # where the optimizer asks for the loss
        return plain()

    loss = optimizer.step(closure=closure) if named else optimizer.step(closure)  # type: ignore
    assert isinstance(loss, Tensor)
    assert len(seen) > 2
    assert not any(seen)


def test_a_gradient_scaler_may_step() -> None:
    model, optimizer, mask = enforced()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = model.get_parameter("0.weight").detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model)).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        assert mask.violations(model) == {}
    assert (model.get_parameter("0.weight").detach() != before)[mask["0.weight"]].all()


def test_a_scheduler_may_wrap_the_step() -> None:
    model, optimizer, mask = enforced()
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(3):
        step(model, optimizer)
        scheduler.step()
    assert mask.violations(model) == {}


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, "cpu"])
def test_the_model_may_move_after_enforcing(kind: Any) -> None:
    model, _, _ = enforced()
    optimizer = optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
    mask = prune(model, 0.5)
    mask.enforce(model, optimizer)
    model.to(kind)
    step(model, optimizer)
    assert mask.violations(model) == {}


def test_other_values_loaded_between_steps_are_found_until_the_mask_is_applied() -> None:
    model, optimizer, mask = enforced()
    model.load_state_dict(network(3).state_dict())
    regrown = {n: int((~m).sum()) for n, m in mask.items() if not m.all()}
    assert mask.violations(model) == regrown
    for _ in range(2):  # it does not wear off
        message = f"{regrown['0.weight']} pruned weights of 0.weight.*call mask.apply"
        with pytest.raises(InputError, match=message):
            step(model, optimizer)
    mask.apply(model)
    step(model, optimizer)
    assert mask.violations(model) == {}
    model.load_state_dict(network(4).state_dict())
    mask.enforce(model, optimizer)
    step(model, optimizer)
    assert mask.violations(model) == {}


def test_an_optimizer_that_loads_a_state_goes_on_enforcing() -> None:
    dense = network()
    other = optim.SGD(dense.parameters(), 0.1, momentum=0.9)
    train(dense, other, 3)
    model, optimizer, mask = enforced()
    optimizer.load_state_dict(other.state_dict())
    for _ in range(3):
        step(model, optimizer)
        assert mask.violations(model) == {}


def test_two_models_on_one_optimizer_are_both_enforced() -> None:
    one, two = network(1), network(2)
    optimizer = optim.SGD([*one.parameters(), *two.parameters()], 0.1, weight_decay=0.1)
    masks = [prune(model, 0.5) for model in (one, two)]
    for mask, model in zip(masks, (one, two), strict=True):
        mask.enforce(model, optimizer)
    (loss_of(one) + loss_of(two)).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    for mask, model in zip(masks, (one, two), strict=True):
        assert mask.violations(model) == {}


def test_enforcing_again_replaces_the_mask() -> None:
    model, optimizer, first = enforced()
    second = Mask({"0.weight": ~first["0.weight"]})
    second.enforce(model, optimizer)
    assert second.violations(model) == {}
    for _ in range(2):
        step(model, optimizer)
    assert second.violations(model) == {}
    assert model.get_parameter("0.weight")[second["0.weight"]].all()
    assert model.get_parameter("2.weight").all()


def test_removing_ends_it_and_leaves_the_zeros() -> None:
    model, optimizer, mask = enforced()
    enforcement = mask.enforce(model, optimizer)
    enforcement.remove()
    enforcement.remove()
    assert enforcement.removed
    assert mask.violations(model) == {}
    step(model, optimizer)
    assert mask.violations(model)
    again = mask.enforce(model, optimizer)
    assert again is not enforcement
    step(model, optimizer)
    assert mask.violations(model) == {}


def test_copies_are_free_until_enforced_again() -> None:
    model, optimizer, mask = enforced()
    twin, its = copy.deepcopy((model, optimizer))
    step(twin, its)
    assert mask.violations(twin)
    mask.enforce(twin, its)
    for pair in ((twin, its), (model, optimizer)):
        step(*pair)
        assert mask.violations(pair[0]) == {}


def test_parameter_groups_may_come_later() -> None:
    model = network()
    optimizer = optim.SGD(model[0].parameters(), 0.1, weight_decay=0.1)
    mask = prune(model, 0.5)
    mask.enforce(model, optimizer)
    optimizer.add_param_group({"params": list(model[2].parameters()), "momentum": 0.9})
    before = model.get_parameter("2.weight").detach().clone()
    for _ in range(3):
        step(model, optimizer)
    assert mask.violations(model) == {}
    assert (model.get_parameter("2.weight").detach() != before)[mask["2.weight"]].all()


def test_a_compiled_model_is_enforced_with_the_mask_of_the_bare_one() -> None:
    model = network()
    mask = prune(model, 0.5)
    compiled = cast("nn.Module", torch.compile(model, backend="eager"))
    optimizer = optim.SGD(compiled.parameters(), 0.1, weight_decay=0.1)
    mask.enforce(compiled, optimizer)
    step(compiled, optimizer)
    assert mask.violations(model) == mask.violations(compiled) == {}


def test_frozen_weights_may_be_among_the_enforced() -> None:
    model = network()
    model.get_parameter("0.weight").requires_grad_(False)
    mask = prune(model, 0.5)
    optimizer = optim.SGD((p for p in model.parameters() if p.requires_grad), 0.1)
    mask.enforce(model, optimizer)
    step(model, optimizer)
    assert mask.violations(model) == {}


def test_an_enforced_optimizer_is_not_kept_alive() -> None:
    model, optimizer, _ = enforced()
    gone = weakref.ref(optimizer), weakref.ref(model.get_parameter("0.weight"))
    del model, optimizer
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


class Failing(optim.SGD):
    """Steps unless told to fail, and may write to the weights before it does."""

    fails = False
    noise = 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            p.add_(self.noise)
        if self.fails:
            raise KeyboardInterrupt
        return super().step(closure)


class Around(Optimizer):
    """An optimizer of torch that fails after the step of another."""

    def __init__(self, inside: Optimizer) -> None:
        super().__init__(inside.param_groups, {})
        self.inside = inside

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inside.step()
        raise KeyboardInterrupt


@pytest.mark.parametrize("around", [False, True])
def test_the_look_at_the_weights_is_not_skipped_after_a_step_that_failed(around: bool) -> None:
    model = network()
    optimizer = Failing(model.parameters(), 0.1)
    outer: Any = Around(optimizer) if around else optimizer
    mask = prune(model, 0.5)
    mask.enforce(model, outer)
    step(model, optimizer)
    optimizer.fails = not around
    with pytest.raises(KeyboardInterrupt):
        step(model, outer)
    optimizer.fails = False
    model.load_state_dict(network(3).state_dict())
    with pytest.raises(InputError, match="not zero at the beginning of a step"):
        step(model, optimizer)


def test_a_step_may_call_the_one_it_overrides_with_any_weights() -> None:
    optim.SGD([torch.zeros(1, requires_grad=True)])  # torch announces its steps from now on
    model = network()
    optimizer = Failing(model.parameters(), 0.1)
    optimizer.noise = 0.1
    mask = prune(model, 0.5)
    mask.enforce(model, optimizer)
    for _ in range(3):
        step(model, optimizer)
        assert mask.violations(model) == {}


@pytest.mark.parametrize("how", ["in place", "anew", "scaled", "foreach"])
def test_gradients_written_after_backward_are_cleared_before_they_are_used(how: str) -> None:
    model, optimizer, mask = enforced()
    step(model, optimizer)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model).backward()  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            assert parameter.grad is not None
            if how == "in place":
                parameter.grad += 1
            elif how == "anew":
                parameter.grad = torch.ones_like(parameter)
            elif how == "scaled":
                parameter.grad.mul_(float("inf")).nan_to_num_(1.0)
            else:
                torch._foreach_add_([parameter.grad], 1.0)
        optimizer.step()
        for name, kept in mask.items():
            state = optimizer.state[model.get_parameter(name)]
            assert not state["momentum_buffer"][~kept].any()
            assert state["momentum_buffer"][kept].all()


def test_gradients_are_not_kept_alive() -> None:
    model, optimizer, _ = enforced()
    for _ in range(2):
        step(model, optimizer)
        gradient = weakref.ref(model.get_parameter("0.weight").grad)
        optimizer.zero_grad()
        assert gradient() is None


def test_what_does_not_belong_together_is_refused() -> None:
    model, optimizer, mask = enforced()
    with pytest.raises(InputError, match="trains none of the mask's parameters"):
        mask.enforce(network(1), optimizer)
    with pytest.raises(InputError, match="which is no parameter of this Linear"):
        mask.enforce(nn.Linear(2, 2), optimizer)
    with pytest.raises(InputError, match=r"torch.optim.Optimizer was expected.*not list"):
        mask.enforce(model, cast("Any", []))
    with pytest.raises(InputError, match="trains none"):
        enforce(
            Mask({"0.weight": mask["0.weight"]}),
            model,
            optim.SGD([model.get_parameter("2.weight")], 0.1),
        )
