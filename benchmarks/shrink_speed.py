"""What a search within a budget gains over pruning uniformly, or globally by magnitude.

    GOSSAMER_DATA=... python -m benchmarks.shrink_speed

All ways go down as many candidates with as many epochs of the same training, are held to the same
bound, and end at the first that breaks it; they differ in how sparse each layer becomes, and the
search chooses its pattern and its learning rate, too, at the expense of some of its epochs. The
networks that they take are timed in turn, from their files, beside the dense one in ONNX Runtime,
by the clock of the processor, as one thread runs.

It is resumed by the same call: a way that is done is not searched again, one that was stopped goes
on where it stood. One network and one seed end within 20 minutes on an idle core. With
``--torch-pruning`` its magnitudes and Taylor's expansion stand beside them, where it is installed.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from benchmarks._common import write_result
from gossamer.data.catalog import load
from gossamer.masks import find_mask
from gossamer.measures.functional.latency import time_alternately
from gossamer.networks import NetworkSpec, build
from gossamer.shrinking.costs import clock_of, dense_bytes
from gossamer.shrinking.data import read_data
from gossamer.shrinking.descent import MOST, Rung, shared_out
from gossamer.shrinking.judging import drop_interval
from gossamer.shrinking.options import options_of
from gossamer.shrinking.planning import Plan
from gossamer.shrinking.searching import Search, restored
from gossamer.shrinking.searching import search as descend
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification, evaluate
from gossamer.shrinking.weighing import onnx_session, session_call
from gossamer.shrinking.within_budget import Begun, begin

NETWORKS = {"fashion-cnn": "fashion-mnist", "mlp": "mnist"}
SPARSITIES = (0.5, 0.6, 0.7, 0.78, 0.84, 0.88, 0.91, 0.935, 0.955, 0.97, 0.98)
"""Of the usual ways, one a candidate."""
BATCHES = (1, 64)
_SECONDS = 4.0
Parts = Mapping[str, tuple[Tensor, Tensor]]


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


def trained(name: str, data: Parts, epochs: int, seed: int, kept: Path) -> nn.Module:
    """Return a dense network, from the file where an earlier call kept it."""
    inputs, targets = data["train"]
    network = build(NetworkSpec(name=name), tuple(inputs.shape[1:]), 10, seed)
    if kept.is_file():
        network.load_state_dict(load_file(kept))
        return network.eval()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for epoch in range(epochs):
        print(f"  dense, epoch {epoch + 1} of {epochs}", flush=True)
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - epoch / epochs)
        for some, wanted in Split(inputs, targets).batches(100, seed=seed, epoch=epoch):
            optimizer.zero_grad()
            functional.cross_entropy(network(some), wanted).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    save_file(network.state_dict(), kept)
    return network.eval()


def begun(
    network: nn.Module, data: Parts, given: argparse.Namespace, pattern: str, seed: int, out: Path
) -> Begun:
    """Return a search that is about to start."""
    options = options_of(
        max_drop=given.max_drop, pattern=pattern, epochs=given.epochs, threads=1, seed=seed
    )
    return begin(
        network, read_data(data), classification(), options, train=None, out=out,
        time_limit=None, follow=lambda what: print(f"    {what}", flush=True), stop=lambda: False,
    )  # fmt: skip


def searched(
    network: nn.Module, data: Parts, way: str, given: argparse.Namespace, seed: int, folder: Path
) -> dict[str, Any]:
    """Search in one way, keep its network as a file, and return what it found."""
    pattern = given.pattern if way == "gossamer" else "weight"
    search = begun(network, data, given, pattern, seed, folder)
    if way in USUAL:
        search.search.journal.write("plan", usual_plan(network, way, given.epochs).to_dict())
        return taken_of(search.search, network, data, folder)
    shrunk = search.finish()
    return {
        "findings": list(shrunk.report.findings),
        "drop": shrunk.report.drop.model_dump(),
        "bytes": [shrunk.before.bytes, shrunk.after.bytes],
        "seconds": shrunk.report.seconds,
        "forecast": shrunk.report.forecast,
    }


def taken_of(search: Search, dense: nn.Module, data: Parts, folder: Path) -> dict[str, Any]:
    """Descend, and keep what is taken as a file, without the evidence of a whole search."""
    started = time.monotonic()
    found = descend(search)
    network = dense if found.chosen is None else restored(search, found.chosen)[0]
    small = gossamer.compress(network, search.meter.example, threads=1, choose="engine")
    small.save(folder / "network.gsm")
    task, test = search.budget.task, Split(*data["test"])
    drops = task.drop(*(evaluate(one, test, task) for one in (dense, network)))
    sparsity = "nothing" if found.chosen is None else f"{found.tried[found.chosen].sparsity:.1%}"
    return {
        "findings": [f"{sparsity} of the weights are zero", found.ended],
        "drop": drop_interval(task, drops, search.budget.confidence).model_dump(),
        "bytes": [dense_bytes(dense), (folder / "network.gsm").stat().st_size],
        "seconds": time.monotonic() - started,
    }


def by_torch_pruning(
    network: nn.Module, data: Parts, way: str, given: argparse.Namespace, seed: int, folder: Path
) -> dict[str, Any]:
    """Do the same by Torch-Pruning's descent; see `benchmarks._torch_pruning`."""
    from benchmarks._torch_pruning import descended

    with tempfile.TemporaryDirectory() as empty:
        search = begun(network, data, given, "unit", seed, Path(empty)).search
    return descended(search, way, given.epochs, folder)


