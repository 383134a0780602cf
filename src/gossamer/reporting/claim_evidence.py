"""The paired differences that a study's claims are judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gossamer.core.formats import inside
from gossamer.measures import is_count
from gossamer.records.record import Claim
from gossamer.reporting.answer import not_learnt
from gossamer.reporting.glossary import label
from gossamer.reporting.results import Results, same_level
from gossamer.stats.matching import value_at

Gap = Literal["", "not run", "not measured", "not comparable", "not learnt", "two groups"]
"""Why there is no interval: no such trial at this scale; no number in its record, or no record
yet; nowhere equal in the measure that is matched; an arm at chance, from which no difference has a
size; units of two kinds, of which a mean says nothing. Empty if there is one."""


Side = tuple[tuple[str, ...], float]
"""Arms and where on the axis they are looked at; -1 where they make a curve."""


@dataclass(frozen=True)
class Place:
    """One comparison of two arms: where the one is looked at and where the other."""

    level: float
    """Level of the arm that is compared."""
    against: tuple[str, ...]
    """One arm, or those whose points make the curve that is interpolated."""
    against_level: float | None
    """None where a curve is interpolated."""

    @property
    def axis_level(self) -> float:
        """Where on the axis it is: the level of the other arm if the first has no grid."""
        return self.level or self.against_level or 0.0


@dataclass(frozen=True)
class Evidence:
    """The paired differences of one comparison, or of the mean over several."""

    compare: str
    measure: str
    matched_on: str | None
    places: tuple[Place, ...]
    """One, or those that the mean is over."""
    differences: Mapping[int, float]
    """By seed; empty where there is a gap."""
    gap: Gap = ""
    note: str = ""
    """What more there is to say about a gap."""

    @property
    def silent(self) -> bool:
        """Whether it says nothing about the claim and never will, as the study is."""
        return self.gap == "not run"

    @property
    def identity(self) -> tuple[object, ...]:
        """What it is a comparison of; two claims with the same one share it.

        So do mirror images, of which one interval is the other's opposite.
        """
        sides = self._sides()
        mirrored = tuple((theirs, ours) for ours, theirs in sides)
        return self.measure, self.matched_on, min(sides, mirrored)

    def _sides(self) -> tuple[tuple[Side, Side], ...]:
        """Return what is compared with what: arms with their levels."""
        return tuple(
            (((self.compare,), one.level), (one.against, _level(one.against_level)))
            for one in self.places
        )


def _level(level: float | None) -> float:
    """Return a level to sort by; a curve has none."""
    return -1.0 if level is None else level


def claim_evidence(results: Results, claim: Claim) -> tuple[Evidence, ...]:
    """Gather the comparisons of a claim: every place of each arm, or the one of their mean."""
    each = tuple(
        _evidence(results, claim.compare, place, claim.measure, claim.matched_on)
        for place in _places(results, claim, claim.compare, claim.against)
    )
    there = [one for one in each if not one.silent]
    if claim.over != "mean" or len(there) < 2:
        return each
    return (mean_evidence(there), *(one for one in each if one.silent))


def control_evidence(results: Results, claim: Claim) -> Evidence | None:
    """Gather the comparison that could explain a claim: the mean over the claim's levels."""
    control = claim.control
    if control is None:
        return None
    measure = control.measure or claim.measure
    places = _places(results, claim, control.compare, (control.against,))
    each = [
        _evidence(results, control.compare, place, measure, claim.matched_on) for place in places
    ]
    return mean_evidence([one for one in each if not one.silent] or each) if each else None


def mean_evidence(each: Sequence[Evidence]) -> Evidence:
    """Return the mean over several comparisons, by seed, for the seeds that all of them have.

    One that lacks its differences leaves a gap, for the mean over the others is another thing.
    """
    places = tuple(place for one in each for place in one.places)
    gaps = [one for one in each if one.gap]
    if gaps:
        return replace(gaps[0], places=places)
    seeds = set.intersection(*(set(one.differences) for one in each))
    means = {s: sum(one.differences[s] for one in each) / len(each) for s in seeds}
    return replace(each[0], places=places, differences=means, gap="" if means else "not measured")


