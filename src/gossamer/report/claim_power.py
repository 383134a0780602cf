"""What so many seeds can decide about a claim, and how many it would take, in words."""

import math
from collections.abc import Sequence

from gossamer.records.measures import is_fraction
from gossamer.records.record import Claim
from gossamer.report.claim_sentences import JudgedComparison
from gossamer.report.results import Results
from gossamer.report.units import unit_of
from gossamer.stats.power import (
    MOST_UNITS,
    distance_to_threshold,
    power_at_each_threshold,
    smallest_detectable_difference,
    units_needed,
)
from gossamer.stats.verdicts import Verdict


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
    undecided = [row for row in ended if row.verdict == "undecided"]
    if verdict != "undecided" or not undecided:
        return text
    return f"{text} {_need(results, claim, undecided, confidence)}"


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
    """Say how many units it takes if everything stays as it is: all rows, or for "any" one."""
    needs = [_units_needed(claim, row, confidence) for row in rows]
    need = (min if claim.over == "any" else max)(needs)
    many = (
        f"more than {results.counted_units(MOST_UNITS)}"
        if need > MOST_UNITS
        else f"about {results.counted_units(need)}"
    )
    return f"To decide the claim would take {many}, if means and spreads stay as they are."


def _units_needed(claim: Claim, row: JudgedComparison, confidence: float) -> int:
    """Return how many units it takes, more than there are; one too many if that is beyond all."""
    mean = row.interval.mean if row.interval else 0.0
    distance = distance_to_threshold(claim.says, claim.margin, mean)
    power = power_at_each_threshold(claim.says)
    found = units_needed(row.deviation or 0.0, distance, confidence, power)
    return MOST_UNITS + 1 if found is None else max(found, _count(row) + 1)
