"""What cannot be compressed is refused in one sentence; what only looks odd is not."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.nn.utils import weight_norm
from torch.nn.utils.parametrizations import weight_norm as parametrized_weight_norm

from gossamer.compression import compress
from gossamer.compression.checking import (
    check_example,
    check_model,
    relative_difference,
    wrong_answers,
)
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments


class Taking(nn.Module):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x if y is None else x + y


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        ([1.0], "example must be a tensor, a tuple .* not list"),
        ((torch.zeros(2, 3), torch.zeros(3)), r"'y' of 'example' has shape \(3,\), but 2 examples"),
        ({"x": torch.zeros(2, 3), "z": 1}, "does not take the arguments .* unexpected keyword"),
        ({"x": 1}, "'example' holds no tensor"),
        ({"x": nn.Linear(1, 1)}, "'example' holds no tensor"),
        ({"x": SimpleNamespace(a=torch.ones(1, 1))}, "holds a SimpleNamespace with tensors as 'x'"),
        (torch.zeros(3), r"shape \(3,\), but a batch"),
        (torch.zeros(0, 3), r"shape \(0, 3\), but a batch"),
        (torch.full((2, 3), torch.nan), "not finite"),
        (
            torch.ones(2, 3, dtype=torch.int8),
            "float32, int32, int64 or bool",
        ),
        (torch.ones(2, 3, dtype=torch.float64), "torch.float64 on cpu"),
        (torch.ones(2, 3, dtype=torch.float16), "torch.float16 on cpu"),
        (torch.ones(2, 3, device="meta"), "on meta"),
        (torch.ones(2, 3).to_sparse(), "not stored dense"),
    ],
)
def test_examples_are_refused(example: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_example(Arguments.of(Taking(), example))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (nn.Linear(2, 2).half(), "'weight' of Linear is torch.float16"),
        (nn.Linear(2, 2).double(), "convert the network with model.float"),
        (nn.Linear(2, 2, dtype=torch.complex64), "complex64, .* keep its real and its imaginary"),
        (nn.Linear(2, 2, device="meta"), "is on meta"),
        (nn.Sequential(nn.LazyLinear(2)), "'0.weight' of Sequential has no values yet"),
    ],
)
def test_models_are_refused(model: nn.Module, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_model(model)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.bias, torch.inf)
    with pytest.raises(InputError, match="'bias' of Linear holds values that are not finite"):
        check_model(model)


def test_hooks_that_could_do_anything_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    handle = model[0].register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="layer '0' of Sequential has the hook <lambda>"):
        compress(model, torch.ones(1, 2))
    handle.remove()
    check_model(model)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"a torch.nn.Module was expected, not str"):
        compress("model", torch.ones(1, 2))  # type: ignore[arg-type]


def test_an_example_that_the_model_cannot_take_is_refused() -> None:
    with pytest.raises(InputError, match=r"Linear fails on torch.float32 input of shape \(2, 3\)"):
        compress(nn.Linear(4, 2), torch.ones(2, 3))


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, 5000])
def test_threads_are_checked(threads: Any) -> None:
    with pytest.raises(InputError, match="'threads' is"):
        compress(nn.Linear(2, 2), torch.ones(1, 2), threads=threads)


def test_an_unknown_way_to_choose_is_refused() -> None:
    with pytest.raises(InputError, match="'choose' is 'best'"):
        compress(nn.Linear(2, 2), torch.ones(1, 2), choose="best")  # type: ignore[arg-type]


class AlwaysDrops(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.dropout(inputs)


class Counts(nn.Module):
    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs * self.calls


@pytest.mark.parametrize("odd", [AlwaysDrops(), Counts()])
def test_models_of_changing_answers_are_refused(odd: nn.Module) -> None:
    with pytest.raises(InputError, match="different answers for the same inputs"):
        compress(nn.Sequential(nn.Linear(50, 50), odd), torch.ones(2, 50))


def weight_normed() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.Sequential(weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2))


def parametrized() -> nn.Module:
    return nn.Sequential(parametrized_weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2))


def pruned_by_torch() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    torch_prune.l1_unstructured(model[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    return model


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def compiled() -> nn.Module:
    model: Any = torch.compile(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), backend="eager")
    return nn.Sequential(model, nn.Linear(6, 2))


def parallel() -> nn.Module:
    return nn.DataParallel(nn.Linear(4, 2))


@pytest.mark.parametrize(
    "make", [weight_normed, parametrized, pruned_by_torch, tied, compiled, parallel]
)
def test_wrapped_and_computed_weights_run_in_the_engine(make: Any) -> None:
    torch.manual_seed(0)
    model, example = make(), torch.randn(3, 4)
    with torch.no_grad():
        wanted = model(example)
    names = [name for name, _ in model.named_parameters()]
    small = compress(model, example, threads=1, choose="engine")
    assert small.choice == "engine"
    assert small.remaining == ()
    assert torch.allclose(small(example), wanted, atol=1e-6)
    assert [name for name, _ in model.named_parameters()] == names


def test_a_model_left_in_an_autograd_graph_is_taken() -> None:
    model = pruned_by_torch()
    model(torch.ones(1, 4)).sum().backward()
    small = compress(model, torch.ones(1, 4), choose="engine")
    assert torch.allclose(small(torch.ones(1, 4)), model(torch.ones(1, 4)), atol=1e-6)


def test_a_frozen_copy_is_what_was_compressed() -> None:
    model, example = nn.Linear(3, 2), torch.ones(1, 3)
    twin = copy.deepcopy(model)
    small = compress(model, example, choose="engine")
    nn.init.zeros_(model.weight)
    assert torch.allclose(small(example), twin(example), atol=1e-6)


# --- answers


def scaled(rows: list[float]) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    model.weight.data *= torch.tensor(rows)[:, None]
    return model


def problem_of(other: nn.Module, model: nn.Module, example: Tensor) -> str:
    given = Arguments.of(model, example)
    return wrong_answers({"dense": model, "other": other}, given, True).get("other", "")


@pytest.mark.parametrize("batch", [1, 5])
def test_a_wrong_output_beside_a_large_one_is_seen(batch: int) -> None:
    model = scaled([1e5, 1, 1])
    other = copy.deepcopy(model)
    assert problem_of(other, model, torch.randn(batch, 6)) == ""
    other.weight.data[1], other.bias.data[1] = 0, 0
    assert "differs from the network's" in problem_of(other, model, torch.randn(batch, 6))


@pytest.mark.parametrize("axis", ["channels", "last"])
def test_a_wrong_channel_beside_a_large_one_is_seen(axis: str) -> None:
    scales = torch.tensor([1e5, 1, 1])
    exact = nn.Conv2d(3, 3, 1) if axis == "channels" else nn.Linear(3, 3)
    exact.weight.data *= scales.view(-1, *[1] * (exact.weight.dim() - 1))
    other = copy.deepcopy(exact)
    other.weight.data[2] *= 1 + 1e-4
    example = torch.randn(2, 3, 4, 3)
    assert "differs" in problem_of(other, exact, example)
    assert problem_of(copy.deepcopy(exact), exact, example) == ""


class Overflows(nn.Module):
    """One of two outputs is too large for float32, but not for float64."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        large = inputs[:, :1].abs() * 1e38 * 1e5
        return torch.cat([large, self.factor * inputs[:, 1:]], 1)


