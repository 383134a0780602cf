"""A study's claims, judged by its records: the verdict, the evidence and the control."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gossamer.leakage.attacks import has_references
from gossamer.measures import is_fraction
from gossamer.records.record import Claim
from gossamer.reporting.claim_evidence import Evidence, claim_evidence, control_evidence
from gossamer.reporting.claim_sentences import (
    JudgedComparison,
    control_sentence,
    evidence_sentence,
)
from gossamer.reporting.glossary import unit_of
from gossamer.reporting.results import Results, interval_of
from gossamer.stats.intervals import (
    SHAPE_FROM,
    Interval,
    bounded,
    mutual_widening,
    rounding_deviation,
    simultaneous_confidence,
    two_groups,
)
from gossamer.stats.power import (
    MOST_UNITS,
    distance_to_threshold,
    power_at_each_threshold,
    smallest_detectable_difference,
    units_needed,
)
from gossamer.stats.verdicts import Verdict, claim_verdict, comparison_verdict


def power_sentence(
    results: Results,
    claim: Claim,
    rows: Sequence[JudgedComparison],
    confidence: float,
    need: int | None,
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
    return text if need is None else f"{text} {_need(results, need)}"


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


def _need(results: Results, need: int) -> str:
    """Say how many units it takes to decide a claim if everything stays as it is."""
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


__all__ = ["JudgedClaim", "JudgedComparison", "claims_note", "judged_claims"]

CONFIDENCE = 0.95
"""How often all intervals of a study's claims hold together."""


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, its verdict and what this rests on, in words and in rows."""

    claim: Claim
    verdict: Verdict
    evidence: str
    """One sentence that opens with the verdict, and what could not be judged."""
    comparisons: tuple[JudgedComparison, ...]
    power: str
    """What so many seeds could have seen, and how many an undecided claim would need; empty if
    nothing is measured."""
    units_to_decide: int | None
    """How many seeds, or pairs, an undecided claim would take if means and spreads stay as they
    are, above `gossamer.stats.power.MOST_UNITS` if more than are worth a thought; None if it is
    decided, or the seeds that there are give no interval to go by."""
    control: str
    """What the comparison that could explain the claim came to; empty without one."""
    control_comparison: JudgedComparison | None


def judged_claims(results: Results) -> tuple[JudgedClaim, ...]:
    """Judge every claim of a study.

    All intervals that a verdict rests on hold together with 95%, by Bonferroni's bound over their
    number. A comparison that two claims share counts once, and so do mirror images, a against b
    and b against a: their intervals are opposite. A control decides nothing, and its interval
    holds with 95% by itself.

    The bound is used as it is because nothing sharper can be trusted here: with 4 to 16 units the
    correlations between comparisons cannot be estimated, 4 pairs admit no permutation test at the
    level needed, and a stepwise procedure has no intervals that agree with it.
    """
    gathered = [
        (claim, claim_evidence(results, claim), control_evidence(results, claim))
        for claim in results.study.claims
    ]
    everything = [one for _, each, _ in gathered for one in each]
    confidence = _confidence(everything)
    return tuple(
        _judged(results, claim, each, control, confidence) for claim, each, control in gathered
    )


def claims_note(claims: Iterable[JudgedClaim]) -> str:
    """Say how the intervals of judged claims are to be read; nothing if there are none."""
    rows = [row for one in claims for row in (*one.comparisons, one.control_comparison)]
    if not any(row and row.deviation is not None for row in rows):
        return ""
    return (
        "All intervals of the claims hold together with 95% (Student's t over paired differences, "
        "Bonferroni's bound over the comparisons), and every verdict is read off them; that of a "
        "control holds with 95% by itself. Where networks are each other's references in an "
        "attack, intervals are widened accordingly. They suppose that differences scatter about "
        f"normally: {SHAPE_FROM} or more that are skewed get wider intervals, and those in two "
        "groups far apart none; of fewer nothing of the kind can be seen, and if they are skewed, "
        "intervals hold less often than 95%."
    )


def _confidence(everything: Iterable[Evidence]) -> float:
    # What is not measured yet counts, too: verdicts must not turn as other arms are done.
    distinct = {one.identity for one in everything if not one.silent}
    return simultaneous_confidence(max(1, len(distinct)), CONFIDENCE)


def _judged(
    results: Results,
    claim: Claim,
    each: Sequence[Evidence],
    control: Evidence | None,
    confidence: float,
) -> JudgedClaim:
    rows = tuple(_with_verdict(claim, _comparison(results, one, confidence)) for one in each)
    # What is not run at this scale says nothing about the claim; what cannot be compared, or is
    # not measured yet, may say anything.
    heard = zip(each, rows, strict=True)
    verdicts = [row.verdict for one, row in heard if row.verdict and not one.silent]
    verdict = claim_verdict(claim.over, verdicts)
    beside = _comparison(results, control, CONFIDENCE) if control else None
    need = _units_to_decide(claim, rows, confidence) if verdict == "undecided" else None
    return JudgedClaim(
        claim=claim,
        verdict=verdict,
        evidence=evidence_sentence(results, claim, verdict, rows),
        comparisons=rows,
        power=power_sentence(results, claim, rows, confidence, need),
        units_to_decide=need,
        control=control_sentence(results, claim, beside) if beside else "",
        control_comparison=beside,
    )


def _with_verdict(claim: Claim, row: JudgedComparison) -> JudgedComparison:
    if row.interval is None:
        return replace(row, verdict="undecided")
    return replace(row, verdict=comparison_verdict(claim.says, claim.margin, row.interval))


def _comparison(results: Results, evidence: Evidence, confidence: float) -> JudgedComparison:
    """Return the comparison with its interval, not judged."""
    values = results.units(evidence.differences)
    least = rounding_deviation(results.resolution(evidence.measure), terms=2)
    against_levels = {place.against_level for place in evidence.places}
    against = tuple(dict.fromkeys(arm for place in evidence.places for arm in place.against))
    apart = two_groups(values, least)
    if apart is not None:
        note = f"{apart} of {results.counted_units(len(values))} far from the others"
        evidence, values = replace(evidence, gap="two groups", note=note), []
    interval = _interval(values, evidence.measure, confidence, least)
    return JudgedComparison(
        compare=evidence.compare,
        against=against,
        levels=tuple(dict.fromkeys(place.axis_level for place in evidence.places)),
        against_level=against_levels.pop() if len(against_levels) == 1 else None,
        interval=_above_no_time(results, evidence, against, interval),
        deviation=_deviation(values, evidence.measure, least),
        tied=_tied(values),
        verdict=None,
        gap=evidence.gap if values or evidence.gap else "not measured",
        note=evidence.note,
        matched=evidence.matched_on is not None,
    )


def _above_no_time(
    results: Results, evidence: Evidence, against: Sequence[str], interval: Interval | None
) -> Interval | None:
    """Cut an interval where a network would take less time than none.

    A relative latency is positive and that of the unpruned network is one, so that the difference
    lies above minus one.
    """
    base = results.baseline
    relative = evidence.measure.startswith("latency_ratio")
    if not relative or base is None or tuple(against) != (base.name,):
        return interval
    if interval is None or interval.low is None:
        return interval
    return replace(interval, low=max(interval.low, -1.0))


def _deviation(values: Sequence[float], measure: str, least: float) -> float | None:
    """Return the standard deviation, at least that of rounding.

    It is widened where the interval is, so that it says what so many units can see.
    """
    mutual = has_references(measure)
    if len(values) < (3 if mutual else 2):
        return None
    deviation = max(0.0 if _tied(values) else statistics.stdev(values), least)
    return deviation * (mutual_widening(len(values)) if mutual else 1)


def _tied(values: Sequence[float]) -> bool:
    """Whether values differ by no more than the rounding of their computation."""
    return len(values) > 1 and statistics.stdev(values) <= 1e-12 * max(map(abs, values))


def _interval(
    values: Sequence[float], measure: str, confidence: float, least: float
) -> Interval | None:
    interval = interval_of(values, measure, confidence, least)
    if interval is None:
        return None
    # Two fractions differ by at most one; a gain is a difference of fractions already.
    return bounded(interval, 1.0) if is_fraction(measure) and "gain" not in measure else interval
