"""Pruned networks made really smaller and faster: `compact` and `compress`."""

import sys
from types import ModuleType

from gossamer.compress.compaction import compact
from gossamer.compress.compressed import Compressed
from gossamer.compress.compressing import compress

__all__ = ["Compressed", "compact", "compress"]


class _CallablePackage(ModuleType):
    """This package, which can be called as its function of the same name.

    Once it is imported, Python has `gossamer.compress` mean the package.
    """

    __call__ = staticmethod(compress)


sys.modules[__name__].__class__ = _CallablePackage
