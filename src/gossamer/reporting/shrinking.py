"""The page of a search within an accuracy budget."""

from pathlib import Path
from typing import Any

from gossamer.core.formats import NOTHING, compact, counted, decimal, duration, percent
from gossamer.records.leakage import Estimate
from gossamer.records.shrinking import Bounded, Shrinking, Timed, Tried
from gossamer.reporting.charts import Figure
from gossamer.reporting.files import write_whole
from gossamer.reporting.rendering import library, page_figure, render
from gossamer.reporting.shrinking_figures import drop_unit, is_share, scaled, shrinking_figures
from gossamer.reporting.speed_words import level, machine_text, milliseconds, times, versions_text
from gossamer.reporting.tables import Section, Table
from gossamer.reporting.write import write_pictures

TARGETS = {"latency": "latency", "size": "bytes of the file", "flops": "multiply-adds"}


def write_shrinking(report: Shrinking, folder: Path) -> Path:
    """Write ``report.html`` and ``figures/*``.

    The page is one file that needs no network. Each file is replaced as a whole.

    Parameters
    ----------
    report
        What a search found.
    folder
        Where the files go; made if it is not there.

    Returns
    -------
    Path
        The page, ``folder/report.html``.

    Raises
    ------
    UnwritableError
        If the folder cannot be written or its disk is full.
    """
    drawn = shrinking_figures(report)
    for figure in drawn:
        write_pictures(figure, report.model, folder)
    page = folder / "report.html"
    write_whole(page, render("shrinking.html.j2", page_values(report, drawn)).encode())
    return page


def page_values(report: Shrinking, drawn: tuple[Figure, ...]) -> dict[str, Any]:
    """Return what the page's template shows of a search and its figures."""
    shown = {figure.name: page_figure(i + 1, figure) for i, figure in enumerate(drawn)}
    names = ("trade-off", "kept", "tolerance", "curves")
    first, *more = report.findings or ("Nothing was found.",)
    return {
        "title": f"{report.model}, smaller",
        "facts": _facts(report),
        "finished": report.finished,
        "sentence": first,
        "findings": more,
        "warnings": report.warnings,
        "promise": promise(report),
        "kept": promise_kept(report),
        "weighed": _weighed_table(report),
        "timed": _timed_table(report) if report.timed else None,
        "tried": _tried_table(report) if report.tried else None,
        "layers": _layer_table(report) if report.layers else None,
        "figures": {name: shown.get(name) for name in names},
        "spent": _spent(report),
        "equality": report.equality.rstrip("."),
        "leakage": _leakage_table(report) if report.leakage else None,
        "loading": report.loading,
        "machine": [
            ("Machine", machine_text(report.machine)),
            ("Versions", versions_text(report.machine)),
        ],
        "library": library() if drawn else "",
    }


def _facts(report: Shrinking) -> list[tuple[str, str]]:
    return [
        ("Made small", TARGETS[report.target]),
        ("Budget", _budget(report)),
        ("Confidence", level(report.confidence)),
        ("Pattern", report.pattern),
        ("Batch", f"{report.batch:,}"),
        ("Threads", str(report.threads)),
    ]


def _budget(report: Shrinking) -> str:
    if report.min_accuracy is None:
        return f"{amount(report, report.max_drop)} of {report.task}"
    least = "at least" if report.higher_is_better else "at most"
    return f"{least} {report.min_accuracy:g} {report.task}"


def amount(report: Shrinking, value: float, *, signed: bool = False) -> str:
    """Return a drop with its unit, in points where the metric is a share."""
    number = scaled(report, value)
    if is_share(report):
        return f"{decimal(number, 2, signed=signed)} points"
    return f"{number:+.4g}" if signed else f"{number:.4g}"


def _metric(report: Shrinking, found: Bounded) -> str:
    if is_share(report):
        return f"{percent(found.value)}% [{percent(found.low)}, {percent(found.high)}]"
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"


