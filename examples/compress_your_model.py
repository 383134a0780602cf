"""Make a network of your own smaller and faster: prune, fine-tune, compress, save, load.

Trains a residual network on the digits, removes 90% of its weights, and compares what PyTorch and
gossamer take for a batch.

    python examples/compress_your_model.py [FOLDER]     # half a minute on one core
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import gossamer

SPARSITY = 0.9
BATCH = 64


class Network(nn.Module):
    """Two convolutions around a residual connection; nothing of it knows of gossamer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(64)
        self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.output = nn.Linear(64 * 4 * 4, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, 10] for images [batch, 1, 8, 8]."""
        stem = functional.relu(self.stem_norm(self.stem(images)))
        hidden = functional.relu(stem + self.norm(self.conv(stem)))
        logits: Tensor = self.output(functional.max_pool2d(hidden, 2).flatten(1))
        return logits


def main(folder: Path) -> None:
    """Train, prune, fine-tune, compress, save, load, and say what came out."""
    torch.manual_seed(0)
    train_images, test_images, train_labels, test_labels = digits()
    model = Network()
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, train_images, train_labels, epochs=5)
    with torch.no_grad():
        print(f"dense: {accuracy(model(test_images), test_labels):.1%}")

    mask = gossamer.prune(model, SPARSITY)
    mask.enforce(model, optimizer)
    train(model, optimizer, train_images, train_labels, epochs=5)
    with torch.no_grad():
        masked = model(test_images)
    print(f"{mask.sparsity:.0%} sparse: {accuracy(masked, test_labels):.1%}")

    small = gossamer.compress(model, test_images[:BATCH])
    print(small.report())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits.gsm"
    small.save(path)

    loaded = gossamer.load(path)  # here and below, NumPy is all it takes
    predicted = loaded(test_images.numpy())
    print(f"{path}: {path.stat().st_size:,} bytes, {accuracy(predicted, test_labels):.1%}")
    dense, fast = small.timings["dense"].median, small.timings[small.choice].median
    print(f"a batch of {BATCH}: {dense * 1e3:.2f} ms dense, {fast * 1e3:.2f} ms compressed")
    difference = np.abs(predicted - masked.numpy()).max() / np.abs(masked.numpy()).max()
    print(f"largest difference from the masked model: {difference:.0e}")


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images [n, 1, 8, 8] and labels [n] for training and testing."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    parts = train_test_split(images, labels, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, parts)
    return train_images, test_images, train_labels, test_labels


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    epochs: int,
) -> None:
    """Train as you always do; the mask needs nothing here. Ends in evaluation mode."""
    model.train()
    for _ in range(epochs):
        for some, wanted in DataLoader(TensorDataset(images, labels), BATCH, shuffle=True):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(some), wanted)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.eval()


def accuracy(logits: ArrayLike, labels: Tensor) -> float:
    """Return the share of images that are classified as they should be."""
    return float((np.asarray(logits).argmax(axis=1) == labels.numpy()).mean())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/compress-your-model"))
