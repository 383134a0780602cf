"""What candidates are held against: PyTorch's dense network in the layout that is faster."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.compression import Compressed, compress
from gossamer.shrinking import costs
from gossamer.shrinking.costs import FEW, Meter, in_faster_layout, meter_of
from gossamer.shrinking.options import options_of


def images() -> Tensor:
    return torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def seeing(model: nn.Sequential, seen: list[bool]) -> nn.Sequential:
    """Note of each call whether its images lay channels last."""

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].is_contiguous(memory_format=torch.channels_last))

    model[0].register_forward_pre_hook(note)
    return model


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2)).eval()


@pytest.mark.parametrize("last_is_faster", [True, False])
def test_the_dense_network_runs_in_the_layout_that_is_faster(
    last_is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    model = seeing(convolutional(), seen)

    def times(_: Meter, calls: Sequence[Callable[[], object]], __: float) -> list[float]:
        found = []
        for call in calls:
            call()
            found.append(1.0 if seen[-1] == last_is_faster else 2.0)
        return found

    monkeypatch.setattr(Meter, "timed", times)
    meter = in_faster_layout(Meter(model, images(), "latency", 1))
    answer = meter.in_pytorch(images())()
    assert seen[-1] == last_is_faster
    with torch.no_grad():
        assert isinstance(answer, Tensor)
        torch.testing.assert_close(answer, model(images()), rtol=1e-5, atol=1e-6)


def test_what_takes_no_images_stays_as_it_is() -> None:
    linear = nn.Linear(6, 2).eval()
    meter = meter_of(linear, torch.ones(8, 6), options_of())
    assert meter.layout == torch.contiguous_format
    one, other = meter.in_pytorch(torch.ones(8, 6))(), linear(torch.ones(8, 6))
    assert isinstance(one, Tensor)
    assert torch.equal(one, other)


class Viewing(nn.Module):
    """A network that takes batches of one size alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.layer = size, nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x.view(self.size if len(x) != 2 else 2, 6))
        return found


def test_a_candidate_is_timed_on_the_batch_that_counts_though_few_compress_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def compressed(model: nn.Module, example: Tensor, **asked: Any) -> Compressed:
        seen.append(len(example))
        return compress(model, example, **asked)

    monkeypatch.setattr(costs, "compress", compressed)
    torch.manual_seed(0)
    for model, expected in ((nn.Linear(6, 2), [FEW]), (Viewing(8), [FEW, 8])):
        seen.clear()
        meter = Meter(model.eval(), torch.ones(8, 6), "latency", 1)
        ((cost, speed_up),) = meter.in_turn([model], 0.01)
        assert seen == expected
        assert cost > 0
        assert speed_up > 0
