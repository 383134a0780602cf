"""What the judged comparisons of a claim say, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.core.formats import inside, listed, sentence
from gossamer.records.record import Claim
from gossamer.reporting.claim_evidence import Gap
from gossamer.reporting.glossary import Unit, label, unit_of
from gossamer.reporting.results import Results
from gossamer.stats.intervals import Interval
from gossamer.stats.verdicts import Verdict


@dataclass(frozen=True)
class JudgedComparison:
    """One paired difference of a claim: its simultaneous interval and what this says."""

    compare: str
    """An arm."""
    against: tuple[str, ...]
    """The other arm; several if the comparison is a mean over them, or with their curve."""
    levels: tuple[float, ...]
    """Where on the axis it is, which for an arm without a grid is the other's level; several if
    the comparison is a mean over them."""
    against_level: float | None
    """Where the other arm is looked at, if that is one place; None if it follows the levels or is
    where a measure is equal."""
    interval: Interval | None
    """None where there is a gap; without ends if there is one unit."""
    deviation: float | None
    """Standard deviation over the units, at least that of rounding; None if they are too few."""
    tied: bool
    """Whether every unit gives exactly the same difference."""
    verdict: Verdict | None
    """None for a control, of which nothing is claimed."""
    gap: Gap = ""
    note: str = ""
    matched: bool = False
    """Whether the other arms make one curve, looked at where a measure is equal."""


def evidence_sentence(
    results: Results, claim: Claim, verdict: Verdict, rows: Sequence[JudgedComparison]
) -> str:
    """Say a claim's verdict and what it rests on."""
    known = [row for row in rows if row.interval is not None]
    if not known:
        return f"Undecided: {_why_nothing(results, claim, rows)}."
    parts = [_description(results, claim, known)]
    if all(row.deviation is None for row in known):
        parts.append(f"one {results.unit} gives a number, never a verdict")
    else:
        parts.append(_decision(results, claim, verdict, known))
    notes = _gap_notes(results, rows)
    return f"{verdict.capitalize()}: {'; '.join(part for part in parts if part)}.{notes}"


def _why_nothing(results: Results, claim: Claim, rows: Sequence[JudgedComparison]) -> str:
    gaps = {row.gap for row in rows}
    if gaps <= {"not run"}:
        return "nothing that it compares is run at this scale"
    if "not learnt" in gaps:
        return f"no difference from an arm that has not learnt has a size: {_notes(rows)}"
    if "two groups" in gaps:
        return f"bimodal, and a mean over both groups is that of neither: {_notes(rows)}"
    if "not measured" in gaps:
        absent = [
            one for one in (claim.measure, claim.matched_on) if one and _nowhere(results, one)
        ]
        if results.done and absent:
            return f"{inside(label(absent[0]))} was not measured"
        return "what it compares is not measured yet"
    return f"what it compares is nowhere equal in {_matched(claim)}: {_notes(rows)}"


def _notes(rows: Sequence[JudgedComparison]) -> str:
    return listed(list(dict.fromkeys(row.note for row in rows if row.note)))


def _nowhere(results: Results, measure: str) -> bool:
    return not any(measure in measures for measures in results.measures.values())


def _measure(claim: Claim) -> str:
    return inside(label(claim.measure))


def _matched(claim: Claim) -> str:
    return inside(label(claim.matched_on or ""))


def _description(results: Results, claim: Claim, rows: Sequence[JudgedComparison]) -> str:
    """Say where what was found: one difference, or from where to where several reach."""
    where = _where(results, rows)
    means = [row.interval.mean for row in rows if row.interval]
    measure = _measure(claim)
    plural = measure.endswith("s") and not measure.endswith("ss")
    verb, that = ("are", "those") if plural else ("is", "that")
    theirs = f"{that} of {_others(results, rows)}{_other_place(results, claim, rows)}"
    ours = f"the {measure} of {results.named(claim.compare)} {verb}"
    apart = _apart(unit_of(claim.measure), min(means), max(means))
    return " ".join(filter(None, (where, ours, apart, theirs)))


