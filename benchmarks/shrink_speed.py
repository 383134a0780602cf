"""What a search within a budget gains over pruning uniformly, or globally by magnitude.

    GOSSAMER_DATA=... python -m benchmarks.shrink_speed

All ways go down as many candidates with as many epochs of the same training, find out their
learning rate and where to begin, are held to the same bound, and end at the first candidate that
breaks it; they differ in how sparse each layer becomes, and the search chooses its pattern, too, at
the expense of some of its epochs. The networks that they take are timed in turn, from their files,
on one thread, beside the dense one in whatever of `benchmarks._rivals` is installed.

It is resumed by the same call: a way that is done is not searched again, one that was stopped goes
on where it stood. One network and one seed end within 20 minutes on an idle core. With
``--torch-pruning`` its magnitudes and Taylor's expansion stand beside them, where it is installed.
Searches time by the clock of the processor, so that they may run on a busy machine (``--untimed``);
the same call without it times what they found, on an idle one.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gossamer
from benchmarks._common import write_result
from benchmarks._rivals import rivals
from benchmarks._shrink_networks import CASES, Case, Parts, data_of, told, trained
from gossamer.masks import find_mask
from gossamer.measures.functional.latency import time_alternately
from gossamer.shrinking.costs import dense_bytes
from gossamer.shrinking.data import read_data
from gossamer.shrinking.descent import MOST, Way, share_at
from gossamer.shrinking.judging import drop_interval
from gossamer.shrinking.options import options_of, usual_batch
from gossamer.shrinking.piloting import tried_rate
from gossamer.shrinking.planning import Plan, way_down
from gossamer.shrinking.searching import Search, early_in, restored
from gossamer.shrinking.searching import search as descend
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification, evaluate
from gossamer.shrinking.within_budget import Begun, begin

SPARSITIES = (0.4, 0.5, 0.6, 0.7, 0.78, 0.85, 0.9, 0.935, 0.96, 0.98, 0.99)
"""Of the usual ways at each whole depth."""
BATCHES = (1, 64)
_SECONDS = 8.0


def _sparsity(share: float) -> float:
    """Return the sparsity at the depth at which a way of ours costs such a share."""
    falling = [-share_at(depth) for depth in range(MOST)]
    return float(np.interp(-share, falling, SPARSITIES))


def uniform(network: nn.Module, share: float) -> dict[str, float]:
    """Return the same sparsity for every layer."""
    sparsity = _sparsity(share)
    return dict.fromkeys(find_mask(network, sparsity, allocation="uniform").weights, sparsity)


def by_magnitude(network: nn.Module, share: float) -> dict[str, float]:
    """Return the sparsities at which magnitudes are compared across layers."""
    found = find_mask(network, _sparsity(share), allocation="global")
    return {name: 1 - density for name, density in found.densities.items()}


USUAL: Mapping[str, Callable[[nn.Module, float], dict[str, float]]] = {
    "uniform magnitude": uniform,
    "global magnitude": by_magnitude,
}
TORCH_PRUNING = ("Torch-Pruning magnitude", "Torch-Pruning Taylor")


def usual_plan(search: Search, name: str, epochs: int) -> Plan:
    """Return the candidates of a usual way, for a search to take as its plan.

    Its learning rate is found out, and its first candidate is where nothing has to be learnt anew,
    as a search of gossamer's does both.
    """
    network, ground = search.dense, search.ground
    sizes = {name: one.numel() for name, one in network.named_parameters()}
    way = Way("weight", partial(USUAL[name], network), sizes)
    rate, spent = tried_rate(
        way, network, search.learnt, ground, epochs, search.pulse, search.follow
    )
    rungs, shares = way_down(way, network, search.learnt, ground, epochs - spent, search.pulse)
    early = early_in(search.budget, len(rungs))
    return Plan("weight", rungs, shares, (), name, spent, rate=rate, early=early)


def begun(network: nn.Module, data: Parts, case: Case, pattern: str, seed: int, out: Path) -> Begun:
    """Return a search that is about to start."""
    options = options_of(
        max_drop=case.max_drop, pattern=pattern, epochs=case.epochs, threads=1, seed=seed,
        train_batch=usual_batch(case.examples),
    )  # fmt: skip
    return begin(
        network, read_data(data), classification(), options, train=None, out=out,
        time_limit=None, follow=lambda what: print(f"    {what}", flush=True), stop=lambda: False,
    )  # fmt: skip


def ours(
    network: nn.Module, data: Parts, case: Case, seed: int, folder: Path, *, pattern: str = "auto"
) -> dict[str, Any]:
    """Search as `gossamer.shrink` does, and return what it found."""
    shrunk = begun(network, data, case, pattern, seed, folder).finish()
    return {
        "findings": list(shrunk.report.findings),
        "drop": shrunk.report.drop.model_dump(),
        "bytes": [shrunk.before.bytes, shrunk.after.bytes],
        "seconds": shrunk.report.seconds,
        "forecast": shrunk.report.forecast,
    }


def as_usual(
    network: nn.Module, data: Parts, case: Case, seed: int, folder: Path, *, way: str
) -> dict[str, Any]:
    """Descend in a usual way, and keep what is taken as a file, without a search's evidence."""
    search = begun(network, data, case, "weight", seed, folder).search
    started = time.monotonic()
    search.journal.write("plan", usual_plan(search, way, case.epochs).to_dict())
    found = descend(search)
    left = network if found.chosen is None else restored(search, found.chosen)[0]
    small = gossamer.compress(left, search.meter.example, threads=1, choose="engine")
    small.save(folder / "network.gsm")
    task, test = search.budget.task, Split(*data["test"])
    drops = task.drop(*(evaluate(one, test, task) for one in (network, left)))
    sparsity = "nothing" if found.chosen is None else f"{found.tried[found.chosen].sparsity:.1%}"
    return {
        "findings": [f"{sparsity} of the weights are zero", found.ended],
        "drop": drop_interval(task, drops, search.budget.confidence).model_dump(),
        "bytes": [dense_bytes(network), (folder / "network.gsm").stat().st_size],
        "seconds": time.monotonic() - started,
    }


