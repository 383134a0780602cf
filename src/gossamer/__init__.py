"""Sparse neural networks: how sparse can it be, what does it cost, what does it buy.

The names below are loaded when they are first used, so that what needs no torch works without it;
one that needs a package that is not installed raises `MissingPackageError`, which says what to do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gossamer.core.installing import extra_of_module, needing

if TYPE_CHECKING:
    from gossamer.compression import Compressed, compact, compress
    from gossamer.compression.onnx import export_onnx
    from gossamer.core.errors import (
        GossamerError,
        InputError,
        MissingPackageError,
        StoreError,
        TrainingError,
    )
    from gossamer.leakage import audit
    from gossamer.masks import (
        ERK,
        OUTPUT_LAYER,
        OWL,
        Block,
        ErdosRenyi,
        FixedFanIn,
        Mask,
        NByM,
        Score,
        ScoreContext,
        find_mask,
        prune,
    )
    from gossamer.networks import SparseConv2d, SparseLinear
    from gossamer.records.leakage import Leakage
    from gossamer.runtime import Predictor, load
    from gossamer.shrinking import Shrunk, load_shrunk, shrink
    from gossamer.shrinking.sensitivity import sensitivity
    from gossamer.training.updating import updater

_HOMES = {
    "Block": "gossamer.masks",
    "Compressed": "gossamer.compression",
    "ERK": "gossamer.masks",
    "ErdosRenyi": "gossamer.masks",
    "FixedFanIn": "gossamer.masks",
    "GossamerError": "gossamer.core.errors",
    "InputError": "gossamer.core.errors",
    "Leakage": "gossamer.records.leakage",
    "Mask": "gossamer.masks",
    "MissingPackageError": "gossamer.core.errors",
    "NByM": "gossamer.masks",
    "OUTPUT_LAYER": "gossamer.masks",
    "OWL": "gossamer.masks",
    "Predictor": "gossamer.runtime",
    "Score": "gossamer.masks",
    "ScoreContext": "gossamer.masks",
    "Shrunk": "gossamer.shrinking",
    "SparseConv2d": "gossamer.networks",
    "SparseLinear": "gossamer.networks",
    "StoreError": "gossamer.core.errors",
    "TrainingError": "gossamer.core.errors",
    "audit": "gossamer.leakage",
    "compact": "gossamer.compression",
    "compress": "gossamer.compression",
    "export_onnx": "gossamer.compression.onnx",
    "find_mask": "gossamer.masks",
    "load": "gossamer.runtime",
    "load_shrunk": "gossamer.shrinking",
    "prune": "gossamer.masks",
    "sensitivity": "gossamer.shrinking.sensitivity",
    "shrink": "gossamer.shrinking",
    "updater": "gossamer.training.updating",
}

__all__ = [
    "ERK",
    "OUTPUT_LAYER",
    "OWL",
    "Block",
    "Compressed",
    "ErdosRenyi",
    "FixedFanIn",
    "GossamerError",
    "InputError",
    "Leakage",
    "Mask",
    "MissingPackageError",
    "NByM",
    "Predictor",
    "Score",
    "ScoreContext",
    "Shrunk",
    "SparseConv2d",
    "SparseLinear",
    "StoreError",
    "TrainingError",
    "audit",
    "compact",
    "compress",
    "export_onnx",
    "find_mask",
    "load",
    "load_shrunk",
    "prune",
    "sensitivity",
    "shrink",
    "updater",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    with needing(extra_of_module(home), f"gossamer.{name}"):
        return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
