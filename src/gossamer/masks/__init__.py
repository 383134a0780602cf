"""Masks: which weights a network keeps, how they are chosen, and how they stay zero."""

from gossamer.masks.enforcement import Enforcement, enforce
from gossamer.masks.layers import OUTPUT_LAYER, PrunableWeight, prunable_weights
from gossamer.masks.mask import Mask
from gossamer.masks.pruning import find_mask, prune

__all__ = [
    "OUTPUT_LAYER",
    "Enforcement",
    "Mask",
    "PrunableWeight",
    "enforce",
    "find_mask",
    "prunable_weights",
    "prune",
]
