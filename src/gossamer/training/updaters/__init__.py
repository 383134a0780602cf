"""What may change the mask while a network trains, one file an updater; no torch here."""

from gossamer.training.updaters.gradual import Gradual
from gossamer.training.updaters.updater import UPDATERS, AnyUpdater, Moment, Updater

__all__ = ["UPDATERS", "AnyUpdater", "Gradual", "Moment", "Updater"]

UPDATERS[Gradual.kind()] = Gradual
