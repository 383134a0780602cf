"""What goes wrong elsewhere when a network is pruned, and does not here.

That weights do not revive and that joins are cut right is tested beside pruning and compaction, in
more kinds; here stands what only the whole of a search can show.
"""

import copy
import json
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import gossamer
from gossamer.shrinking import Shrunk, load_shrunk
from gossamer.shrinking.equality import compared
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification

NET = """
import torch
from torch import nn

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(1, 16, 3, padding=1)
        self.right = nn.Conv2d(1, 16, 1)
        self.norm = nn.BatchNorm2d(32)
        self.deep = nn.Conv2d(32, 24, 3, padding=1)
        self.head = nn.Linear(24 * 4, 2)

    def forward(self, x):
        both = torch.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1)))
        deep = torch.relu(self.deep(both))
        return self.head(nn.functional.avg_pool2d(deep, 2).view(x.size(0), -1))
"""
_NAMES: dict[str, Any] = {"__name__": "branches"}
exec(compile(NET, "branches.py", "exec"), _NAMES)  # the same source is a file in a test below
Branches: type[nn.Module] = _NAMES["Branches"]


def part(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x.mean((1, 2, 3)) > 0).long()


DATA = {"train": part(256, 0), "validation": part(600, 1), "test": part(100, 2)}
OPTIONS: dict[str, Any] = {
    "max_drop": 0.2, "target": "flops", "pattern": "unit", "epochs": 11, "threads": 1, "batch": 4,
    "seconds": 0.02, "keep_units_multiple_of": 8, "rate": 5e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    torch.manual_seed(0)
    model = Branches()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for epoch in range(6):
        for x, y in Split(*DATA["train"]).batches(32, seed=0, epoch=epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def found(dense: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shrunk, Path]:
    folder = tmp_path_factory.mktemp("shrunk")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        patch.setattr("gossamer.shrinking.weighing.onnx_session", lambda *_: nullcontext())
        shrunk = gossamer.shrink(dense, DATA, out=folder, **OPTIONS)
    return shrunk, folder


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(DATA["test"][0])
    return found


def test_the_network_that_was_given_is_untouched(
    dense: nn.Module, found: tuple[Shrunk, Path]
) -> None:
    torch.manual_seed(0)
    assert list(dense.state_dict()) == list(Branches().state_dict())
    assert all(one.count_nonzero() == one.numel() for one in dense.parameters())
    assert not any(module._forward_hooks for module in dense.modules())


def test_keys_are_those_of_the_networks_own_class(
    dense: nn.Module, found: tuple[Shrunk, Path]
) -> None:
    shrunk, folder = found
    assert list(shrunk.masked.state_dict()) == list(dense.state_dict())
    assert set(shrunk.model.state_dict()) == set(dense.state_dict())
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(dense.state_dict())


def test_it_is_smaller_in_its_tensors_and_not_by_zeros_alone(
    dense: nn.Module, found: tuple[Shrunk, Path]
) -> None:
    shrunk, _ = found
    before, after = (sum(p.numel() for p in one.parameters()) for one in (dense, shrunk.model))
    assert after < 0.8 * before
    assert shrunk.after.parameters == after
    assert not any("mask" in name or "orig" in name for name in shrunk.model.state_dict())


def test_widths_stay_multiples_that_processors_like(found: tuple[Shrunk, Path]) -> None:
    convolutions = [m for m in found[0].model.modules() if isinstance(m, nn.Conv2d)]
    widths = [one.out_channels for one in convolutions]
    assert len(widths) == 3
    assert all(width % 8 == 0 for width in widths), widths


def test_copies_compute_the_same_and_train_on(found: tuple[Shrunk, Path]) -> None:
    twin = copy.deepcopy(found[0].model)
    assert torch.equal(outputs(twin), outputs(found[0].model))
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    for parameter in twin.parameters():
        parameter.requires_grad_()
    nn.functional.cross_entropy(twin(DATA["test"][0]), DATA["test"][1]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert not torch.equal(outputs(twin), outputs(found[0].model))


def test_sparsity_is_the_share_of_zeros_that_are_there(
    dense: nn.Module, found: tuple[Shrunk, Path]
) -> None:
    shrunk, _ = found
    assert shrunk.mask is not None
    weights = [shrunk.masked.get_parameter(name) for name in shrunk.mask.weights]
    zeros = sum(int((one == 0).sum()) for one in weights)
    assert shrunk.sparsity == zeros / sum(one.numel() for one in weights)
    assert 0 < shrunk.sparsity < 1


def test_a_removed_unit_leaves_no_bias_scale_or_shift(found: tuple[Shrunk, Path]) -> None:
    masked: Any = found[0].masked
    gone = 0
    for layer, after in ((masked.left, slice(0, 16)), (masked.right, slice(16, 32))):
        empty = layer.weight.flatten(1).eq(0).all(1)
        gone += int(empty.sum())
        for beside in (layer.bias, masked.norm.weight[after], masked.norm.bias[after]):
            assert not beside[empty].any()
    deep = masked.deep.weight.flatten(1).eq(0).all(1)
    assert not masked.deep.bias[deep].any()
    assert gone + int(deep.sum()) > 0


def test_a_second_search_begins_where_the_first_one_ended(
    found: tuple[Shrunk, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.shrinking.weighing.onnx_session", lambda *_: nullcontext())
    first = found[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        options = {**OPTIONS, "pattern": "weight", "keep_units_multiple_of": 1, "epochs": 2}
        second = gossamer.shrink(first.masked, DATA, **options)
    assert first.mask is not None
    assert second.mask is not None
    for name, kept in second.mask.weights.items():
        assert not (kept & (first.masked.get_parameter(name) == 0)).any()  # nothing revives
    zeros = sum(int((second.masked.get_parameter(n) == 0).sum()) for n in second.mask.weights)
    assert second.sparsity == zeros / second.mask.size  # of all weights, not of those left
    assert second.sparsity > first.sparsity


def test_no_file_is_a_pickle(found: tuple[Shrunk, Path]) -> None:
    files = [path for path in found[1].rglob("*") if path.is_file()]
    assert {"network.gsm", "model.safetensors", "mask.safetensors"} <= {path.name for path in files}
    for path in files:
        start = path.read_bytes()[:4]
        assert not start.startswith((b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")), path


def test_it_reloads_in_another_process_from_its_class_and_its_file(
    found: tuple[Shrunk, Path], tmp_path: Path
) -> None:
    shrunk, folder = found
    (tmp_path / "branches.py").write_text(NET)
    torch.save(DATA["test"][0], tmp_path / "x.pt")
    code = (
        "import json, torch, gossamer\n"
        "from branches import Branches\n"
        f"model = gossamer.load_shrunk(Branches(), {str(folder / 'model.safetensors')!r})\n"
        "x = torch.load('x.pt', weights_only=True)\n"
        "print(json.dumps(model(x).tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    torch.testing.assert_close(
        torch.tensor(json.loads(done.stdout)), outputs(shrunk.model), rtol=1e-4, atol=1e-5
    )
    assert load_shrunk(Branches(), folder / "model.safetensors").training is False


def test_the_test_set_has_no_say_in_what_is_chosen(
    dense: nn.Module, found: tuple[Shrunk, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.shrinking.weighing.onnx_session", lambda *_: nullcontext())
    x, y = DATA["test"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        other = gossamer.shrink(dense, {**DATA, "test": (x, 1 - y)}, **OPTIONS)
    mine, theirs = found[0], other
    assert theirs.mask == mine.mask
    for name, value in mine.masked.state_dict().items():
        assert torch.equal(value, theirs.masked.state_dict()[name])
    for one, two in zip(mine.report.tried, theirs.report.tried, strict=True):
        assert one.model_copy(update={"seconds": 0.0}) == two.model_copy(update={"seconds": 0.0})
    assert theirs.after.metric.value == pytest.approx(1 - mine.after.metric.value)


def test_a_network_bound_to_one_size_of_batches_is_held_to_every_example() -> None:
    class Counting(nn.Module):
        """Asks for the size of its batch, so that what is traced holds for that size alone."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.head(x.flatten(1))
            return found.neg() if x.shape[0] > 1000 else found

    torch.manual_seed(0)
    model, (x, y) = Counting().eval(), DATA["test"]
    small = gossamer.compress(model, x[:8], threads=1, choose="engine")
    assert small.fixed_batch
    found = compared(model, {"it": small}, Split(x, y), classification())
    assert (found.examples, found.same) == (100, 100 - found.unclear)
