from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gossamer.compression import compress
from gossamer.compression.provenance import provenance, stored_sparsity
from gossamer.core.errors import InputError
from gossamer.engine import Convolution, Layout, Linear, Network, Reshape, pack_weights
from gossamer.runtime import load


@pytest.mark.parametrize("kind", ["dense", "csr", "block"])
def test_sparsity_counts_zeros_however_they_are_stored(kind: Layout) -> None:
    first = np.zeros((3, 4))
    first[0, 1] = first[2, 3] = -2.0
    layers = (
        Convolution(0, pack_weights(first, kind), (2, 2)),
        Reshape(1, (3,)),
        Linear(2, pack_weights(np.ones((2, 3)), kind)),
    )
    assert stored_sparsity(Network((1, 2, 2), layers, 3)) == pytest.approx(1 - 8 / 18)


def test_provenance_says_when_and_with_what() -> None:
    found = provenance(Network((4,), (), 0))
    assert found["torch"] == torch.__version__
    written = datetime.fromisoformat(str(found["written"]))
    assert written.tzinfo == UTC
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)


def sequences() -> nn.Module:
    """Return a model of sequences [3, 20] that gives sequences [5, 18]."""
    model = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 5, 3))
    return model.eval().requires_grad_(False)


def test_a_file_of_sequences_takes_and_gives_what_the_model_does(tmp_path: Path) -> None:
    model = sequences()
    example = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(0))
    compress(model, example, threads=1, choose="engine").save(tmp_path / "n.gsm")
    predictor = load(tmp_path / "n.gsm")
    assert (predictor.input_shape, predictor.output_shape) == ((3, 20), (5, 18))
    np.testing.assert_allclose(
        predictor(example.numpy()), model(example).numpy(), rtol=1e-5, atol=1e-6
    )


def test_a_file_keeps_where_it_comes_from_and_what_the_caller_says(tmp_path: Path) -> None:
    layer = nn.Linear(10, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4, 10))
    model = nn.Sequential(layer)
    small = compress(model, torch.ones(2, 10), threads=1, choose="engine")
    small.save(tmp_path / "n.gsm", metadata={"name": "mine", "classes": list("abcd")})
    metadata = load(tmp_path / "n.gsm").metadata
    assert metadata["network"] == "Sequential"
    assert metadata["sparsity"] == pytest.approx(0.9)
    assert metadata["torch"] == torch.__version__
    assert datetime.fromisoformat(metadata["written"])
    assert (metadata["name"], metadata["classes"]) == ("mine", ["a", "b", "c", "d"])
    small.save(tmp_path / "n.gsm", metadata={"torch": "another"})
    assert load(tmp_path / "n.gsm").metadata["torch"] == "another"
    with pytest.raises(InputError, match="metadata"):
        small.save(tmp_path / "n.gsm", metadata={"name": object()})
