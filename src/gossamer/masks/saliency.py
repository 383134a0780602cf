"""What a score is given: what there is to know of a layer, and its weights group by group."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.core.streams import stream
from gossamer.masks.calibration import Calibration
from gossamer.masks.layers import PrunableWeight
from gossamer.masks.patterns import Pattern
from gossamer.masks.scores import Score
from gossamer.masks.selection import RankedLayer


@dataclass(frozen=True, eq=False)
class ScoreContext:
    """What there is to know of a layer, each part worked out when it is first asked for."""

    layer: PrunableWeight
    calibration: Calibration

    @cached_property
    def weight(self) -> Tensor:
        """The weights, in float32 at least: exact, and NumPy has no bfloat16."""
        weight = self.layer.weight.detach()
        return weight.float() if weight.dtype.itemsize < torch.float32.itemsize else weight

    @property
    def gradient(self) -> Tensor:
        """The gradient of the mean loss over all examples of the batches, of the weight's shape."""
        return self.calibration.gradients[self.layer.name].mean

    @property
    def second_moment(self) -> Tensor:
        """The mean square of the gradients of single batches, of the weight's shape.

        With batches of one example each it is the diagonal of the empirical Fisher information.
        """
        return self.calibration.gradients[self.layer.name].second_moment

    @property
    def input_norms(self) -> Tensor:
        """The L2 norm, over all that the batches hold, of what each element multiplies, float64.

        It has the weight's shape; where a weight is used several times, over all its uses.
        """
        return self.calibration.input_squares.norms(self.layer.name)


@dataclass(frozen=True, eq=False)
class Groups:
    """Values of a layer, group by group: what makes one number of each group is given this."""

    values: Tensor
    """Shape ``[..., rows, columns]``, the last two those of a group; zeros beyond the edges."""
    sizes: Tensor
    """How many weights each group holds, ``[groups]``."""
    random: np.random.Generator
    """A random stream of the layer's own."""

    @cached_property
    def norms(self) -> Tensor:
        """The L2 norm of each group, ``[groups]``; in float64 where groups hold several weights."""
        if self.values.shape[-2:].numel() == 1:
            return self.values.abs().flatten()
        norms: Tensor = torch.linalg.vector_norm(self.values, dim=(-2, -1), dtype=torch.float64)
        return norms.flatten()

    @cached_property
    def sums(self) -> Tensor:
        """The sum of each group, ``[groups]``; in float64 where groups hold several weights."""
        if self.values.shape[-2:].numel() == 1:
            return self.values.flatten()
        return self.values.sum(dim=(-2, -1), dtype=torch.float64).flatten()

    def drawn(self) -> Tensor:
        """Return a number from 0 to 1 for each group."""
        return torch.from_numpy(self.random.random(len(self.sizes)))


def ranked(context: ScoreContext, score: Score, pattern: Pattern, seed: int) -> RankedLayer:
    """Score the groups of a layer.

    What is zero already has the lowest score of all, so that a sparsity is always the total and
    pruning twice never compounds.

    Raises
    ------
    InputError
        If a weight is not finite, or the score gives no finite number for each.
    """
    layer = context.layer
    weights = Groups(
        pattern.groups(context.weight, layer), _sizes(pattern, layer),
        stream(seed, "prune", layer.name),
    )  # fmt: skip
    norms = weights.norms.cpu()
    if not norms.max().isfinite():  # the maximum is NaN if one is
        raise InputError(f"{layer.name} holds values that are not finite, so it cannot be pruned")
    saliency = _checked(score.function(context), score, layer)
    groups = (
        weights if saliency is context.weight
        else Groups(pattern.groups(saliency, layer), weights.sizes, weights.random)
    )  # fmt: skip
    scores = score.reduce(groups).cpu()
    return RankedLayer(layer, scores.masked_fill(norms == 0, -math.inf), weights.sizes)


def _checked(saliency: object, score: Score, layer: PrunableWeight) -> Tensor:
    shape = layer.weight.shape
    if not isinstance(saliency, Tensor) or saliency.shape != shape:
        given = list(saliency.shape) if isinstance(saliency, Tensor) else type(saliency).__name__
        raise InputError(
            f"the score {score.called} must give a tensor of shape {list(shape)}, a number for "
            f"each weight of {layer.name}, not {given}"
        )
    if not saliency.isfinite().all():
        raise InputError(
            f"the score {score.called} gives values that are not finite for {layer.name}"
        )
    return saliency.detach()


def _sizes(pattern: Pattern, layer: PrunableWeight) -> Tensor:
    """Return how many weights each group of a layer holds."""
    one = torch.ones((), dtype=torch.bool).expand(layer.weight.shape)
    if pattern.is_single:  # a view of a single one: such a layer has as many groups as weights
        return torch.ones(1, dtype=torch.int64).expand(one.numel())
    return pattern.groups(one, layer).sum(dim=(-2, -1)).flatten()