def test_an_overflow_of_pytorch_allows_no_other_error() -> None:
    example = torch.randn(5, 3)
    assert problem_of(Overflows(1.0), Overflows(1.0), example) == ""
    assert "differs" in problem_of(Overflows(1.001), Overflows(1.0), example)


class Silent(nn.Module):
    """Gives zeros for inputs that are not negative."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(-inputs)


def test_answers_are_compared_beyond_the_example() -> None:
    zeros = nn.Linear(4, 4)
    nn.init.zeros_(zeros.weight)
    nn.init.zeros_(zeros.bias)
    assert "differs" in problem_of(zeros, Silent(), torch.rand(3, 4).ceil())


class OtherInDouble(nn.Module):
    """Computes something else in float64; what stands for it is wrong by a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.layer, self.factor = scaled([1, 1, 1]), factor

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.layer(inputs) * self.factor
        return found * 1.5 if found.dtype == torch.float64 else found


class OneOtherInDouble(OtherInDouble):
    def forward(self, inputs: Tensor) -> Tensor:
        found = self.layer(inputs)
        larger = 1.01 if found.dtype == torch.float64 else 1.0
        return torch.cat([found[:, :1] * larger * self.factor, found[:, 1:]], 1)


@pytest.mark.parametrize("kind", [OtherInDouble, OneOtherInDouble])
@pytest.mark.parametrize("factor", [1.3, 1.005, 0.999])
def test_a_copy_in_double_that_is_another_function_allows_nothing(
    kind: type[OtherInDouble], factor: float
) -> None:
    assert problem_of(kind(), kind(), torch.randn(8, 6)) == ""
    assert "differs from the network's" in problem_of(kind(factor), kind(), torch.randn(8, 6))


class Waves(nn.Module):
    """Turns rounding into anything, for a frequency that is large enough."""

    def __init__(self, frequency: float, factor: float = 1.0, noise: float = 0.0) -> None:
        super().__init__()
        self.layer, self.frequency = scaled([1, 1, 1]), frequency
        self.factor, self.noise = factor, noise

    def forward(self, inputs: Tensor) -> Tensor:
        # Another order of the same sum.
        found: Tensor = self.layer(inputs) * (1 + self.noise)
        return (self.frequency * found).sin() * self.factor


