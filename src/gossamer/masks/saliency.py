"""What a score is given: what there is to know of a layer, and its weights group by group."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.core.streams import stream
from gossamer.masks.calibration import Calibration
from gossamer.masks.layers import PrunableWeight
from gossamer.masks.patterns import Pattern
from gossamer.masks.products import Contraction
from gossamer.masks.scores import Score
from gossamer.masks.selection import RankedLayer
from gossamer.masks.values import wide


@dataclass(frozen=True, eq=False)
class ScoreContext:
    """What there is to know of a layer, each part worked out when it is first asked for."""

    layer: PrunableWeight
    calibration: Calibration
    of_batch: Tensor | None = None
    """The gradient of one batch, for a score that is worked out batch by batch."""
    pattern: Pattern | None = None
    """What goes as one, for a score that changes weights."""
    sparsity: float | None = None
    """How sparse the layer is to be, for a score that changes weights."""

    @cached_property
    def weight(self) -> Tensor:
        """The weights, in float32 at least: exact, and NumPy has no bfloat16.

        Those that an earlier round of the same score pruned are zero.
        """
        weight = wide(self.layer.weight.detach())
        if (mask := self.calibration.mask) is None:
            return weight
        return weight.masked_fill(~mask.weights[self.layer.name].to(weight.device), 0)

    @property
    def gradient(self) -> Tensor:
        """The gradient of the mean loss, of the weight's shape.

        It is that of all examples of the batches, or of a batch where a score goes by batches.
        """
        return (
            self.of_batch
            if self.of_batch is not None
            else self.calibration.gradients[self.layer.name].mean
        )

    @property
    def second_moment(self) -> Tensor:
        """The mean square of the gradients of single batches, of the weight's shape.

        With batches of one example each it is the diagonal of the empirical Fisher information.
        """
        return self.calibration.gradients[self.layer.name].second_moment

    @property
    def hessian_gradient(self) -> Tensor:
        """The Hessian of the mean loss times its gradient, of the weight's shape.

        Both over all examples, and over the weights that are asked about.
        """
        return self.calibration.hessian_gradients[self.layer.name]

    @property
    def synaptic_flow(self) -> Tensor:
        """The derivative of the synaptic flow by the weight's magnitude, of its shape, float64."""
        return self.calibration.synaptic_flows[self.layer.name]

    @property
    def input_norms(self) -> Tensor:
        """The L2 norm, over all that the batches hold, of what each element multiplies, float64.

        It has the weight's shape; where a weight is used several times, over all its uses.
        """
        return self.calibration.input_squares.norms(self.layer.name)

    @property
    def contractions(self) -> list[Contraction]:
        """Which weights multiply the same inputs, and the products of these, ``X X^T``, float64.

        Sums over all that the batches hold; the Hessian of half the squared error of outputs.
        """
        return self.calibration.input_products.contractions(self.layer.name)


@dataclass(frozen=True, eq=False)
class Solution:
    """A layer as a score has pruned it that changes weights, too.

    Parameters
    ----------
    kept
        Which weights stay, boolean, of the weight's shape.
    weight
        The values that they then have, of its shape.
    """

    kept: Tensor
    weight: Tensor


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
        return norms_of(self.values)

    @cached_property
    def sums(self) -> Tensor:
        """The sum of each group, ``[groups]``; in float64 where groups hold several weights."""
        if self.values.shape[-2:].numel() == 1:
            return self.values.flatten()
        return self.values.sum(dim=(-2, -1), dtype=torch.float64).flatten()

    def drawn(self) -> Tensor:
        """Return a number from 0 to 1 for each group."""
        return torch.from_numpy(self.random.random(len(self.sizes)))


def norms_of(groups: Tensor) -> Tensor:
    """Return the L2 norm of each group of values ``[..., rows, columns]``, ``[groups]``."""
    if groups.shape[-2:].numel() == 1:
        return groups.abs().flatten()
    norms: Tensor = torch.linalg.vector_norm(groups, dim=(-2, -1), dtype=torch.float64)
    return norms.flatten()


