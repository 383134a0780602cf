"""How fast layers train that store their non-zeros only, beside the strongest dense training.

    python -m benchmarks.sparse_training [--repeats 15] [--out sparse-training] [--only head ...]

Steps of networks of linear layers on one thread (forward, cross-entropy, backward, SGD; batch 128;
the one for CIFAR-10 at 99% sparsity, where Wesselink et al. published 4 times the speed of masked
PyTorch, "Nerva: a Truly Sparse Implementation of Neural Networks", 2024, arXiv:2407.17437, for
widths that may be others), one wide layer at batch 2048 (the shape of SparseProp, Nikdan et al.,
ICML 2023), convolutions of 3x3 pixels, forward and backward together, and the peak memory of
training a layer whose dense weight would take 37 GiB. Candidates take turns, each for several steps
in a row, as in a training; medians over the turns.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks._common import Timing, alternate, write_result
from gossamer.engine.native import available_instruction_sets
from gossamer.networks import SparseConv2d, SparseLinear
from gossamer.studies.process_settings import processor_has_bf16, tune_process

BATCH = 128
NETWORKS: dict[str, tuple[int, ...]] = {
    "perceptron": (784, 1000, 1000, 500, 200, 10),
    "head": (8192, 2048, 512, 128, 32, 10),
    "cifar-perceptron": (3072, 1024, 512, 10),
}
SPARSITIES = (0.9, 0.95)
NETWORK_SPARSITIES = {"perceptron": SPARSITIES, "head": SPARSITIES, "cifar-perceptron": (0.99,)}
WIDE_SHAPE, WIDE_SPARSITY, WIDE_BATCH = (768, 3072), 0.98, 2048
CONVOLUTIONS = ((64, 64, 16), (64, 128, 16), (128, 128, 16), (64, 64, 28))
"""Channels before and after, and the side of the images."""
IMAGES = 64
LARGE_SHAPE, LARGE_DENSITY, LARGE_STEPS = (50_000, 200_000), 0.0005, 3
BF16 = "dense bf16 autocast"
Candidates = dict[str, Callable[[], None]]


class _OneDnnProduct(torch.autograd.Function):
    """`torch.nn.functional.linear` in float32 by oneDNN, where PyTorch takes MKL."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _onednn(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        of_inputs = _onednn(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        of_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        return of_inputs, _onednn(gradient.t(), inputs.t()), of_bias


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return found


class OneDnnLinear(nn.Linear):
    """A dense layer in float32 by oneDNN."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs."""
        return _OneDnnProduct.apply(inputs, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]


