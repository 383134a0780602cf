"""What `gossamer bench` compares: a network at several sparsities, batch sizes and threads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.compression.checkpoints import load_weights
from gossamer.core.errors import InputError
from gossamer.engine import Floats
from gossamer.masks import OUTPUT_LAYER, Block, prune
from gossamer.masks.layers import prunable_weights
from gossamer.networks import NetworkSpec, build, names
from gossamer.networks.geometry import HIDDEN

PatternName = Literal["weight", "unit", "block"]
SEED = 0
WIDE_HEAD = "wide-head"
"""The dense layers of "cifar-wide-cnn" on their own, without biases."""
LEAST_GIVEN = 0.0005
"""Share of zeros, 0.1% when it is rounded, from which on a network counts as given with zeros."""
_CLASSES = 10
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
    classes: int | None = None
    """Outputs of a built-in network, by default 10; a callable's own says itself how many."""
    weights: Path | None = None
    pattern: PatternName = "weight"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What the callable is called with; ``hidden`` of a built-in network that has it."""


@dataclass(frozen=True)
class Case:
    """One row of the tables: a sparsity, a batch size and a number of threads."""

    sparsity: float
    threads: int
    batch: int
    as_given: bool = False
    """Whether the network is timed with the zeros that it has, and is not pruned."""


def subject(
    model: str,
    input_shape: Sequence[int] | None = None,
    classes: int | None = None,
    weights: Path | None = None,
    pattern: PatternName = "weight",
    arguments: Mapping[str, Any] | None = None,
) -> Subject:
    """Return what is compared, with the shape of the usual examples where none is given.

    Raises
    ------
    InputError
        If no shape is given for a network of one's own, or a file in the place of the network.

    Examples
    --------
    >>> subject("cifar-cnn").input_shape, subject("wide-head").input_shape
    ((3, 32, 32), (8192,))
    """
    if ":" not in model and model not in (*names(), WIDE_HEAD) and Path(model).is_file():
        if model.endswith(".py"):
            raise InputError(
                f"{model}: which network is in it? Put the name of a function or class behind a "
                f"colon, as in {model}:small."
            )
        raise InputError(
            f"{model}: is a file, which holds weights at most; give the network that they belong "
            f"to, such as `gossamer bench my.networks:small --weights {model}`."
        )
    if input_shape is None and ":" in model:
        raise InputError(
            f"{model}: the shape of its input is not known; give that of one example, "
            "such as --input-shape 3,224,224."
        )
    shape = _SHAPES.get(model, _MNIST_SHAPE) if input_shape is None else tuple(input_shape)
    return Subject(model, shape, classes, weights, pattern, arguments or {})


def cases(
    sparsities: Sequence[float], batches: Sequence[int], threads: Sequence[int], given: float = 0.0
) -> tuple[Case, ...]:
    """Return the rows in the order in which they are measured, each once.

    Sparsity changes last, as every change of it prunes and converts the network anew. A network
    that has zeros is timed as it is, too, and pruned only where that makes more of them.

    Parameters
    ----------
    sparsities, batches, threads
        What is combined.
    given
        Share of zeros that the network has before it is pruned.

    Examples
    --------
    >>> [case.batch for case in cases([0.9], [64, 1, 64], [1])]
    [1, 64]
    >>> [(case.sparsity, case.as_given) for case in cases([0.5, 0.95], [1], [1], given=0.9)]
    [(0.9, True), (0.95, False)]
    """
    pruned = given >= LEAST_GIVEN
    levels = [(sparsity, False) for sparsity in set(sparsities) if not pruned or sparsity > given]
    levels += [(given, True)] if pruned else []
    return tuple(
        Case(sparsity, count, batch, as_given)
        for sparsity, as_given in sorted(levels)
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


def network_of(chosen: Subject, case: Case) -> nn.Module:
    """Return the network of one row in evaluation mode, pruned unless it is timed as it is."""
    return pruned_network(chosen, 0.0 if case.as_given else case.sparsity)


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
            example=example_of(chosen),
        )
    return network.eval().requires_grad_(False)


def build_network(chosen: Subject) -> nn.Module:
    """Return the network before it is pruned, with its weights.

    Raises
    ------
    InputError
        If the network cannot be built or its weights cannot be read.
    """
    network = _imported(chosen) if ":" in chosen.model else _built_in(chosen)
    if chosen.weights is None:
        return network
    try:
        load_weights(network, chosen.weights)
    except InputError as error:
        hint = (
            " If it was trained on other examples or classes, give --input-shape and --classes."
            if ":" not in chosen.model and "than the network has" in str(error)
            else ""
        )
        raise InputError(f"{error}{hint}") from error
    return network


def _built_in(chosen: Subject) -> nn.Module:
    admitted = ("hidden",) if chosen.model in HIDDEN else ()
    for name in chosen.arguments:
        if name not in admitted and chosen.model in (*names(), WIDE_HEAD):
            raise InputError(
                f"--network-arg {name}: {chosen.model} has no such parameter; of the built-in "
                f"networks {', '.join(HIDDEN)} have one, 'hidden'."
            )
    hidden = chosen.arguments.get("hidden")
    wide = chosen.model == WIDE_HEAD
    widths = (2048, 512, 128, 32) if wide else None if hidden is None else _widths(hidden)
    spec = NetworkSpec(name="mlp" if wide else chosen.model, hidden=widths)
    return build(spec, chosen.input_shape, chosen.classes or _CLASSES, SEED)


def _widths(given: Any) -> tuple[int, ...]:
    values = [given] if isinstance(given, int) else given
    sound = isinstance(values, list | tuple) and all(type(v) is int and v > 0 for v in values)
    if not sound or not values:
        raise InputError(
            f"--network-arg hidden={given}: whole numbers from 1 on were expected, such as "
            "hidden=[300,100]."
        )
    return tuple(values)


def _imported(chosen: Subject) -> nn.Module:
    from gossamer.networks.imported import imported_network

    network = imported_network(chosen.model, chosen.input_shape, None, SEED, chosen.arguments)
    if chosen.classes is None:
        return network
    mode = network.training
    with torch.no_grad():
        outputs = network.eval()(torch.zeros(2, *chosen.input_shape))
    if outputs.shape[1:] != (chosen.classes,):
        raise InputError(
            f"--classes {chosen.classes}: {chosen.model} gives {list(outputs.shape[1:])} for each "
            "example; leave --classes out, which only the built-in networks need."
        )
    return network.train(mode)


def share_of_zeros(network: nn.Module, chosen: Subject) -> float:
    """Return the share of zeros in the prunable weights."""
    values = [layer.weight for layer in prunable_weights(network, example=example_of(chosen))]
    zeros = sum(int((value == 0).sum()) for value in values)
    return zeros / max(1, sum(value.numel() for value in values))


def example_of(chosen: Subject) -> Tensor:
    """Return two examples of the shape that the network takes."""
    return torch.from_numpy(random_inputs((2, *chosen.input_shape)))


def random_inputs(shape: tuple[int, ...]) -> Floats:
    """Return the same standard normal inputs of a shape in every process."""
    return np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
