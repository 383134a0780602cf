"""In which order candidates are tested, and how surely each: settled before any is looked at.

Candidates are tested in the order in which they are made, from the safest to the sparsest, each at
the same level, until the first that fails. Which comes next is settled before validation data is
looked at, so that a candidate is wrongly taken with no more than the level's probability, whichever
of those that passed is chosen afterwards: the first one that breaks the budget would have to pass
its own test (fixed-sequence testing: Maurer, Hothorn and Lehmacher 1995; for risks of models
Angelopoulos et al. 2021, "Learn then Test", arXiv 2110.01052). Splitting the data in two would
widen the bound by 41%, correcting for eight candidates by half; this costs nothing.

Of many candidates the first ones are an order of their own, each order at half the level: one of
them that fails by chance, after little training, would end the search where most is left to gain.
Where all early ones pass, their half of the level goes to the others (Bretz et al. 2009, "A
graphical approach to sequentially rejective multiple test procedures", Statistics in Medicine 28).
"""

from collections.abc import Sequence
from dataclasses import dataclass

_MANY = 6
"""Candidates, from which some are early ones."""


def early_of(count: int) -> int:
    """Return how many of so many candidates are early: none of which ends the search.

    Examples
    --------
    >>> early_of(11), early_of(6), early_of(5)
    (4, 2, 0)
    """
    return 2 * count // 5 if count >= _MANY else 0


@dataclass(frozen=True)
class Order:
    """The tests of a search.

    Parameters
    ----------
    early
        How many candidates come before the first that may end the search.
    confidence
        Of all tests together.

    Examples
    --------
    >>> order = Order(early=2, confidence=0.95)
    >>> [round(order.sure(within), 4) for within in ([], [True, True], [True, False])]
    [0.975, 0.95, 0.975]
    >>> order.is_tested([False]), order.is_tested([True, False])
    (False, True)
    >>> order.has_ended([True, False]), order.has_ended([True, False, False])
    (False, True)
    """

    early: int
    confidence: float

    def sure(self, within: Sequence[bool]) -> float:
        """Return the confidence with which the next candidate is tested, by what passed so far."""
        alone = not self.early or (len(within) >= self.early and all(within[: self.early]))
        return self.confidence if alone else 1 - (1 - self.confidence) / 2

    def is_tested(self, within: Sequence[bool]) -> bool:
        """Return whether the next candidate can be taken: no earlier one of its order failed."""
        since = 0 if len(within) < self.early else self.early
        return all(within[since:])

    def has_ended(self, within: Sequence[bool]) -> bool:
        """Return whether one has failed that ends the search."""
        return not all(within[self.early :])
