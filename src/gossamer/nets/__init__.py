"""The networks that a trial can name: the published ones, and a user's own.

What describes a network (`NetworkSpec`, `names`, `identity` of a published network) works without
torch; the other names import it when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gossamer.nets.catalog import NetworkSpec, build, identity, names

if TYPE_CHECKING:
    from gossamer.nets.initial import initialise
    from gossamer.nets.layout import accepts_channels_last
    from gossamer.nets.published import fashion_cnn, mlp

__all__ = [
    "NetworkSpec",
    "accepts_channels_last",
    "build",
    "fashion_cnn",
    "identity",
    "initialise",
    "mlp",
    "names",
]

_HOMES = {
    "accepts_channels_last": "gossamer.nets.layout",
    "fashion_cnn": "gossamer.nets.published",
    "initialise": "gossamer.nets.initial",
    "mlp": "gossamer.nets.published",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
