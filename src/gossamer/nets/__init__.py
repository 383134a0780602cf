"""The networks that a trial can name, published or a user's own, and sparse layers.

What describes a network (`NetworkSpec`, `names`, `identity` of a published network) works without
torch; the other names import it when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gossamer.nets.catalog import NetworkSpec, build, identity, names

if TYPE_CHECKING:
    from gossamer.nets.initial import initialise
    from gossamer.nets.layout import accepts_channels_last
    from gossamer.nets.packing import pack, packed_names, unpack
    from gossamer.nets.published import (
        cifar_cnn,
        cifar_dropout_cnn,
        cifar_wide_cnn,
        fashion_cnn,
        mlp,
        mnist_cnn,
    )
    from gossamer.nets.sparse import SparseConv, SparseLinear

__all__ = [
    "NetworkSpec",
    "SparseConv",
    "SparseLinear",
    "accepts_channels_last",
    "build",
    "cifar_cnn",
    "cifar_dropout_cnn",
    "cifar_wide_cnn",
    "fashion_cnn",
    "identity",
    "initialise",
    "mlp",
    "mnist_cnn",
    "names",
    "pack",
    "packed_names",
    "unpack",
]

_HOMES = {
    "SparseConv": "gossamer.nets.sparse",
    "SparseLinear": "gossamer.nets.sparse",
    "accepts_channels_last": "gossamer.nets.layout",
    "cifar_cnn": "gossamer.nets.published",
    "cifar_dropout_cnn": "gossamer.nets.published",
    "cifar_wide_cnn": "gossamer.nets.published",
    "fashion_cnn": "gossamer.nets.published",
    "initialise": "gossamer.nets.initial",
    "mlp": "gossamer.nets.published",
    "mnist_cnn": "gossamer.nets.published",
    "pack": "gossamer.nets.packing",
    "packed_names": "gossamer.nets.packing",
    "unpack": "gossamer.nets.packing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
