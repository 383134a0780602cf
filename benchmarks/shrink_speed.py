"""What a search within a budget gains over pruning uniformly, or globally by magnitude.

    GOSSAMER_DATA=... python -m benchmarks.shrink_speed --seeds 3

All ways go down as many candidates with as many epochs of the same training, are held to the same
bound, and end at the first that breaks it; they differ in how sparse each layer becomes, and the
search chooses its pattern, too, at the expense of some of its epochs. The networks that they take
are timed in turn, beside the dense one in ONNX Runtime.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._common import write_result
from gossamer.data.catalog import load
from gossamer.masks import find_mask
from gossamer.measures.functional.latency import time_alternately
from gossamer.networks import NetworkSpec, build
from gossamer.shrinking.data import read_data
from gossamer.shrinking.descent import MOST, Rung, shared_out
from gossamer.shrinking.options import options_of
from gossamer.shrinking.planning import Plan
from gossamer.shrinking.result import Shrunk
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification
from gossamer.shrinking.weighing import onnx_session
from gossamer.shrinking.within_budget import begin

NETWORKS = {"fashion-cnn": "fashion-mnist", "mlp": "mnist"}
SPARSITIES = (0.5, 0.6, 0.7, 0.78, 0.84, 0.88, 0.91, 0.935, 0.955, 0.97, 0.98)
"""Of the usual ways, one a candidate."""
BATCHES = (1, 64)
_SECONDS = 4.0


def uniform(network: nn.Module, sparsity: float) -> dict[str, float]:
    """Return the same sparsity for every layer."""
    found = find_mask(network, sparsity, allocation="uniform")
    return dict.fromkeys(found.weights, sparsity)


def by_magnitude(network: nn.Module, sparsity: float) -> dict[str, float]:
    """Return the sparsities at which magnitudes are compared across layers."""
    found = find_mask(network, sparsity, allocation="global")
    return {name: 1 - density for name, density in found.densities.items()}


USUAL: Mapping[str, Callable[[nn.Module, float], dict[str, float]]] = {
    "uniform magnitude": uniform,
    "global magnitude": by_magnitude,
}


def usual_plan(network: nn.Module, way: str, epochs: int) -> Plan:
    """Return the candidates of a usual way, for a search to take as its plan."""
    assert len(SPARSITIES) == MOST
    rungs = tuple(Rung("weight", each, USUAL[way](network, each)) for each in SPARSITIES)
    return Plan("weight", rungs, shared_out(epochs, len(rungs)), (), way)


def data_of(name: str, examples: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return so many training examples, 20,000 for validation, and the test examples."""
    found = load(NETWORKS[name])
    x, y = torch.tensor(found.x_train), torch.tensor(found.y_train)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, validation = order[:examples], order[-20_000:]

    def ready(images: Tensor) -> Tensor:
        return (images.float() / 255 - 0.3) / 0.35

    return {
        "train": (ready(x[train]), y[train]),
        "validation": (ready(x[validation]), y[validation]),
        "test": (ready(torch.tensor(found.x_test)), torch.tensor(found.y_test)),
    }


def trained(name: str, data: Mapping[str, tuple[Tensor, Tensor]], epochs: int, seed: int) -> Any:
    """Return a dense network."""
    inputs, targets = data["train"]
    network = build(NetworkSpec(name=name), tuple(inputs.shape[1:]), 10, seed)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - epoch / epochs)
        for some, wanted in Split(inputs, targets).batches(100, seed=seed, epoch=epoch):
            optimizer.zero_grad()
            functional.cross_entropy(network(some), wanted).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def shrunk(network: nn.Module, data: Any, way: str, given: argparse.Namespace, seed: int) -> Shrunk:
    """Search in one way."""
    options = options_of(
        max_drop=given.max_drop, pattern=given.pattern if way == "gossamer" else "weight",
        epochs=given.epochs, threads=1, seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        begun = begin(
            network, read_data(data), classification(), options, train=None, out=Path(folder),
            time_limit=None, follow=lambda what: print(f"    {what}", flush=True),
            stop=lambda: False,
        )  # fmt: skip
        if way != "gossamer":
            plan = usual_plan(network, way, given.epochs)
            begun.search.journal.write("plan", plan.to_dict())
        return begun.finish()


def compared(
    network: nn.Module, found: Mapping[str, Shrunk], example: Tensor
) -> dict[str, dict[str, float]]:
    """Time all networks in turn, at each batch size; return milliseconds."""
    times: dict[str, dict[str, float]] = {}
    with onnx_session(network, example, 1) as session:
        for batch in BATCHES:
            some = example[:batch]
            calls: dict[str, Any] = {way: partial(one.network, some) for way, one in found.items()}
            if session is not None:
                calls["dense, ONNX Runtime"] = partial(session.run, None, {"input": some.numpy()})
            timings = time_alternately(calls, seconds=_SECONDS, threads=1)
            times[str(batch)] = {name: 1e3 * one.fastest for name, one in timings.items()}
    return times


def main() -> None:
    """Train, search in each way, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="fashion-cnn")
    parser.add_argument("--examples", type=int, default=40_000)
    parser.add_argument("--training", type=int, default=20, help="epochs of the dense network")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--max-drop", type=float, default=0.005)
    parser.add_argument("--pattern", default="auto")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write results/shrink-speed.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(given.seeds):
        data = data_of(given.network, given.examples, seed)
        network = trained(given.network, data, given.training, seed)
        found = {}
        for way in ("gossamer", *USUAL):
            print(f"seed {seed}, {way}", flush=True)
            found[way] = shrunk(network, data, way, given, seed)
            print(f"  {found[way]}", flush=True)
        times = compared(network, found, data["validation"][0][: max(BATCHES)])
        print(f"  milliseconds by batch size: {times}", flush=True)
        rows.append(
            {
                "seed": seed,
                "milliseconds": times,
                **{way: one.report.to_dict()["findings"] for way, one in found.items()},
                "drops": {way: one.report.drop.model_dump() for way, one in found.items()},
            }
        )
    if given.write:
        write_result("shrink-speed", 1, {"options": vars(given), "seeds": rows})


if __name__ == "__main__":
    main()
