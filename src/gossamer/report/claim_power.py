"""What so many seeds can decide about a claim, and how many it would take, in words."""

import math
from collections.abc import Sequence

from gossamer.leakage.attacks import has_references
from gossamer.measures import is_fraction
from gossamer.records.record import Claim
from gossamer.report.claim_sentences import JudgedComparison
from gossamer.report.results import Results
from gossamer.report.units import unit_of
from gossamer.stats.intervals import Interval, mutual_widening
from gossamer.stats.power import (
    MOST_UNITS,
    distance_to_threshold,
    power_at_each_threshold,
    smallest_detectable_difference,
    units_needed,
)
from gossamer.stats.verdicts import Verdict, comparison_verdict


def power_sentence(
    results: Results,
    claim: Claim,
    verdict: Verdict,
    rows: Sequence[JudgedComparison],
    confidence: float,
) -> str:
    """Say how near to the margin so many seeds can decide, and how many an open claim needs."""
    ended = [row for row in rows if row.deviation is not None]
    if not ended:
        measured = any(row.interval is not None for row in rows)
        return f"One {results.unit} says nothing about the spread between them." if measured else ""
    tied = f"Every {results.unit} gives exactly the same difference."
    if all(row.deviation == 0 for row in ended):
        return tied
    text = _reach(results, claim, ended, confidence)
    if all(row.tied for row in ended):
        step = unit_of(claim.measure).text(results.resolution(claim.measure), apart=0)
        text = (
            f"{tied} That is no exactness: a step of the measure is {step}"
            f"{unit_of(claim.measure).name}, and the spread counts as that of rounding. {text}"
        )
    if verdict != "undecided":
        return text
    return " ".join(filter(None, (text, _need(results, claim, rows, confidence))))


def _count(row: JudgedComparison) -> int:
    return row.interval.count if row.interval else 0


def _reach(
    results: Results, claim: Claim, rows: Sequence[JudgedComparison], confidence: float
) -> str:
    """Say how near to the margin so many units can decide, where it is easiest and hardest."""
    unit, power = unit_of(claim.measure), power_at_each_threshold(claim.says)
    seen = [
        smallest_detectable_difference(row.deviation or 0.0, _count(row), confidence, power)
        for row in rows
    ]
    easiest, hardest = (unit.text(one) for one in (min(seen), max(seen)))
    most = 1 + claim.margin if is_fraction(claim.measure) else math.inf
    few, many = min(map(_count, rows)), max(map(_count, rows))
    number = f"{few} to " if few < many else ""
    margin = f"the margin of {unit.amount(claim.margin)}" if claim.margin else "none"
    units = f"{number}{results.counted_units(many)}"
    if min(seen) > most:
        return f"{units} are too few to tell any difference there can be from {margin}."
    told = f"{units} tell a difference from {margin} four times out of five if the two are"
    if easiest == hardest:
        return f"{told} {easiest}{unit.name} apart."
    if max(seen) > most:
        return (
            f"{told} {easiest}{unit.name} apart or more, depending on where; somewhere no "
            "difference there can be is large enough."
        )
    return f"{told} {easiest} to {hardest}{unit.name} apart, depending on where."


def _need(
    results: Results, claim: Claim, rows: Sequence[JudgedComparison], confidence: float
) -> str:
    """Say how many units it takes to decide a claim if everything stays as it is."""
    need = _units_to_decide(claim, rows, confidence)
    if need is None:
        return ""
    many = (
        f"more than {results.counted_units(MOST_UNITS)}"
        if need > MOST_UNITS
        else f"about {results.counted_units(need)}"
    )
    return f"To decide the claim would take {many}, if means and spreads stay as they are."


def _units_to_decide(
    claim: Claim, rows: Sequence[JudgedComparison], confidence: float
) -> int | None:
    """Return how many units it takes; None if there is no interval to go by.

    One comparison refutes a claim about each, and one supports a claim about any: the one that
    needs fewest, of those whose mean is on that side. For the other verdict it takes all.
    """
    alone = "supported" if claim.over == "any" else "refuted"
    ended = [row for row in rows if row.deviation is not None and row.interval is not None]
    needs = [
        (_verdict_of_mean(claim, row), _units_needed(claim, row, confidence))
        for row in ended
        if row.verdict == "undecided"
    ]
    deciding = [need for verdict, need in needs if verdict == alone]
    if deciding:
        return min(deciding)
    # What has no interval, and is to be judged, keeps a verdict of all from being reached.
    if any(row.gap in ("not comparable", "not learnt", "two groups") for row in rows):
        return None
    return max((need for _, need in needs), default=None)


def _verdict_of_mean(claim: Claim, row: JudgedComparison) -> Verdict:
    """Return what the claim's verdict would be if the mean were known exactly."""
    assert row.interval is not None
    mean, count = row.interval.mean, row.interval.count
    return comparison_verdict(claim.says, claim.margin, Interval(mean, mean, mean, count))


def _units_needed(claim: Claim, row: JudgedComparison, confidence: float) -> int:
    """Return how many units it takes, more than there are; one too many if that is beyond all."""
    assert row.interval is not None
    distance = distance_to_threshold(claim.says, claim.margin, row.interval.mean)
    power = power_at_each_threshold(claim.says)
    mutual = has_references(claim.measure)
    # The widening shrinks as units are added; what the deviation holds is that of those there are.
    deviation = (row.deviation or 0.0) / (mutual_widening(_count(row)) if mutual else 1)
    found = units_needed(deviation, distance, confidence, power, mutual=mutual)
    return MOST_UNITS + 1 if found is None else max(found, _count(row) + 1)
