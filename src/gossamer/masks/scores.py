"""Scores: how much a group of weights matters. The groups of lowest score go first."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gossamer.errors import InputError

Score = Callable[[Tensor, Tensor, np.random.Generator], Tensor]
"""From the L2 norms of a layer's groups and how many weights each holds, both of shape [groups],
and a random stream, to their scores."""


def magnitude(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score by magnitude: |w|, or the L2 norm of a group (Han et al. 2015, arXiv 1506.02626)."""
    return norms


def rms(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score by the root mean square of a group's weights: its norm over the root of its size.

    Norms of units grow with their fan-in, so that across layers the units of narrow inputs would
    all go first; root mean squares compare what an incoming weight is worth.
    """
    return norms / sizes.double().sqrt()


def largest(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score so that the largest magnitudes go first, the opposite of `magnitude`; a control."""
    return -norms


def random(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score uniformly at random; a control."""
    return torch.from_numpy(stream.random(norms.numel()))


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "rms": rms,
    "largest": largest,
    "random": random,
}


def score_named(score: str) -> Score:
    """Return the score of a name.

    Raises
    ------
    InputError
        If there is no such score.
    """
    if not isinstance(score, str) or score not in SCORES:
        raise InputError(f"unknown score {score!r}: choose one of {', '.join(SCORES)}")
    return SCORES[score]
