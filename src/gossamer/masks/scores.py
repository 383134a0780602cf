"""Scores: how much weights matter. Those of lowest score go first.

A score is a function from what there is to know of a layer, a `ScoreContext`, to the saliency of
its weights, and a row of `SCORES`. How a group of weights is compared is its `reduce`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gossamer.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.masks.saliency import Groups, ScoreContext


def weight(context: "ScoreContext") -> "Tensor":
    """Return the weights themselves, of which `reduce` makes what is compared."""
    return context.weight


def norm(groups: "Groups") -> "Tensor":
    """Return the L2 norm of each group: |w| of a single weight."""
    return groups.norms


def minus_norm(groups: "Groups") -> "Tensor":
    """Return the L2 norm of each group with a minus sign, so that the largest go first."""
    return -groups.norms


def rms(groups: "Groups") -> "Tensor":
    """Return the root mean square of each group: its L2 norm over the root of its size.

    For a unit that size is its fan-in, with which its norm grows.
    """
    return groups.norms / groups.sizes.double().sqrt()


def relative_rms(groups: "Groups") -> "Tensor":
    """Return the root mean square of each group, over that of all weights of its layer.

    Root mean squares alone differ from layer to layer by how a library starts them: Kaiming's
    fan-out gives wide layers small weights, and across layers whole ones would go first. Over that
    of the layer one says how much a group counts among its like.
    """
    of_layer = (groups.norms.double().square().sum() / groups.sizes.sum()).sqrt()
    return rms(groups) / of_layer


def drawn(groups: "Groups") -> "Tensor":
    """Return a number for each group, uniformly at random."""
    return groups.drawn()


@dataclass(frozen=True)
class Score:
    """How much the weights of a layer matter, and how groups of them are compared."""

    function: "Callable[[ScoreContext], Tensor]"
    """From what there is to know of a layer to the saliency of its weights, of their shape."""
    reduce: "Callable[[Groups], Tensor]"
    """From that saliency, group by group, to the numbers that are compared, ``[groups]``."""


SCORES: dict[str, Score] = {
    "magnitude": Score(weight, reduce=norm),
    "rms": Score(weight, reduce=rms),
    "relative-rms": Score(weight, reduce=relative_rms),
    "largest": Score(weight, reduce=minus_norm),
    "random": Score(weight, reduce=drawn),
}


def resolved_score(given: str) -> Score:
    """Return the score of a name.

    Raises
    ------
    InputError
        If there is no such score.
    """
    if not isinstance(given, str) or given not in SCORES:
        raise InputError(f"unknown score {given!r}: choose one of {', '.join(SCORES)}")
    return SCORES[given]
