"""Places of extremes are whole numbers, and those that PyTorch finds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

import gossamer
from gossamer.compression.lowering.parts import divide
from gossamer.compression.lowering.tracing import trace
from gossamer.engine import Engine, Network, run_portable
from gossamer.engine.ops.reduce import Reduce, ReductionName

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(lambda sizes: (2, *sizes))
NUMBERS = st.sampled_from([-np.inf, -1.5, -1.0, -0.0, 0.0, 1e-45, 1.0, 3e38, np.inf, np.nan])


@settings(deadline=None)
@given(
    numbers=SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=NUMBERS)),
    axis=st.integers(0, 3),
    name=st.sampled_from(["argmax", "argmin"]),
)
def test_places_are_the_first_of_those_alike_and_of_the_first_nan(
    numbers: np.ndarray, axis: int, name: ReductionName
) -> None:
    axis %= numbers.ndim - 1
    network = Network(numbers.shape[1:], (Reduce(0, name, (axis,)),), 1)
    expected = getattr(torch.from_numpy(numbers), name)(axis + 1, keepdim=True).numpy()
    np.testing.assert_array_equal(run_portable(network, numbers), expected)
    np.testing.assert_array_equal(Engine(network)(numbers), expected)


class Places(nn.Module):
    """What is found of truth values and of numbers behind a layer that changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.layer(x).detach()
        values, places = y.max(2)
        return {
            "values": values,
            "places": places,
            "least": y.argmin(1, keepdim=True),
            "flat": y.flatten(1).argmax(1),
            "both": y.min(-1)[1] == y.argmin(-1),
            "any": (y > 1).any(2),
            "all": (y > 0).all((1, 2)),
            "many": (y > 0).sum(1),
            "first": (y > 0).int().argmax(2),
        }


def test_places_and_truths_keep_their_types_in_files_and_in_onnx(tmp_path: Path) -> None:
    model = Places().eval()
    example = torch.randn(3, 5, 4).round()  # of which many are alike
    example[0] = example[0].abs() + 1
    expected = model(example)
    small = gossamer.compress(model, example, choose="engine")
    assert not small.remaining
    small.save(tmp_path / "places.gsm")
    loaded = gossamer.load(tmp_path / "places.gsm")(example.numpy())
    for name, wanted in expected.items():
        for found in (loaded[name], small(example)[name].numpy()):
            assert found.dtype == wanted.numpy().dtype
            np.testing.assert_array_equal(found, wanted.numpy())


def test_places_are_whole_numbers_in_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model, example = Places().eval(), torch.randn(3, 5, 4)
    gossamer.export_onnx(model, example, tmp_path / "places.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "places.onnx")
    found = session.run(None, {"input": example.numpy()})
    for name, wanted in model(example).items():
        at = [output.name for output in session.get_outputs()].index(name)
        assert found[at].dtype == wanted.numpy().dtype
        np.testing.assert_array_equal(found[at], wanted.numpy())


def test_truth_values_are_not_added_up_as_numbers_where_float32_would_round() -> None:
    class Counted(Places):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            truths: Tensor = self.layer(x) > 0
            return truths[..., :1].expand(-1, -1, 2**24).sum(2)

    (rest,) = divide(trace(Counted().eval(), torch.ones(2, 2, 4)).graph).rest
    assert "sum" in rest


class Counted(nn.Module):
    """How many numbers of each row are above 0, and which rows have one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        above = rows > 0
        counts, sums = above.sum(2), above.float().sum((1, 2))
        whole = above.int().sum(2).type_as(rows) + above.int().cumsum(2)[..., -1]
        return self.layer(x), counts, counts == 1, sums == 41, whole


def test_counts_are_whole_whatever_the_length_of_what_is_counted() -> None:
    for length in (41, 47, 107):  # of which the mean of one, times the length, is not 1
        rows = torch.full((3, 3, length), -1.0)
        rows[:, 0, 0] = rows[:, 1, :40] = rows[2, 2] = 1
        model, example = Counted().eval(), (torch.randn(3, 4), rows)
        small = gossamer.compress(model, example, choose="engine", threads=1)
        assert not small.remaining
        for found, expected in zip(small(*example)[1:], model(*example)[1:], strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
