"""Who trained on what, and therefore which models may serve as references against which target.

An attack on a target must not learn the answer from the *number* of its references. If every
example is in exactly half of the models, then leaving out the target alone leaves one reference
fewer on the side that the target is on, and the count gives membership away (or hides it: the
naive design has a null AUC far from 0.5). So a model of the other side is left out, too: the
target's pair mate, or one drawn for each example.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.core.labels import without_single_axes
from gossamer.core.streams import stream

Members = NDArray[np.bool_]
Scores = NDArray[np.float64]
Kind = Literal["paired", "balanced", "independent", "overlapping"]

CONFIDENCE = 0.999
"""Of finding that memberships which were drawn independently are independent."""


@dataclass(frozen=True)
class Design:
    """Memberships, and which model is left out beside a target."""

    members: Members
    """``[models, examples]``: whether the model trained on the example."""
    kind: Kind
    """"paired": models come in pairs trained on complementary examples. "balanced": every example
    is in the same number of models. "independent": memberships look drawn independently, and the
    target alone is left out. "overlapping": they do not, as if all models were trained on the same
    examples; the target alone is left out, and who is a member of one model tells something of
    another's members."""
    units: NDArray[np.intp]
    """``[models]``: the split of examples that the model was trained on one side of; what
    intervals count. Usually a pair, or else the model itself; models or pairs of the same split,
    which say nothing new of how results vary from split to split, share one."""
    mates: NDArray[np.intp] | None
    """Left out beside the target: ``[models]`` if paired (and with it all of its unit), ``[models,
    examples]`` if balanced."""

    @property
    def models(self) -> int:
        """Number of models."""
        return len(self.members)

    @property
    def one_membership(self) -> bool:
        """Whether all models were trained on the same examples."""
        return bool((self.members == self.members[0]).all())

    @property
    def informative(self) -> NDArray[np.bool_]:
        """``[examples]``: whether some model trained on the example and some other did not."""
        return mixed(self.members)

    def left_out(self, values: NDArray[Any], target: int) -> list[NDArray[Any]]:
        """Return the rows of values, each ``[examples]``, that an attack must not use."""
        if self.kind == "paired":
            return [values[model] for model in np.flatnonzero(self.units == self.units[target])]
        rows = [values[target]]
        if self.mates is not None:
            rows.append(np.take_along_axis(values, self.mates[target][None], axis=0)[0])
        return rows

    def select(self, examples: NDArray[np.intp]) -> "Design":
        """Return the design of some of the examples."""
        mates = self.mates
        if mates is not None and mates.ndim == 2:
            mates = mates[:, examples]
        return Design(self.members[:, examples], self.kind, self.units, mates)


def find_design(members: ArrayLike, pairs: ArrayLike | None = None, seed: int = 0) -> Design:
    """Find out how memberships were drawn.

    Parameters
    ----------
    members
        ``[models, examples]``, booleans.
    pairs
        ``[models]``: a number for each model that it shares with its pair mate alone, such as
        ``[0, 0, 1, 1]``. None: pairs are recognised by being exact complements of each other.
    seed
        Of the models drawn to be left out, where examples are in equally many models without
        pairs.

    Returns
    -------
    Design

    Raises
    ------
    InputError
        If pairs are given and are none.

    References
    ----------
    Carlini et al. (2022), "Membership inference attacks from first principles", IEEE S&P, train
    every example in exactly half of the models.

    Examples
    --------
    >>> find_design([[True, False], [False, True]]).kind
    'paired'
    """
    array = np.asarray(members, dtype=bool)
    models = np.arange(array.shape[0])
    units = _numbered_splits(array)
    numbers = _found_pairs(array) if pairs is None else _given_pairs(array, pairs)
    if numbers is not None:
        mates = np.array([np.flatnonzero((numbers == n) & (models != m))[0]
                          for m, n in enumerate(numbers)])  # fmt: skip
        return Design(array, "paired", units, mates)
    counts = array.sum(axis=0)[mixed(array)]
    repeated = len(np.unique(units)) < len(models)
    if counts.size and counts.min() == counts.max() and not repeated:
        return Design(array, "balanced", units, _drawn_mates(array, seed))
    alone = Design(array, "independent", units, None)
    return replace(alone, kind="overlapping") if _overlapping(alone) else alone


