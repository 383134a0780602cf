"""From a pruning step to what `gossamer.prune` takes."""

from typing import Any

from gossamer import masks
from gossamer.recipes.steps import ERK, Block, ErdosRenyi, FixedFanIn, NByM, Prune


def pruning_choices(step: Prune) -> dict[str, Any]:
    """Return the arguments of `gossamer.prune` beside the network and the seed."""
    return {
        "sparsity": step.sparsity,
        "score": step.score,
        "allocation": _allocation(step),
        "pattern": _pattern(step),
        "exclude": step.exclude,
    }


def _allocation(step: Prune) -> masks.Allocation:
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
