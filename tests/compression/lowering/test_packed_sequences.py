"""Packed sequences of any lengths give what PyTorch gives, whole in the engine, or say why not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import gossamer
from gossamer.compression.lowering.rewriting import divided
from gossamer.engine import Engine, run_portable_all

STEPS = 7
KINDS = {
    "lstm": nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True),
    "gru": nn.GRU(4, 5, 2, batch_first=True, bidirectional=True),
    "tanh": nn.RNN(4, 5, batch_first=True, bidirectional=True),
    "relu": nn.RNN(4, 5, nonlinearity="relu", bidirectional=True),
    "without biases": nn.RNN(4, 5, bias=False, bidirectional=True),
    "one way": nn.LSTM(4, 5),
}


class Packed(nn.Module):
    """Padded steps and the last states of a layer over packed sequences in any order."""

    def __init__(self, layer: nn.RNNBase, *, given: bool = False) -> None:
        super().__init__()
        self.layer, self.given = layer, given
        self.first = nn.Linear(4, 5)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        first = self.layer.batch_first
        steps = x if first else x.transpose(0, 1)
        packed = pack_padded_sequence(steps, lengths, first, enforce_sorted=False)
        states = (self.first(x[:, 0])[None], self.first(x[:, 1])[None]) if self.given else None
        found, last = self.layer(packed, states)
        padded, _ = pad_packed_sequence(found, first, padding_value=0.5, total_length=STEPS)
        ends = last if isinstance(last, tuple) else (last,)
        return padded if first else padded.transpose(0, 1), *(one.transpose(0, 1) for one in ends)


def lengths_of(count: int, seed: int) -> Tensor:
    return torch.randint(1, STEPS + 1, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_gives_what_it_gives_in_pytorch(kind: str) -> None:
    model = Packed(KINDS[kind]).eval()
    traced, division = divided(model, (torch.randn(3, STEPS, 4), torch.tensor([2, 7, 4])))
    whole = division.whole(traced.graph)
    assert whole is not None
    x, lengths = torch.randn(9, STEPS, 4) * 5, lengths_of(9, 1)
    with torch.no_grad():
        expected = model.double()(x.double(), lengths)
    model.float()
    inputs = [x.numpy()[:, :, None], lengths.numpy()[:, None]]
    inputs = [
        one.reshape(9, *shape) for one, shape in zip(inputs, whole.network.inputs, strict=True)
    ]
    for found in (Engine(whole.network).run(inputs), run_portable_all(whole.network, inputs)):
        for one, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.reshape(wanted.shape), wanted, rtol=0, atol=2e-6)


def test_first_states_lengths_beyond_the_end_and_files(tmp_path: Path) -> None:
    model = Packed(nn.LSTM(4, 5, batch_first=True), given=True).eval()
    example = (torch.randn(3, STEPS, 4), torch.tensor([2, 7, 4]))
    small = gossamer.compress(model, example, choose="engine", threads=1)
    assert not small.remaining
    small.save(tmp_path / "packed.gsm")
    loaded = gossamer.load(tmp_path / "packed.gsm")
    x, lengths = torch.randn(6, STEPS, 4), lengths_of(6, 2)
    for found in (small(x, lengths), loaded(x.numpy(), lengths.numpy())):
        for one, wanted in zip(found, model(x, lengths), strict=True):
            np.testing.assert_allclose(one, wanted.detach(), rtol=0, atol=1e-6)
    beyond = small(x, lengths.clone().fill_(STEPS + 3))
    for one, wanted in zip(beyond, model(x, lengths.fill_(STEPS)), strict=True):
        np.testing.assert_allclose(one, wanted.detach(), rtol=0, atol=1e-6)


class OfItsOwnLength(Packed):
    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return (pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0],)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (OfItsOwnLength(nn.GRU(4, 5, batch_first=True)), "give it total_length"),
        (Packed(nn.LSTM(4, 5, batch_first=True, proj_size=2)), "with projections stay in PyTorch"),
    ],
)
def test_what_stays_in_pytorch_says_what_to_pass(model: Packed, reason: str) -> None:
    example = (torch.randn(3, STEPS, 4), torch.tensor([2, 7, 4]))
    small = gossamer.compress(model.eval(), example, choose="engine", threads=1)
    assert small.choice == "dense"
    assert reason in small.remaining[0]
    with torch.no_grad():
        for found, wanted in zip(small(*example), model(*example), strict=True):
            torch.testing.assert_close(found, wanted)
