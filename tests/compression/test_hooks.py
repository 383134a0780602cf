"""What runs beside a forward is kept or refused: results are those of the network as given."""

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial, update_wrapper
from pathlib import Path
from types import MethodType
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from gossamer.compression import compact, compaction_report, compress
from gossamer.compression.onnx import export_onnx
from gossamer.core.errors import InputError
from gossamer.masks import prune

EXAMPLE = torch.linspace(-2, 2, 24).reshape(4, 6)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 10), nn.BatchNorm1d(10), nn.Tanh(),
        nn.Linear(10, 3),
    ).eval()  # fmt: skip
    prune(model, 0.5, pattern="unit", exclude="5", example=EXAMPLE)
    return model


def widths(model: nn.Module) -> tuple[int, ...]:
    return tuple(p.shape[0] for p in model.parameters() if p.dim() == 2)


def difference(model: nn.Module, other: Callable[[Tensor], Tensor]) -> float:
    """Largest difference on other inputs than the example, relative to the largest answer."""
    torch.manual_seed(1)
    inputs = torch.randn(16, 6)
    with torch.no_grad():
        answers = model(inputs)
        return float((answers - other(inputs)).abs().max() / answers.abs().max())


# --- what changes the computation is kept


def doubled(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * 2


def doubled_in_place(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
    output.mul_(2)


def shifted(_module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] + 1,)


def shifted_with_options(
    _module: nn.Module, inputs: tuple[Tensor], options: dict[str, Any]
) -> tuple[tuple[Tensor], dict[str, Any]]:
    return (inputs[0] + 1,), options


def bounded(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
    """Changes nothing on the example."""
    return output / output.norm(dim=1, keepdim=True) if output.abs().max() > 20 else None


def hooked(place: int, hook: Any, before: bool = False, **options: Any) -> nn.Module:
    model = network()
    layer = model if place < 0 else model[place]
    register = layer.register_forward_pre_hook if before else layer.register_forward_hook
    register(hook, **options)
    return model


def tripled(self: nn.Linear, inputs: Tensor) -> Tensor:
    return 3 * functional.linear(inputs, self.weight, self.bias)


def with_method() -> nn.Module:
    model = network()
    model[2].forward = MethodType(tripled, model[2])
    return model


def with_partial() -> nn.Module:
    """Replaces a forward as libraries do that move layers between devices."""
    model = network()
    layer: Any = model[2]
    layer.old_forward = layer.forward

    def forward(module: Any, inputs: Tensor) -> Tensor:
        return 3 * module.old_forward(inputs)  # type: ignore[no-any-return]

    layer.forward = update_wrapper(partial(forward, layer), layer.old_forward)
    return model


def whole_replaced() -> nn.Module:
    model = network()
    model.forward = MethodType(lambda self, x: 3 * nn.Sequential.forward(self, x), model)  # type: ignore[method-assign, no-untyped-call]
    return model


class Called(nn.Sequential):
    def __call__(self, inputs: Tensor) -> Any:
        return super().__call__(inputs) * 3


def called() -> nn.Module:
    return Called(*network()).eval()


class CalledLinear(nn.Linear):
    def __call__(self, inputs: Tensor) -> Any:
        return super().__call__(inputs) * 3


def with_called_layer() -> nn.Module:
    model = network()
    layer = CalledLinear(8, 10)
    layer.load_state_dict(model[2].state_dict())
    model[2] = layer
    return model.eval()


def parametrized() -> nn.Module:
    model = network()
    parametrizations.spectral_norm(model[2])
    return model.eval()


def spectral() -> nn.Module:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.spectral_norm(model[2])
    return model.eval()


def pruned_by_torch() -> nn.Module:
    model = network()
    torch_prune.ln_structured(model[2], "weight", 0.5, n=2, dim=0)  # type: ignore[no-untyped-call]
    return model


def sharing_what_they_see() -> nn.Module:
    model = network()
    seen: dict[str, Tensor] = {}
    model[0].register_forward_hook(lambda _m, _i, output: seen.update(first=output))
    model[2].register_forward_hook(lambda _m, _i, out: out + seen["first"].sum(1, keepdim=True))
    return model


CHANGING: dict[str, Callable[[], nn.Module]] = {
    "hook": lambda: hooked(2, doubled),
    "in place": lambda: hooked(2, doubled_in_place),
    "of an activation": lambda: hooked(1, lambda _m, _i, output: output + 1),
    "always called": lambda: hooked(2, doubled, always_call=True),
    "before": lambda: hooked(2, shifted, before=True),
    "with options": lambda: hooked(2, shifted_with_options, before=True, with_kwargs=True),
    "on the whole": lambda: hooked(-1, doubled),
    "before the whole": lambda: hooked(-1, shifted, before=True),
    "only if large": lambda: hooked(2, bounded),
    "a method": with_method,
    "a partial": with_partial,
    "the whole replaced": whole_replaced,
    "a __call__": called,
    "a layer's __call__": with_called_layer,
    "parametrized": parametrized,
    "spectral norm": spectral,
    "pruned by torch": pruned_by_torch,
    "sharing": sharing_what_they_see,
}


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_compacted_network_computes_what_the_given_one_does(name: str) -> None:
    model = CHANGING[name]()
    smaller = compact(model, EXAMPLE)
    assert difference(model, smaller) < 1e-5
    scaled = torch.randn(16, 6) * 100
    with torch.no_grad():
        torch.testing.assert_close(smaller(scaled), model(scaled), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_compressed_network_does_so_or_is_refused_by_name(name: str) -> None:
    model = CHANGING[name]()
    own = {"parametrized", "spectral norm", "pruned by torch"}
    replaced = {"a method", "a partial", "the whole replaced", "a __call__", "a layer's __call__"}
    if name not in own | replaced:
        with pytest.raises(InputError, match="has the hook"):
            compress(model, EXAMPLE, choose="engine")
        return
    small = compress(model, EXAMPLE, threads=1, choose="engine")
    assert difference(model, small) < 1e-5


def test_what_a_hook_changes_keeps_its_width_and_is_named() -> None:
    with pytest.warns(RuntimeWarning, match=r"\(2: it has the hook doubled, which may depend"):
        smaller = compact(hooked(2, doubled), EXAMPLE)
    assert widths(smaller) == (8, 10, 3)
    assert len(smaller.get_submodule("2")._forward_hooks) == 1


def test_blocks_with_hooks_are_kept_whole_and_the_rest_shrinks() -> None:
    block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    model = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8), block, nn.Linear(8, 3))
    for number in (0, 2):
        model.get_parameter(f"{number}.weight").data[:4] = 0
        model.get_parameter(f"{number}.bias").data[:4] = 0
    block.register_forward_hook(lambda _m, _i, output: output.flip(1))
    with pytest.warns(RuntimeWarning, match="3: it has the hook"):
        smaller = compact(model, EXAMPLE)
    assert widths(smaller) == (5, 8, 8, 3)
    assert difference(model, smaller) < 1e-5


# --- what only watches is kept, and in nobody's way


def test_watching_hooks_stay_and_hinder_nothing() -> None:
    model, seen = network(), list[tuple[int, ...]]()
    for layer in model:
        layer.register_forward_hook(lambda _m, _i, output: seen.append(tuple(output.shape)))
    model[2].register_forward_pre_hook(lambda _m, _i, _o: None, with_kwargs=True)
    smaller = compact(model, EXAMPLE)
    assert widths(smaller) == (5, 4, 3) == widths(compact(network(), EXAMPLE))
    assert difference(model, smaller) < 1e-5
    assert {len(shape) for shape in seen} == {2}  # never with symbols
    seen.clear()
    smaller(EXAMPLE)
    assert seen == [(4, 5), (4, 5), (4, 4), (4, 4), (4, 4), (4, 3)]
    with pytest.raises(InputError, match="layer '0' of Sequential has the hook <lambda>"):
        compress(model, EXAMPLE)


def keeps_output(module: Any, _inputs: Any, output: Tensor) -> None:
    module.seen = output.detach()


def counts_calls(module: Any, _inputs: Any) -> None:
    module.calls = getattr(module, "calls", 0) + 1


@pytest.mark.parametrize("run_before", [False, True])
def test_a_hook_that_keeps_what_it_sees_on_its_module_hinders_nothing(run_before: bool) -> None:
    model = network()
    model[0].register_forward_hook(keeps_output)
    model[2].register_forward_pre_hook(counts_calls)
    if run_before:
        model(EXAMPLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = compact(model, EXAMPLE)
    assert widths(smaller) == (5, 4, 3)
    assert difference(model, smaller) < 1e-5
    assert cast("Any", smaller.get_submodule("0")).seen.shape == (16, 5)


class Factored(nn.Linear):
    """Reads what a hook may have left on it."""

    factor: Any = 1.0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch calls it
        found: Tensor = super().forward(input) * self.factor
        return found


def sets_factor(module: Any, inputs: tuple[Tensor]) -> None:
    module.factor = inputs[0].abs().amax()


def sets_two(module: Any, _inputs: Any) -> None:
    module.factor = torch.tensor(2.0)


def sets_weight(module: Any, _inputs: Any) -> None:
    module.weight = nn.Parameter(module.weight.sign())


@pytest.mark.parametrize("hook", [sets_factor, sets_two, sets_weight])
@pytest.mark.parametrize("run_before", [False, True])
def test_a_hook_that_leaves_what_is_read_changes_something(hook: Any, run_before: bool) -> None:
    model = network()
    layer = Factored(6, 8)
    layer.load_state_dict(model[0].state_dict())
    model[0] = layer
    layer.register_forward_pre_hook(hook)
    if run_before:
        model(EXAMPLE)
    with pytest.warns(RuntimeWarning, match=hook.__name__):
        smaller = compact(model, EXAMPLE)
    assert widths(smaller)[0] == 8
    assert difference(model, smaller) < 1e-5


def test_a_hook_that_watches_through_its_network_watches_the_copy() -> None:
    class Recording(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.seen = network(), list[Tensor]()
            self.body[0].register_forward_hook(self.record)

        def record(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.seen.append(output)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)  # type: ignore[no-any-return]

    model = Recording().eval()
    smaller: Any = compact(model, EXAMPLE)
    before = len(model.seen)
    smaller.seen.clear()
    smaller(EXAMPLE)
    assert [tuple(output.shape) for output in smaller.seen] == [(4, 5)]
    assert len(model.seen) == before


def test_hooks_of_gradients_do_not_matter() -> None:
    model = network()
    model[2].register_full_backward_hook(lambda _m, _i, _o: None)
    model[0].register_full_backward_pre_hook(lambda _m, _o: None)
    smaller = compact(model, EXAMPLE)
    assert widths(smaller) == (5, 4, 3)
    smaller(EXAMPLE).sum().backward()
    assert difference(model, compress(model, EXAMPLE, choose="engine")) < 1e-5


# --- what a copy would not have is refused


def with_captured_forward() -> nn.Module:
    model = network()
    forward = model[2].forward
    model[2].forward = lambda inputs: forward(inputs) * 2
    return model


def with_captured_layer() -> nn.Module:
    model = network()
    weight = model.get_parameter("0.weight")
    model[2].register_forward_hook(lambda _m, _i, output: output + weight.sum())
    return model


@pytest.mark.parametrize(
    ("make", "name"), [(with_captured_forward, "2.weight"), (with_captured_layer, "0.weight")]
)
def test_copies_that_compute_with_the_original_are_refused(
    make: Callable[[], nn.Module], name: str
) -> None:
    before = copy.deepcopy(make().state_dict())
    model = make()
    with pytest.raises(InputError, match=f"still computes with '{name}' of the network"):
        compact(model, EXAMPLE)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match=r"still computes with|has the hook"):
        compress(model, EXAMPLE)


def test_a_copy_that_is_another_network_is_refused() -> None:
    class Copied(nn.Sequential):
        def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
            return nn.Sequential(*(copy.deepcopy(layer, memo) for layer in self), nn.ReLU())

    with pytest.raises(InputError, match="A copy of Copied is not the same as the network"):
        compact(Copied(*network()).eval(), EXAMPLE)


@pytest.fixture(params=["after", "before"])
def hook_of_all_modules(request: pytest.FixtureRequest) -> Iterator[None]:
    hook: Any = doubled
    register: Any = {
        "after": partial(register_module_forward_hook, hook),
        "before": partial(register_module_forward_pre_hook, lambda _module, _inputs: None),
    }[request.param]
    handle = register()
    yield
    handle.remove()


@pytest.mark.usefixtures("hook_of_all_modules")
@pytest.mark.parametrize("do", [compact, compress])
def test_hooks_of_all_modules_are_refused(do: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="was registered for all modules of the process"):
        do(network(), EXAMPLE)


@pytest.mark.parametrize("do", [compact, compress])
@pytest.mark.parametrize("kind", ["parallel", "compiled"])
def test_hooks_on_wrappers_are_refused(do: Callable[..., Any], kind: str) -> None:
    inner = network()
    model: Any = (
        nn.DataParallel(inner) if kind == "parallel" else torch.compile(inner, backend="eager")
    )
    model.register_forward_hook(doubled)
    with pytest.raises(InputError, match="The hook doubled is on a wrapper around Sequential"):
        do(model, EXAMPLE)


def test_a_file_of_onnx_holds_what_hooks_change(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = hooked(2, doubled)
    assert export_onnx(model, EXAMPLE, tmp_path / "network.onnx") < 1e-5
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    (found,) = session.run(None, {"input": EXAMPLE.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(EXAMPLE).detach())


def test_the_report_names_hooks() -> None:
    report = compaction_report(hooked(2, doubled), EXAMPLE)
    assert report.unfollowed == {"2": "it has the hook doubled, which may depend on its widths"}
    assert "Not followed: 2 (it has the hook doubled" in str(report)
