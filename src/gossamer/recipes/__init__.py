"""Recipes: the steps that lead to a network, their keys, and doing them.

Importing this package does not import torch; `gossamer.recipes.trial_runner` does.
"""

from gossamer.recipes.keys import KeyedTrial, keyed, origin
from gossamer.recipes.steps import (
    Pack,
    Prune,
    Regrow,
    Rewind,
    Step,
    Train,
    Transfer,
    check_recipe,
    expected_after,
)
from gossamer.recipes.trial import DataSpec, MeasureSpec, SampleSpec, Trial

__all__ = [
    "DataSpec",
    "KeyedTrial",
    "MeasureSpec",
    "Pack",
    "Prune",
    "Regrow",
    "Rewind",
    "SampleSpec",
    "Step",
    "Train",
    "Transfer",
    "Trial",
    "check_recipe",
    "expected_after",
    "keyed",
    "origin",
]
