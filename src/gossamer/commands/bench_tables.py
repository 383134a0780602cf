"""What `gossamer bench` shows on a terminal: a table for each batch size."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gossamer.core.formats import NOTHING, compact, counted, duration, listed
from gossamer.records.file_speed import FileSpeed
from gossamer.records.speed import CHOSEN, LABELS, RIVALS, SPARSE, Column, Row, Speed
from gossamer.reporting.speed_words import (
    break_even_text,
    finding,
    level,
    machine_text,
    milliseconds,
    place_text,
    pruned_text,
    times,
    versions_text,
    zeros_text,
)

if TYPE_CHECKING:
    from gossamer.benchmarking.subjects import Case


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


def described(speed: Speed) -> Iterator[RenderableType]:
    """Yield what is printed of a comparison."""
    yield Text(f"{speed.model}: {compact(speed.parameters)} parameters; {pruned_text(speed)}.")
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
            zeros_text(row, speed).replace(" ", "\n", 1),
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


def described_file(speed: FileSpeed) -> Iterator[RenderableType]:
    """Yield what is printed of a compressed file."""
    shapes = " -> ".join(
        "×".join(map(str, shape)) for shape in (speed.input_shape, speed.output_shape)
    )
    yield Text(
        f"{speed.file}: {compact(speed.size, 'B')}, {shapes}, {compact(speed.weights)} weights, "
        f"{level(speed.sparsity)} of them zero."
    )
    yield Text(f"{machine_text(speed.machine)}; gossamer {speed.machine.environment.gossamer}.\n")
    layers = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in (("Layer", "left"), ("Weights", "right"), ("Zeros", "right")):
        layers.add_column(name, justify="right" if side == "right" else "left")
    layers.add_column("Stored")
    for layer in speed.layers:
        zeros = level(1 - layer.nonzero / layer.weights)
        shape = f"{layer.kind} {layer.rows:,} × {layer.columns:,}"
        layers.add_row(shape, f"{layer.weights:,}", zeros, layer.stored)
    yield layers
    yield ""
    yield _file_times(speed)
    yield Text(
        "\nMilliseconds a batch, medians, with the quartiles; each alone on random inputs, warm, "
        f"{speed.seconds:g} s. The network that it was made from is compared by `gossamer bench "
        "package.module:callable --weights FILE`.\n"
    )


def _file_times(speed: FileSpeed) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Batch", justify="right")
    counts = sorted({one.threads for one in speed.times})
    for count in counts:
        table.add_column(counted(count, "thread"), justify="right")
    found = {(one.batch, one.threads): one.latency for one in speed.times}
    for batch in sorted({one.batch for one in speed.times}):
        here = (found.get((batch, count)) for count in counts)
        table.add_row(
            f"{batch:,}",
            *(
                f"{milliseconds(one.median)} ({milliseconds(one.low)}-{milliseconds(one.high)})"
                if one
                else NOTHING
                for one in here
            ),
        )
    return table


def _item(head: str, text: str) -> Text:
    item = Text()
    if head:
        item.append(f"{head}: ", style="bold")
    return item.append(text)


def previewed(model: str, rows: Sequence["Case"], seconds: float, compiled: "Case | None") -> Text:
    """Return what a dry run prints."""
    levels = listed(
        [
            f"{level(share)} as given" if as_given else level(share)
            for share, as_given in sorted({(row.sparsity, row.as_given) for row in rows})
        ]
    )
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