def without_mate(members: ArrayLike, pairs: ArrayLike | None = None) -> NDArray[np.intp]:
    """Return the models whose mates are missing, though most models have theirs.

    Only whole pairs give every example the same number of references. Whether a model without its
    mate was drawn independently of the others, so that numbers that differ say nothing, is not
    known: it may have been trained on the half of another pair.

    Parameters
    ----------
    members, pairs
        As for `find_design`. Where pairs are given, none is missing.

    Returns
    -------
    array
        Positions of models, ascending; empty unless more models have a mate than have none.

    Examples
    --------
    >>> half = np.array([True, False, True])
    >>> without_mate([half, ~half, [True, True, False]])
    array([2])
    """
    numbers = _numbered_pairs(np.asarray(members, dtype=bool))
    alone = np.flatnonzero(numbers < 0)
    searched = pairs is None and 2 * len(alone) < len(numbers)
    return alone if searched else alone[:0]


def redraw(design: Design, generator: np.random.Generator) -> Design:
    """Draw memberships anew as the design would have, example by example.

    This is what the null hypothesis permits of an attack with references. Paired: mates swap at
    even odds. Balanced: the models of each example are permuted. Else as `shuffle`.
    """
    members = design.members
    if design.kind == "paired":
        swapped = generator.random((int(design.units.max()) + 1, members.shape[1])) < 0.5
        return replace(
            design, members=np.where(swapped[design.units], members[design.mates], members)
        )
    if design.kind == "balanced":
        drawn = generator.permuted(members, axis=0)
        return replace(
            design, members=drawn, mates=_drawn_mates(drawn, int(generator.integers(2**31)))
        )
    return shuffle(design, generator)


def shuffle(design: Design, generator: np.random.Generator) -> Design:
    """Deal the memberships out to other examples.

    This is what the null hypothesis permits of an attack without references, to which examples
    that all models have in common matter, too. Models whose memberships have nothing to do with
    each other are dealt out one by one (or pair by pair), others together.
    """
    together = design.kind in ("balanced", "overlapping")
    examples = np.arange(design.members.shape[1])
    decks = 1 if together else int(design.units.max()) + 1
    orders = generator.permuted(np.tile(examples, (decks, 1)), axis=1)
    order = orders[np.zeros_like(design.units) if together else design.units]
    mates = design.mates
    if mates is not None and mates.ndim == 2:
        mates = np.take_along_axis(mates, order, axis=1)
    return replace(design, members=np.take_along_axis(design.members, order, axis=1), mates=mates)


def reference_counts(design: Design, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many references have trained on each example and how many have not."""
    inside = design.members.sum(axis=0)
    outside = design.models - inside
    for row in design.left_out(design.members, target):
        inside = inside - row
        outside = outside - ~row
    return inside, outside


def counts_tell(design: Design) -> bool:
    """Whether the number of an example's references tells if it is a member of some target.

    It does not if each example has the same number against all targets; nor if no target's counts
    correlate with its members beyond what chance allows. Only examples with references on both
    sides are asked about, which is decided without looking at the target.
    """
    found = [reference_counts(design, target) for target in range(design.models)]
    there = design.informative
    if all((inside[there] == found[0][0][there]).all() for inside, _ in found) and all(
        (outside[there] == found[0][1][there]).all() for _, outside in found
    ):
        return False
    allowed = special.ndtri(1 - (1 - CONFIDENCE) / (2 * design.models))
    for (inside, outside), members in zip(found, design.members, strict=True):
        both = (inside > 0) & (outside > 0)
        if abs(_correlation(inside[both], members[both])) * math.sqrt(both.sum()) > allowed:
            return True
    return False


def mixed(members: Members) -> NDArray[np.bool_]:
    """``[examples]``: whether some model trained on the example and some other did not."""
    counts = members.sum(axis=0)
    found: NDArray[np.bool_] = (counts > 0) & (counts < len(members))
    return found


def _found_pairs(members: Members) -> NDArray[np.intp] | None:
    """Return the number of each model's pair; None unless each has its mate."""
    numbers = _numbered_pairs(members)
    return numbers if (numbers >= 0).all() else None


def _numbered_splits(members: Members) -> NDArray[np.intp]:
    """Give models that part the examples alike one number, whichever side they trained on."""
    rows = members[:, mixed(members)]
    keys = [(row ^ row[:1]).tobytes() for row in rows]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.intp)


