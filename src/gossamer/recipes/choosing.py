"""From a pruning step to its mask."""

import warnings
from typing import Any

from torch import Tensor, nn

from gossamer import masks
from gossamer.masks.allocations import AnyAllocation
from gossamer.recipes.steps import ERK, Block, ErdosRenyi, FixedFanIn, NByM, Prune


def mask_of(step: Prune, network: nn.Module, example: Tensor, seed: int = 0) -> masks.Mask:
    """Return the mask that a pruning step finds for a network.

    Nothing is warned of: the record of a trial counts what every layer keeps.

    Raises
    ------
    InputError
        If the network cannot be pruned so; see `gossamer.prune`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return masks.find_mask(network, **pruning_choices(step), example=example, seed=seed)


def pruning_choices(step: Prune) -> dict[str, Any]:
    """Return the arguments of `gossamer.prune` beside the network and the seed."""
    return {
        "sparsity": step.sparsity,
        "score": step.score,
        "allocation": _allocation(step),
        "pattern": _pattern(step),
        "exclude": step.exclude,
        "include": step.include,
    }


def _allocation(step: Prune) -> AnyAllocation:
    match step.allocation:
        case ErdosRenyi(epsilon=epsilon):
            return masks.ErdosRenyi(epsilon)
        case ERK():
            return masks.ERK()
        case FixedFanIn(connections=connections):
            return masks.FixedFanIn(connections)
    return step.allocation


def _pattern(step: Prune) -> str | masks.NByM | masks.Block:
    match step.pattern:
        case NByM(n=n, m=m):
            return masks.NByM(n, m)
        case Block(rows=rows, columns=columns):
            return masks.Block(rows, columns)
    return step.pattern
