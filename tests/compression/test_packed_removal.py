"""Hidden units of recurrent layers over packed sequences go, and what reads them goes with them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gossamer


class Padded(nn.Module):
    """Packed between two layers, and padded again."""

    def __init__(self, layer: nn.RNNBase, *, last: bool = False, fill: float = 0.0) -> None:
        super().__init__()
        self.before, self.layer = nn.Linear(4, 6), layer
        self.after = nn.Linear(8 * (2 if layer.bidirectional else 1), 3)
        self.last, self.fill = last, fill

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        steps = self.before(x).relu()
        packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
        found, ends = self.layer(packed)
        if self.last:
            end = ends[0] if isinstance(ends, tuple) else ends
            last: Tensor = self.after(end[-1])
            return last
        padded, _ = pad_packed_sequence(
            found, batch_first=True, padding_value=self.fill, total_length=x.shape[1]
        )
        every: Tensor = self.after(padded)
        return every


@pytest.mark.parametrize(
    ("model", "hidden"),
    [
        (Padded(nn.LSTM(6, 8, batch_first=True, bidirectional=True)), 4),
        (Padded(nn.GRU(6, 8, batch_first=True), last=True), 4),
        (Padded(nn.GRU(6, 8, batch_first=True), fill=0.5), 8),  # which is read where it is padded
    ],
)
def test_units_go_and_answers_stay(model: Padded, hidden: int) -> None:
    example = (torch.randn(4, 5, 4), torch.tensor([3, 5, 1, 4]))
    gossamer.prune(
        model.eval(),
        0.5,
        pattern="unit",
        allocation="uniform",
        exclude="output layer",
        example=example,
    )
    small = gossamer.compact(model, example)
    assert isinstance(small, Padded)
    assert small.layer.hidden_size == hidden
    assert small.layer.input_size == small.before.out_features == 3
    for lengths in ([3, 5, 1, 4], [5, 5, 5, 5], [1, 2, 3, 4]):
        given = (torch.randn(4, 5, 4), torch.tensor(lengths))
        torch.testing.assert_close(small(*given), model(*given), rtol=1e-5, atol=1e-6)
