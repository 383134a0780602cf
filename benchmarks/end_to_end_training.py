"""Seconds of an epoch of a 90% sparse training, against the strongest dense ones.

    GOSSAMER_DATA=... python -m benchmarks.end_to_end_training [--repeats 9] [--threads 1]

The perceptron and the training of the study of weight and unit pruning: MNIST, 784-1000-1000-500-
200-10, plain gradient descent at 0.1 in batches of 100. By hand: batches are cut from tensors in
memory, nothing is written down. By gossamer: its own loop, with everything that it notes of an
epoch. All candidates in one process, in turns; then the test accuracy of two epochs of each, by
three seeds.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import gossamer
from benchmarks._common import alternate, write_result
from benchmarks.sparse_training import OneDnnLinear, step
from gossamer.data import load
from gossamer.data.resident import Resident, make_resident
from gossamer.measures.functional import evaluate
from gossamer.networks import NetworkSpec, build, pack, unpack
from gossamer.studies.process_settings import processor_has_bf16, tune_process
from gossamer.training import Sgd, TrainingOptions
from gossamer.training.loop import Job, train
from gossamer.training.optimizers import make_optimizer

SPARSITY, BATCH, RATE, EPOCHS, SEEDS = 0.9, 100, 0.1, 2, 3
Epoch = Callable[[], None]
"""Trains for one epoch."""


def perceptron(seed: int) -> nn.Module:
    """Return the network of the study."""
    return build(NetworkSpec(name="mlp"), (1, 28, 28), 10, seed)


def with_onednn(network: nn.Module) -> nn.Module:
    """Return the network with float32 products by oneDNN in place of MKL."""
    for name, child in list(network.named_modules()):
        if type(child) is nn.Linear:
            faster = OneDnnLinear(child.in_features, child.out_features, child.bias is not None)
            faster.load_state_dict(child.state_dict())
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, faster)
    return network


def by_hand(network: nn.Module, data: Resident, bf16: bool, masked: bool) -> Epoch:
    """Return a loop as one writes it for speed; `masked` holds the zeros of the weights."""
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    weights = [p for p in network.parameters() if p.dim() > 1] if masked else []
    masks = [(weight, weight != 0) for weight in weights]

    def epoch() -> None:
        for batch in torch.split(torch.randperm(len(data.labels)), BATCH):
            step(network, optimizer, data.inputs[batch], data.labels[batch], bf16, masks)

    return epoch


def by_gossamer(network: nn.Module, data: Resident) -> Epoch:
    """Return gossamer's loop over a packed network."""
    options = TrainingOptions(epochs=1, batch=BATCH, optimizer=Sgd(rate=RATE))
    optimizer = make_optimizer(options.optimizer, network)
    job = Job(network, optimizer, data, None, 10, options, "float32", seed=0)

    def epoch() -> None:
        train(job)

    return epoch


def candidates(data: Resident, seed: int) -> dict[str, tuple[nn.Module, Epoch]]:
    """Return networks, and what trains each for an epoch; both sparse ones begin as one."""
    packed = perceptron(seed)
    mask = gossamer.prune(packed, SPARSITY, allocation="uniform")
    packed = pack(packed, mask, initialisation="he", seed=seed)
    dense_network = with_onednn(perceptron(seed))
    masked_network = with_onednn(unpack(copy.deepcopy(packed)))
    found = {
        "dense float32, oneDNN": (dense_network, by_hand(dense_network, data, False, False)),
        "masked float32, oneDNN": (masked_network, by_hand(masked_network, data, False, True)),
    }
    if processor_has_bf16():
        network = perceptron(seed)
        found["dense bf16 autocast"] = network, by_hand(network, data, True, False)
    found["gossamer, sparse float32"] = packed, by_gossamer(packed, data)
    return found


def accuracies(data: Resident, test: Resident) -> dict[str, list[float]]:
    """Return test accuracies after some epochs, by seed."""
    found: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        for name, (network, epoch) in candidates(data, seed).items():
            for _ in range(EPOCHS):
                epoch()
            accuracy = evaluate(network, test.inputs, test.labels, 10).accuracy
            found.setdefault(name, []).append(accuracy)
    return found


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    tune_process(arguments.threads)
    dataset = load("mnist")
    whole = make_resident(dataset.x_train, dataset.y_train, dataset.scale)
    test = make_resident(dataset.x_test, dataset.y_test, dataset.scale)
    part = Resident(whole.inputs[:10_000], whole.labels[:10_000])
    epochs = {name: epoch for name, (_, epoch) in candidates(part, 0).items()}
    rows: dict[str, Any] = {}
    for name, timing in alternate(epochs, arguments.repeats).items():
        low, high = timing.spread
        rows[name] = {"seconds": timing.median, "fastest": low, "slowest": high}
        print(f"{name:28} {timing.median:7.3f} s for 10,000 images")
    reached = accuracies(whole, test)
    for name, values in reached.items():
        print(f"{name:28} test accuracy {sum(values) / len(values):.4f}")
    result = {
        "sparsity": SPARSITY,
        "batch": BATCH,
        "repeats": arguments.repeats,
        "seconds_for_10000_images": rows,
        "test_accuracy_after_2_epochs": reached,
    }
    print(write_result("end-to-end-training", arguments.threads, result))


if __name__ == "__main__":
    main()
