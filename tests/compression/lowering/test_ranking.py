"""What is sorted, chosen by rank, and put at computed places is PyTorch's, whole in the engine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gossamer
from gossamer.compression.onnx import export_report
from gossamer.core.errors import InputError
from gossamer.engine import Engine, available_instruction_sets, run_portable
from lowered_functions import Behind, errors, network_of


def routed(x: Tensor) -> Tensor:
    """Return numbers weighted by the two largest of each row, as experts are."""
    weights, chosen = x.softmax(-1).topk(2)
    gates = torch.zeros_like(x).scatter(-1, chosen, weights / weights.sum(-1, keepdim=True))
    kept = torch.zeros_like(x).scatter(1, x.argsort(1)[:, :2], 1.0)
    return gates * x + kept + (chosen == 1).any(-1, keepdim=True)


RANKED: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda x: x.topk(2, 1)[0][:, :, :2] + x.topk(2, -2, largest=False)[0][:, :2],
    "places": lambda x: x.gather(3, x.topk(3, 3).indices) + x.argsort(3, descending=True)[..., :3],
    "sorted": lambda x: x.sort(2)[0] + x.sort(-1, descending=True).values,
    "along": lambda x: (
        torch.take_along_dim(x, x[..., :1].argsort(2), 2).take_along_dim(x.argmax(1, True), dim=1)
        + torch.take_along_dim(x[:, :1], x[:, :, :, 1:].argsort(3), -1)[..., :1]
    ),
    "median": lambda x: x.median(1, keepdim=True)[0] + x.median(3).values[..., None],
    "of a rank": lambda x: x.kthvalue(2, 3)[0] + x.sort(3).indices[..., 1],
    "routed": routed,
}


@pytest.mark.parametrize("name", RANKED)
def test_ranks_are_pytorchs(name: str) -> None:
    example = torch.randn(3, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    assert max(errors(Behind(RANKED[name], 4), example).values()) < 2e-6


@pytest.mark.parametrize("descending", [False, True])
def test_numbers_alike_and_what_is_none_have_the_order_of_a_stable_sort(descending: bool) -> None:
    def both(x: Tensor) -> Tensor:
        found = x.sort(dim=1, descending=descending, stable=True)
        return torch.cat((found.values, found.indices.float()), 1)

    example = torch.randint(-2, 3, (9, 12, 1, 1)).float()
    network = network_of(Behind(both, 12), example)
    example[::2, [3, 7]], example[1, [0, 4]], example[2, 5] = torch.nan, torch.inf, -torch.inf
    expected = both(example).numpy()
    np.testing.assert_array_equal(
        run_portable(network, example.numpy()).reshape(expected.shape), expected
    )
    for instruction_set in available_instruction_sets():
        found = Engine(network, instruction_set)(example.numpy())
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", ["topk", "kthvalue"])
def test_ranks_that_depend_on_the_number_of_examples_stay(name: str) -> None:
    def function(x: Tensor) -> Tensor:
        found: Tensor = getattr(x.flatten(1), name)(min(len(x), 4), 1)[0]
        return found.reshape(len(x), -1)[:, :1]

    model, example = Behind(function, 4).eval(), torch.randn(3, 4, 3, 5)
    small = gossamer.compress(model, example, choose="engine", threads=1)
    for count in (1, 2, 5):
        given = torch.randn(count, 4, 3, 5)
        torch.testing.assert_close(small(given), model(given))


class Ordered(nn.Module):
    """Places of small whole numbers, of which many are alike, in their order."""

    def __init__(self, order: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 30, bias=False)
        nn.init.constant_(self.layer.weight, 1.0)
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.order(self.layer(x).round())
        return found


def test_an_order_of_equal_numbers_that_is_open_is_named_where_onnx_has_another(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match=r"'topk' orders numbers .* equal.*stable=True"):
        gossamer.export_onnx(
            Ordered(lambda x: x.topk(20).indices), torch.randn(3, 4), tmp_path / "one.onnx"
        )


def test_stable_sorts_and_what_is_taken_along_an_axis_are_exported_for_any_batch(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnxruntime")

    def order(x: Tensor) -> Tensor:
        places = x.sort(dim=1, stable=True, descending=True)[1]
        return torch.take_along_dim(x + torch.arange(30), places, 1)

    example = torch.randn(3, 4)
    report = export_report(Ordered(order).eval(), example, tmp_path / "one.onnx")
    assert report.batch is None
    assert report.difference < 1e-6


class Placed(nn.Module):
    """Numbers put at places of rows, of which some may be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found.scatter(1, places, found[:, :3] * 2)


def test_places_that_are_not_there_are_refused(tmp_path: Path) -> None:
    model = Placed().eval()
    example = (torch.randn(3, 6), torch.tensor([[0, 1, 2], [5, 5, 5], [3, 4, 3]]))
    gossamer.compress(model, example, choose="engine", threads=1).save(tmp_path / "n.gsm")
    network = gossamer.load(tmp_path / "n.gsm")
    expected = model(*example).detach()
    np.testing.assert_allclose(network(*(one.numpy() for one in example)), expected, rtol=1e-5)
    for place in (6, -1):  # PyTorch refuses both
        example[1][1, 1] = place
        with pytest.raises(InputError, match=f"a computed place is {place}, expected a whole"):
            network(*(one.numpy() for one in example))