def network(sizes: Sequence[int], layer: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """Return a perceptron of such layers."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [layer(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def sparse_layer(sparsity: float) -> Callable[[int, int], nn.Module]:
    """Return what makes a layer of that sparsity."""
    return lambda before, after: SparseLinear(
        before, after, connections=round((1 - sparsity) * before * after), seed=0
    )


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    bf16: bool,
    masks: Iterable[tuple[Tensor, Tensor]],
) -> None:
    """Train one step by hand, and hold weights at zero where their masks are."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = functional.cross_entropy(model(inputs), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for weight, mask in masks:
            weight.mul_(mask)


def steps(
    model: nn.Module, size: int, count: int, bf16: bool = False, masked: float | None = None
) -> Callable[[], None]:
    """Return what trains so many steps; `masked` holds that share of each weight at zero."""
    inputs, labels = torch.randn(BATCH, size), torch.randint(10, (BATCH,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    weights = [p for p in model.parameters() if p.dim() > 1] if masked else []
    masks = [(weight, torch.rand_like(weight) >= (masked or 0)) for weight in weights]

    def run() -> None:
        for _ in range(count):
            step(model, optimizer, inputs, labels, bf16, masks)

    return run


def measured_network(name: str, repeats: int) -> dict[str, Any]:
    """Measure steps of a network, dense and sparse."""
    sizes = NETWORKS[name]
    dense, sparse = (1, 6) if name == "head" else (4, 16)
    first, *_ = sparsities = NETWORK_SPARSITIES[name]
    counts: dict[str, int] = {}
    candidates: Candidates = {}

    def add(label: str, count: int, layer: Callable[[int, int], nn.Module], **how: Any) -> None:
        counts[label] = count
        candidates[label] = steps(network(sizes, layer), sizes[0], count, **how)

    add("dense float32, oneDNN", dense, OneDnnLinear)
    add("dense float32, MKL", dense, nn.Linear)
    add(f"dense float32, oneDNN, masked at {first:.0%}", dense, OneDnnLinear, masked=first)
    if processor_has_bf16():
        add(BF16, dense, nn.Linear, bf16=True)
    for sparsity in sparsities:
        add(f"sparse at {sparsity:.0%}", sparse, sparse_layer(sparsity))
    rows = table(name, alternate(candidates, repeats), counts)
    memory = {label: bytes_of(network(sizes, layer)) for label, layer in (
        ("dense", nn.Linear), *((f"sparse at {s:.0%}", sparse_layer(s)) for s in sparsities)
    )}  # fmt: skip
    return {"sizes": sizes, "batch": BATCH, "step": rows, "bytes_of_training": memory}


def bytes_of(model: nn.Module) -> int:
    """Return what weights, gradients, positions and the index of the kernels take."""
    stored = sum(2 * p.nbytes for p in model.parameters())
    stored += sum(buffer.nbytes for buffer in model.buffers())
    index = sum(12 * m.connections for m in model.modules() if isinstance(m, SparseLinear))
    return stored + index


def measured_wide(repeats: int) -> dict[str, Any]:
    """Measure the forward and the backward pass of one layer alone."""
    before, after = WIDE_SHAPE
    layers: dict[str, nn.Module] = {
        "dense float32, oneDNN": OneDnnLinear(before, after, bias=False),
        "dense float32, MKL": nn.Linear(before, after, bias=False),
        f"sparse at {WIDE_SPARSITY:.0%}": sparse_layer(WIDE_SPARSITY)(before, after),
    }
    if processor_has_bf16():
        layers[BF16] = nn.Linear(before, after, bias=False)
    inputs = torch.randn(WIDE_BATCH, before, requires_grad=True)
    gradient = torch.randn(WIDE_BATCH, after)

    def outputs_of(label: str) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=label == BF16):
            found: Tensor = layers[label](inputs)
            return found

    def forward(label: str) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                outputs_of(label)

        return run

    def backward(label: str) -> Callable[[], None]:
        layer, outputs = layers[label], outputs_of(label)
        wanted = [inputs, *layer.parameters()]
        # As the layer that follows gives it: in the order of the outputs in memory.
        given = torch.empty_like(outputs).copy_(gradient)
        return lambda: void(torch.autograd.grad(outputs, wanted, given, retain_graph=True))

    result: dict[str, Any] = {
        "shape": WIDE_SHAPE, "batch": WIDE_BATCH, "sparsity": WIDE_SPARSITY
    }  # fmt: skip
    for name, make in (("forward", forward), ("backward", backward)):
        timings = alternate({label: make(label) for label in layers}, repeats)
        result[name] = table(f"wide {name}", timings, {})
    return result


def measured_convolutions(repeats: int) -> list[dict[str, Any]]:
    """Measure forward and backward pass of convolutions alone, together."""
    found = []
    for before, after, side in CONVOLUTIONS:
        inputs = torch.randn(IMAGES, before, side, side)
        last = inputs.to(memory_format=torch.channels_last)
        size = 9 * before * after
        layers: dict[str, tuple[nn.Module, Tensor]] = {
            "dense float32, oneDNN": (nn.Conv2d(before, after, 3, padding=1), last),
            "dense float32, channels first": (nn.Conv2d(before, after, 3, padding=1), inputs),
        }
        if processor_has_bf16():
            layers[BF16] = (nn.Conv2d(before, after, 3, padding=1), last)
        for sparsity in SPARSITIES:
            kept = round((1 - sparsity) * size)
            layer = SparseConv2d(before, after, 3, padding=1, connections=kept, seed=0)
            layers[f"sparse at {sparsity:.0%}"] = layer, last
        timings = alternate({label: passes(label, *one) for label, one in layers.items()}, repeats)
        name = f"{before} to {after}, {side}"
        rows = table(name, timings, {})
        found.append({"channels": (before, after), "side": side, "images": IMAGES, "both": rows})
    return found


def passes(label: str, layer: nn.Module, images: Tensor) -> Callable[[], None]:
    """Return what runs a layer forward and backward; weights lie as the images do."""
    inputs = images.clone().requires_grad_()
    if inputs.stride(1) == 1 and isinstance(layer, nn.Conv2d):
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wanted = [inputs, *layer.parameters()]
    coming: list[Tensor] = []

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=label == BF16):
            outputs = layer(inputs)
        if not coming:
            coming.append(torch.randn_like(outputs))
        torch.autograd.grad(outputs, wanted, coming[0])

    return run


def void(_: object) -> None:
    """Drop a result."""


def measured_large() -> dict[str, Any]:
    """Train a layer whose dense weight fits nowhere, in a process of its own."""
    code = "from benchmarks.sparse_training import train_large; train_large()"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(found.stdout)
    print(f"{'large':12} {result['seconds_a_step']:.3f} s a step, peak memory "
          f"{result['peak_memory_gib']:.2f} GiB")  # fmt: skip
    return result


def train_large() -> None:
    """Train a few steps and print what the process took at most."""
    tune_process(1)
    before, after = LARGE_SHAPE
    layer = SparseLinear(before, after, connections=round(LARGE_DENSITY * before * after), seed=0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    inputs = torch.randn(BATCH, before)
    for _ in range(LARGE_STEPS):
        started = time.perf_counter()
        layer(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({
        "shape": LARGE_SHAPE, "density": LARGE_DENSITY, "batch": BATCH,
        "seconds_a_step": round(seconds, 3), "peak_memory_gib": round(peak, 2),
    }))  # fmt: skip


def table(
    name: str, timings: Mapping[str, Timing], counts: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """Return and print milliseconds of one step, and factors over the fastest dense ones."""
    each = {
        label: [s / counts.get(label, 1) for s in timing.seconds]
        for label, timing in timings.items()
    }
    medians = {label: Timing(tuple(seconds)).median for label, seconds in each.items()}
    dense = fastest(medians, "dense float32")
    bf16 = medians.get(BF16)
    rows: dict[str, dict[str, float]] = {}
    for label, median in medians.items():
        row = {
            "milliseconds": round(median * 1e3, 3),
            "fastest": round(min(each[label]) * 1e3, 3),
            "slowest": round(max(each[label]) * 1e3, 3),
        }
        if dense is not None:
            row["times_the_fastest_dense_float32"] = round(dense / median, 2)
        if bf16 is not None and label.startswith("sparse"):
            row["times_the_dense_bf16"] = round(bf16 / median, 2)
        rows[label] = row
        print(f"{name:12} {label:42} {row['milliseconds']:9.3f} ms "
              f"{row['times_the_fastest_dense_float32']:6.2f}x", flush=True)  # fmt: skip
    return rows


def fastest(medians: Mapping[str, float], kind: str) -> float | None:
    """Return the least median of the candidates of a kind, masked ones aside."""
    found = [m for label, m in medians.items() if label.startswith(kind) and "masked" not in label]
    return min(found, default=None)


def main(arguments: Iterable[str] | None = None) -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="turns of each candidate")
    parser.add_argument("--out", default="sparse-training", help="name of the file in results")
    parser.add_argument("--only", nargs="*", default=[*NETWORKS, "wide", "convolutions", "large"])
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    tune_process(1)
    result: dict[str, Any] = {
        "instruction_set": available_instruction_sets()[0],
        "bf16_instructions": processor_has_bf16(),
        "repeats": chosen.repeats,
    }
    for name in chosen.only:
        if name in NETWORKS:
            result[name] = measured_network(name, chosen.repeats)
        elif name == "large":
            result[name] = measured_large()
        else:
            measure = measured_wide if name == "wide" else measured_convolutions
            result[name] = measure(chosen.repeats)
    print(write_result(chosen.out, 1, result))


if __name__ == "__main__":
    main()
