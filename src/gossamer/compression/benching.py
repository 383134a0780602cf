"""What `gossamer bench` compares: a network at several sparsities, batch sizes and threads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from torch import nn

from gossamer.errors import InputError
from gossamer.kernels.network import Floats
from gossamer.masks import OUTPUT_LAYER, Block, prune
from gossamer.masks.layers import prunable_weights
from gossamer.nets import NetworkSpec, build

PatternName = Literal["weight", "unit", "block"]
SEED = 0
WIDE_HEAD = "wide-head"
"""The dense layers of "cifar-wide-cnn" on their own, without biases."""
_MNIST_SHAPE, _CIFAR_SHAPE = (1, 28, 28), (3, 32, 32)
_SHAPES = {
    WIDE_HEAD: (8192,),
    "cifar-cnn": _CIFAR_SHAPE,
    "cifar-dropout-cnn": _CIFAR_SHAPE,
    "cifar-wide-cnn": _CIFAR_SHAPE,
}


@dataclass(frozen=True)
class Subject:
    """A network, and how it is pruned."""

    model: str
    """A built-in name, or ``package.module:callable``."""
    input_shape: tuple[int, ...]
    classes: int = 10
    weights: Path | None = None
    pattern: PatternName = "weight"


@dataclass(frozen=True)
class Case:
    """One row of the tables: a sparsity, a batch size and a number of threads."""

    sparsity: float
    threads: int
    batch: int


def subject(
    model: str,
    input_shape: Sequence[int] | None = None,
    classes: int = 10,
    weights: Path | None = None,
    pattern: PatternName = "weight",
) -> Subject:
    """Return what is compared, with the shape of the usual examples where none is given.

    Raises
    ------
    InputError
        If no shape is given for a network of one's own.

    Examples
    --------
    >>> subject("cifar-cnn").input_shape, subject("wide-head").input_shape
    ((3, 32, 32), (8192,))
    """
    if input_shape is None and ":" in model:
        raise InputError(
            f"{model}: the shape of its input is not known; give that of one example, "
            "such as --input-shape 3,224,224."
        )
    shape = _SHAPES.get(model, _MNIST_SHAPE) if input_shape is None else tuple(input_shape)
    return Subject(model, shape, classes, weights, pattern)


def cases(
    sparsities: Sequence[float], batches: Sequence[int], threads: Sequence[int]
) -> tuple[Case, ...]:
    """Return the rows in the order in which they are measured, each once.

    Sparsity changes last, as every change of it prunes and converts the network anew.

    Examples
    --------
    >>> [case.batch for case in cases([0.9], [64, 1, 64], [1])]
    [1, 64]
    """
    return tuple(
        Case(sparsity, count, batch)
        for sparsity in sorted(set(sparsities))
        for count in sorted(set(threads))
        for batch in sorted(set(batches))
    )


def compiled_case(rows: Sequence[Case]) -> Case:
    """Return the one row that `torch.compile` is measured in: batch 64 at 90%, or what is nearest.

    Compiling takes most of a minute, so it is done once.
    """
    return min(
        rows, key=lambda case: (abs(case.sparsity - 0.9), case.threads, abs(case.batch - 64))
    )


def pruned_network(chosen: Subject, sparsity: float) -> nn.Module:
    """Return the network in evaluation mode, the same share of the weights of each layer zero.

    Whole units are never removed from the output layer, whose units are the classes.

    Raises
    ------
    InputError
        If the network cannot be built, its weights cannot be read, or it cannot be pruned so.
    """
    network = build_network(chosen)
    if sparsity > 0:
        prune(
            network,
            sparsity,
            allocation="uniform",
            pattern=Block(4, 1) if chosen.pattern == "block" else chosen.pattern,
            exclude=OUTPUT_LAYER if chosen.pattern == "unit" else (),
        )
    return network.eval().requires_grad_(False)


def build_network(chosen: Subject) -> nn.Module:
    """Return the network before it is pruned, with its weights.

    Raises
    ------
    InputError
        If the network cannot be built or its weights cannot be read.
    """
    wide = chosen.model == WIDE_HEAD
    spec = (
        NetworkSpec(name="mlp", hidden=(2048, 512, 128, 32))
        if wide
        else NetworkSpec(name=chosen.model)
    )
    network = build(spec, chosen.input_shape, chosen.classes, SEED)
    if chosen.weights is not None:
        _load_weights(network, chosen.weights)
    return network


def _load_weights(network: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{path}: cannot be read as weights ({' '.join(reason.split())}); a safetensors file "
            "of the network's state_dict was expected."
        ) from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{path}: holds other weights than the network has "
            f"({'; '.join(_complaints(str(error)))}); its state_dict was expected."
        ) from error


def _complaints(text: str) -> Iterator[str]:
    """Yield the lines of torch's complaint about a state_dict that say what is wrong."""
    for line in text.splitlines()[1:3]:
        yield " ".join(line.split()).rstrip(".")[:200]


def share_of_zeros(network: nn.Module) -> float:
    """Return the share of zeros in the prunable weights."""
    values = [layer.weight for layer in prunable_weights(network)]
    zeros = sum(int((value == 0).sum()) for value in values)
    return zeros / sum(value.numel() for value in values)


def random_inputs(shape: tuple[int, ...]) -> Floats:
    """Return the same standard normal inputs of a shape in every process."""
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
