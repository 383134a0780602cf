from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine import Shape, TensorSpec
from gossamer.runtime.examples import check_finite, open_inputs


def open_examples(path: Path, shape: Shape) -> NDArray[Any]:
    (found,) = open_inputs(path, [TensorSpec("input", shape)])
    return found


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00\x76\x00" + text.encode().ljust(117) + b"\n"


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_examples_are_read_as_they_are(
    tmp_path: Path, dtype: str, order: Literal["C", "F"]
) -> None:
    path = tmp_path / "x.npy"
    expected = np.arange(24).reshape(4, 2, 3).astype(dtype)
    np.save(path, expected.copy(order))
    np.testing.assert_array_equal(open_examples(path, (2, 3)), expected)


def test_no_examples_are_examples(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((0, 3), np.float32))
    assert open_examples(tmp_path / "x.npy", (3,)).shape == (0, 3)


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b"hello, world", "is no .npy file"),
        (b"PK\x03\x04...", "is an .npz archive, expected an .npy file"),
        (b"\x93NUMPY", "is damaged"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "is damaged"),
        (
            header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 3), }") + b"x" * 24,
            "Python",
        ),
        (header("("), "is damaged"),
        (header("[" * 100), "is damaged"),
        (header(FLOATS % "(1, 3L)") + bytes(12), "is damaged"),
        (header(FLOATS % "(1, 3)") + bytes(11), "not whole"),
        (header(FLOATS % "(1000000000000, 3)"), "not whole"),
        (header(FLOATS % "(99999999999999999999999, 3)") + bytes(12), "is damaged"),
        (header(FLOATS % "(-1, 3)") + bytes(12), "is damaged"),
        (header(FLOATS % "(3,)") + bytes(12), "has shape [3], expected"),
        (header(FLOATS % "()") + bytes(12), "has shape []"),
        (header(FLOATS % "(2, 4)") + bytes(32), "has shape [2, 4]"),
        (
            header((FLOATS % "(2, 3)").replace("<f4", "|u1")) + bytes(6),
            "numpy.asarray(x, 'float32') / 255",
        ),
        (header((FLOATS % "(1, 3)").replace("<f4", "<c8")) + bytes(24), "type complex64"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_examples(path, (3,))
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        open_examples(tmp_path / "none.npy", (3,))
    with pytest.raises(InputError, match="is a folder"):
        open_examples(tmp_path, (3,))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -3.5e38])
def test_the_example_that_is_not_finite_is_named(tmp_path: Path, bad: float) -> None:
    examples = np.zeros((4, 2, 3))
    check_finite(tmp_path, examples, 100)
    check_finite(tmp_path, examples[:0], 100)
    examples[2, 1, 1] = bad
    with pytest.raises(InputError, match="example 102 holds NaN or infinite"):
        check_finite(tmp_path, examples, 100)
