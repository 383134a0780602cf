"""Masks: which weights a network keeps, how they are chosen, and how they stay zero.

Patterns, allocations and scores work without torch; the other names import it when they are first
asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gossamer.masks.allocations import ERK, OWL, Allocation, ErdosRenyi, FixedFanIn
from gossamer.masks.patterns import Block, NByM, Pattern
from gossamer.masks.scores import Score

if TYPE_CHECKING:
    from gossamer.masks.enforcement import Enforcement, enforce
    from gossamer.masks.layers import OUTPUT_LAYER, PrunableWeight, prunable_weights
    from gossamer.masks.mask import Mask
    from gossamer.masks.pruning import find_mask, prune
    from gossamer.masks.saliency import ScoreContext, Solution

__all__ = [
    "ERK",
    "OUTPUT_LAYER",
    "OWL",
    "Allocation",
    "Block",
    "Enforcement",
    "ErdosRenyi",
    "FixedFanIn",
    "Mask",
    "NByM",
    "Pattern",
    "PrunableWeight",
    "Score",
    "ScoreContext",
    "Solution",
    "enforce",
    "find_mask",
    "prunable_weights",
    "prune",
]

_HOMES = {
    "Enforcement": "gossamer.masks.enforcement",
    "Mask": "gossamer.masks.mask",
    "OUTPUT_LAYER": "gossamer.masks.layers",
    "PrunableWeight": "gossamer.masks.layers",
    "ScoreContext": "gossamer.masks.saliency",
    "Solution": "gossamer.masks.saliency",
    "enforce": "gossamer.masks.enforcement",
    "find_mask": "gossamer.masks.pruning",
    "prunable_weights": "gossamer.masks.layers",
    "prune": "gossamer.masks.pruning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
