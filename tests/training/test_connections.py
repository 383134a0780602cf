"""Connections of sparse layers that move as those of the masked network do."""

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer import InputError
from gossamer.networks import SparseConv, SparseConv2d, SparseLinear, pack
from gossamer.training import connections
from gossamer.training.connections import exchanged_positions, gradients_of, sparse_layers
from gossamer.training.updaters.moving import exchanged

STEPS = 12
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
}


def randoms(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Network(nn.Module):
    """A convolution in groups, one layer that is used twice, and normalisation on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2, padding_mode="reflect")
        self.norm = nn.BatchNorm2d(6)
        self.twice = nn.Linear(24, 24)
        self.out = nn.Linear(24, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.relu(self.conv(x)))[..., ::2, ::2].flatten(1)
        x = self.relu(self.twice(x))
        return self.out(self.twice(x).tanh())  # type: ignore[no-any-return]


class Loop:
    """A training of one's own, of the masked network or of the packed one."""

    def __init__(self, updater: str, optimizer: str = "sgd", packed: bool = False) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model: nn.Module = Network().double()
        self.inputs, self.labels = randoms(10, 4, 4, 4), torch.arange(10) % 3
        mask = gossamer.prune(self.model, 0.7, score="random", seed=1)
        if packed:
            self.model = pack(self.model, mask)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.updates = gossamer.updater(
            self.model,
            self.optimizer,
            updater,
            mask=None if packed else mask,
            steps=STEPS,
            seed=5,
            fraction=0.4,
            every=2,
        )

    def loss(self) -> Tensor:
        return functional.cross_entropy(self.model(self.inputs), self.labels)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.updates.step(loss=self.loss)

    def weights(self) -> dict[str, Tensor]:
        names = ("conv", "twice", "out")
        return {name: self.model.get_submodule(name).weight.detach().clone() for name in names}  # type: ignore[operator]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BLOCK", 50)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("updater", ["set", "rigl"])
def test_connections_move_as_those_of_the_masked_network(updater: str, optimizer: str) -> None:
    masked, packed = (Loop(updater, optimizer, packed) for packed in (False, True))
    start = {n: x.positions.clone() for n, x in sparse_layers(packed.model).items()}
    for _ in range(STEPS):
        masked.step()
        packed.step()
        assert masked.updates.mask is not None
        for name, layer in sparse_layers(packed.model).items():
            kept = masked.updates.mask.weights[name].flatten().nonzero().flatten()
            assert torch.equal(layer.positions, kept)
    for name, weight in packed.weights().items():
        torch.testing.assert_close(weight, masked.weights()[name], rtol=0, atol=1e-12)
    moved = sparse_layers(packed.model)
    assert not any(torch.equal(moved[name].positions, start[name]) for name in start)
    assert packed.updates.density == pytest.approx(masked.updates.density)


@pytest.mark.parametrize("updater", ["set", "rigl"])
def test_what_grows_starts_from_zero_with_fresh_momenta(updater: str) -> None:
    loop = Loop(updater, packed=True)
    for _ in range(STEPS):
        before = {n: (x, x.positions.clone()) for n, x in sparse_layers(loop.model).items()}
        loop.step()
        for layer, old in before.values():
            assert layer.connections == len(old)
            new = ~torch.isin(layer.positions, old)
            momentum = loop.optimizer.state[layer.values]["momentum_buffer"]
            assert not layer.values[new].any()
            assert not momentum[new].any()
            assert momentum[~new].any()


def test_going_on_from_what_was_kept_gives_the_same_bits() -> None:
    whole, left = (Loop("rigl", packed=True) for _ in range(2))
    for _ in range(5):  # the next step moves
        whole.step()
        left.step()
    kept = copy.deepcopy(
        (left.model.state_dict(), left.optimizer.state_dict(), left.updates.state_dict())
    )
    again = Loop("rigl", packed=True)
    for part, state in zip((again.model, again.optimizer, again.updates), kept, strict=True):
        part.load_state_dict(state)  # type: ignore[attr-defined]
    for loop in (whole, again):
        for _ in range(5, STEPS):
            loop.step()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def test_blocks_are_the_gradient_of_the_dense_weight(small_blocks: None) -> None:
    loop, dense = Loop("rigl", packed=True), Loop("rigl")
    buffers = {name: value.clone() for name, value in loop.model.named_buffers()}
    random = torch.get_rng_state()
    found = gradients_of(loop.model, loop.loss)
    expected = gradients_of(dense.model, dense.loss)
    assert set(found.weights) == {"conv.weight", "twice.weight", "out.weight"}
    for name, gradient in found.weights.items():
        blocks = [*gradient.blocks()]
        assert name == "out.weight" or len(blocks) > 1
        whole = torch.cat(blocks)
        torch.testing.assert_close(whole, expected.parameters[name], rtol=0, atol=1e-12)
        assert whole.count_nonzero() > 0.9 * whole.numel()
    torch.testing.assert_close(found.parameters["norm.weight"], expected.parameters["norm.weight"])
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in loop.model.named_buffers():
        assert torch.equal(value, buffers[name]), name


@pytest.mark.parametrize(
    "layer",
    [
        SparseConv(nn.Conv1d(3, 4, 3, stride=2, padding=2), 20, seed=0),
        SparseConv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), 2, connections=20, seed=0),
        SparseConv2d(2, 3, 2, padding="same", connections=10, seed=0),
        SparseConv(nn.Conv3d(2, 3, 2, padding=1, padding_mode="circular"), 20, seed=0),
        SparseLinear(5, 4, connections=6, seed=0),
    ],
    ids=lambda layer: repr(layer)[:30],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_rows_of_the_gradient_of_every_kind_of_layer(layer: SparseLinear | SparseConv) -> None:
    layer = copy.deepcopy(layer).double()
    if isinstance(layer, SparseConv):
        inputs = randoms(2, layer.in_channels, *[7] * len(layer.kernel_size))
    else:
        inputs = randoms(2, 3, layer.in_features)
    dense = layer.dense()
    outputs = dense(inputs)
    coming = randoms(*outputs.shape, seed=3)
    (expected,) = torch.autograd.grad(outputs, dense.weight, coming)
    found = layer.gradient_of_rows(inputs, coming, 1, 3)
    torch.testing.assert_close(found, expected[1:3], rtol=0, atol=1e-12)


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.data())
def test_blocks_are_chosen_from_as_the_whole_is(
    rows: int, columns: int, height: int, data: st.DataObject
) -> None:
    size = rows * columns
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    numbers = st.lists(st.integers(-3, 3), min_size=size, max_size=size)
    weight = torch.tensor(data.draw(numbers), dtype=torch.float32) * kept
    growth = torch.tensor(data.draw(numbers), dtype=torch.float32)
    layer = SparseLinear(columns, rows, connections=kept.view(rows, columns))
    layer.values.data.copy_(weight[kept])
    dropped = data.draw(st.integers(0, int(kept.sum())))
    blocks = iter(torch.split(growth.view(rows, columns), height))
    found = exchanged_positions(layer, blocks, dropped)
    assert torch.equal(found, exchanged(kept, weight, growth, dropped).nonzero().flatten())