def _apart(unit: Unit, low: float, high: float) -> str:
    """Say how far above or below something is.

    Examples
    --------
    >>> points = Unit(100, 2, " points")
    >>> _apart(points, 0.001, 0.001), _apart(points, -0.002, -0.001), _apart(points, 0.0, 0.0)
    ('0.10 points above', '0.10 to 0.20 points below', '')
    >>> _apart(points, -0.002, 0.001)
    'between 0.20 points below and 0.10 points above'
    """
    if low == high == 0:
        return ""
    if low < 0 < high:
        below, above = unit.text(-low), unit.text(high)
        return f"between {below}{unit.name} below and {above}{unit.name} above"
    near, far = (unit.text(one) for one in sorted((abs(low), abs(high))))
    reach = near if near == far else f"{near} to {far}"
    return f"{reach}{unit.name} {'above' if high > 0 else 'below'}"


def _others(results: Results, rows: Sequence[JudgedComparison]) -> str:
    arms = dict.fromkeys(arm for row in rows for arm in row.against)
    if len(arms) > 1 and any(row.matched for row in rows):
        return f"the curve of {len(arms)} other arms"
    return listed([results.named(arm) for arm in arms])


def _other_place(results: Results, claim: Claim, rows: Sequence[JudgedComparison]) -> str:
    if claim.matched_on:
        return f" at equal {_matched(claim)}"
    apart = any(row.against_level not in (0.0, *row.levels) for row in rows)
    return f" at {results.place(claim.against_level)}" if claim.against_level and apart else ""


def _where(results: Results, rows: Sequence[JudgedComparison]) -> str:
    """Name the levels of some comparisons; nothing if the study has none."""
    levels = sorted({level for row in rows for level in row.levels})
    averaged = any(
        len(row.levels) > 1 or (len(row.against) > 1 and not row.matched) for row in rows
    )
    if not results.has_levels or levels == [0.0]:
        return "on average" if averaged else ""
    preposition = "over" if averaged and len(levels) > 1 else "at"
    return f"{'on average ' if averaged else ''}{preposition} {results.places(levels)}"


def _decision(
    results: Results, claim: Claim, verdict: Verdict, known: Sequence[JudgedComparison]
) -> str:
    """Say which bound of which intervals decides the claim, or what they leave open."""
    ended = [row for row in known if row.deviation is not None]
    rows = [row for row in ended if row.verdict == verdict]
    if verdict == "undecided" and not rows:
        so_far = "supports" if ended[0].verdict == "supported" else "refutes"
        return f"as far as it is measured, this {so_far} the claim"
    one = len(rows) == 1
    intervals = "interval" if one else "intervals"
    somewhere = "" if len(rows) == len(known) else _somewhere(results, known, rows)
    if verdict == "undecided":
        return _left_open(
            claim, rows, f"the {intervals}{somewhere} {'reaches' if one else 'reach'}"
        )
    admits = f"the {intervals}{somewhere} {'admits' if one else 'admit'}"
    return _bound(claim, verdict, rows, admits)


def _somewhere(
    results: Results, known: Sequence[JudgedComparison], rows: Sequence[JudgedComparison]
) -> str:
    """Name some of the comparisons among all: by level, and by arm where that differs."""
    if len({row.against for row in known}) == 1:
        where = _where(results, rows)
        return f"{' ' if where else ''}{where}"
    groups: dict[tuple[str, ...], list[JudgedComparison]] = {}
    for row in rows:
        groups.setdefault(row.against, []).append(row)
    each = [
        f"{_where(results, some)} against {_others(results, some)}".strip()
        for some in groups.values()
    ]
    return f" {listed(each)}"


_DIRECTION = {
    "higher": "rise",
    "lower": "drop",
    "not-lower": "drop",
    "not-higher": "rise",
    "on-par": "difference",
}


def _ends(rows: Sequence[JudgedComparison], direction: str) -> tuple[float, float]:
    """Return the smallest and the largest rise, drop or difference that intervals admit."""
    smallest, largest = [], []
    for row in rows:
        low, high = _low_high(row)
        if direction == "drop":
            low, high = -high, -low
        elif direction == "difference":
            low, high = max(low, -high), max(high, -low)
        smallest.append(low)
        largest.append(high)
    return min(smallest), max(largest)