def rows_of(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return what all ways found with one seed, and the times of their networks."""
    place = given.folder / f"{given.network}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    data = data_of(given.network, given.examples, seed)
    network = trained(given.network, data, given.training, seed, place / "dense.safetensors")
    ways: dict[str, Callable[..., dict[str, Any]]] = dict.fromkeys(("gossamer", *USUAL), searched)
    if given.torch_pruning:
        ways |= dict.fromkeys(("Torch-Pruning magnitude", "Torch-Pruning Taylor"), by_torch_pruning)
    found: dict[str, Any] = {}
    for way, search in ways.items():
        own = place / way.lower().replace(" ", "-")
        done = own / "done.json"
        if not done.is_file():
            print(f"seed {seed}, {way}", flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                told = search(network, data, way, given, seed, own)
            done.write_text(json.dumps(told))
        found[way] = json.loads(done.read_text())
        print(f"  {way}: {found[way]['findings'][0]}", flush=True)
    files = {way: place / way.lower().replace(" ", "-") / "network.gsm" for way in ways}
    times = timed(network, files, data["validation"][0][: max(BATCHES)])
    print(f"  milliseconds by batch size: {times}", flush=True)
    return {"seed": seed, "milliseconds": times, **found}


def timed(
    network: nn.Module, files: Mapping[str, Path], example: Tensor
) -> dict[str, dict[str, float]]:
    """Time all networks in turn, at each batch size; return milliseconds."""
    times: dict[str, dict[str, float]] = {}
    loaded = {way: gossamer.load(path) for way, path in files.items()}
    with onnx_session(network, example, 1) as session:
        for batch in BATCHES:
            some = example[:batch]
            calls: dict[str, Callable[[], object]] = {
                way: partial(one, some.numpy(), threads=1) for way, one in loaded.items()
            }
            if session is not None:
                calls["dense, ONNX Runtime"] = session_call(session, network, some)
            timings = time_alternately(calls, seconds=_SECONDS, threads=1, clock=clock_of(1))
            times[str(batch)] = {name: 1e3 * one.fastest for name, one in timings.items()}
    return times


def main() -> None:
    """Train, search in each way, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, default="fashion-cnn")
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--training", type=int, default=8, help="epochs of the dense network")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--max-drop", type=float, default=0.005)
    parser.add_argument("--pattern", default="auto")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--torch-pruning", action="store_true", help="its two ways, too")
    parser.add_argument("--folder", type=Path, default=Path("runs/shrink-speed"))
    parser.add_argument(
        "--write", action="store_true", help="write results/shrink-speed-NETWORK.json"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [rows_of(given, seed) for seed in range(given.seeds)]
    if given.write:
        told = {name: value for name, value in vars(given).items() if name != "folder"}
        write_result(f"shrink-speed-{given.network}", 1, {"options": told, "seeds": rows})


if __name__ == "__main__":
    main()
