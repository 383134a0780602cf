"""Networks that ask something of a mask are followed for masks that hide something, and nothing."""

import torch
from torch import Tensor, nn

from gossamer.compression import compaction_report


class Asking(nn.Module):
    """Goes another way where a mask hides nothing, by other units of the same layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.plain, self.hidden = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        found = self.first(x).relu()
        if bool(mask.bool().all()):
            plain: Tensor = self.plain(found).sum(1)
            return plain
        kept = torch.where(mask[..., None] > 0, found, 0.0)
        hidden: Tensor = self.hidden(kept).sum(1)
        return hidden


def test_units_go_that_neither_way_reads() -> None:
    model = Asking().eval()
    with torch.no_grad():
        model.plain.weight[:, [1, 2, 3]] = 0
        model.hidden.weight[:, [2, 3, 4]] = 0
    example = (torch.randn(3, 5, 4), torch.tensor([[1, 1, 1, 1, 0]]).repeat(3, 1))
    report = compaction_report(model, example)
    assert report.asked == "bool"
    assert not report.unfollowed
    small = report.network
    assert isinstance(small, Asking)
    assert small.first.out_features == 6  # what both leave unread is gone
    for mask in (example[1], torch.ones_like(example[1])):
        torch.testing.assert_close(small(example[0], mask), model(example[0], mask))


class AskingNumbers(Asking):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        found = self.first(x).relu()
        if bool(((found.mean() > 0) | (mask > 1)).all()):
            plain: Tensor = self.plain(found).sum(1)
            return plain
        hidden: Tensor = self.hidden(found).sum(1)
        return hidden


def test_a_network_that_asks_real_numbers_is_kept_whole() -> None:
    model = AskingNumbers().eval()
    with torch.no_grad():
        model.plain.weight[:, 1:4] = 0
    report = compaction_report(model, (torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.int64)))
    assert report.unfollowed
    assert not report.shrinks


def test_an_example_that_hides_nothing_is_followed_by_one_that_does() -> None:
    model = Asking().eval()
    with torch.no_grad():
        model.plain.weight[:, [1, 2, 3]] = 0
        model.hidden.weight[:, [2, 3, 4]] = 0
    whole = torch.ones(3, 5, dtype=torch.int64)
    small = compaction_report(model, (torch.randn(3, 5, 4), whole)).network
    assert isinstance(small, Asking)
    assert small.first.out_features == 6
    for mask in (whole, torch.tensor([[1, 0, 1, 1, 0]]).repeat(3, 1)):
        inputs = torch.randn(3, 5, 4)
        torch.testing.assert_close(small(inputs, mask), model(inputs, mask))


class AskingWords(Asking):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        found = self.first(x).relu()
        if bool((mask == 0).any()):
            plain: Tensor = self.plain(found).sum(1)
            return plain
        hidden: Tensor = self.hidden(found).sum(1)
        return hidden


def test_a_network_that_asks_words_is_kept_whole() -> None:
    model = AskingWords().eval()
    with torch.no_grad():
        model.plain.weight[:, 1:4] = 0
        model.hidden.weight[:, 4:7] = 0
    example = (torch.randn(3, 5, 4), torch.tensor([[3, 1, 2, 5, 7]]).repeat(3, 1))
    report = compaction_report(model, example)
    assert report.unfollowed
    assert not report.shrinks
