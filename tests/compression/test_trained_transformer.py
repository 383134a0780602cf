"""A small transformer that was trained and pruned says the same in PyTorch and from its file."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.data.catalog import load


class Rows(nn.Module):
    """Reads the rows of an image one after the other, as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Linear(8, 32), nn.Parameter(torch.zeros(8, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.encoder(self.embedding(inputs) + self.positions)
        return self.head(found.mean(1))  # type: ignore[no-any-return]


def train(model: nn.Module, images: Tensor, labels: Tensor, mask: gossamer.Mask | None) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 0.005)
    if mask is not None:
        mask.enforce(model, optimizer)
    for _ in range(4):
        for part in torch.split(torch.randperm(len(images)), 64):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[part]), labels[part]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def rows(images: NDArray[np.generic], scale: float) -> Tensor:
    return torch.from_numpy(images.astype(np.float32) / scale).reshape(-1, 8, 8)


def test_a_trained_transformer_predicts_the_same_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    digits, model = load("digits"), Rows()
    images, labels = rows(digits.x_train, digits.scale), torch.from_numpy(digits.y_train.copy())
    tests = rows(digits.x_test, digits.scale)
    train(model, images, labels, None)
    train(model, images, labels, gossamer.prune(model, 0.7, example=images[:2]))
    with torch.no_grad():
        expected = model.eval()(tests).numpy()
    gossamer.compress(model, tests[:16], choose="engine").save(tmp_path / "n.gsm")
    found = gossamer.load(tmp_path / "n.gsm")(tests.numpy())
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).all()
    assert (found.argmax(1) == digits.y_test).mean() > 0.8
