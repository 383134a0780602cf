"""Scores: how much a group of weights matters. The groups of lowest score go first."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import InputError

Score = Callable[[Tensor, Tensor, np.random.Generator], Tensor]
"""From the L2 norms of a layer's groups and how many weights each holds, both of shape [groups],
and a random stream, to their scores."""


def magnitude(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score by magnitude: |w|, or the L2 norm of a group (Han et al. 2015, arXiv 1506.02626)."""
    return norms


def rms(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score by root mean square: the L2 norm over the root of the number of weights.

    For a unit that number is its fan-in, with which its norm grows.
    """
    return norms / sizes.double().sqrt()


def relative_rms(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:
    """Score by the root mean square of a group, over that of all weights of its layer.

    Root mean squares alone differ from layer to layer by how a library starts them: Kaiming's
    fan-out gives wide layers small weights, and across layers whole ones would go first. Over that
    of the layer one says how much a group counts among its like.
    """
    of_layer = (norms.double().square().sum() / sizes.sum()).sqrt()
    return rms(norms, sizes, stream) / of_layer


def largest(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score so that the largest magnitudes go first, the opposite of `magnitude`; a control."""
    return -norms


def random(norms: Tensor, sizes: Tensor, stream: np.random.Generator) -> Tensor:  # noqa: ARG001
    """Score uniformly at random; a control."""
    return torch.from_numpy(stream.random(norms.numel()))


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "rms": rms,
    "relative-rms": relative_rms,
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
