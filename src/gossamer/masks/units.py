"""Where the units (neurons, filters) of a weight lie."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class UnitLayout:
    """Units along dimension 0, or along dimension 1 of each group (transposed convolutions).

    Examples
    --------
    >>> import torch
    >>> weight = torch.arange(8).view(4, 2, 1)  # [inputs, outputs of a group, kernel]
    >>> layout = UnitLayout(dimension=1, groups=2)
    >>> layout.rows(weight).tolist()
    [[0, 2], [1, 3], [4, 6], [5, 7]]
    >>> torch.equal(layout.from_rows(layout.rows(weight), weight.shape), weight)
    True
    """

    dimension: int = 0
    groups: int = 1

    def rows(self, weight: Tensor) -> Tensor:
        """Return a view or copy of shape [units, weights of a unit]."""
        if self.dimension == 0:
            return weight.flatten(1)
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])
        return grouped.transpose(1, 2).flatten(0, 1).flatten(1)

    def from_rows(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Undo `rows`: return a tensor of the weight's shape."""
        if self.dimension == 0:
            return rows.reshape(shape)
        inputs, outputs, *kernel = shape
        grouped = rows.reshape(self.groups, outputs, inputs // self.groups, *kernel)
        return grouped.transpose(1, 2).reshape(shape)

    def kernels(self, weight: Tensor) -> Tensor:
        """Return a view or copy of shape [units, inputs of a unit, positions of the kernel]."""
        rows = self.rows(weight)
        return rows.reshape(len(rows), -1, math.prod(weight.shape[2:]))

    def spread(self, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the boolean weight mask of `shape` that keeps the units where `kept` is True."""
        of_a_unit = math.prod(shape) // len(kept)
        return self.from_rows(kept[:, None].expand(-1, of_a_unit), shape)
