"""A compressed network takes the same inputs loaded, fresh, and from the command line."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import gossamer
from gossamer.commands.predict import predict as main
from gossamer.core.errors import InputError
from gossamer.engine import TensorSpec
from gossamer.runtime.inputs import as_inputs, shape_hint

SHAPE = (3, 8, 8)
X = np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32)


class Bessel(nn.Module):
    """What the engine has no operator for, so that a part stays in PyTorch."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.special.i0e(inputs)
        return found


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[Any], Any]]:
    """Return the network loaded from a file, in gossamer's engine, and in PyTorch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    gossamer.prune(model, 0.8)
    small = gossamer.compress(model, torch.from_numpy(X), choose="engine", threads=1)
    path = tmp_path_factory.mktemp("net") / "net.gsm"
    small.save(path)
    loaded = gossamer.load(path)
    partly = nn.Sequential(model, Bessel()).eval()
    mixed = gossamer.compress(partly, torch.from_numpy(X), choose="engine", threads=1)
    assert mixed.remaining
    return {"loaded": loaded, "engine": small, "PyTorch": mixed}


def numbers(found: Any) -> NDArray[np.float32]:
    return np.asarray(found.numpy() if isinstance(found, torch.Tensor) else found)


def strided(array: NDArray[Any]) -> NDArray[Any]:
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


SAME: dict[str, Any] = {
    "float64": X.astype("f8"),
    "long": X.astype(np.longdouble),
    "big-endian": X.astype(">f4"),
    "big-endian doubles": X.astype(">f8"),
    "columns first": np.asfortranarray(X),
    "channels last in memory": np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 1, -1)), -1, 1),
    "backwards": np.ascontiguousarray(X[::-1, :, ::-1])[::-1, :, ::-1],
    "every second": strided(X),
    "read-only": read_only(X),
    "lists": X.tolist(),
    "list of arrays": list(X),
    "tensor": torch.from_numpy(X),
    "tensor that requires a gradient": torch.from_numpy(X).requires_grad_(),
    "parameter": nn.Parameter(torch.from_numpy(X)),
    "tensor of float64": torch.from_numpy(X).double(),
    "tensor, channels last": torch.from_numpy(X).to(memory_format=torch.channels_last),
    "tensor made in inference mode": torch.inference_mode()(lambda: torch.from_numpy(X) * 1)(),
    "a view of the negative": torch.complex(torch.zeros(X.shape), -torch.from_numpy(X)).conj().imag,
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_the_same_numbers_give_the_same_answers(
    callers: dict[str, Callable[[Any], Any]], name: str
) -> None:
    for call in callers.values():
        expected = call(X)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = call(SAME[name])
        assert isinstance(found, torch.Tensor) == (
            isinstance(SAME[name], torch.Tensor) and call is not callers["loaded"]
        )
        np.testing.assert_allclose(numbers(found), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_computed_with_as_it_is(
    callers: dict[str, Callable[[Any], Any]], kind: str
) -> None:
    half = torch.from_numpy(X).to(getattr(torch, kind))
    for call in callers.values():
        exact = call(half.float().numpy())
        np.testing.assert_array_equal(numbers(call(half)), exact)
        if kind == "float16":
            np.testing.assert_array_equal(call(half.numpy()), exact)


def test_one_row_for_all_and_no_row_are_batches(callers: dict[str, Callable[[Any], Any]]) -> None:
    for call in callers.values():
        found = call(np.broadcast_to(X[:1], X.shape))
        np.testing.assert_allclose(found, np.repeat(call(X[:1]), 5, axis=0), rtol=1e-5, atol=1e-6)
        expanded = torch.from_numpy(X[:1]).expand(X.shape)
        np.testing.assert_allclose(numbers(call(expanded)), found, rtol=1e-6, atol=1e-6)
        assert call(X[:0]).shape == (0, 5)


PIXELS = np.random.default_rng(1).integers(0, 256, X.shape)
REFUSED: dict[str, tuple[Any, str]] = {
    **{
        f"whole numbers of {dtype}": (PIXELS.astype(dtype), f"of type {dtype}, expected floating")
        for dtype in ("uint8", "int8", "int64", "uint16", "bool", ">i4")
    },
    "bytes in a tensor": (torch.from_numpy(PIXELS).byte(), "of type uint8, expected floating"),
    "true and false in a tensor": (torch.from_numpy(X) > 0, "of type bool, expected floating"),
    "lists of whole numbers": (PIXELS.tolist(), "of type int64, expected floating-point numbers"),
    "objects": (X.astype(object), "of type object, expected floating-point numbers"),
    "complex": (X.astype("c8"), "of type complex64, expected floating-point numbers"),
    "a complex tensor": (torch.from_numpy(X) * 1j, "of type complex64, expected floating"),
    "text": (X.astype(str), "expected floating-point numbers"),
    "beyond float32": (X.astype("f8") * 1e300, "hold numbers beyond 3.403e+38, the largest of"),
    "a tensor beyond float32": (torch.from_numpy(X).double() * 1e300, "hold numbers beyond"),
    "one example": (X[0], "shape [3, 8, 8], expected [examples, 3, 8, 8]; for a single example"),
    "channels last": (np.moveaxis(X, 1, -1), "if the channels are last, pass numpy.moveaxis"),
    "flat": (X.reshape(5, -1), "shape [5, 192], expected [examples, 3, 8, 8]."),
    "ragged": ([X[0].tolist(), [1.0]], "lists of different lengths), expected [examples, 3, 8, 8]"),
    "nothing": (None, "shape [], expected [examples, 3, 8, 8]"),
    "masked": (np.ma.masked_less(X, 0), "some entries are masked, expected [examples, 3, 8, 8]"),
    "sparse": (torch.from_numpy(X).to_sparse(), "inputs: cannot be read as an array ("),
    "without numbers": (torch.zeros(X.shape, device="meta"), "inputs: cannot be read as an array"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_the_same_sentence_everywhere(
    callers: dict[str, Callable[[Any], Any]], name: str
) -> None:
    values, message = REFUSED[name]
    said = set()
    for call in callers.values():
        with pytest.raises(InputError) as caught:
            call(values)
        said.add(str(caught.value))
    (sentence,) = said
    assert message in sentence
    assert sentence.startswith("inputs: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "name", [name for name in REFUSED if isinstance(REFUSED[name][0], np.ndarray)]
)
def test_the_command_refuses_what_the_library_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()
    gossamer.compress(model, torch.from_numpy(X), choose="engine").save(tmp_path / "n.gsm")
    np.save(tmp_path / "x.npy", np.ma.getdata(REFUSED[name][0]), allow_pickle=True)
    refused = name != "masked"  # a file has no mask
    assert main([str(tmp_path / "n.gsm"), str(tmp_path / "x.npy")]) == (2 if refused else 0)
    said = capsys.readouterr().err
    assert said.count("\n") == refused
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("given", "shape"),
    [(X[0], SHAPE), (np.moveaxis(X, 1, -1), SHAPE), (X[:, 0], (1, 8, 8)), (X[0, 0, 0], (8,))],
)
@pytest.mark.parametrize("form", [np.asarray, torch.tensor, np.ndarray.tolist])
def test_advice_on_shapes_is_right_to_the_letter(
    given: NDArray[np.float32], shape: tuple[int, ...], form: Callable[[Any], Any]
) -> None:
    advice = shape_hint(given.shape, shape).rpartition("pass ")[2]
    values = [eval(advice, {"numpy": np, "x": form(given)})]
    (found,) = as_inputs(values, [TensorSpec("input", shape)])
    size = np.prod(shape)
    expected = X if shape == SHAPE else X[:, 0] if shape == (1, 8, 8) else X[0, 0, 0]
    np.testing.assert_array_equal(found.ravel(), expected.ravel()[: len(found) * size])
