"""What may change the mask while a network trains, one file an updater; no torch here."""

from gossamer.training.updaters.gradual import Gradual
from gossamer.training.updaters.granet import GraNet
from gossamer.training.updaters.rigl import RigL
from gossamer.training.updaters.set import SET
from gossamer.training.updaters.srigl import SRigL
from gossamer.training.updaters.updater import UPDATERS, AnyUpdater, Moment, Moved, Updater

__all__ = [
    "SET",
    "UPDATERS",
    "AnyUpdater",
    "GraNet",
    "Gradual",
    "Moment",
    "Moved",
    "RigL",
    "SRigL",
    "Updater",
]

UPDATERS.update({kind.kind(): kind for kind in (Gradual, GraNet, SET, RigL, SRigL)})