def _numbered_pairs(members: Members) -> NDArray[np.intp]:
    """Find rows that are exact complements and number them; -1 where there is no mate."""
    rows = members[:, mixed(members)]
    waiting: dict[bytes, list[int]] = {}
    numbers = np.full(len(rows), -1)
    found = 0
    if rows.shape[1] == 0:
        return numbers
    for model, row in enumerate(rows):
        mates = waiting.get((~row).tobytes())
        if mates:
            numbers[[mates.pop(0), model]] = found
            found += 1
        else:
            waiting.setdefault(row.tobytes(), []).append(model)
    return numbers


def _given_pairs(members: Members, given: ArrayLike) -> NDArray[np.intp]:
    expected = "expected a whole number for each model, the same for the two of a pair"
    pairs = without_single_axes(as_array("pairs", given, expected))
    if pairs.shape != (members.shape[0],) or pairs.dtype.kind not in "iu":
        raise InputError(
            f"pairs: the shape is {pairs.shape} of {pairs.dtype}, expected a whole number for "
            f"each of the {members.shape[0]} models, the same for the two of a pair."
        )
    _, numbers, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    if (counts != 2).any():
        raise InputError(
            f"pairs: the numbers occur {sorted(set(counts.tolist()))} times, expected each exactly "
            "twice, once for either model of a pair; give each pair a number of its own, and "
            "leave out models whose mate is missing."
        )
    rows = members[:, mixed(members)]
    for number in range(len(counts)):
        first, second = np.flatnonzero(numbers == number)
        if (members[first] == members[second]).all():
            raise InputError(
                f"pairs: models {first} and {second} were trained on the same examples, expected "
                "the two of a pair to be trained on complementary ones; leave pairs out."
            )
        shared = int((rows[first] == rows[second]).sum())
        if shared:
            raise InputError(
                f"pairs: models {first} and {second} agree on {shared} examples, expected the two "
                "of a pair to be trained on complementary ones."
            )
    return numbers


def _overlapping(design: Design) -> bool:
    """Whether two models were trained on the same examples, or counts tell members."""
    if design.models == 1:
        return False
    return len(np.unique(design.units)) < design.models or counts_tell(design)


def _correlation(counts: NDArray[np.int64], members: Members) -> float:
    """Pearson's correlation; 0 where either does not vary."""
    if not len(counts):
        return 0.0
    first, second = counts - counts.mean(), members - members.mean()
    scale = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale else 0.0


def _drawn_mates(members: Members, seed: int) -> NDArray[np.intp]:
    """Draw for each target and example a model of the other side, ``[models, examples]``.

    Examples that all or no models trained on have no other side; what they get is never used.
    """
    order = np.argsort(members, axis=0, kind="stable")
    inside = members.sum(axis=0)
    outside = len(members) - inside
    draws = stream(seed, "mates").random(members.shape)
    first = np.where(members, 0, outside)
    size = np.where(members, outside, inside)
    position = np.minimum(first + (draws * size).astype(np.intp), len(members) - 1)
    return np.take_along_axis(order, position, axis=0)
