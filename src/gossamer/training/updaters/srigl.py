"""RigL with as many weights in every unit."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from gossamer.training.updaters.rigl import RigL
from gossamer.training.updaters.updater import Moment

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gossamer.graph.examples import Example
    from gossamer.masks import Mask
    from gossamer.masks.grouping import Grouping


class SRigL(RigL):
    """Move weights to where the gradient of the loss is largest, as many to every unit of a layer,
    and empty units that have few salient weights (Lasby et al. 2024, "Dynamic Sparse Training with
    Structured Sparsity", arXiv 2305.02299).

    Salient weights are those that are not dropped, and as many of largest gradient as are. What an
    emptied unit had goes to the others of its layer; with enough salient weights it comes back. A
    mask with other numbers than those of `FixedFanIn` gets even ones at the first update: a layer
    of n weights keeps n divided by its units, rounded down, in each.
    """  # noqa: D205

    version: ClassVar[int] = 1
    moves: ClassVar[tuple[str, ...]] = ("weight",)
    moves_connections: ClassVar[bool] = False
    name: Literal["srigl"] = "srigl"  # type: ignore[assignment]
    """Which updater."""
    salient: Annotated[float, Field(ge=0, le=1)] = 0.3
    """How many of its weights a unit needs to be salient not to be emptied, as a share of what each
    has if none is; at least one. 0 empties none."""
    keep_units: tuple[str, ...] = ("output layer",)
    """Name patterns of layers of which no unit is emptied, or "output layer"."""

    def check_mask(self, mask: "Mask", network: "nn.Module", example: "Example | None") -> None:
        """Refuse a network of which the layers that keep all units cannot be found."""
        super().check_mask(mask, network, example)
        self._keeping(network, example)

    def _keeping(self, network: "nn.Module", example: "Example | None") -> set[int]:
        """Return the ids of the parameters of which no unit is emptied."""
        from gossamer.graph.capture import Structure
        from gossamer.masks.layers import excluded_parameters
        from gossamer.masks.names import bare_module

        root = bare_module(network)
        structure = Structure(root, example)
        return excluded_parameters(root, self.keep_units, structure, "keep_units")

    def moved(
        self, moment: Moment, grouping: "Grouping", growth: "Tensor", share: float
    ) -> "Tensor":
        """Return which weights are kept from now on."""
        layer, kept = grouping.layer, grouping.kept
        at_first = moment.memory.setdefault(f"weights of {layer.name}", kept.sum())
        keeps_all = id(layer.weight) in self._keeping(moment.network, moment.example)
        shape = layer.weight.shape
        found = evened(
            kept=layer.layout.rows(kept.view(shape)),
            magnitude=layer.layout.rows(layer.weight.detach().abs().float().cpu()),
            growth=layer.layout.rows(growth.float().cpu().view(shape)),
            dropped=round(share * int(kept.sum())),
            total=int(at_first),
            salient=0.0 if keeps_all else self.salient,
        )
        return layer.layout.from_rows(found, shape).flatten()


def evened(
    kept: "Tensor",
    magnitude: "Tensor",
    growth: "Tensor",
    dropped: int,
    total: int,
    salient: float,
) -> "Tensor":
    """Return which weights are kept: as many in each unit that keeps any.

    Parameters
    ----------
    kept, magnitude, growth
        Of each weight, ``[units, inputs]``.
    dropped
        How many of the kept weights are dropped, those closest to zero; units grow others of
        largest growth, or the same ones again.
    total
        How many weights the layer has: as many as are a whole number for each unit are kept.
    salient
        The share of its weights that a unit needs among those that are not dropped and the
        `dropped` of largest growth, not to be emptied; 0 where none is.

    Examples
    --------
    >>> import torch
    >>> kept = torch.tensor([[True, True, False], [False, True, True], [True, False, True]])
    >>> magnitude = torch.tensor([[9.0, 8, 0], [0, 7, 6], [1, 0, 2]])
    >>> growth = torch.tensor([[1.0, 1, 5], [4, 1, 1], [0, 0, 0]])
    >>> evened(kept, magnitude, growth, 2, 6, salient=0.5).int().tolist()
    [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    """
    import torch

    from gossamer.masks.selection import lowest, lowest_of_each

    units, inputs = kept.shape
    weakest = magnitude.masked_fill(~kept, torch.inf)
    left = kept & ~lowest(weakest.flatten(), dropped).view(kept.shape)
    largest = lowest(-growth.flatten(), dropped).view(kept.shape)
    needed = max(1, int(salient * (total // units))) if salient else 0
    found = (left | largest).sum(1)
    # As many units as hold all weights, and no more than there are weights for.
    count = min(max(int((found >= needed).sum()), -(-total // inputs)), total)
    active = lowest(-found.double(), count)[:, None]
    fan_in = total // count
    # What emptied units lose counts among what is dropped.
    lost = int((kept & ~active).sum())
    weakest = weakest.masked_fill(~active, torch.inf)
    left = kept & active & ~lowest(weakest.flatten(), max(0, dropped - lost)).view(kept.shape)
    left &= lowest_of_each(-magnitude.masked_fill(~left, -1), fan_in)
    missing = (fan_in - left.sum(1)) * active[:, 0]
    return left | lowest_of_each((-growth).masked_fill(left, torch.inf), missing)
