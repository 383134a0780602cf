"""What is inside an output is found, compared and put back, whatever is around it."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.compression import compact, compress
from gossamer.compression.onnx import export_onnx
from gossamer.compression.outputs import (
    Form,
    check_output,
    comparable,
    leaves,
    map_tensors,
    with_leaves,
)
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.masks import prune
from gossamer.measures.functional.running import run
from wrapped_outputs import WRAPPERS, FieldsAndItems, Plain, Scores


class Wrapping(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last, self.wrap = nn.Linear(6, 16), nn.Linear(16, 4), wrap

    def forward(self, inputs: Tensor) -> Any:
        return self.wrap(self.last(torch.relu(self.first(inputs))))


def pruned(wrap: Callable[[Tensor], Any]) -> nn.Module:
    torch.manual_seed(0)
    model = Wrapping(wrap).eval()
    prune(model, 0.6, pattern="unit", exclude="last", example=torch.randn(4, 6))
    return model


def assert_same(found: Any, expected: Any) -> None:
    """Compare classes, keys and constants exactly, and tensors up to rounding."""
    assert Form.of(found) == Form.of(expected)
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        if isinstance(other.value, Tensor):
            torch.testing.assert_close(one.value, other.value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_smaller_network_gives_the_same_kind_of_output(kind: str) -> None:
    model, inputs = pruned(WRAPPERS[kind]), torch.randn(4, 6)
    smaller = compact(model, inputs)
    assert smaller.get_submodule("first").out_features == 6
    with torch.no_grad():
        assert_same(smaller(inputs), model(inputs))


@pytest.mark.parametrize("kind", WRAPPERS)
def test_the_engine_gives_the_same_kind_of_output(kind: str) -> None:
    model, example = pruned(WRAPPERS[kind]), torch.randn(4, 6)
    small = compress(model, example, choose="engine")
    assert small.choice == "engine"
    assert small.any_batch
    for inputs in (torch.randn(7, 6), torch.randn(1, 6)):
        with torch.no_grad():
            expected = model(inputs)
        assert_same(small(inputs), expected)
    arrays = [leaf.value for leaf in leaves(small(inputs.numpy()))]
    for array, leaf in zip(arrays, leaves(expected), strict=True):
        if isinstance(leaf.value, Tensor):
            np.testing.assert_allclose(array, leaf.value.numpy(), rtol=1e-5, atol=1e-6)


def test_items_that_are_fields_as_well_are_changed_in_both_places() -> None:
    output = FieldsAndItems(torch.ones(1), (torch.ones(2),))
    doubled = map_tensors(output, lambda tensor: tensor * 2)
    assert isinstance(doubled, FieldsAndItems)
    assert doubled.logits is doubled["logits"]
    assert doubled["logits"].tolist() == [2.0]
    assert doubled["hidden"][0].tolist() == [2.0, 2.0]
    assert output["logits"].tolist() == output.logits.tolist() == [1.0]


def test_an_output_without_changes_is_given_back_as_it_is() -> None:
    output = Plain(torch.ones(1))
    assert map_tensors(output, lambda tensor: tensor) is output


class Unmade:
    """Refuses to be made in any way but its own."""

    def __new__(cls, logits: Tensor) -> "Unmade":  # noqa: ARG004
        return super().__new__(cls)

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __copy__(self) -> "Unmade":
        raise TypeError


def test_an_object_that_cannot_be_made_anew_is_named() -> None:
    with pytest.raises(InputError, match="class Unmade cannot be copied"):
        with_leaves(Unmade(torch.ones(1)), [torch.zeros(1)])


def test_complex_numbers_are_compared_whole() -> None:
    _, first = comparable(torch.complex(torch.ones(2), torch.zeros(2)))
    _, second = comparable(torch.complex(torch.ones(2), torch.ones(2)))
    assert not torch.equal(first, second)


def test_forms_differ_in_classes_keys_order_and_constants() -> None:
    y = torch.ones(1)
    forms = [{"a": y, "b": y}, {"b": y, "a": y}, [y, y], (y, y), (y, None), (y, 1), Scores(y), y]
    for number, one in enumerate(forms):
        for other_number, other in enumerate(forms):
            assert (Form.of(one) == Form.of(other)) == (number == other_number)
    assert Form.of((y, float("nan"))) == Form.of((y, float("nan")))


@dataclasses.dataclass
class Knot:
    tensor: Tensor
    itself: Any = None


def knotted(y: Tensor) -> Knot:
    knot = Knot(y)
    knot.itself = knot
    return knot


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "array": (lambda y: y.detach().numpy(), "a ndarray in NumPy"),
    "array beside": (lambda y: {"y": y, "p": y.detach().numpy()}, "a ndarray as 'p' in NumPy"),
    "computed float": (lambda y: (y, float(y.sum())), "a float as '1' that is not the same"),
    "only a float": (lambda y: y.sum().item(), "a float in which no tensor is found"),
    "list of floats": (lambda y: y.tolist(), "a list in which no tensor is found"),
    "sparse": (lambda y: y.to_sparse(), "a Tensor of layout torch.sparse_coo"),
    "text": (lambda _: "text", "a str in which no tensor is found"),
    "nothing": (lambda _: None, "a NoneType in which no tensor is found"),
    "set": (lambda y: (y, {y}), "a set as '1' that is not the same"),
    "knot": (knotted, "a Knot as 'itself' that is not the same"),
}
"""What cannot be compared or recorded, and how it is called."""


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_tensor_but_computed_is_refused_by_all_in_one_sentence(
    kind: str, tmp_path: Any
) -> None:
    wrap, sentence = REFUSED[kind]
    model, example = pruned(wrap), torch.randn(4, 6)
    said = set()
    for call in (
        lambda: compact(model, example),
        lambda: compress(model, example, choose="engine"),
        lambda: export_onnx(model, example, tmp_path / "network.onnx"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            call()
        said.add(str(caught.value))
    assert len(said) == 1
    assert "return what is computed as a tensor" in said.pop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        ([torch.ones(2, 6)], "example must be a tensor, a tuple of .* not list"),
        (np.ones(3), "example must be a tensor, a tuple of .* not ndarray"),
        ((), "the forward of Linear does not take .* missing a required argument: 'input'"),
        ((1.0,), "'example' holds no tensor, but a batch of inputs was expected"),
    ],
)
def test_an_example_without_tensors_is_refused_by_all_in_one_sentence(
    example: Any, sentence: str, tmp_path: Any
) -> None:
    said = set()
    for call in (
        lambda: compact(nn.Linear(6, 2), example),
        lambda: compress(nn.Linear(6, 2), example),
        lambda: export_onnx(nn.Linear(6, 2), example, tmp_path / "network.onnx"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            call()
        said.add(str(caught.value))
    assert len(said) == 1


class Categories(nn.Module):
    """Takes a category in the first column and a size in the second, and returns a number."""

    def __init__(self, given: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.kinds, self.given = nn.Embedding(4, 3), given

    def forward(self, inputs: Tensor) -> object:
        return self.kinds(inputs[:, 0].long()) * inputs[:, 1:], self.given(inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_other_inputs_keep_each_number_at_its_position(dtype: torch.dtype) -> None:
    """Shuffled over positions, they would fail in the embedding, and show nothing."""
    example = torch.tensor([[3, 900], [0, 500], [1, 700], [2, 100]]).to(dtype)
    for given, right in ((len, True), (lambda x: float(x[0, 1]), False)):
        network = Categories(given)
        inputs = Arguments.of(network, example)
        answer = partial(run, network)
        if right:
            check_output(network, inputs, answer)
        else:
            with pytest.raises(InputError, match="not the same for other inputs"):
                check_output(network, inputs, answer)