def promise(report: Shrinking) -> str:
    """Say what was promised, and whether a bound holds it or an estimate alone."""
    budget = f"The network may lose {amount(report, report.max_drop)}"
    if report.min_accuracy is not None:
        worse = "fall below" if report.higher_is_better else "exceed"
        budget = (
            f"The {report.task} may not {worse} {report.min_accuracy:g}, "
            f"{amount(report, report.max_drop)} from the dense network's on validation data"
        )
    chosen = report.chosen
    if chosen is None:
        return f"{budget}. None that was tried is shown to keep that."
    bound = chosen.drop if chosen.bound is None else chosen.bound
    shown = (
        f"{budget}. On validation data the chosen one loses "
        f"{amount(report, chosen.drop)}, and with "
        f"{100 * (chosen.confidence or report.confidence):.3g}% confidence at most "
        f"{amount(report, bound)}"
    )
    if report.certified:
        kept = "that bound" if report.min_accuracy is None else "a bound of the same confidence"
        return f"{shown}: the budget is kept by {kept}, which allows for the choice."
    return f"{shown}: the budget is kept by the estimate alone, which the choice flatters."


def promise_kept(report: Shrinking) -> str:
    """Say what the data that were looked at last say of the promise."""
    drop = report.drop
    interval = f"{amount(report, drop.low)} to {amount(report, drop.high)}"
    sure = level(report.confidence)
    found = (
        f"On the {drop.examples:,} {report.part} examples, which were looked at once, at the end, "
        f"the drop is {amount(report, drop.value)} ({sure}: {interval})"
    )
    if report.part == "validation":
        found = (
            f"There was no test data. On the {drop.examples:,} validation examples by which the "
            f"network was chosen, the drop is {amount(report, drop.value)} ({sure}: {interval})"
        )
    verdict = (
        "within the budget"
        if drop.high <= report.max_drop
        else "beyond the budget"
        if drop.low > report.max_drop
        else "the budget lies inside that interval"
    )
    return f"{found}: {verdict}."


def _weighed_table(report: Shrinking) -> Table:
    before, after = report.before, report.after

    def row(name: str, old: float, new: float, unit: str = "") -> tuple[str, ...]:
        return (name, compact(old, unit), compact(new, unit), times(old / new) if new else NOTHING)

    drop = amount(report, -report.drop.value, signed=True)
    metric = f"{report.task.capitalize()} on {report.part} data"
    rows = (
        (metric, _metric(report, before.metric), _metric(report, after.metric), drop),
        row("Bytes", before.bytes, after.bytes, "B"),
        row("Parameters", before.parameters, after.parameters),
        row("Parameters that are not zero", before.nonzero, after.nonzero),
        row("Multiply-adds of an example", before.multiply_adds, after.multiply_adds),
    )
    note = (
        f"In brackets {level(report.confidence)} intervals. Bytes: of the dense weights, and of "
        "the file network.gsm. The factor says how many times less."
    )
    columns = ("", "before", "after", "difference or factor")
    return Table("The network in numbers", (), columns, (Section("", rows),), note)


def _timed_table(report: Shrinking) -> Table:
    """Return the time of each way to run either network, and how many times as fast the new is."""
    batches = sorted({one.batch for one in report.timed})
    ways = list(dict.fromkeys((one.network, one.runner) for one in report.timed))
    found = {(one.network, one.runner, one.batch): one for one in report.timed}
    rows = []
    for network, runner in ways:
        cells = [f"{runner}, {'dense' if network == 'dense' else 'smaller network'}"]
        for batch in batches:
            here = found.get((network, runner, batch))
            cells += [_time(here), _factor(here, _quickest(report, batch))]
        rows.append(tuple(cells))
    return Table(
        "Time of a batch",
        tuple((f"batch {batch:,}", 2) for batch in batches),
        ("", *("ms" if part == 0 else "factor" for _ in batches for part in (0, 1))),
        (Section("", tuple(rows)),),
        "Milliseconds, medians of runs that take turns. Factor: that time over the fastest of the "
        "smaller network's; below 1× the smaller network is slower.",
    )


