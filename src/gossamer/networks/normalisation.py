"""Normalisation over channels of which some, that were zero, are gone.

A channel that is zero for all inputs still counts in the mean and the variance of a layer
normalisation. Over n channels of which k are zero, the mean is the sum of the others over n, and
each of the k adds the square of that mean to the sum of squares; a normalisation over the n - k
alone would give other numbers.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class NarrowLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` over as many channels as there were, of which those that are zero are gone.

    ``normalized_shape`` and the parameters are of the channels that there are, which lie along
    `axis`; the `zeros` beside them only count. It is made from one of PyTorch's by `narrowed`.
    """

    axis: int
    zeros: int

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch calls it
        """Return what `nn.LayerNorm` does with the zeros that are gone, of the input's shape."""
        given = _with_zeros(input.movedim(self.axis, -1), self.zeros)
        weight, bias = (
            None if one is None else _with_zeros(one, self.zeros)
            for one in (self.weight, self.bias)
        )
        found = functional.layer_norm(given, given.shape[-1:], weight, bias, self.eps)
        return found[..., : self.normalized_shape[0]].movedim(-1, self.axis)

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return f"{super().extra_repr()}, zeros={self.zeros}"


class NarrowRMSNorm(nn.RMSNorm):
    """`nn.RMSNorm` over as many channels as there were, as `NarrowLayerNorm` is of its kind."""

    axis: int
    zeros: int

    def forward(self, x: Tensor) -> Tensor:
        """Return what `nn.RMSNorm` does with the zeros that are gone, of the input's shape."""
        given = _with_zeros(x.movedim(self.axis, -1), self.zeros)
        weight = None if self.weight is None else _with_zeros(self.weight, self.zeros)
        found = functional.rms_norm(given, given.shape[-1:], weight, self.eps)
        return found[..., : self.normalized_shape[0]].movedim(-1, self.axis)

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return f"{super().extra_repr()}, zeros={self.zeros}"


def _with_zeros(values: Tensor, zeros: int) -> Tensor:
    return functional.pad(values, (0, zeros))


NarrowNorm = NarrowLayerNorm | NarrowRMSNorm


def narrow(norm: nn.LayerNorm | nn.RMSNorm, zeros: int, axis: int) -> None:
    """Let a normalisation count channels that are gone, in place; its parameters were cut.

    Parameters
    ----------
    norm
        One over a single dimension.
    zeros
        How many channels its input had beside those that it has now.
    axis
        The dimension of the channels, -1 or 1; see `normalised_axis`.
    """
    norm.normalized_shape = (norm.normalized_shape[0] - zeros,)
    vars(norm).update(zeros=vars(norm).get("zeros", 0) + zeros, axis=axis)
    norm.__class__ = NarrowLayerNorm if isinstance(norm, nn.LayerNorm) else NarrowRMSNorm


def normalised_axis(norm: nn.Module | None) -> int | None:
    """Return the dimension that a normalisation normalises, -1 or 1; None where it is no such one.

    A kind of one's own, as for the channels of images, is tried on random numbers.

    Examples
    --------
    >>> normalised_axis(nn.LayerNorm(5)), normalised_axis(nn.LayerNorm((5, 6))) is None
    (-1, True)
    """
    if not isinstance(norm, nn.LayerNorm | nn.RMSNorm) or len(norm.normalized_shape) != 1:
        return None
    if isinstance(norm, NarrowNorm):
        return norm.axis
    if type(norm).forward in (nn.LayerNorm.forward, nn.RMSNorm.forward):
        return -1
    return next((axis for axis in (-1, 1) if _normalises(norm, axis)), None)


def _normalises(norm: nn.LayerNorm | nn.RMSNorm, axis: int) -> bool:
    """Tell whether a normalisation gives in float64 what PyTorch's own gives along a dimension."""
    twin = copy.deepcopy(norm).to("cpu", torch.float64)
    count = norm.normalized_shape[0]
    shape = (2, 3, count) if axis == -1 else (2, count, 3, 4)
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    forward: Any = nn.LayerNorm.forward if isinstance(norm, nn.LayerNorm) else nn.RMSNorm.forward
    with torch.no_grad():
        try:
            found = twin.forward(given.clone())
        except Exception:  # noqa: BLE001 - a forward of one's own may raise anything
            return False
        expected = forward(twin, given.movedim(axis, -1)).movedim(-1, axis)
    same = isinstance(found, Tensor) and found.shape == given.shape
    return same and torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
