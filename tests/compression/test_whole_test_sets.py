"""Trained, pruned networks give the same on every image of the test sets, however they are run."""

import copy
import os
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.data.catalog import load
from gossamer.data.resident import Resident, batches, epoch_order, make_resident
from gossamer.engine import Floats
from gossamer.masks import OUTPUT_LAYER, Block, Mask
from gossamer.networks import NetworkSpec, build

TOLERANCE = 1e-5
"""Largest difference, relative to the largest logit."""
TIE = 1e-6
"""Two logits that are nearer to each other than this, relative to the largest, are as good as
equal: they may change places by rounding."""
MOST_TIES = 2
"""On how many images they may. (None did where this was written.)"""

BATCH = 20
BETTER_THAN = 0.2
"""Accuracy of networks that have learnt something; chance is 0.1."""

DATASETS = {
    "mlp": "mnist",
    "mnist-cnn": "mnist",
    "fashion-cnn": "fashion-mnist",
    "cifar-cnn": "cifar10",
    "cifar-dropout-cnn": "cifar10",
}
STEPS = {
    "mlp": (150, 50),
    "mnist-cnn": (100, 50),
    "fashion-cnn": (250, 100),
    "cifar-cnn": (60, 40),
    "cifar-dropout-cnn": (80, 50),
}
"""How many before and after pruning."""
PATTERNS: dict[str, tuple[float, str | Block]] = {
    "weight": (0.9, "weight"),
    "unit": (0.75, "unit"),
    "block": (0.9, Block(4, 1)),
}


@cache
def images(dataset: str) -> tuple[Resident, Resident]:
    """Return training and test examples."""
    root = os.environ.get("GOSSAMER_DATA")
    if not root or not (Path(root) / dataset).is_dir():
        pytest.skip(f"GOSSAMER_DATA names no folder that holds {dataset}/")
    found = load(dataset)
    kept = slice(BATCH * max(before for before, _ in STEPS.values()))
    return (
        make_resident(found.x_train[kept], found.y_train[kept], found.scale, mean=0.5, std=0.25),
        make_resident(found.x_test, found.y_test, found.scale, mean=0.5, std=0.25),
    )


def train(network: nn.Module, data: Resident, steps: int, mask: Mask | None = None) -> None:
    """Take some steps of Adam; what the mask removed stays zero."""
    optimizer = torch.optim.Adam(network.parameters())
    if mask is not None:
        mask.enforce(network, optimizer)
    network.train()
    order = epoch_order(len(data), 0, "shuffle", 0)
    for inputs, labels in islice(batches(data, order, BATCH), steps):
        optimizer.zero_grad()
        functional.cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@cache
def dense(name: str) -> nn.Module:
    """Return a network after a short training; whoever prunes it takes a copy."""
    data, _ = images(DATASETS[name])
    network = build(NetworkSpec(name=name), data.inputs.shape[1:], 10, seed=0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1  # or the statistics would lag behind so short a training
        elif isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0  # which would need a longer one
    train(network, data, STEPS[name][0])
    return network


def pruned(name: str, pattern: str) -> nn.Module:
    """Return the network in evaluation mode after pruning and a few steps more."""
    network = copy.deepcopy(dense(name))
    sparsity, kind = PATTERNS[pattern]
    exclude = OUTPUT_LAYER if pattern == "unit" else ()
    mask = gossamer.prune(network, sparsity, allocation="uniform", pattern=kind, exclude=exclude)
    train(network, images(DATASETS[name])[0], STEPS[name][1], mask)
    assert mask.violations(network) == {}
    return network.eval()


def logits(network: nn.Module, inputs: Tensor) -> Floats:
    with torch.inference_mode():
        parts = [network(inputs[i : i + 100]) for i in range(0, len(inputs), 100)]
    return torch.cat(parts).numpy()


def assert_same(found: Floats, expected: Floats) -> None:
    largest = np.abs(expected).max()
    assert found.shape == expected.shape == (10_000, 10)
    assert np.abs(found - expected).max() <= TOLERANCE * largest
    changed = found.argmax(1) != expected.argmax(1)
    assert changed.sum() <= MOST_TIES
    assert (margins(expected)[changed] <= TIE * largest).all()


def margins(values: Floats) -> NDArray[np.float32]:
    """Return by how much the largest logit of each image exceeds the next."""
    ordered = np.sort(values, axis=1)
    return ordered[:, -1] - ordered[:, -2]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("mlp", "weight"),
        ("mlp", "unit"),
        pytest.param("mnist-cnn", "block", marks=pytest.mark.slow),
        pytest.param("fashion-cnn", "weight", marks=pytest.mark.slow),
        ("fashion-cnn", "block"),
        pytest.param("cifar-cnn", "weight", marks=pytest.mark.slow),
        pytest.param("cifar-dropout-cnn", "unit", marks=pytest.mark.slow),
    ],
)
def test_masked_compressed_and_loaded_agree_on_every_test_image(
    name: str, pattern: str, tmp_path: Path
) -> None:
    _, test = images(DATASETS[name])
    network = pruned(name, pattern)
    expected = logits(network, test.inputs)
    accuracy = (expected.argmax(1) == test.labels.numpy()).mean()
    assert accuracy > BETTER_THAN

    small = gossamer.compress(network, test.inputs[:8], threads=1, choose="engine")
    assert (small.choice, small.remaining) == ("engine", ())
    assert small.size < 0.3 * sum(parameter.numel() for parameter in network.parameters())
    assert_same(small(test.inputs).numpy(), expected)

    small.save(tmp_path / "small.gsm")
    loaded = gossamer.load(tmp_path / "small.gsm")
    assert_same(loaded(test.inputs.numpy(), threads=1), expected)