def _quickest(report: Shrinking, batch: int) -> float:
    own = [o.latency.median for o in report.timed if o.network == "shrunk" and o.batch == batch]
    return min(own, default=0.0)


def _time(one: Timed | None) -> str:
    return NOTHING if one is None else milliseconds(one.latency.median)


def _factor(one: Timed | None, quickest: float) -> str:
    if one is None or not quickest or one.network == "shrunk":
        return NOTHING
    return times(one.latency.median / quickest)


def _tried_table(report: Shrinking) -> Table:
    unit = drop_unit(report)
    rows = tuple(_tried_row(report, one) for one in report.tried)
    columns = (
        "Candidate", "zeros", "gain", f"drop ({unit})", "at most", "changed", "epochs", "verdict",
    )  # fmt: skip
    return Table(
        "All that was tried",
        (),
        columns,
        (Section("", rows),),
        f"Gain: over the dense network{' in PyTorch' if report.target == 'latency' else ''}. "
        f"Drop: on validation data, in {unit}; at most: its bound, {_sure(report)}. "
        "Changed: share of the validation examples whose metric differs. All of it is in "
        "trials.csv.",
    )


def _sure(report: Shrinking) -> str:
    """Say with what confidence bounds hold."""
    asked = level(report.confidence)
    surer = [one for one in report.tried if one.confidence not in (None, report.confidence)]
    if not surer or surer[0].confidence is None:
        return f"with {asked} confidence"
    if len(surer) == len(report.tried):
        return f"with {percent(surer[0].confidence, 1)}% confidence"
    return (
        f"with {percent(surer[0].confidence, 1)}% confidence of the first {len(surer)}, none of "
        f"which ends the search, and {asked} of the others, of which the first that fails does"
    )


def _tried_row(report: Shrinking, one: Tried) -> tuple[str, ...]:
    alike = len({other.pattern for other in report.tried}) == 1
    number = (lambda v: decimal(scaled(report, v), 2)) if is_share(report) else "{:.4g}".format
    return (
        str(one.number + 1) if alike else f"{one.number + 1}, {one.pattern}",
        level(one.sparsity),
        times(one.speed_up),
        number(one.drop),
        NOTHING if one.bound is None else number(one.bound),
        f"{percent(one.changed, 1)}%",
        f"{one.epochs:.3g}",
        _verdict(report, one),
    )


def _verdict(report: Shrinking, one: Tried) -> str:
    if one.within:
        return "chosen" if one.chosen else "within"
    passed = one.bound is not None and one.bound <= report.max_drop and report.min_accuracy is None
    return "after one that failed" if passed and report.certified else "not within"


def _layer_table(report: Shrinking) -> Table:
    rows = tuple(
        (one.name, f"{one.weights:,}", f"{one.kept:,}", level(1 - one.kept / one.weights))
        for one in report.layers
    )
    return Table("Layers", (), ("Layer", "weights", "kept", "zeros"), (Section("", rows),))


def _leakage_table(report: Shrinking) -> Table:
    first = report.leakage[0]
    rows = tuple(
        (one.attack + (" *" if one.is_headline else ""), _area(one.before), _area(one.after))
        for one in report.leakage
    )
    return Table(
        "Area under the ROC curve of attacks that tell members from others",
        (),
        ("Attack", "before", "after"),
        (Section("", rows),),
        f"On {first.members:,} examples that the network was trained on and {first.others:,} test "
        "examples; 0.5 is guessing. In brackets 95% intervals. The attack marked * was named in "
        "advance.",
    )


def _area(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _spent(report: Shrinking) -> str:
    factor = report.seconds / report.forecast if report.forecast else 0.0
    told = f"; {duration(report.forecast)} were foretold" if factor else ""
    return (
        f"{counted(len(report.tried), 'candidate')} and {report.epochs:.3g} epochs of fine-tuning "
        f"took {duration(report.seconds)}{told}."
    )
