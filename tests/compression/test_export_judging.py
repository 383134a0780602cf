"""Whether a file's answers are taken for the network's: up to rounding, and what it decides."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gossamer.compression.exporting.answers import Answers
from gossamer.compression.exporting.judging import Answer, judge
from gossamer.compression.onnx import export_report
from gossamer.graph.arguments import Arguments


def given(inputs: Tensor) -> Arguments:
    return Arguments.of(nn.Identity(), inputs)


def test_half_precision_is_judged_by_what_rounding_does_to_it() -> None:
    """A share of 1e-3 of the output is rounding in float16, and a fault in float32."""
    exact = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    for dtype, right in ((torch.float16, True), (torch.float32, False)):
        answer = Answer(given(exact.to(dtype)), [exact.to(dtype)], [exact])
        verdict = judge([[(exact + 1e-3).to(dtype)]], [answer], ["output"], dtype)
        assert (verdict.problem == "") == right


@pytest.mark.parametrize(
    ("found", "right"),
    [((1, 2, 3), True), ((1, 5, 3), True), ((1, 2, 9), True), ((5, 2, 3), False)],
)
def test_whole_numbers_differ_only_where_rounding_decides(
    found: tuple[int, ...], right: bool
) -> None:
    """Float64 decides the last otherwise, and numbers moved by rounding the one in the middle."""
    plain, exact, moved = torch.tensor([[1, 2, 3], [1, 2, 9], [1, 5, 3]])
    answer = Answer(given(torch.ones(3, 1)), [plain], [exact], [[moved]])
    verdict = judge([[torch.tensor(found)]], [answer], ["output"], torch.float32)
    assert verdict.problem == ("" if right else (
        "for a batch of 3, 1 of 3 entries of 'output' differ, though not by rounding"
    ))  # fmt: skip


@pytest.mark.parametrize(("wrong", "right"), [(1e-4, True), (1e-3, False), (0.3, False)])
def test_float64_is_no_reference_where_the_network_computes_something_else_in_it(
    wrong: float, right: bool
) -> None:
    plain = torch.linspace(-1, 1, 50)
    answer = Answer(given(torch.ones(50, 1)), [plain], [plain.double() * 1.1])
    verdict = judge([[plain + wrong]], [answer], ["output"], torch.float32)
    assert (verdict.problem == "") == right


class Deciding(nn.Module):
    """A linear layer, and what a function decides by its output."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(6, 4), function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(self.layer(inputs))


DECIDING: dict[str, Callable[[Tensor], Tensor]] = {
    "rounding": lambda y: (y * 4).round() / 4,
    "comparing": lambda y: y > 0,
    "the largest": lambda y: y.argmax(1),
    "sorting": lambda y: y.topk(3).indices,
    "truncating": lambda y: (y * 8).to(torch.int8),
}


@pytest.mark.parametrize("kind", DECIDING)
def test_what_rounding_decides_may_differ_and_nothing_else(kind: str, tmp_path: Path) -> None:
    """Many numbers of the first two examples lie on a border, and none of the third."""
    network = Deciding(DECIDING[kind]).eval()
    row = torch.tensor([0.1, 0.2, -0.3, 0.7, 0.1, -0.8])
    with torch.no_grad():
        network.layer.weight.copy_(torch.tensor([1, -1, 0.5, 2])[:, None] * row)
        network.layer.bias.fill_(0.125)
    inputs = torch.ones(3, 6)
    inputs[2] = torch.arange(1.0, 7.0)
    report = export_report(network, inputs, tmp_path / "network.onnx")
    assert report.batch is None
    with torch.no_grad():
        plain, opposite = network(inputs), network.function(-network.layer(inputs))
    example = Arguments.of(network, inputs)
    answer = Answers(network, example).with_nearby([Answer(example, [plain], None)])[0]
    for one in answer.nearby:
        assert not judge([one], [answer], ["output"], torch.float32).problem
    wrong = torch.cat([plain[:2], opposite[2:]])
    assert judge([[wrong]], [answer], ["output"], torch.float32).problem


def test_an_answer_that_overflows_as_the_networks_does_is_right() -> None:
    plain, exact = torch.tensor([torch.inf, 1.0]).half(), torch.tensor([1e5, 1.0]).double()
    answer = Answer(given(torch.ones(2, 1).half()), [plain], [exact])
    assert not judge([[plain]], [answer], ["output"], torch.float16).problem
    wrong = torch.tensor([torch.inf, torch.inf]).half()
    assert judge([[wrong]], [answer], ["output"], torch.float16).problem
