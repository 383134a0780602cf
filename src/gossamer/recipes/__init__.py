"""Recipes: the steps that lead to a network, their keys, and doing them.

Importing this package does not import torch; `gossamer.recipes.workshop` does.
"""

from gossamer.recipes.checks import check_recipe
from gossamer.recipes.keys import KeyedTrial, keyed, origin
from gossamer.recipes.steps import Pack, Prune, RecipeStep, Regrow, Rewind, Train, Transfer
from gossamer.recipes.trial import DataSpec, MeasureSpec, SampleSpec, Trial

__all__ = [
    "DataSpec",
    "KeyedTrial",
    "MeasureSpec",
    "Pack",
    "Prune",
    "RecipeStep",
    "Regrow",
    "Rewind",
    "SampleSpec",
    "Train",
    "Transfer",
    "Trial",
    "check_recipe",
    "keyed",
    "origin",
]
