"""The networks that a trial can name, published or a user's own, and sparse layers.

What describes a network (`NetworkSpec`, `names`, `identity` of a published network) works without
torch; the other names import it when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gossamer.networks.catalog import NetworkSpec, build, identity, names

if TYPE_CHECKING:
    from gossamer.networks.initial import initialise
    from gossamer.networks.layout import accepts_channels_last
    from gossamer.networks.packing import pack, packed_names, unpack
    from gossamer.networks.published import (
        cifar_cnn,
        cifar_dropout_cnn,
        cifar_wide_cnn,
        fashion_cnn,
        mlp,
        mnist_cnn,
    )
    from gossamer.networks.sparse import SparseConv, SparseConv2d, SparseLinear

__all__ = [
    "NetworkSpec",
    "SparseConv",
    "SparseConv2d",
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
    "SparseConv": "gossamer.networks.sparse",
    "SparseConv2d": "gossamer.networks.sparse",
    "SparseLinear": "gossamer.networks.sparse",
    "accepts_channels_last": "gossamer.networks.layout",
    "cifar_cnn": "gossamer.networks.published",
    "cifar_dropout_cnn": "gossamer.networks.published",
    "cifar_wide_cnn": "gossamer.networks.published",
    "fashion_cnn": "gossamer.networks.published",
    "initialise": "gossamer.networks.initial",
    "mlp": "gossamer.networks.published",
    "mnist_cnn": "gossamer.networks.published",
    "pack": "gossamer.networks.packing",
    "packed_names": "gossamer.networks.packing",
    "unpack": "gossamer.networks.packing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
