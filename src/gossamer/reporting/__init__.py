"""The page of a study, its figures and its table: what a reader sees of the records.

`write_report` is loaded when it is first used: words and tables need no plotting library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.reporting.write import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("gossamer.reporting.write"), name)
