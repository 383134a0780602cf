"""Sparse neural networks: how sparse can it be, what does it cost, what does it buy.

The names below are loaded when they are first used, so that what needs no torch works without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.errors import GossamerError, InputError, StoreError, TrainingError
    from gossamer.masks import OUTPUT_LAYER, Mask, find_mask, prune

_HOMES = {
    "GossamerError": "gossamer.errors",
    "InputError": "gossamer.errors",
    "Mask": "gossamer.masks",
    "OUTPUT_LAYER": "gossamer.masks",
    "StoreError": "gossamer.errors",
    "TrainingError": "gossamer.errors",
    "find_mask": "gossamer.masks",
    "prune": "gossamer.masks",
}

__all__ = [
    "OUTPUT_LAYER",
    "GossamerError",
    "InputError",
    "Mask",
    "StoreError",
    "TrainingError",
    "find_mask",
    "prune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
