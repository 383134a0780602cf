import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.compression import onnx as gossamer_onnx
from gossamer.compression.onnx import export_onnx, open_session
from gossamer.errors import InputError, MissingPackageError
from gossamer.nets import cifar_cnn, mlp


def ready(network: nn.Module) -> nn.Module:
    """Give every batch normalisation statistics and scales that are far from their beginning."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(layer.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return network


@pytest.mark.parametrize(
    ("network", "shape"), [(mlp(12, 3, (8,)), (12,)), (cifar_cnn((3, 8, 8), 4), (3, 8, 8))]
)
def test_the_file_computes_what_the_network_computes_for_any_batch(
    network: nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "network.onnx"
    network = ready(network).train()
    assert export_onnx(network, torch.randn(1, *shape), path) < 1e-5
    assert network.training
    session = open_session(path, threads=1)
    for batch in (1, 2, 7):
        inputs = torch.randn(batch, *shape)
        (found,) = session.run(None, {"input": inputs.numpy()})
        with torch.no_grad():
            expected = network.eval()(inputs).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert [one.name for one in session.get_outputs()] == ["output"]


def test_a_session_for_one_batch_gives_the_same(tmp_path: Path) -> None:
    network = mlp(6, 2, (4,)).eval()
    path = tmp_path / "network.onnx"
    export_onnx(network, torch.randn(3, 6), path)
    inputs = torch.randn(5, 6)
    (found,) = open_session(path.read_bytes(), 1, batch=5).run(None, {"input": inputs.numpy()})
    np.testing.assert_allclose(found, network(inputs).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_what_to_do(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install .*\[onnx\]"):
        export_onnx(mlp(4, 2, (3,)), torch.zeros(1, 4), tmp_path / "network.onnx")


def test_importing_the_module_imports_no_onnx() -> None:
    code = (
        "import sys, gossamer.compression.onnx;"
        "sys.exit(any(name in sys.modules for name in ('onnx', 'onnxscript', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Undecided(nn.Module):
    """Chooses by its input, which no graph can hold."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2 if inputs.sum() > 0 else inputs


def test_what_cannot_be_exported_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Undecided cannot be exported") as caught:
        export_onnx(Undecided(), torch.ones(2, 3), tmp_path / "network.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone/network.onnx: cannot be written"):
        export_onnx(mlp(4, 2, (3,)), torch.zeros(1, 4), tmp_path / "gone" / "network.onnx")


def test_other_answers_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def run(self, _names: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.zeros((len(feed["input"]), 2), np.float32)]

    monkeypatch.setattr(gossamer_onnx, "open_session", lambda *_, **__: Wrong())
    with pytest.raises(InputError, match="answers differ"):
        gossamer_onnx.export_onnx(mlp(4, 2, (3,)), torch.ones(2, 4), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []
