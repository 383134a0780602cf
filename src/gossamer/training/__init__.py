"""Training: options, optimizers, the loop.

Importing this package does not import torch; `gossamer.training.loop` does.
"""

from gossamer.training.options import (
    Adadelta,
    Adam,
    AdamW,
    Augmentation,
    Constant,
    Cosine,
    EarlyStop,
    Exponential,
    OptimizerOptions,
    Precision,
    Schedule,
    Sgd,
    StepDecay,
    TrainingOptions,
)

__all__ = [
    "Adadelta",
    "Adam",
    "AdamW",
    "Augmentation",
    "Constant",
    "Cosine",
    "EarlyStop",
    "Exponential",
    "OptimizerOptions",
    "Precision",
    "Schedule",
    "Sgd",
    "StepDecay",
    "TrainingOptions",
]
