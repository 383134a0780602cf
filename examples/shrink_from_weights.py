"""Networks of one's own from weights in a file: train them, then shrink them by a command.

python examples/shrink_from_weights.py resnet20 resnet20.pt
gossamer shrink examples/shrink_from_weights.py:resnet20 --weights resnet20.pt \
    --data examples/shrink_from_weights.py:cifar10 --max-drop 0.01 --out resnet20-small

python examples/shrink_from_weights.py clothes clothes.pt
gossamer shrink examples/shrink_from_weights.py:clothes --weights clothes.pt \
    --data examples/shrink_from_weights.py:fashion --max-drop 0.005 --out clothes-small

The folder GOSSAMER_DATA holds the data; EXAMPLES=10000 takes so many of the training examples.
"""

import os
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.data import load

Parts = dict[str, tuple[Tensor, Tensor]]


class Residual(nn.Module):
    """Two convolutions, and what they are given added to what they give."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return [examples, width, rows / stride, columns / stride]."""
        inside = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inside)) + self.shortcut(x))


class ResNet(nn.Module):
    """A network of residual blocks for small images (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, classes: int) -> None:
        super().__init__()
        first = widths[0]
        self.conv = nn.Conv2d(channels, first, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(first)
        layers: list[nn.Module] = []
        before = first
        for number, width in enumerate(widths):
            for block in range(blocks):
                layers.append(Residual(before, width, 2 if number and not block else 1))
                before = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [examples, classes]."""
        inside = self.layers(functional.relu(self.norm(self.conv(x))))
        found: Tensor = self.head(inside.mean((2, 3)))
        return found


def resnet20() -> nn.Module:
    """Return the network of 20 layers for CIFAR-10."""
    return ResNet(3, (16, 32, 64), 3, 10)


def clothes() -> nn.Module:
    """Return a smaller one for Fashion-MNIST."""
    return ResNet(1, (16, 32), 1, 10)


def cifar10() -> Parts:
    """Return CIFAR-10, of whose training examples 10,000 are for validation."""
    return _parts("cifar10", (0.491, 0.482, 0.447), (0.247, 0.243, 0.262))


def fashion() -> Parts:
    """Return Fashion-MNIST, of whose training examples 10,000 are for validation."""
    return _parts("fashion-mnist", (0.286,), (0.353,))


def _parts(name: str, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Parts:
    found = load(name)

    def ready(images: Tensor) -> Tensor:
        middle, spread = (torch.tensor(one).reshape(1, -1, 1, 1) for one in (mean, deviation))
        return (images.float() / 255 - middle) / spread

    x, y = torch.tensor(found.x_train), torch.tensor(found.y_train)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    count = int(os.environ.get("EXAMPLES", len(x) - 10_000))
    train, validation = order[:count], order[-10_000:]
    return {
        "train": (ready(x[train]), y[train]),
        "validation": (ready(x[validation]), y[validation]),
        "test": (ready(torch.tensor(found.x_test)), torch.tensor(found.y_test)),
    }


def train(network: nn.Module, data: Parts, epochs: int) -> None:
    """Train as is usual, with images that may be mirrored."""
    inputs, targets = data["train"]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
    steps = epochs * (len(inputs) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    network.train()
    for epoch in range(epochs):
        for some in torch.randperm(len(inputs))[: steps // epochs * 64].reshape(-1, 64):
            batch = inputs[some].contiguous(memory_format=torch.channels_last)
            batch = batch.flip(3) if torch.rand(()) < 0.5 else batch
            optimizer.zero_grad()
            functional.cross_entropy(network(batch), targets[some]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}", flush=True)


def main() -> None:
    """Train one of the networks and keep its weights."""
    which, path = sys.argv[1:3]
    build, load_data = {"resnet20": (resnet20, cifar10), "clothes": (clothes, fashion)}[which]
    torch.manual_seed(0)
    network = build()
    train(network, load_data(), int(os.environ.get("EPOCHS", "10")))
    torch.save(network.state_dict(), path)


if __name__ == "__main__":
    main()
