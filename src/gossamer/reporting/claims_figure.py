"""The paired differences that claims are judged by, one panel a claim."""

import textwrap
from collections.abc import Iterable, Sequence

import altair as alt

from gossamer.core.formats import decimal, inside
from gossamer.records.record import Claim
from gossamer.reporting.charts import GREY, INK, NARROW, QUIET, Figure, Layer, Panel, Row
from gossamer.reporting.claim_sentences import JudgedComparison
from gossamer.reporting.claims import JudgedClaim
from gossamer.reporting.glossary import Unit, label, unit_of
from gossamer.reporting.results import Results
from gossamer.reporting.series import short_label, titled_label
from gossamer.stats.intervals import Interval

VERDICTS = {"supported": "#00795a", "refuted": "#b84a00", "undecided": GREY}
"""Colours of verdicts, which their shape repeats."""
CONTROL = "control"
ROW_HEIGHT = 22
PLACE_WIDTH = 190
"""What the names of rows may take, in pixels."""
LETTER = 7.2
"""Width of a letter in the title of an axis, in pixels."""
EDGE = 0.04
"""What an axis shows beyond all intervals and margins at either end, as a part of their range."""


def claims_figure(results: Results, judged: Iterable[JudgedClaim]) -> Figure | None:
    """Draw every comparison of the claims with its simultaneous interval and the margin."""
    panels = tuple(
        _panel(Panel(panel_name(one)), results, one, rows)
        for one in judged
        if (rows := claim_rows(results, one))
    )
    if not panels:
        return None
    intervals = "" if results.one_seed else " with intervals that hold together with 95%"
    return Figure(
        "claims",
        "Paired differences behind the claims",
        f"Paired differences behind the claims{intervals}. Dashed: the margin that matters. "
        "Circles support their claim, crosses refute it, squares leave it open; the hollow one is "
        "the control.",
        panels,
    )


def panel_name(one: JudgedClaim) -> str:
    """Return the name of a claim's panel."""
    return f"claim-{one.claim.name}"


def claim_rows(results: Results, one: JudgedClaim) -> list[Row]:
    """One row a comparison that was measured, the control last."""
    unit = unit_of(one.claim.measure)
    rows = [
        _row(unit, _place(results, one, row), row, row.interval)
        for row in one.comparisons
        if row.interval
    ]
    control = one.control_comparison
    if control is not None and control.interval is not None and one.claim.control is not None:
        unit = unit_of(one.claim.control.measure or one.claim.measure)
        rows.append(_row(unit, CONTROL, control, control.interval) | {"verdict": CONTROL})
    return rows


def _row(unit: Unit, place: str, row: JudgedComparison, interval: Interval) -> Row:
    known = interval.low is not None and interval.high is not None
    ends = [unit.factor * (end if end is not None else interval.mean)
            for end in (interval.low, interval.high)]  # fmt: skip
    reading = f"{unit.text(interval.mean, signed=True)}{unit.name}"
    if known:
        low, high = (decimal(end, unit.digits, signed=True) for end in ends)
        reading = f"{reading} [{low}, {high}]"
    return {
        "place": place,
        "mean": unit.factor * interval.mean,
        "low": ends[0] if known else None,
        "high": ends[1] if known else None,
        "verdict": row.verdict,
        "reading": reading,
    }


def _place(results: Results, one: JudgedClaim, row: JudgedComparison) -> str:
    """Return where a comparison is made, as short as tells it from the others of its claim."""
    if len(row.levels) > 1:
        place = f"mean over {results.places(sorted(row.levels))}"
    else:
        level = row.levels[0]
        place = results.short_place(level) if level or not results.has_levels else ""
    others = {other for same in one.comparisons for other in same.against if not same.matched}
    against = short_label(results, row.against[0]) if len(others) > 1 or not place else ""
    return ", ".join(filter(None, (against, place)))


