"""The smaller module is the same when it is loaded, and the deployed network when it runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gossamer
from gossamer.core.errors import InputError
from gossamer.shrinking import load_shrunk
from gossamer.shrinking.equality import compared
from gossamer.shrinking.loading import save_shrunk
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification


class Depthwise(nn.Module):
    """Odd numbers of channels, a convolution in groups, a normalisation, a branch."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.each = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.last = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = torch.relu(self.norm(self.first(x)))
        found: torch.Tensor = self.last((inside + self.each(inside)).mean((2, 3)))
        return found


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    model = Depthwise()
    model(torch.randn(8, 1, 6, 6))  # moves the statistics
    example = torch.randn(4, 1, 6, 6)
    gossamer.prune(model.eval(), 0.6, pattern="unit", exclude="output layer", example=example)
    return gossamer.compact(model, example)


def test_a_narrower_network_is_loaded_without_a_pickle(small: nn.Module, tmp_path: Path) -> None:
    save_shrunk(small, tmp_path / "model.safetensors")
    fresh = Depthwise()
    loaded = load_shrunk(fresh, tmp_path / "model.safetensors")
    inputs = torch.randn(5, 1, 6, 6)
    assert torch.equal(loaded(inputs), small(inputs))
    assert isinstance(loaded, Depthwise)
    assert loaded.each.groups == loaded.first.out_channels < 12
    assert fresh.first.out_channels == 12
    optimizer = torch.optim.SGD(loaded.parameters(), 0.1)
    loaded.train()(inputs).sum().backward()
    optimizer.step()


class Tied(nn.Module):
    """One weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(torch.relu(self.first(x)))
        return found


def test_tied_weights_are_tied_when_they_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = Tied()
    save_shrunk(before, tmp_path / "model.safetensors")
    loaded = load_shrunk(Tied(), tmp_path / "model.safetensors")
    assert isinstance(loaded, Tied)
    assert loaded.first.weight is loaded.last.weight
    assert torch.equal(loaded.first.weight, before.first.weight)
    assert not torch.equal(loaded.first.bias, loaded.last.bias)


class Tokens(nn.Module):
    """An encoder of PyTorch, a recurrent layer, and attention that reads its number of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True)
        self.recurrent, self.heads = nn.GRU(8, 8, batch_first=True), 4
        self.qkv, self.last = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = self.recurrent(self.encoder(x))[0]
        batch, tokens, _ = x.shape
        parted = self.qkv(inside).view(batch, tokens, 3, self.heads, 2).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(*parted.unbind(0))
        logits: torch.Tensor = self.last(found.transpose(1, 2).flatten(2)).mean(1)
        return logits


def test_a_network_with_fewer_heads_and_hidden_units_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example = Tokens().eval(), torch.randn(2, 5, 8)
    gossamer.prune(model, 0.5, pattern="unit", allocation="uniform", example=example)
    small = gossamer.compact(model, example)
    save_shrunk(small, tmp_path / "model.safetensors")
    loaded: Any = load_shrunk(Tokens(), tmp_path / "model.safetensors")
    assert (loaded.heads, loaded.recurrent.hidden_size) == (2, 4)
    assert loaded.encoder.self_attn.num_heads == 2
    assert torch.equal(loaded(example), small(example))
    again = tmp_path / "again.safetensors"
    save_shrunk(loaded, again)
    assert torch.equal(load_shrunk(Tokens(), again)(example), small(example))
    loaded.train()(example).sum().backward()


def test_a_file_of_another_network_is_refused(small: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_shrunk(small, path)
    with pytest.raises(InputError, match="give the network it was made from"):
        load_shrunk(nn.Sequential(nn.Linear(2, 2)), path)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_shrunk(Depthwise(), path)


def test_deployed_and_masked_networks_are_told_apart_only_beyond_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 3)).eval()
    split = Split(torch.randn(300, 6), torch.zeros(300, dtype=torch.long))
    small = gossamer.compress(model, split.whole()[0][:8], choose="engine")
    found = compared(model, {"it": small}, split, classification())
    assert found.same + found.unclear >= found.examples == 300
    assert found.largest < 1

    def wrong(inputs: object) -> torch.Tensor:
        answers = torch.as_tensor(small(inputs)).clone()
        answers[:, 0] += 0.5
        return answers

    with pytest.raises(InputError, match="another class than the masked network"):
        compared(model, {"it": wrong}, split, classification())


@pytest.mark.parametrize("far", [3e-4, 0.5])
def test_bounds_are_taken_of_the_examples_that_could_break_them(far: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 3)).eval()
    split = Split(torch.randn(300, 6), torch.zeros(300, dtype=torch.long))
    (inputs, _), rows = split.whole(), torch.arange(300)

    def off_once(given: object) -> torch.Tensor:
        """Move the least of the logits of one example, which changes no class."""
        with torch.no_grad():
            answers: torch.Tensor = model(torch.as_tensor(given)).clone()
        here = (torch.as_tensor(given) == inputs[123]).all(1)
        least = answers.argmin(1)
        answers[rows[: len(answers)][here], least[here]] -= far
        return answers

    found = compared(model, {"it": off_once}, split, classification())
    assert found.same == 300
    assert found.largest > 1


def test_examples_that_are_not_answered_alone_are_held_to_the_bounds_of_their_batch() -> None:
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.head(x - x.mean(0))
            return found

    torch.manual_seed(0)
    model = Centred().eval().requires_grad_(requires_grad=False)
    split = Split(torch.randn(200, 6), torch.zeros(200, dtype=torch.long))
    assert compared(model, {"it": model}, split, classification()).largest < 1

    def off(given: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = model(given) - torch.tensor([0.0, 0.0, 1e-3])
        return answers

    assert compared(model, {"it": off}, split, classification()).largest > 1