def test_what_rounding_leaves_unknown_is_not_taken_for_right() -> None:
    example = torch.randn(16, 6)
    assert "cannot be checked" in problem_of(Waves(1e8, 1.3), Waves(1e8), example)
    assert "cannot be checked" in problem_of(Waves(1e8, noise=1e-7), Waves(1e8), example)
    assert "differs" in problem_of(Waves(1e4, 1.3), Waves(1e4), example)
    assert problem_of(Waves(1e4, noise=1.2e-7), Waves(1e4), example) == ""


@pytest.mark.parametrize("turn", [torch.sign, torch.round, lambda y: y.argmax(1), lambda y: y > 0])
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_do_not_make_a_right_answer_unknown(turn: Any, seed: int) -> None:
    class Turned(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = turn(super().forward(inputs))  # type: ignore[no-untyped-call]
            return found

    torch.manual_seed(seed)
    model = Turned(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 5, 3))
    example = torch.randn(4, 3, 24, 24)
    assert problem_of(copy.deepcopy(model), model, example) == ""
    wrong = copy.deepcopy(model)
    wrong.get_parameter("2.weight").data.neg_()
    assert "differs" in problem_of(wrong, model, example)


class WrongFromRow(nn.Module):
    def __init__(self, model: nn.Module, row: int) -> None:
        super().__init__()
        self.model, self.row = model, row

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.model(inputs)
        return torch.cat([found[: self.row], found[self.row :] * 1.01])


@pytest.mark.parametrize("batch", [1, 8, 32, 64])
def test_rows_beyond_a_block_are_compared(batch: int) -> None:
    model, example = scaled([1, 1, 1]), torch.randn(batch, 6)
    assert problem_of(WrongFromRow(model, 65), model, example) == ""
    assert "differs" in problem_of(WrongFromRow(model, 64), model, example)


class Fails(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        raise InputError("This is too large.")


def test_what_fails_is_told() -> None:
    assert "This is too large" in problem_of(Fails(), Silent(), torch.ones(2, 3))


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31), st.booleans())
@settings(max_examples=40)
def test_rounding_alone_is_never_refused(batch: int, width: int, seed: int, shift: bool) -> None:
    """The order of a sum is what another kernel changes."""
    torch.manual_seed(seed)
    first, second = nn.Linear(300, width), nn.Linear(width, 3)
    order = torch.randperm(300)
    reordered = copy.deepcopy(first)
    reordered.weight.data = first.weight.data[:, order]
    other = nn.Sequential(Reordered(order), reordered, nn.ReLU(), second)
    example = torch.randn(batch, 300) + 100 * shift
    assert problem_of(other, nn.Sequential(first, nn.ReLU(), second), example) == ""


class Reordered(nn.Module):
    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.order = order

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, self.order]


def test_relative_differences() -> None:
    one, inf, nan = torch.ones(2), torch.full((2,), torch.inf), torch.full((2,), torch.nan)
    assert relative_difference(one * 1.5, one) == 0.5
    assert relative_difference(inf, inf) == 0
    assert relative_difference(nan, nan) == 0
    assert not relative_difference(nan, one) <= 1
    assert not relative_difference(one, nan) <= 1
    assert relative_difference(inf, one) == torch.inf
    assert not relative_difference(torch.ones(3), one) <= 1
    assert relative_difference(torch.ones(0), torch.ones(0)) == 0


class Counted(nn.Module):
    """Counts the examples that it is given, by their type; may mix those of a batch."""

    def __init__(self, *, mixes: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(5000, 3)
        self.mixes = mixes
        self.seen: list[tuple[torch.dtype, int]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> "Counted":
        twin = Counted(mixes=self.mixes)
        twin.load_state_dict(self.state_dict())
        twin.seen = self.seen
        return twin

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append((inputs.dtype, len(inputs)))
        found = self.linear(inputs)
        return found - found.mean(0, keepdim=True) if self.mixes else found  # type: ignore[no-any-return]


@pytest.mark.parametrize("mixes", [False, True])
def test_float64_is_computed_once_for_each_example_unless_a_batch_is_mixed(mixes: bool) -> None:
    torch.manual_seed(0)
    model = Counted(mixes=mixes).eval()
    example = torch.randn(6, 5000)
    assert not problem_of(nn.Sequential(copy.deepcopy(model)), model, example)
    double = [count for dtype, count in model.seen if dtype == torch.float64]
    # The example, four random ones, one alone, and one more than the example.
    assert double == ([6, 4, 1, 7] if mixes else [6, 4])
