"""Masks: which weights a network keeps, how they are chosen, and how they stay zero."""

from gossamer.masks.allocations import ERK, Allocation, ErdosRenyi, FixedFanIn
from gossamer.masks.enforcement import Enforcement, enforce
from gossamer.masks.layers import OUTPUT_LAYER, PrunableWeight, prunable_weights
from gossamer.masks.mask import Mask
from gossamer.masks.patterns import Block, NByM
from gossamer.masks.pruning import find_mask, prune

__all__ = [
    "ERK",
    "OUTPUT_LAYER",
    "Allocation",
    "Block",
    "Enforcement",
    "ErdosRenyi",
    "FixedFanIn",
    "Mask",
    "NByM",
    "PrunableWeight",
    "enforce",
    "find_mask",
    "prunable_weights",
    "prune",
]