def by_torch_pruning(
    network: nn.Module, data: Parts, case: Case, seed: int, folder: Path, *, way: str
) -> dict[str, Any]:
    """Do the same by Torch-Pruning's descent; see `benchmarks._torch_pruning`."""
    from benchmarks._torch_pruning import descended

    with tempfile.TemporaryDirectory() as empty:
        search = begun(network, data, case, "unit", seed, Path(empty)).search
    return descended(search, way, case.epochs, folder)


def ways_of(given: argparse.Namespace, seed: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """Return the ways that one seed goes: gossamer's, and the others for some of them."""
    ways: dict[str, Callable[..., dict[str, Any]]] = {
        "gossamer": partial(ours, pattern=given.pattern)
    }
    if seed < given.compared:
        ways |= {way: partial(as_usual, way=way) for way in USUAL}
    if seed < given.compared and given.torch_pruning:
        ways |= {way: partial(by_torch_pruning, way=way) for way in TORCH_PRUNING}
    return ways


def rows_of(given: argparse.Namespace, case: Case, seed: int) -> dict[str, Any]:
    """Return what all ways found with one seed, and the times of their networks."""
    place = given.folder / f"{given.network}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    data = data_of(case, seed)
    network = trained(case, data, seed, place / "dense.safetensors")
    found: dict[str, Any] = {}
    ways = ways_of(given, seed)
    for way, search in ways.items():
        own = place / way.lower().replace(" ", "-")
        done = own / "done.json"
        if not done.is_file():
            print(f"seed {seed}, {way}", flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                told_of = search(network, data, case, seed, own)
            done.write_text(json.dumps(told_of))
        found[way] = json.loads(done.read_text())
        print(f"  {way}: {found[way]['findings'][0]}", flush=True)
    if given.untimed:
        return {"seed": seed, **found}
    files = {way: place / way.lower().replace(" ", "-") / "network.gsm" for way in ways}
    times = timed(network, files, data["validation"][0][: max(BATCHES)])
    print(f"  milliseconds by batch size: {times}", flush=True)
    return {"seed": seed, "milliseconds": times, **found}


def timed(
    network: nn.Module, files: Mapping[str, Path], example: Tensor
) -> dict[str, dict[str, float]]:
    """Time all networks and the dense one's rivals in turn, at each batch size.

    Returns
    -------
    dict
        By batch size, the medians in milliseconds by the wall's clock.
    """
    times: dict[str, dict[str, float]] = {}
    loaded = {way: gossamer.load(path) for way, path in files.items()}
    for batch in BATCHES:
        some = example[:batch].contiguous()
        calls: dict[str, Callable[[], object]] = {
            way: partial(one, some.numpy(), threads=1) for way, one in loaded.items()
        }
        dense = rivals(network, [some], 1, compiled=False)
        calls |= {f"dense, {name}": call for name, call in dense}
        timings = time_alternately(calls, seconds=_SECONDS, threads=1)
        times[str(batch)] = {name: 1e3 * one.median for name, one in timings.items()}
    return times


def main() -> None:
    """Train, search in each way, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=CASES, default="fashion-cnn")
    for option in ("examples", "training"):
        parser.add_argument(f"--{option}", type=int, help="fewer than the network's own")
    parser.add_argument("--pattern", default="auto")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--compared", type=int, default=1, help="seeds that go the other ways, too")
    parser.add_argument("--torch-pruning", action="store_true", help="its two ways, too")
    parser.add_argument("--folder", type=Path, default=Path("runs/shrink-speed"))
    parser.add_argument("--untimed", action="store_true", help="search alone, on a busy machine")
    parser.add_argument(
        "--write", action="store_true", help="write results/shrink-speed-NETWORK.json"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    fewer = {name: getattr(given, name) for name in ("examples", "training")}
    case = replace(CASES[given.network], **{k: v for k, v in fewer.items() if v is not None})
    rows = [rows_of(given, case, seed) for seed in range(given.seeds)]
    if given.write:
        write_result(f"shrink-speed-{given.network}", 1, {**told(case), "seeds": rows})


if __name__ == "__main__":
    main()
