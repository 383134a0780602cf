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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gossamer.data import load

Pair = tuple[Tensor, Tensor]
_SHIFT = 4
"""Pixels by which an image is shifted at most."""


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


class Varied(Dataset[Pair]):
    """Images that are mirrored and shifted at random, another way at each reading."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.rows, self.columns = images.shape[2:]
        self.images = functional.pad(images, (_SHIFT, _SHIFT, _SHIFT, _SHIFT))
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Pair:
        """Return an image [channels, rows, columns] and its label."""
        top, left = torch.randint(0, 2 * _SHIFT + 1, (2,)).tolist()
        image = self.images[index, :, top : top + self.rows, left : left + self.columns]
        return image.flip(2) if torch.rand(()) < 0.5 else image, self.labels[index]


def cifar10() -> dict[str, Any]:
    """Return CIFAR-10, of whose training examples 10,000 are for validation."""
    parts = _parts("cifar10", (0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
    return {**parts, "train": Varied(*parts["train"])}


def fashion() -> dict[str, Any]:
    """Return Fashion-MNIST, of whose training examples 10,000 are for validation."""
    return _parts("fashion-mnist", (0.286,), (0.353,))


def _parts(name: str, mean: tuple[float, ...], deviation: tuple[float, ...]) -> dict[str, Any]:
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


def train(network: nn.Module, data: dict[str, Any], epochs: int) -> None:
    """Train as is usual, in bfloat16 where the processor has it."""
    examples = data["train"]
    if not isinstance(examples, Dataset):
        examples = TensorDataset(*examples)
    loader = DataLoader(examples, batch_size=128, shuffle=True, drop_last=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(), 0.2, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, epochs * len(loader))
    quicker = torch.backends.cpu.get_cpu_capability() == "AVX512"
    network.train()
    for epoch in range(epochs):
        for images, labels in loader:
            batch = images.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=quicker):
                loss = functional.cross_entropy(network(batch), labels)
            loss.backward()  # type: ignore[no-untyped-call]
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
