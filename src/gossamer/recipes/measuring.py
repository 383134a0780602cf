"""Measuring the network that a trial ends with."""

from collections.abc import Collection

from torch import nn

from gossamer.core.errors import TrainingError
from gossamer.masks import Mask
from gossamer.masks.storages import distinct
from gossamer.measures import Subject, Taken, take
from gossamer.networks.packing import unpack
from gossamer.recipes.trial_data import TrialData


def measure_network(
    network: nn.Module,
    mask: Mask | None,
    data: TrialData,
    classes: int,
    names: Collection[str],
    packed: bool = False,
    sparsity_requested: float = 0.0,
) -> Taken:
    """Take some measurements of a network, by their names.

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
    if mask is not None and (violations := mask.violations(network)):
        name, count = next(iter(violations.items()))
        raise TrainingError(
            f"{count} pruned values of {name} are not zero although the mask was enforced, so "
            "the measures would be wrong and none was recorded"
        )
    subject = Subject(
        network=network,
        trainable_parameters=trainable,
        mask=mask,
        sample=data.sample,
        train=data.train,
        test=data.test,
        classes=classes,
        sparsity_requested=sparsity_requested,
    )
    return take(subject, names)
