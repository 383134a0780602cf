"""What an audit shows on a terminal: what it found, what it would do."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gossamer.core.formats import NOTHING, compact, counted, decimal, listed, percent
from gossamer.leakage.design import Kind
from gossamer.leakage.dry_run import DryRun
from gossamer.records.leakage import AttackResult, Estimate, Leakage, RateAt, Skipped

_WIDE = 110
"""Columns from which a number and its interval share a line."""
_LEGEND = (
    "In percent, but for the AUC; brackets hold 95% intervals. TPR: the share of the training "
    "examples that the attack finds when it may accuse the given share of all others (FPR)."
)
_TOO_MANY = "*"
_DESIGNS: dict[Kind, str] = {
    "paired": "in pairs trained on complementary examples",
    "balanced": "every example in the same number of models",
    "independent": "memberships taken to be drawn independently",
    "overlapping": "memberships overlap otherwise than by chance",
}


def described(leakage: Leakage, name: str, width: int) -> Iterator[RenderableType]:
    """Yield what is printed of an audit; a self-test that failed comes first.

    Parameters
    ----------
    leakage
        What was found.
    name
        Of what was audited.
    width
        Columns of the terminal.
    """
    yield from failures(leakage)
    yield Text(f"{name}: {_extent(leakage)}.\n")
    yield Text(f"{leakage.sentence}\n", style="bold")
    if leakage.judgement:
        style = "bold green" if leakage.judgement.passed else "bold red"
        yield Text(f"{leakage.judgement.sentence}\n", style=style)
    for warning in leakage.warnings:
        yield Text(f"Warning: {warning}\n", style="yellow")
    yield _table(leakage.attacks, " " if width >= _WIDE else "\n")
    yield Text(f"\n{_legend(leakage.attacks)}")
    yield Text(f"\nSelf-tests: {_passed(leakage)}", style="bold")
    for check in leakage.checks:
        yield _item(check.name, check.detail, "passed" if check.passed else "FAILED")
    yield from _skipped(leakage.skipped)
    if leakage.notes:
        yield Text("\nNotes", style="bold")
    for note in leakage.notes:
        yield _item("", note)
    yield ""


def failures(leakage: Leakage) -> Iterator[Text]:
    """Yield self-tests that failed, and what that means."""
    for check in leakage.checks:
        if not check.passed:
            yield Text(f"SELF-TEST FAILED: {check.name}: {check.detail}.", style="bold red")
    if not leakage.passed:
        yield Text("No number of this audit can be relied on.\n", style="bold red")


def previewed(seen: DryRun, name: str) -> Iterator[RenderableType]:
    """Yield what a dry run prints."""
    size = compact(seen.contents.path.stat().st_size, "B")
    yield Text(f"{name}, {size}\n", style="bold")
    yield _arrays(seen)
    if seen.contents.ignored:
        yield Text(f"Not read: {', '.join(seen.contents.ignored)}.")
    yield Text(f"\n{_design(seen)}")
    if seen.left_out:
        numbers = listed([str(model) for model in seen.left_out])
        yield Text(f"Left out, as their mates are missing: {numbers} (models, counted from 0).")
    yield Text(f"\nAttacks that can be run: {', '.join(seen.possible) or 'none'}.")
    yield from _skipped(seen.skipped)
    free = "" if seen.available is None else f" of {compact(seen.available, 'B')} available"
    yield Text(f"\nMemory: about {compact(seen.contents.memory, 'B')}{free}.")


def _arrays(seen: DryRun) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("Array", "Shape", "Type"):
        table.add_column(title)
    for name, header in seen.contents.headers.items():
        table.add_row(name, " × ".join(f"{n:,}" for n in header.shape), str(header.dtype))
    return table


def _design(seen: DryRun) -> str:
    """Say who trained on what, and how many references that gives."""
    fewest, most = (f"{count:,}" for count in seen.members)
    members = fewest if fewest == most else f"{fewest} to {most}"
    text = (
        f"{counted(seen.models, 'model')}, {counted(seen.examples, 'example')} of which "
        f"{members} are members, {counted(seen.classes, 'class')}"
    )
    if seen.references is None:
        why = "one model" if seen.models == 1 else "all trained on the same examples"
        return f"{text}; {why}, so no references."
    counts = seen.references
    return (
        f"{text}; {_DESIGNS[seen.design]}. References against each target, an example: "
        f"{_span(counts.in_lowest, counts.in_highest)} that trained on it, "
        f"{_span(counts.out_lowest, counts.out_highest)} that did not."
    )


def _span(lowest: int, highest: int) -> str:
    return str(lowest) if lowest == highest else f"{lowest} to {highest}"


def _extent(leakage: Leakage) -> str:
    pairs = f" in {counted(leakage.models // 2, 'pair')}" if leakage.paired else ""
    classes = "" if leakage.classes is None else f", {counted(leakage.classes, 'class')}"
    models, examples = counted(leakage.models, "model"), counted(leakage.examples, "example")
    return f"{models}{pairs}, {examples}{classes}"


def _passed(leakage: Leakage) -> str:
    passed = sum(check.passed for check in leakage.checks)
    return f"{passed} of {len(leakage.checks)} passed"


def _table(attacks: tuple[AttackResult, ...], joint: str) -> Table:
    stacked = joint == "\n" and any(attack.auc.low is not None for attack in attacks)
    table = Table(box=None, pad_edge=False, padding=(0, 1 if stacked else 2, 0, 0))
    table.add_column("\nAttack")
    rates = sorted({rate.fpr for attack in attacks for rate in attack.tpr_at}, reverse=True)
    headers = ["Balanced\naccuracy", "\nAUC", *(f"TPR at\n{100 * r:g}% FPR" for r in rates)]
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for attack in attacks:
        found = {rate.fpr: rate for rate in attack.tpr_at}
        table.add_row(
            attack.label,
            _cell(attack.balanced_accuracy, 1, joint),
            _cell(attack.auc, 3, joint, scale=1),
            *(_rate_cell(found.get(rate), joint) for rate in rates),
        )
    return table


def _rate_cell(rate: RateAt | None, joint: str) -> Text:
    if rate is None:
        return Text(NOTHING)
    return _cell(rate.tpr, 2, joint, mark="" if rate.kept else _TOO_MANY)


def _cell(
    estimate: Estimate, digits: int, joint: str, *, scale: float = 100, mark: str = ""
) -> Text:
    """Return a number with its interval beside or below it."""
    text = Text(decimal(scale * estimate.value, digits) + mark)
    if estimate.low is not None and estimate.high is not None:
        low, high = (decimal(scale * end, digits) for end in (estimate.low, estimate.high))
        text.append(f"{joint}[{low}, {high}]", style="dim")
    return text


def _legend(attacks: tuple[AttackResult, ...]) -> str:
    """Say what the table means, and what came of false-positive rates fixed on other data."""
    fixed = [attack for attack in attacks if attack.tpr_at]
    if not fixed:
        return _LEGEND
    parts = []
    for asked in fixed[0].tpr_at:
        found = [attack.rate_at(asked.fpr).realised_fpr for attack in fixed]
        span = " to ".join(f"{percent(value)}%" for value in sorted({min(found), max(found)}))
        parts.append(f"{span} where {100 * asked.fpr:g}% was asked for")
    text = f"{_LEGEND} Thresholds come from other data; the FPR came to {listed(parts)}."
    if any(not rate.kept for attack in fixed for rate in attack.tpr_at):
        text += f" {_TOO_MANY} More than twice the FPR asked for: no TPR to quote."
    return text


def _skipped(skipped: tuple[Skipped, ...]) -> Iterator[RenderableType]:
    """Yield attacks that cannot be run, those of one reason together."""
    if skipped:
        yield Text("\nSkipped", style="bold")
    for reason in dict.fromkeys(each.reason for each in skipped):
        names = [each.attack for each in skipped if each.reason == reason]
        yield _item(", ".join(names), reason.removeprefix("because "))


def _item(name: str, text: str, mark: str = "-") -> Table:
    """Return one entry of a list, wrapped under itself."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    content = Text(f"{name}: " if name else "")
    grid.add_row(mark, content.append(text))
    return grid
