"""What needs no torch works in a process where NumPy alone can be imported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gossamer
from absent_packages import COMMAND, DECLARED, run_without
from gossamer.masks import prune

KERNELS = "gossamer.kernels._native"

LOADING = """
import warnings
import numpy as np
import gossamer

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        network = gossamer.load(sys.argv[1])
        np.save(sys.argv[3], network(np.load(sys.argv[2])))
loaded = {name.partition(".")[0] for name in sys.modules} & BLOCKED
print(json.dumps([[w.category.__name__, str(w.message)] for w in caught] + sorted(loaded)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a compressed network, inputs, and PyTorch's answers to them."""
    found = tmp_path_factory.mktemp("compressed")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ELU(), nn.BatchNorm2d(8), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=2), nn.GELU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(72, 30), nn.Tanh(), nn.Linear(30, 10), nn.Softmax(1),
    )  # fmt: skip
    prune(model, 0.6)
    images = torch.randn(37, 3, 16, 16)
    model(images)  # moves the statistics of the normalisation
    small = gossamer.compress(model.eval(), images, threads=1, choose="engine")
    small.save(found / "net.gsm")
    np.save(found / "images.npy", images.numpy())
    with torch.no_grad():
        np.save(found / "answers.npy", model(images).numpy())
    return found


def assert_answers(found: Path, folder: Path) -> None:
    answers = np.load(folder / "answers.npy")
    assert np.ptp(answers, axis=0).min() > 1e-3  # they differ from image to image
    np.testing.assert_allclose(np.load(found), answers, rtol=0, atol=1e-5 * answers.max())


@pytest.mark.parametrize("kernels", [True, False])
def test_a_network_is_loaded_and_predicts(folder: Path, tmp_path: Path, kernels: bool) -> None:
    absent = DECLARED if kernels else (*DECLARED, KERNELS)
    files = (folder / "net.gsm", folder / "images.npy", tmp_path / "out.npy")
    done = run_without(absent, LOADING, *files)
    assert (done.returncode, done.stderr) == (0, "")
    assert_answers(tmp_path / "out.npy", folder)
    said = json.loads(done.stdout)
    if kernels:
        assert said == []
    else:
        ((category, message),) = said
        assert category == "RuntimeWarning"
        assert "without its compiled kernels" in message


@pytest.mark.parametrize("kernels", [True, False])
def test_the_command_predicts(folder: Path, tmp_path: Path, kernels: bool) -> None:
    absent = DECLARED if kernels else (*DECLARED, KERNELS)
    files = (folder / "net.gsm", folder / "images.npy")
    done = run_without(absent, COMMAND, "predict", *files, "--out", tmp_path / "out.npy")
    assert done.returncode == 0
    assert done.stderr.count("\n") == (0 if kernels else 1)
    assert_answers(tmp_path / "out.npy", folder)


AUDITING = """
import numpy as np
import gossamer
file = np.load(sys.argv[1])
found = gossamer.audit(file["logits"], file["labels"], file["members"], attacks=["loss"])
print(found.attack("loss").auc.value, "torch" in sys.modules)
"""


def test_audits_need_no_torch(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    members, labels = draws.random((2, 300)) < 0.5, draws.integers(0, 2, 300)
    logits = np.zeros((2, 300, 2))
    logits[:, np.arange(300), labels] = draws.normal(size=(2, 300)) + members
    path = tmp_path / "mine.npz"
    np.savez(path, logits=logits, labels=labels[:, None], members=members)
    done = run_without(("torch",), AUDITING, path)
    assert (done.returncode, done.stderr) == (0, "")
    area, loaded = done.stdout.split()
    assert loaded == "False"
    command = ("audit", path, "--attacks", "loss", "--out", tmp_path / "out", "--json")
    done = run_without(("torch",), COMMAND, *command)
    assert done.returncode == 0, done.stderr
    by_name = {attack["name"]: attack for attack in json.loads(done.stdout)["attacks"]}
    assert by_name["loss"]["auc"]["value"] == float(area)
    assert (tmp_path / "out" / "audit.html").is_file()
