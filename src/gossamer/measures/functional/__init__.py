"""How numbers are taken of a network: functions of modules and tensors, which import torch.

What a study calls a measure, with its name, unit and meaning, is a file of the folder above.
"""

from gossamer.measures.functional.accuracy import Accuracy, evaluate
from gossamer.measures.functional.connectivity import effective_weights
from gossamer.measures.functional.size import Size, count_layers, size
from gossamer.measures.functional.work import Multiplies, multiply_adds

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
