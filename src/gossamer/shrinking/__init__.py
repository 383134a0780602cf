"""A network within an accuracy budget: its data and task, how sensitive it is, the search."""

from gossamer.shrinking.loading import load_shrunk
from gossamer.shrinking.result import Shrunk
from gossamer.shrinking.within_budget import shrink

__all__ = ["Shrunk", "load_shrunk", "shrink"]
