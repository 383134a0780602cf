"""Trainings of one's own keep the zeros: every way in which people train, through one callable."""

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gossamer
from gossamer.shrinking.split import Split

EXAMPLES = Path(__file__).parents[2] / "examples"


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def data() -> Split:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 1, 8, 8, generator=generator)
    return Split(x, (x.flatten(1)[:, :10] + x.flatten(1)[:, 20:30]).argmax(1))


def loss_of(model: nn.Module) -> float:
    x, y = data().whole()
    with torch.no_grad():
        return functional.cross_entropy(model(x), y).item()


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def in_half_precision(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
    """Autocast to bfloat16."""
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    mask.enforce(model, optimizer)
    for epoch in range(epochs):
        for x, y in data().batches(64, seed=0, epoch=epoch):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = functional.cross_entropy(model(x), y)
            backward(loss)
            optimizer.step()


def accumulating(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
    """A step for several batches, clipped."""
    optimizer = torch.optim.SGD(model.parameters(), 0.2, momentum=0.9, weight_decay=1e-3)
    mask.enforce(model, optimizer)
    for epoch in range(epochs):
        for number, (x, y) in enumerate(data().batches(16, seed=0, epoch=epoch), start=1):
            backward(functional.cross_entropy(model(x), y) / 4)
            if number % 4 == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()


def averaging(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
    """Exponential moving average, handed over at the end."""
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    mask.enforce(model, optimizer)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))  # type: ignore[no-untyped-call]
    mask.apply(average)
    for epoch in range(epochs):
        for x, y in data().batches(64, seed=0, epoch=epoch):
            optimizer.zero_grad()
            backward(functional.cross_entropy(model(x), y))
            optimizer.step()
            average.update_parameters(model)
    model.load_state_dict(average.module.state_dict())


def compiled(model: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
    """Through torch.compile, with the graph that it finds and none of its code generation."""
    fast: Any = torch.compile(model, backend="eager")
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    mask.enforce(fast, optimizer)
    for epoch in range(epochs):
        for x, y in data().batches(64, seed=0, epoch=epoch):
            optimizer.zero_grad()
            backward(functional.cross_entropy(fast(x), y))
            optimizer.step()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it compiles
@pytest.mark.parametrize("train", [in_half_precision, accumulating, averaging, compiled])
@pytest.mark.parametrize("pattern", ["weight", "unit"])
def test_zeros_stay_and_the_rest_learns(train: Any, pattern: str) -> None:
    model = network()
    mask = gossamer.prune(
        model, 0.5, pattern=pattern, exclude=gossamer.OUTPUT_LAYER, example=data().example()
    )
    before = loss_of(model)
    train(model, mask, 3)
    assert mask.violations(model) == {}
    assert loss_of(model) < before - 0.1
    weights = [model.get_parameter(name) for name in mask.weights]
    zeros = sum(int((one == 0).sum()) for one in weights)
    assert zeros == mask.zeros  # no more of them either


def test_shrink_trains_by_a_callable_of_ones_own() -> None:
    model = network()
    calls: list[int] = []

    def train(sparse: nn.Module, mask: gossamer.Mask, epochs: int) -> None:
        calls.append(epochs)
        accumulating(sparse, mask, epochs)

    x, y = data().whole()
    parts = dict.fromkeys(("train", "validation", "test"), (x, y))
    with pytest.warns(RuntimeWarning):
        found = gossamer.shrink(
            model, parts, max_drop=0.9, target="flops", pattern="weight", train=train, epochs=11,
            seconds=0.05,
        )  # fmt: skip
    assert found.report.precision is None  # which only the callable knows
    assert calls
    assert found.mask is not None
    assert found.mask.violations(found.masked) == {}


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")  # of packages that are not this one
@pytest.mark.parametrize("package", ["lightning", "transformers"])
def test_trainers_of_others_keep_the_zeros_by_a_callback(package: str) -> None:
    pytest.importorskip(package)
    if package == "transformers":
        pytest.importorskip("accelerate")
    model = network()
    mask = gossamer.prune(model, 0.8)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    example(f"train_with_{package}").train(model, mask, 2)
    assert mask.violations(model) == {}
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())


WORKER = """
import sys, torch
from torch import distributed, nn
from torch.nn import functional
import gossamer

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
store = distributed.FileStore(f"{folder}/store", 2)
distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 3))
mask = gossamer.prune(model, 0.8)
parallel = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
mask.enforce(parallel, optimizer)
x = torch.randn(64, 20, generator=torch.Generator().manual_seed(1))
y = torch.arange(64) % 3
for _ in range(5):
    optimizer.zero_grad()
    functional.cross_entropy(parallel(x[rank::2]), y[rank::2]).backward()
    optimizer.step()
assert mask.violations(model) == mask.violations(parallel) == {}
torch.save(model.state_dict(), f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_the_same_sparse_network_as_one(tmp_path: Path) -> None:
    code = textwrap.dedent(WORKER)
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(rank), str(tmp_path)]) for rank in (0, 1)
    ]
    assert [one.wait(timeout=300) for one in workers] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 3))
    mask = gossamer.prune(model, 0.8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    mask.enforce(model, optimizer)
    x = torch.randn(64, 20, generator=torch.Generator().manual_seed(1))
    for _ in range(5):
        optimizer.zero_grad()
        backward(functional.cross_entropy(model(x), torch.arange(64) % 3))
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