@dataclass(frozen=True, eq=False)
class Members:
    """Numbers of units that fall into groups, each kept or pruned as a whole.

    Parameters
    ----------
    values
        What is compared of each unit, ``[units]``, float64; 0 for one of zeros.
    sizes
        How many weights each holds, ``[units]``.
    groups
        The group of each, ``[units]``, from 0 without a gap.
    dead
        Which hold zeros alone, ``[units]``.
    """

    values: Tensor
    sizes: Tensor
    groups: Tensor
    dead: Tensor

    def total(self, numbers: Tensor) -> Tensor:
        """Return the sum of numbers of units over each group, ``[groups]``."""
        sums = torch.zeros(int(self.groups.max()) + 1, dtype=numbers.dtype)
        return sums.index_add_(0, self.groups, numbers)

    @cached_property
    def first(self) -> Tensor:
        """The number of the first unit of each group that is not zero, ``[groups]``.

        Of the first one where all are.
        """
        firsts = torch.full_like(self.total(self.groups), 2 * len(self.groups))
        places = torch.arange(len(self.groups)) + len(self.groups) * self.dead
        firsts.scatter_reduce_(0, self.groups, places, "amin")
        return self.values[firsts % len(self.groups)]

    def joined(self, join: "Callable[[Members], Tensor]") -> Tensor:
        """Return a number for each group; what is zero already has the lowest of all."""
        alone = self.total(torch.ones_like(self.groups)) == 1
        gone = self.total((~self.dead).long()) == 0
        return torch.where(alone, self.first, join(self)).masked_fill(gone, -math.inf)


def ranked(
    contexts: Sequence[ScoreContext], score: Score, pattern: Pattern, seed: int
) -> list[RankedLayer]:
    """Score the groups of layers.

    What is zero already has the lowest score of all, so that a sparsity is always the total and
    pruning twice never compounds.

    Raises
    ------
    InputError
        If a weight is not finite, or the score gives no finite number for each.
    """
    weights = [_weights(context, pattern, seed) for context in contexts]
    together = _mean_over_batches if score.by_batch else _of_each
    return [
        RankedLayer(
            context.layer, scores.cpu().masked_fill(own.norms.cpu() == 0, -math.inf), own.sizes
        )
        for context, own, scores in zip(
            contexts, weights, together(contexts, weights, score, pattern), strict=True
        )
    ]


def solved(context: ScoreContext, score: Score) -> Solution:
    """Return a layer as a score prunes it that changes weights.

    Raises
    ------
    InputError
        If a weight is not finite, or the score gives no such thing.
    """
    name, shape = context.layer.name, context.layer.weight.shape
    _refuse_unless_finite(context.weight, name)
    found = score.function(context)
    if not (
        isinstance(found, Solution)
        and found.kept.dtype == torch.bool
        and found.kept.shape == found.weight.shape == shape
        and found.weight.isfinite().all()
    ):
        raise InputError(
            f"the score {score.called} must give a Solution for {name}: a boolean tensor and one "
            f"of finite numbers, both of shape {list(shape)}"
        )
    return found


def _refuse_unless_finite(values: Tensor, name: str) -> None:
    if not values.abs().max().isfinite():  # the maximum is NaN if one is
        raise InputError(f"{name} holds values that are not finite, so it cannot be pruned")


def _weights(context: ScoreContext, pattern: Pattern, seed: int) -> Groups:
    layer = context.layer
    groups = Groups(
        values=pattern.groups(context.weight, layer),
        sizes=sizes_of(pattern, layer),
        random=stream(seed, "prune", layer.name),
    )
    _refuse_unless_finite(groups.norms, layer.name)
    return groups


def _of_each(
    contexts: Sequence[ScoreContext], weights: Sequence[Groups], score: Score, pattern: Pattern
) -> list[Tensor]:
    """Return the scores of the groups of each layer."""
    found = []
    for context, own in zip(contexts, weights, strict=True):
        saliency = _checked(score.function(context), score, context.layer)
        of_weights = saliency is context.weight
        groups = own if of_weights else replace(own, values=pattern.groups(saliency, context.layer))
        found.append(score.reduce(groups))
    return found


def _mean_over_batches(
    contexts: Sequence[ScoreContext], weights: Sequence[Groups], score: Score, pattern: Pattern
) -> list[Tensor]:
    """Return the mean over examples of the scores that each batch gives by itself."""
    sums = [torch.zeros(len(own.sizes), dtype=torch.float64) for own in weights]
    examples = 0
    for count, gradients in contexts[0].calibration.gradients_by_batch():
        examples += count
        for context, own, total in zip(contexts, weights, sums, strict=True):
            if context.layer.name in gradients:
                narrowed = replace(context, of_batch=gradients[context.layer.name])
                (scores,) = _of_each([narrowed], [own], score, pattern)
                total += count * scores.cpu()
    return [total / examples for total in sums]


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


def sizes_of(pattern: Pattern, layer: PrunableWeight) -> Tensor:
    """Return how many weights each group of a layer holds."""
    one = torch.ones((), dtype=torch.bool).expand(layer.weight.shape)
    if pattern.is_single:  # a view of a single one: such a layer has as many groups as weights
        return torch.ones(1, dtype=torch.int64).expand(one.numel())
    return pattern.groups(one, layer).sum(dim=(-2, -1)).flatten()
