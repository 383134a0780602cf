"""What the README and the pages of the documentation show works."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gossamer
from gossamer import Mask
from gossamer.data import load_npz
from gossamer.measures.functional import size
from gossamer.studies.plan import chosen_scale
from gossamer.studies.spec import read_study

ROOT = Path(__file__).parents[1]


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_python_of_every_page_is_run_here_or_beside_what_it_is_about() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")} | {"README.md"}
    tested = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    shown = {page for page in pages if blocks("python", page)}
    assert {page for page in shown if Path(page).name not in tested} == set()


def test_the_python_of_the_page_on_clusters_is_python() -> None:
    examples = blocks("python", "docs/cluster.md")  # a cluster would be needed to run them
    assert all(compile(each, "cluster.md", "exec") for each in examples)


def test_the_python_of_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    compressing, loading = blocks("python", "docs/quickstart.md")
    names: dict[str, Any] = {}
    exec(compressing, names)
    expected = names["model"](names["images"]).detach()
    torch.testing.assert_close(names["small"](names["images"]), expected, atol=1e-5, rtol=0)
    exec(loading, names)
    assert names["logits"].shape == (5, 10)


def test_the_python_of_the_page_on_pruning_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = nn.Linear(20, 10)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(10, 2))
    first_look, with_data, own, units = blocks("python", "docs/pruning.md")
    names: dict[str, Any] = {"model": model, "loss": None}
    names["batches"] = [(torch.rand(8, 20), torch.arange(8) % 2)]
    exec(first_look, names)
    assert list(names["mask"]) == ["0.weight"]
    assert int((first.weight == 0).sum()) == 180
    for code, score in ((with_data, "taylor"), (own, "None.<lambda>")):
        exec(code, names)
        assert names["mask"].provenance["score"] == score
        assert names["mask"].sparsity == 0.9
    exec(units, names)


def test_an_archive_is_written_as_the_page_on_data_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python", "docs/data.md")
    images, labels = np.zeros((6, 8, 8, 3), dtype=np.uint8), np.arange(6) % 3
    exec(code, {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels})
    dataset = load_npz(tmp_path / "mine.npz")
    assert (dataset.x_train.shape, dataset.classes) == ((6, 3, 8, 8), 3)


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    example = torch.ones(4, 20)
    (code,) = blocks("python")
    names: dict[str, Any] = {"model": model, "optimizer": optimizer, "example": example}
    exec(code, names)
    expected = model(example)
    for found in (names["logits"], torch.from_numpy(names["predictor"](example.numpy()))):
        torch.testing.assert_close(found, expected.detach())
    expected.sum().backward()
    optimizer.step()
    mask = Mask.load(tmp_path / "mask.safetensors")
    assert mask.sparsity == 0.9
    assert mask.violations(model) == {}


def test_the_study_of_the_page_on_studies_can_be_run(tmp_path: Path) -> None:
    (text,) = blocks("toml", "docs/studies.md")
    (tmp_path / "my-study.toml").write_text(text)
    spec, _ = read_study(str(tmp_path / "my-study.toml"))
    scale, _ = chosen_scale(spec, None)
    for arm in spec.arms:
        assert spec.recipe_of(arm, scale, spec.levels[0])


def test_the_python_of_the_page_on_enforcement_runs() -> None:
    model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    names: dict[str, Any] = {
        "gossamer": gossamer, "torch": torch, "model": model, "optimizer": optimizer,
    }  # fmt: skip
    for code in blocks("python", "docs/enforcement.md"):
        exec(code, names)
    for _ in range(2):
        model(torch.rand(4, 20)).square().sum().backward()
        optimizer.step()
        names["average"].update_parameters(model)
        for network in (model, names["average"]):
            assert names["mask"].violations(network) == {}
    assert names["mask"].sparsity == pytest.approx(0.9)
    # A kept weight may be zero, too, as one that grew and had no gradient yet is.
    assert size(names["average"].module, list(names["mask"])).sparsity >= 0.9


class Headed(nn.Module):
    """Has a flag and another method, which run a head that the default call does not."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 3)
        self.head.weight.data[:, :3] = 0

    def forward(self, x: torch.Tensor, aux: bool = False) -> Any:
        inside = torch.relu(self.body(x))
        return (self.head(inside), self.aux(inside)) if aux else self.head(inside)

    def embed(self, x: torch.Tensor) -> Any:
        return self.aux(torch.relu(self.body(x)))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.attended = nn.Embedding(9, 4), nn.Linear(4, 12)
        self.head = nn.Linear(4, 9)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        found = self.words(tokens)
        query, key, value = (part[:, None] for part in self.attended(found).chunk(3, 2))
        attended = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.head(found + attended[:, 0])  # type: ignore[no-any-return]


def _check_decoding(code: str) -> None:
    """Run the example of a decoder, and its model on all tokens instead."""
    model, tokens = Words().eval(), torch.randint(0, 9, (2, 7))
    found: dict[str, Any] = {"model": model, "tokens": tokens}
    exec(code, found)
    sequence = tokens[:1]
    for _ in range(5):
        sequence = torch.cat((sequence, model(sequence)[:, -1:].argmax(-1)), 1)
    expected = model(sequence)[0, -1].detach().numpy()
    np.testing.assert_allclose(found["logits"][0, -1], expected, rtol=1e-4, atol=1e-5)
    assert (found["decoder"].length, found["decoder"].cache_bytes) == (12, 4 * 8 * 32)


def test_the_python_of_the_page_on_sparse_training_runs() -> None:
    (code,) = blocks("python", "docs/sparse-training.md")
    network = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 2))
    names: dict[str, Any] = {"gossamer": gossamer, "torch": torch, "network": network}
    exec("import gossamer.networks\n" + code, names)
    assert all(isinstance(network[i], gossamer.SparseLinear) for i in (0, 2))
    trained = {id(p) for group in names["optimizer"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in network.parameters()}


def test_the_python_of_the_page_on_the_runtime_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    optimizer, images = torch.optim.SGD(model.parameters(), 0.1), torch.rand(5, 1, 8, 8)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model(images).square().mean().backward()
        optimizer.step()

    names = {"model": model, "optimizer": optimizer, "images": images, "train": train}
    compressing, loading, making_all_calls, decoding, exporting = blocks(
        "python", "docs/runtime.md"
    )
    exec(compressing, names)
    torch.testing.assert_close(names["logits"], model(images).detach())
    exec(loading, names | {"images": images.numpy()})
    headed = Headed()
    found: dict[str, Any] = {"model": headed, "images": torch.rand(5, 4)}
    exec(making_all_calls, found)
    torch.testing.assert_close(found["small"].embed(found["images"]), headed.embed(found["images"]))
    _check_decoding(decoding)
    exec(exporting, names)
    assert {path.name for path in tmp_path.iterdir()} >= {"small.gsm", "small.onnx"}
