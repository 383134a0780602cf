"""What may change the mask while a network trains, one file an updater; no torch here."""

from gossamer.train.updaters.gradual import Gradual
from gossamer.train.updaters.updater import UPDATERS, AnyUpdater, Moment, Updater

__all__ = ["UPDATERS", "AnyUpdater", "Gradual", "Moment", "Updater"]

UPDATERS[Gradual.kind()] = Gradual
