"""The numbers of a value in another order: what chains of reshapes and permutations come to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from gossamer.engine.fields import Array, Shape


@dataclass(frozen=True)
class Rearrangement:
    """A value as a reshaped permutation of another one, its base.

    The base is cut into the axes `atoms`, in the order in which its numbers lie; they are taken in
    the `order` given, and what comes of it has the `shape`. Two that do the same are equal.
    """

    atoms: Shape
    order: tuple[int, ...]
    shape: Shape

    @property
    def plain(self) -> bool:
        """Whether the numbers stay in their order."""
        return len(self.atoms) <= 1

    @property
    def taken(self) -> Shape:
        """The atoms in the order in which they are taken."""
        return tuple(self.atoms[place] for place in self.order)

    def reshaped(self, shape: Shape) -> "Rearrangement | None":
        """Return it with another shape behind; None where that would tear axes apart."""
        cut = self.cut_at(shape)
        return None if cut is None else _merged(cut.atoms, cut.order, shape)

    def permuted(self, order: Sequence[int]) -> "Rearrangement | None":
        """Return it with the axes of its shape in another order."""
        shape = tuple(self.shape[axis] for axis in order)
        cut = self.cut_at(self.shape)
        if cut is None:
            return None
        groups = cut.groups(self.shape)
        return _merged(cut.atoms, [place for axis in order for place in groups[axis]], shape)

    def then(self, other: "Rearrangement") -> "Rearrangement | None":
        """Return what this and, behind it, another one do."""
        cut = self.reshaped(other.atoms)
        turned = None if cut is None else cut.permuted(other.order)
        return None if turned is None else turned.reshaped(other.shape)

    def inverse(self, shape: Shape) -> "Rearrangement":
        """Return what gives the base of a shape from this."""
        return _merged(self.taken, np.argsort(self.order).tolist(), shape)

    def cut_at(self, shape: Shape) -> "Rearrangement | None":
        """Return it with atoms so small that each lies in one axis of a shape behind."""
        pieces: list[list[int]] = [[] for _ in self.atoms]
        ends = [*accumulate(shape, int.__mul__, initial=1)]
        before = 1  # numbers along what was taken
        for place in self.order:
            after = before * self.atoms[place]
            inside = [end for end in ends if before < end < after]
            steps = [before, *dict.fromkeys(inside), after]
            if any(later % earlier for earlier, later in pairwise(steps)):
                return None
            pieces[place] = [later // earlier for earlier, later in pairwise(steps)]
            before = after
        starts = [*accumulate(map(len, pieces), initial=0)]
        atoms = tuple(size for some in pieces for size in some)
        order = [
            starts[place] + number for place in self.order for number in range(len(pieces[place]))
        ]
        return Rearrangement(atoms, tuple(order), shape)

    def groups(self, shape: Shape) -> list[list[int]]:
        """Return the atoms of each axis of a shape at which it is cut."""
        found, left = [], list(self.order)
        for length in shape:
            group: list[int] = []
            while math.prod(self.atoms[place] for place in group) < length:
                group.append(left.pop(0))
            found.append(group)
        return found

    def merged(self) -> "Rearrangement":
        """Return it with as few atoms as can be."""
        return _merged(self.atoms, self.order, self.shape)

    def run(self, base: Array) -> Array:
        """Return numbers in their new order and shape."""
        return base.reshape(self.atoms).transpose(self.order).reshape(self.shape)


def _merged(atoms: Sequence[int], order: Sequence[int], shape: Shape) -> Rearrangement:
    """Return a rearrangement whose atoms are as few as can be."""
    kept = [place for place in order if atoms[place] != 1]
    runs: list[list[int]] = []
    present = {place: number for number, place in enumerate(sorted(kept))}
    for place in kept:
        if runs and present[place] == present[runs[-1][-1]] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    ranked = sorted(runs)
    sizes = tuple(math.prod(atoms[place] for place in run) for run in ranked)
    return Rearrangement(sizes, tuple(ranked.index(run) for run in runs), shape)


def unchanged(shape: Shape) -> Rearrangement:
    """Return what leaves a value of a shape as it is.

    Examples
    --------
    >>> turned = unchanged((6, 4)).permuted((1, 0))
    >>> turned
    Rearrangement(atoms=(6, 4), order=(1, 0), shape=(4, 6))
    >>> turned.permuted((1, 0)) == unchanged((6, 4))
    True
    """
    return _merged(shape, range(len(shape)), shape)
