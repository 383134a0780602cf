"""Shrink networks of tokens: rows of images, and words of which some are padding.

python examples/shrink_tokens.py rows fashion-mnist
python examples/shrink_tokens.py words
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.data import load

VOCABULARY, LONGEST, WIDTH = 50, 16, 32


class Block(nn.Module):
    """A layer of a transformer."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, kept: Tensor | None) -> Tensor:
        """Return as many tokens as are given, [examples, tokens, width]."""
        y = self.first(x)
        query, key, value = (
            one(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for one in (self.query, self.key, self.value)
        )
        mask = None if kept is None else kept[:, None, None, :]
        seen = functional.scaled_dot_product_attention(query, key, value, mask)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        found: Tensor = x + self.narrow(functional.gelu(self.wide(self.second(x))))
        return found


class Tokens(nn.Module):
    """A few layers, and the mean of what they give for the tokens that count."""

    def __init__(self, embedding: nn.Module, length: int, classes: int, layers: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.place = nn.Parameter(0.1 * torch.randn(length, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH) for _ in range(layers))
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, tokens: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return logits [examples, classes]; tokens that are not kept are padding."""
        inside = self.embedding(tokens) + self.place
        for block in self.blocks:
            inside = block(inside, kept)
        if kept is None:
            mean = inside.mean(1)
        else:
            weights = kept.float().unsqueeze(2)
            mean = (inside * weights).sum(1) / weights.sum(1)
        found: Tensor = self.head(mean)
        return found


def rows(name: str = "fashion-mnist", layers: int = 2) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network and data whose tokens are the rows of images."""
    found = load(name)
    x, y = torch.tensor(found.x_train)[:, 0] / found.scale, torch.tensor(found.y_train)
    held = len(x) // 4
    data = {
        "train": (x[held:], y[held:]),
        "validation": (x[:held], y[:held]),
        "test": (torch.tensor(found.x_test)[:, 0] / found.scale, torch.tensor(found.y_test)),
    }
    return Tokens(nn.Linear(x.shape[2], WIDTH), x.shape[1], 10, layers), data


def words(count: int = 12_000, layers: int = 2) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network and texts of several lengths that tell which half most words are of."""
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, VOCABULARY, (count, LONGEST), generator=random)
    kept = torch.arange(LONGEST) < torch.randint(3, LONGEST + 1, (count, 1), generator=random)
    tokens = tokens * kept
    labels = (2 * ((tokens <= VOCABULARY // 2) & kept).sum(1) > kept.sum(1)).long()
    places = {"train": slice(0, count // 2), "validation": slice(count // 2, -count // 6),
              "test": slice(-count // 6, None)}  # fmt: skip
    data = {name: ((tokens[at], kept[at]), labels[at]) for name, at in places.items()}
    return Tokens(nn.Embedding(VOCABULARY, WIDTH), LONGEST, 2, layers), data


def train(network: nn.Module, data: dict[str, Any], epochs: int) -> None:
    """Train a dense network, as you have done already with yours."""
    inputs, labels = data["train"]
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(epochs):
        for some in torch.split(torch.randperm(len(labels)), 100):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(*(one[some] for one in given)), labels[some])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def main() -> None:
    """Train and shrink one of the two."""
    torch.manual_seed(0)
    network, data = words() if sys.argv[1] == "words" else rows(sys.argv[2])
    train(network, data, 10)
    found = gossamer.shrink(network, data, max_drop=0.01, epochs=15, out="small", follow=print)
    print(found)


if __name__ == "__main__":
    main()
