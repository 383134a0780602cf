"""What is measured of a network: accuracy, size, work and connectivity."""

from gossamer.measure.accuracy import Accuracy, evaluate
from gossamer.measure.connectivity import effective_weights
from gossamer.measure.size import Size, count_layers, size
from gossamer.measure.work import Multiplies, multiply_adds

__all__ = [
    "Accuracy",
    "Multiplies",
    "Size",
    "count_layers",
    "effective_weights",
    "evaluate",
    "multiply_adds",
    "size",
]