def _low_high(row: JudgedComparison) -> tuple[float, float]:
    interval = row.interval
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def _bound(claim: Claim, verdict: Verdict, rows: Sequence[JudgedComparison], admits: str) -> str:
    """Name the bound nearest to the threshold, on the side where the verdict has it."""
    unit, direction = unit_of(claim.measure), _DIRECTION[claim.says]
    smallest, largest = _ends(rows, direction)
    margin = f"the margin of {unit.short(claim.margin)}"
    beyond = verdict == ("supported" if _asks_for_an_effect(claim) else "refuted")
    if beyond:
        value = unit.text(smallest, apart=claim.margin)
        threshold = f"more than {margin}" if claim.margin else "above zero"
        return f"the smallest {direction} that {admits} is {value}{unit.name}, {threshold}"
    if largest <= 0:
        return f"{admits} no {direction}"
    value = unit.text(largest, apart=claim.margin)
    there = f": there is a {direction}, but none that matters" if smallest > 0 else ""
    note = there if _asks_for_an_effect(claim) else ""
    return f"the largest {direction} that {admits} is {value}{unit.name}, less than {margin}{note}"


def _asks_for_an_effect(claim: Claim) -> bool:
    return claim.says in ("higher", "lower")


def _left_open(claim: Claim, rows: Sequence[JudgedComparison], reach: str) -> str:
    unit, direction = unit_of(claim.measure), _DIRECTION[claim.says]
    lows, highs = zip(*map(_low_high, rows), strict=True)
    low, high = (unit.text(one, signed=True) for one in (min(lows), max(highs)))
    opening = f"{reach} from {low} to {high}{unit.name}"
    if not claim.margin:
        return f"{opening}, which neither shows nor excludes a {direction}"
    size = f"of {unit.amount(claim.margin)}, the margin"
    if _asks_for_an_effect(claim) and _ends(rows, direction)[0] > 0:
        return f"{opening}, which shows a {direction}, but neither shows nor excludes one {size}"
    return f"{opening}, which neither shows nor excludes a {direction} {size}"


def _gap_notes(results: Results, rows: Sequence[JudgedComparison]) -> str:
    """Say, each kind in a sentence, which comparisons could not be judged."""
    lone = [row for row in rows if row.interval is not None and row.deviation is None]
    some_ended = any(row.deviation is not None for row in rows)
    kinds = {
        f"Measured with one {results.unit} only": lone if some_ended else [],
        "Not measured yet": [row for row in rows if row.gap == "not measured"],
        "Not run at this scale": [row for row in rows if row.gap == "not run"],
        "Not comparable": [row for row in rows if row.gap == "not comparable"],
        "Without a size": [row for row in rows if row.gap == "not learnt"],
        "Bimodal": [row for row in rows if row.gap == "two groups"],
    }
    found = []
    for kind, them in kinds.items():
        if them:
            notes = _notes(them)
            place = _somewhere(results, rows, them).strip().removeprefix("at ")
            place = place or f"against {_others(results, them)}"
            found.append(f" {kind}: {place}{f' ({notes})' if notes else ''}.")
    return "".join(found)


def control_sentence(results: Results, claim: Claim, row: JudgedComparison) -> str:
    """Say what the comparison that could explain a claim came to, and what that means."""
    control = claim.control
    if control is None:
        return ""
    about = claim.model_copy(
        update={"compare": control.compare, "measure": control.measure or claim.measure}
    )
    if row.interval is None:
        return f"{sentence(_why_nothing(results, about, [row]))}. {control.text}"
    text = sentence(_description(results, about, [row]))
    return f"{text}{_against_none(about, row.interval)}. {control.text}"


def _against_none(claim: Claim, interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    unit = unit_of(claim.measure)
    low, high = (unit.text(one, signed=True) for one in (interval.low, interval.high))
    doubt = ", which cannot be told from none" if interval.low <= 0 <= interval.high else ""
    return f", with an interval from {low} to {high}{unit.name}{doubt}"
