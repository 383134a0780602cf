"""Training: options, optimizers, the loop.

Importing this package does not import torch; `gossamer.train.loop` does.
"""

from gossamer.train.options import (
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
