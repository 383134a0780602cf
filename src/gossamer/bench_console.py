"""What `gossamer bench` shows on a terminal: how far it is, and a table for each batch size."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gossamer.formats import NOTHING, compact, counted, duration, listed
from gossamer.records.speed import CHOSEN, LABELS, RIVALS, SPARSE, Column, Row, Speed
from gossamer.report.speed_words import (
    PATTERNS,
    break_even_text,
    finding,
    level,
    machine_text,
    milliseconds,
    place_text,
    times,
    versions_text,
)

if TYPE_CHECKING:
    from gossamer.compression.benching import Case

Follow = Callable[[int, int, str], None]
"""Told how many rows are done, out of how many, and what comes next."""

_PATIENCE = 5.0
"""Seconds after which a reader of plain lines is told what is going on."""
_LEGEND = (
    "Times are medians in milliseconds a batch, the fastest of the others in bold; below each "
    "stands how many times faster gossamer is. Below 1× gossamer is slower. Even at: the share of "
    "zeros from which it is not slower."
)
_HEADINGS = {
    "eager": "PyTorch",
    "channels_last": "PyTorch\nchannels\nlast",
    "bf16": "PyTorch\nbf16",
    "compile": "torch.\ncompile",
    "onnxruntime": "ONNX\nRuntime",
    "csr": "PyTorch\nCSR",
    SPARSE: "gossamer",
    CHOSEN: "gossamer\nchosen",
}


@contextmanager
def followed(console: Console) -> Iterator[Follow]:
    """Show how far the measuring is: a bar on a terminal, elsewhere lines now and then."""
    if not console.is_terminal:
        yield _lines(console)
        return
    text = TextColumn("{task.description}", markup=False)
    columns = text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    # Drawn only between timings: a bar that refreshes itself would take a core now and then.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, what: progress.update(
            task, completed=done, total=total, description=what, refresh=True
        )


def _lines(console: Console) -> Follow:
    last = time.monotonic()

    def follow(done: int, total: int, what: str) -> None:
        nonlocal last
        if what and time.monotonic() - last > _PATIENCE:
            text = f"{done} of {counted(total, 'row')} done; next: {what}"
            console.print(text, markup=False, soft_wrap=True)
            last = time.monotonic()

    return follow


def described(speed: Speed) -> Iterator[RenderableType]:
    """Yield what is printed of a comparison."""
    pruned = f"{PATTERNS[speed.pattern]} removed, the same share of each layer"
    yield Text(f"{speed.model}: {compact(speed.parameters)} parameters; {pruned}.")
    yield Text(f"{machine_text(speed.machine)}; {versions_text(speed.machine)}.\n")
    yield Text(f"{finding(speed)}\n", style="bold")
    for threads, batch in speed.places:
        yield Text(place_text(threads, batch), style="bold")
        yield _table(speed, threads, batch)
        yield ""
    yield Text(_LEGEND)
    for name, why in speed.absences().items():
        yield _item(LABELS[name], f"not there: {why}")
    yield _item("How measured", speed.method)
    for note in speed.notes:
        yield _item("", note)
    yield ""


def _table(speed: Speed, threads: int, batch: int) -> Table:
    rows = speed.rows_at(threads, batch)
    timed = {one.name for row in rows for one in row.columns if one.latency}
    names = [name for name in (SPARSE, CHOSEN, *RIVALS) if name in timed]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Zeros", justify="right")
    for name in names:
        table.add_column(_HEADINGS[name], justify="right")
    for row in rows:
        cells = {one.name: one for one in row.columns}
        table.add_row(
            level(row.achieved),
            *(_cell(row, cells.get(name), name == row.best_rival) for name in names),
        )
    found = {
        one.column: break_even_text(one)
        for one in speed.break_even
        if (one.threads, one.batch) == (threads, batch)
    }
    if found:
        table.add_row("even\nat", *(found.get(name, "").replace(" ", "\n") for name in names))
    return table


def _cell(row: Row, column: Column | None, is_best: bool) -> Text:
    if column is None or column.latency is None:
        return Text(NOTHING)
    text = Text(milliseconds(column.latency.median), style="bold" if is_best else "")
    if column.name == SPARSE:
        return text
    if column.name == CHOSEN:
        return text.append(f"\n{column.remark.split()[0]}", style="dim")
    if factor := row.speed_up(column.name):
        lost = factor.value < 1
        text.append(f"\n{times(factor.value)}", style="red" if lost else "green")
    return text


def _item(head: str, text: str) -> Text:
    item = Text()
    if head:
        item.append(f"{head}: ", style="bold")
    return item.append(text)


def previewed(model: str, rows: Sequence["Case"], seconds: float, compiled: "Case | None") -> Text:
    """Return what a dry run prints."""
    levels = listed([level(share) for share in sorted({row.sparsity for row in rows})])
    batches = listed([f"{batch:,}" for batch in sorted({row.batch for row in rows})])
    counts = sorted({row.threads for row in rows})
    threads = listed([*map(str, counts[:-1]), counted(counts[-1], "thread")])
    text = Text(
        f"{model}: {counted(len(rows), 'row')}, of {levels} zeros, batch {batches}, "
        f"{threads}; about {duration(seconds)}."
    )
    if compiled is not None:
        text.append(
            f"\ntorch.compile at {level(compiled.sparsity)} zeros, batch {compiled.batch:,}, "
            f"{counted(compiled.threads, 'thread')} alone."
        )
    return text