def test_what_cannot_move_is_refused_in_a_sentence() -> None:
    loop = Loop("rigl", packed=True)
    for _ in range(1):
        loop.step()
    with pytest.raises(InputError, match=r"the gradient of conv.weight, of which the sparse layer"):
        loop.updates.step(dict)
    with pytest.raises(InputError, match=r"'rigl' moves the weights of a mask: pass mask=, or a m"):
        gossamer.updater(nn.Linear(2, 2), loop.optimizer, "rigl", steps=1000)
    layer = sparse_layers(loop.model)["out.weight"]
    loop.optimizer.state[layer.values]["factors"] = torch.zeros(3)
    with pytest.raises(InputError, match=r"SGD keeps 'factors' of shape \(3,\) for 22 connections"):
        connections.reconnect(layer, layer.positions, loop.optimizer)


MOVE_LARGE = """
from pathlib import Path
import torch, gossamer
layer = gossamer.SparseLinear(10_000, 20_000, connections=100_000, seed=0)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
updates = gossamer.updater(layer, optimizer, "rigl", steps=100, every=1)
inputs = torch.randn(16, 10_000)
before = layer.positions.clone()
def loss():
    return layer(inputs).square().mean()
loss().backward()
optimizer.step()
updates.step(loss=loss)
assert not torch.equal(before, layer.positions)
status = Path("/proc/self/status").read_text()  # getrusage would count the process that began this
print(int(status.partition("VmHWM:")[2].split()[0]) / 2**20)
"""


@pytest.mark.slow
def test_no_dense_weight_is_ever_made() -> None:
    """It would take 0.75 GiB, and so would its gradient; what PyTorch takes is 0.3 GiB."""
    command = [sys.executable, "-c", MOVE_LARGE]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 0.6
