"""Images a second of training the FashionMNIST CNN, against loops that people write by hand.

    GOSSAMER_DATA=... python -m benchmarks.training_speed [--repeats 5] [--threads 2]

Batch 128, Adam 1e-3, all candidates in one process, alternating; then one training of two epochs
each with the tutorial's loop and with gossamer's, for three seeds, to compare final accuracies.
"""

import argparse
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._common import alternate, write_result
from gossamer.data import load
from gossamer.data.resident import Resident, make_resident
from gossamer.measures.functional import evaluate
from gossamer.networks import NetworkSpec, build
from gossamer.studies.process_settings import processor_has_bf16, tune_process
from gossamer.training import Adam, Precision, TrainingOptions
from gossamer.training.loop import Job, train
from gossamer.training.optimizers import make_optimizer

BATCH = 128
IMAGES = 6_400
EPOCHS, SEEDS = 2, 3


def tutorial_network(seed: int) -> nn.Module:
    """Return the CNN as a tutorial writes it, ReLU before pooling, with the same weights."""
    ours = build(NetworkSpec(name="fashion-cnn"), (1, 28, 28), 10, seed)
    weights = list(ours.state_dict().values())
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 250), nn.ReLU(), nn.Linear(250, 10),
    )  # fmt: skip
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
    return network


def tutorial_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[list[Tensor]] | DataLoader[tuple[Tensor, ...]],
    channels_last: bool = False,
    bf16: bool = False,
) -> None:
    """Train one epoch as a PyTorch tutorial does, `.item()` for the running loss included."""
    network.train()
    running = 0.0
    for inputs, labels in batches:
        x = inputs.contiguous(memory_format=torch.channels_last) if channels_last else inputs
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = functional.cross_entropy(network(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        running += loss.item()


def gossamer_epoch(data: Resident, precision: Precision) -> Callable[[], None]:
    """Return a function that trains one epoch with gossamer's loop."""
    options = TrainingOptions(epochs=1, batch=BATCH, optimizer=Adam())
    network = build(NetworkSpec(name="fashion-cnn"), (1, 28, 28), 10, 0)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(options.optimizer, network)
    job = Job(network, optimizer, data, None, 10, options, precision, seed=0)
    return lambda: void(train(job))


def tutorial(data: Resident, channels_last: bool, bf16: bool = False) -> Callable[[], None]:
    """Return a function that trains one epoch with a DataLoader."""
    network = tutorial_network(0)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters())
    inputs = data.inputs.contiguous(memory_format=torch.contiguous_format)
    loader = DataLoader(TensorDataset(inputs, data.labels), batch_size=BATCH, shuffle=True)
    return lambda: tutorial_epoch(network, optimizer, loader, channels_last, bf16)


def void(_: object) -> None:
    """Drop a result."""


def final_accuracies(train_part: Resident, test: Resident) -> dict[str, list[float]]:
    """Train for a few epochs with each loop; return test accuracies by seed.

    In bf16, too, where the processor has instructions for it; elsewhere that takes too long.
    """
    precisions: tuple[Precision, ...] = (
        ("float32", "bf16") if processor_has_bf16() else ("float32",)
    )
    found: dict[str, list[float]] = {"DataLoader loop": []}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        network = tutorial_network(seed)
        optimizer = torch.optim.Adam(network.parameters())
        loader = DataLoader(
            TensorDataset(train_part.inputs.contiguous(), train_part.labels),
            batch_size=BATCH,
            shuffle=True,
        )
        for _ in range(EPOCHS):
            tutorial_epoch(network, optimizer, loader)
        found["DataLoader loop"].append(evaluate(network, test.inputs, test.labels, 10).accuracy)
        options = TrainingOptions(epochs=EPOCHS, batch=BATCH, optimizer=Adam())
        for precision in precisions:
            ours = build(NetworkSpec(name="fashion-cnn"), (1, 28, 28), 10, seed)
            ours = ours.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            train(Job(ours, make_optimizer(options.optimizer, ours), train_part, None, 10, options,
                      precision, seed))  # fmt: skip
            accuracy = evaluate(ours, test.inputs, test.labels, 10).accuracy
            found.setdefault(f"gossamer {precision}", []).append(accuracy)
    return found


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-accuracy", action="store_true")
    arguments = parser.parse_args()
    dataset = load("fashion-mnist")
    whole = make_resident(dataset.x_train, dataset.y_train, dataset.scale)
    test = make_resident(dataset.x_test, dataset.y_test, dataset.scale)
    part = Resident(whole.inputs[:IMAGES], whole.labels[:IMAGES])
    # Measured first and without gossamer's malloc settings: they are the process's.
    torch.set_num_threads(arguments.threads)
    by_hand = {
        "DataLoader loop (tutorial)": tutorial(part, channels_last=False),
        "DataLoader loop, channels_last": tutorial(part, channels_last=True),
    }
    if processor_has_bf16():  # a rival where it can be one
        name = "DataLoader loop, channels_last, bf16 autocast"
        by_hand[name] = tutorial(part, channels_last=True, bf16=True)
    plain = alternate(by_hand, arguments.repeats)
    tune_process(arguments.threads)
    tuned = alternate(
        {
            "DataLoader loop, gossamer's malloc settings": tutorial(part, channels_last=False),
            "gossamer float32": gossamer_epoch(part, "float32"),
            "gossamer bf16": gossamer_epoch(part, "bf16"),
        },
        arguments.repeats,
    )
    timings = plain | tuned
    base = timings["DataLoader loop (tutorial)"].median
    rows = {}
    for name, timing in timings.items():
        rows[name] = {
            "images_per_second": round(IMAGES / timing.median),
            "fastest": round(IMAGES / timing.spread[0]),
            "slowest": round(IMAGES / timing.spread[1]),
            "factor": round(base / timing.median, 2),
        }
        print(
            f"{name:45} {rows[name]['images_per_second']:7,} images/s  {rows[name]['factor']:5.2f}x"
        )
    result: dict[str, object] = {
        "bf16_instructions": processor_has_bf16(),
        "batch": BATCH,
        "repeats": arguments.repeats,
        "training": rows,
    }
    if not arguments.skip_accuracy:
        accuracies = final_accuracies(whole, test)
        result["test_accuracy_after_2_epochs"] = accuracies
        for name, values in accuracies.items():
            print(f"{name:45} {math.fsum(values) / len(values):.4f} test accuracy, {SEEDS} seeds")
    print(write_result("training-speed", arguments.threads, result))


if __name__ == "__main__":
    main()
