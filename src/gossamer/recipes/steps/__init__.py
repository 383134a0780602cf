"""The steps of a recipe, one file each.

Planning, keys, the checks of study files, their schema and the rehearsal before a run follow from
what a step says of itself once it is registered.
"""

from functools import cache

from pydantic import TypeAdapter

from gossamer.recipes.steps.pack import Pack
from gossamer.recipes.steps.prune import Prune
from gossamer.recipes.steps.regrow import Regrow
from gossamer.recipes.steps.rewind import Rewind
from gossamer.recipes.steps.step import (
    STEPS,
    AnyStep,
    Expected,
    Pulse,
    Step,
    Work,
    check_recipe,
    expected_after,
)
from gossamer.recipes.steps.train import Train
from gossamer.recipes.steps.transfer import Lender, Source, Transfer
from gossamer.training.updaters import UPDATERS, Updater

__all__ = [
    "STEPS",
    "Expected",
    "Lender",
    "Pack",
    "Prune",
    "Pulse",
    "Regrow",
    "Rewind",
    "Source",
    "Step",
    "Train",
    "Transfer",
    "Work",
    "any_step",
    "check_recipe",
    "expected_after",
    "register",
]


@cache
def any_step() -> TypeAdapter[Step]:
    """Return what makes a step of JSON values, whichever kind it is."""
    of_any_kind = (Train, Source, Transfer)  # which have updaters or steps of any kind in them
    for model in of_any_kind:
        del model.__pydantic_core_schema__
    for model in of_any_kind:
        model.model_rebuild(force=True)
    return TypeAdapter(AnyStep)


def register(*kinds: type[Step] | type[Updater]) -> None:
    """Add kinds of steps, and of updaters, to those that recipes may have."""
    STEPS.update({kind.kind(): kind for kind in kinds if issubclass(kind, Step)})
    UPDATERS.update({kind.kind(): kind for kind in kinds if issubclass(kind, Updater)})
    any_step.cache_clear()
    any_step()


register(Train, Prune, Regrow, Rewind, Pack, Transfer)
