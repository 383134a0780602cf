import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.benchmarking import columns
from gossamer.benchmarking.columns import MAKERS, prepare
from gossamer.benchmarking.subjects import random_inputs
from gossamer.core.errors import InputError
from gossamer.masks import prune
from gossamer.networks import cifar_cnn, mlp
from gossamer.records.speed import LABELS

EXACT = ("eager", "channels_last", "onnxruntime", "csr", "gossamer", "gossamer_chosen")


@pytest.fixture(autouse=True)
def quick_choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(columns, "CHOOSING_SECONDS", 0.02)
    yield
    columns._compressed.cache_clear()
    columns._as_onnx.cache_clear()


def pruned(network: nn.Module) -> nn.Module:
    prune(network, 0.7, allocation="uniform")
    return network.eval().requires_grad_(False)


def outputs(column: str, network: nn.Module, inputs: np.ndarray) -> np.ndarray:
    found = prepare(column, network, inputs, 1).call()
    return np.asarray(found.float() if isinstance(found, torch.Tensor) else found)


def test_every_column_of_the_table_can_be_made() -> None:
    assert list(MAKERS) == list(LABELS)


@pytest.mark.parametrize("column", EXACT)
def test_every_column_computes_what_the_network_computes(column: str) -> None:
    inputs = random_inputs((5, 3, 8, 8))
    if column == "csr":
        network = pruned(nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3)))
    else:
        network = pruned(cifar_cnn((3, 8, 8), 4))
    expected = network.double()(torch.from_numpy(inputs).double()).numpy()
    found = outputs(column, network.float(), inputs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("network", [mlp(192, 3, (16,)), cifar_cnn((3, 8, 8), 4)])
def test_bf16_differs_by_its_own_rounding(network: nn.Module) -> None:
    inputs = random_inputs((5, 3, 8, 8))
    ready = pruned(network)
    found, expected = outputs("bf16", ready, inputs), outputs("eager", ready, inputs)
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert 1e-5 < difference < 0.05  # the rounding of 8 bits, through a few layers
    assert next(ready.parameters()).dtype == torch.float32


def test_what_cannot_be_has_a_reason() -> None:
    images = random_inputs((2, 3, 8, 8))
    with pytest.raises(InputError, match="no convolution"):
        prepare("channels_last", pruned(mlp(192, 3, (16,))), images, 1)
    with pytest.raises(InputError, match="no convolution with weights in CSR"):
        prepare("csr", pruned(cifar_cnn((3, 8, 8), 4)), images, 1)
    with_norm = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(InputError, match="only linear layers can have weights in CSR, not 1"):
        prepare("csr", with_norm.eval(), random_inputs((2, 4)), 1)
    signal = nn.Sequential(nn.Conv1d(1, 2, 3)).eval()
    with pytest.raises(InputError, match="no images"):
        prepare("channels_last", signal, random_inputs((2, 1, 8)), 1)


def test_what_a_rival_fails_with_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such\n  instruction")

    monkeypatch.setitem(MAKERS, "eager", fail)
    with pytest.raises(InputError, match=r"it fails \(RuntimeError: no such instruction\)"):
        prepare("eager", pruned(mlp(4, 2, (3,))), random_inputs((1, 4)), 1)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
@pytest.mark.slow
def test_compiling_gives_the_same_answers() -> None:
    network, inputs = pruned(mlp(6, 3, (4,))), random_inputs((2, 6))
    np.testing.assert_allclose(
        outputs("compile", network, inputs), outputs("eager", network, inputs), atol=1e-6
    )
    torch.compiler.reset()