def _panel(panel: Panel, results: Results, one: JudgedClaim, rows: list[Row]) -> Panel:
    unit = unit_of(one.claim.measure)
    order = [row["place"] for row in rows]
    y = alt.Y("place:N", sort=order, title=None).axis(
        ticks=False, domain=False, grid=True, labelColor=INK, labelLimit=PLACE_WIDTH
    )
    x = alt.X("mean:Q", title=axis_title(one.claim, max(map(len, order))))
    x = x.scale(domain=_domain(one.claim, unit, rows), nice=False).axis(tickCount=6)
    colours = alt.Scale(domain=[*VERDICTS, CONTROL], range=[*VERDICTS.values(), GREY])
    colour = alt.Color("verdict:N", legend=None, scale=colours)
    fill = alt.when("datum.verdict == 'control'").then(alt.value("white"))
    shape = alt.Shape("verdict:N", legend=None).scale(
        domain=[*VERDICTS, CONTROL], range=["circle", "cross", "square", "circle"]
    )
    tooltip = [
        alt.Tooltip("place:N", title=" "),
        alt.Tooltip("reading:N", title="difference"),
        alt.Tooltip("verdict:N", title="says"),
    ]
    base = panel.of(rows).encode(y, colour, tooltip=tooltip)
    layers: list[Layer] = [
        *_guides(panel, one.claim, unit),
        base.mark_rule(strokeWidth=2, strokeOpacity=0.55).encode(alt.X("low:Q"), alt.X2("high:Q")),
        base.mark_point(size=60, opacity=1, strokeWidth=1.5).encode(
            x, shape, fill=fill.otherwise(alt.Fill("verdict:N", legend=None, scale=colours))
        ),
    ]
    title = f"({one.claim.name}) {panel_title(results, one.claim)}"
    return panel.showing(layers, ROW_HEIGHT * len(rows) + 6, title)


def axis_title(claim: Claim, longest: int) -> str | list[str]:
    """Say what the differences are of and in which unit, in lines that fit below the panel.

    Parameters
    ----------
    claim
        The claim.
    longest
        Letters of the longest name of a row, which narrows the panel.
    """
    unit = unit_of(claim.measure).name.strip()
    if "ratio" in claim.measure:
        unit = "% of the unpruned network's"
    words = f"Difference in {inside(label(claim.measure))}{f' ({unit})' if unit else ''}"
    lines = textwrap.wrap(words, int((NARROW - min(PLACE_WIDTH, LETTER * longest)) / LETTER))
    return lines if len(lines) > 1 else words


def _domain(claim: Claim, unit: Unit, rows: list[Row]) -> list[float]:
    """Return the ends of the axis: no interval, margin or mark touches them."""
    shown = [row[key] for row in rows for key in ("low", "mean", "high") if row[key] is not None]
    shown += [0.0, *(unit.factor * side * claim.margin for side in margin_sides(claim))]
    room = EDGE * (max(shown) - min(shown)) or 1.0
    return [min(shown) - room, max(shown) + room]


def _guides(panel: Panel, claim: Claim, unit: Unit) -> list[Layer]:
    """Draw no difference, and the margin on the side, or sides, where it decides."""
    zero = panel.of([{"mean": 0.0}]).mark_rule(stroke=QUIET, strokeWidth=1.3)
    marks = panel.of([{"mean": unit.factor * side * claim.margin} for side in margin_sides(claim)])
    dashed = marks.mark_rule(stroke=QUIET, strokeWidth=1.3, strokeDash=[4, 3])
    return [one.encode(alt.X("mean:Q")) for one in (zero, dashed)]


def margin_sides(claim: Claim) -> Sequence[int]:
    """Return on which side of no difference a claim's margin lies.

    Examples
    --------
    >>> say = lambda says: Claim(name="a", text="", says=says, compare="x", against=(), margin=1)
    >>> margin_sides(say("higher")), margin_sides(say("not-lower")), margin_sides(say("on-par"))
    ((1,), (-1,), (-1, 1))
    """
    return {"higher": (1,), "not-higher": (1,), "on-par": (-1, 1)}.get(claim.says, (-1,))


def panel_title(results: Results, claim: Claim) -> str:
    """Return what is subtracted from what, and where if the rows do not say it."""
    ours, theirs = claim.compare, claim.against
    others = inside(short_label(results, theirs[0])) if len(theirs) == 1 else "each of the others"
    if claim.matched_on:
        others = f"{others if len(theirs) == 1 else 'the curve of the others'} at equal "
        return f"{_first(results, ours)} minus {others}{inside(label(claim.matched_on))}"
    place = f" at {results.short_place(claim.against_level)}" if claim.against_level else ""
    return f"{_first(results, ours)} minus {others}{place}"


def _first(results: Results, arm: str) -> str:
    """Return an arm's label as the title begins with it, quoted where it would run on."""
    name = titled_label(results, arm)
    return f"“{name}”" if "," in name and "“" not in name else name
