"""Everything that is measured of one network, by name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gossamer.core.errors import InputError, TrainingError
from gossamer.masks import Mask, prunable_weights
from gossamer.masks.storages import distinct
from gossamer.measure import (
    Accuracy,
    Size,
    count_layers,
    effective_weights,
    evaluate,
    multiply_adds,
    size,
)
from gossamer.nets.packing import unpack
from gossamer.recipes.leaking import published_attacks
from gossamer.recipes.trial_data import TrialData
from gossamer.records.record import Layer


@dataclass(frozen=True)
class Measured:
    """Named numbers, accuracy by class, counts by layer; as a `Record` has them."""

    numbers: Mapping[str, float]
    per_class: Mapping[str, tuple[float, ...]]
    layers: tuple[Layer, ...]


def measure_network(
    network: nn.Module, mask: Mask | None, data: TrialData, classes: int, packed: bool = False
) -> Measured:
    """Measure accuracy on training sample and test set, size, work and connectivity.

    A packed network is measured as the dense one that computes the same, but for its trainable
    parameters.

    Raises
    ------
    TrainingError
        If a pruned weight is not zero, or a loss is not a number.
    """
    parameters = distinct(dict(network.named_parameters()))
    trainable = sum(p.numel() for p in parameters.values() if p.requires_grad)
    if packed:
        network = unpack(network)
    if mask is not None:
        _check_zeros(network, mask)
    accuracies = {
        "train": evaluate(network, data.sample.inputs, data.sample.labels, classes),
        "test": evaluate(network, data.test.inputs, data.test.labels, classes),
    }
    numbers: dict[str, float] = {"trainable_parameters": trainable}
    for part, accuracy in accuracies.items():
        numbers |= _accuracy_numbers(part, accuracy)
    if data.pool is not None:
        gap = accuracies["train"].accuracy - accuracies["test"].accuracy
        numbers |= published_attacks(network, data, gap)
    sizes, layers = _sizes(network, mask, data.test.inputs[:1])
    per_class = {part: accuracy.per_class for part, accuracy in accuracies.items()}
    return Measured({**numbers, **sizes}, per_class, layers)


def _check_zeros(network: nn.Module, mask: Mask) -> None:
    if violations := mask.violations(network):
        name, count = next(iter(violations.items()))
        raise TrainingError(
            f"{count} pruned values of {name} are not zero although the mask was enforced, so "
            "the measures would be wrong and none was recorded"
        )


def _accuracy_numbers(part: str, accuracy: Accuracy) -> dict[str, float]:
    if not math.isfinite(accuracy.loss):
        raise TrainingError(
            f"the network's {part} loss is not a number: its weights or its inputs overflow"
        )
    return {
        f"{part}_accuracy": accuracy.accuracy,
        f"{part}_loss": accuracy.loss,
        f"{part}_examples": accuracy.examples,
    }


def _sizes(
    network: nn.Module, mask: Mask | None, example: Tensor
) -> tuple[dict[str, float], tuple[Layer, ...]]:
    """Return the measures of size, work and connectivity, and the counts of each layer."""
    prunable = (
        list(mask.weights)
        if mask
        else [layer.name for layer in prunable_weights(network, example=example)]
    )
    counted = size(network, prunable)
    layers = count_layers(network, prunable, _effective(network, example))
    multiplies = multiply_adds(network, example)
    numbers: dict[str, float] = {
        "parameters": counted.parameters,
        "nonzero_parameters": counted.nonzero,
        "prunable_parameters": counted.prunable,
        "nonzero_prunable": counted.prunable_nonzero,
        "sparsity": counted.sparsity,
        "sparsity_all": counted.total_sparsity,
        "bytes_dense": counted.bytes_dense,
        "bytes_compressed": counted.bytes_compressed,
        "macs_dense": multiplies.dense,
        "macs_nonzero": multiplies.nonzero,
    }
    return numbers | _connectivity(counted, layers), layers


def _effective(network: nn.Module, example: Tensor) -> Mapping[str, Tensor] | None:
    """Return which weights reach the output, or None for a network that cannot tell.

    One that makes float32 tensors of its own, for instance, cannot run in float64; everything
    else can be measured of it all the same.
    """
    try:
        return effective_weights(network, example)
    except InputError:
        return None


def _connectivity(counted: Size, layers: tuple[Layer, ...]) -> dict[str, float]:
    """Return the measures of what reaches the output; none where that is not known."""
    unreached, reached = 0, 0
    for layer in layers:
        if layer.effective is None:
            return {}
        unreached += layer.nonzero - layer.effective
        reached += layer.effective if layer.prunable else 0
    return {
        "effective_parameters": counted.nonzero - unreached,
        "effective_sparsity": 1 - reached / counted.prunable,
    }