def _places(
    results: Results, claim: Claim, compare: str, against: Sequence[str]
) -> tuple[Place, ...]:
    """Return where two arms are compared; an arm without a grid is at level 0 everywhere."""
    found = []
    ours = _grid(results, compare)
    if claim.matched_on:
        levels = map(same_level, claim.levels or ours or (0.0,))
        return tuple(Place(level if ours else 0.0, tuple(against), None) for level in levels)
    for other in against:
        theirs = _grid(results, other)
        for level in map(same_level, claim.levels or _shared(ours, theirs, claim)):
            there = level if claim.against_level is None else same_level(claim.against_level)
            found.append(Place(level if ours else 0.0, (other,), there if theirs else 0.0))
    return tuple(dict.fromkeys(found))


def _grid(results: Results, arm: str) -> tuple[float, ...]:
    """Return the levels of an arm; none if it mentions none and so stands at level 0 alone."""
    levels = results.own_levels(arm)
    return () if levels == (0.0,) else levels


def _shared(ours: Sequence[float], theirs: Sequence[float], claim: Claim) -> Sequence[float]:
    """Return the levels of a claim that names none."""
    if not ours or not theirs:
        return ours or theirs or (0.0,)
    if claim.against_level is not None:
        return ours
    return [level for level in ours if level in theirs]


def _evidence(
    results: Results, compare: str, place: Place, measure: str, matched_on: str | None
) -> Evidence:
    bare = Evidence(compare, measure, matched_on, (place,), {})
    if place.level not in results.levels(compare):
        return replace(bare, gap="not run")
    if matched_on is not None:
        return _matched(results, bare, place, matched_on)
    assert place.against_level is not None
    (other,) = place.against
    if place.against_level not in results.levels(other):
        return replace(bare, gap="not run")
    cells = ((compare, place.level), (other, place.against_level))
    if note := not_learnt(results, cells, measure):
        return replace(bare, gap="not learnt", note=note)
    differences = results.differences(*cells, measure)
    return replace(bare, differences=differences, gap="" if differences else "not measured")


def _matched(results: Results, bare: Evidence, place: Place, matched_on: str) -> Evidence:
    """Compare with the value that the others' curve has where it is equal, seed by seed."""
    if not any(results.levels(arm) for arm in place.against):
        return replace(bare, gap="not run")
    if note := not_learnt(results, [(bare.compare, place.level)], bare.measure):
        return replace(bare, gap="not learnt", note=note)
    ours = results.values(bare.compare, place.level, bare.measure)
    where = results.values(bare.compare, place.level, matched_on)
    curves = _curves(results, place.against, matched_on, bare.measure)
    seeds = sorted(ours.keys() & where.keys() & curves.keys())
    if not seeds:
        return replace(bare, gap="not measured")
    theirs = {
        seed: value_at(where[seed], *curves[seed], logarithmic=is_count(matched_on))
        for seed in seeds
    }
    outside = [seed for seed in seeds if theirs[seed] is None]
    if outside:
        # The seeds that are left would be those that suit the claim, or those that do not.
        return replace(
            bare, gap="not comparable", note=_outside(results, bare, place, outside, seeds)
        )
    known = {seed: value for seed, value in theirs.items() if value is not None}
    return replace(bare, differences={seed: ours[seed] - value for seed, value in known.items()})


def _curves(
    results: Results, arms: Sequence[str], matched_on: str, measure: str
) -> dict[int, tuple[list[float], list[float]]]:
    """Return the curve of some arms over a measure instead of over their levels, by seed."""
    curves: dict[int, tuple[list[float], list[float]]] = {}
    for arm, level in ((name, level) for name in arms for level in results.levels(name)):
        positions, values = (results.values(arm, level, one) for one in (matched_on, measure))
        for seed in positions.keys() & values.keys():
            places, heights = curves.setdefault(seed, ([], []))
            places.append(positions[seed])
            heights.append(values[seed])
    return curves


def _outside(
    results: Results, bare: Evidence, place: Place, outside: Sequence[int], seeds: Sequence[int]
) -> str:
    verb = "lies" if len(outside) == 1 else "lie"
    who = "the only seed" if len(seeds) == 1 else f"{len(outside)} of {len(seeds)} seeds"
    arms = [inside(results.label(arm)) for arm in place.against]
    covered = f"{arms[0]} covers" if len(arms) == 1 else f"the {len(arms)} other arms cover"
    return (
        f"{who} {verb} outside the range of {inside(label(bare.matched_on or ''))} that {covered}"
    )
