"""Recipes: the steps that lead to a network, their keys, and doing them.

Importing this package does not import torch; `gossamer.recipes.workshop` does.
"""

from gossamer.recipes.keys import KeyedTrial, keyed, origin
from gossamer.recipes.steps import Prune, RecipeStep, Rewind, Train, check_recipe
from gossamer.recipes.trial import DataSpec, MeasureSpec, Trial

__all__ = [
    "DataSpec",
    "KeyedTrial",
    "MeasureSpec",
    "Prune",
    "RecipeStep",
    "Rewind",
    "Train",
    "Trial",
    "check_recipe",
    "keyed",
    "origin",
]
