"""Speeds in words: times, factors, break-evens, and the finding in one sentence."""

from gossamer.core.formats import NOTHING, counted, decimal
from gossamer.records.speed import LABELS, SPARSE, BreakEven, Machine, Row, Speed

PATTERNS = {
    "weight": "single weights of least magnitude",
    "unit": "whole units of least magnitude",
    "block": "blocks of 4×1 weights of least magnitude",
}


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, three digits of it.

    Examples
    --------
    >>> milliseconds(0.0001234), milliseconds(0.01234), milliseconds(1.234)
    ('0.123', '12.3', '1,234')
    """
    number = 1000 * seconds
    digits = 3 if number < 0.9995 else 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{digits}f}"


def times(factor: float) -> str:
    """Return a speed-up with two digits that count.

    Examples
    --------
    >>> times(0.8123), times(7.04), times(12.3)
    ('0.81×', '7.0×', '12×')
    """
    digits = 2 if factor < 0.995 else 1 if factor < 9.95 else 0
    return f"{decimal(factor, digits)}×"


def level(sparsity: float) -> str:
    """Return a sparsity in percent, with a digit behind the point if it needs one.

    Examples
    --------
    >>> level(0.9), level(0.995)
    ('90%', '99.5%')
    """
    return f"{decimal(100 * sparsity, 1).removesuffix('.0')}%"


def zeros_text(row: Row, speed: Speed) -> str:
    """Return the share of zeros of a row, and whose they are where there are both kinds."""
    if not any(one.as_given for one in speed.rows):
        return level(row.achieved)
    return f"{level(row.achieved)} {'as given' if row.as_given else 'pruned'}"


def pruned_text(speed: Speed) -> str:
    """Return how the network was pruned."""
    text = f"{PATTERNS[speed.pattern]} removed, the same share of each layer"
    if not any(one.as_given for one in speed.rows):
        return text
    given = next(level(one.achieved) for one in speed.rows if one.as_given)
    if all(one.as_given for one in speed.rows):
        return f"the {given} zeros that it was given with"
    return f"the {given} zeros that it was given with; beyond these, {text}"


def break_even_text(found: BreakEven) -> str:
    """Return where gossamer breaks even.

    Examples
    --------
    >>> between = BreakEven(column="csr", threads=1, batch=1, side="between", sparsity=0.6184)
    >>> break_even_text(between)
    '62%'
    >>> break_even_text(between.model_copy(update={"side": "below", "sparsity": 0.5}))
    'below 50%'
    """
    if found.side == "between":
        return f"{decimal(100 * found.sparsity, 0)}%"
    if found.side == "below" and found.sparsity == 0:
        return "any"
    return f"{found.side} {level(found.sparsity)}"


def place_text(threads: int, batch: int) -> str:
    """Return the heading of a table or a panel.

    Examples
    --------
    >>> place_text(2, 1024)
    'Batch 1,024, 2 threads'
    """
    return f"Batch {batch:,}, {counted(threads, 'thread')}"


def finding(speed: Speed) -> str:
    """Return what was found at about 90% zeros and batch 64 on the fewest threads.

    Of a network that was given with zeros, it is what was found with these.
    """
    rows = [row for row in speed.rows if row.best_rival and row.latency(SPARSE)]
    if not rows:
        return "gossamer and what it is compared to were not both timed anywhere."
    row = min(
        rows,
        key=lambda row: (
            not row.as_given, abs(row.sparsity - 0.9), row.threads, abs(row.batch - 64)
        ),
    )  # fmt: skip
    even = "" if row.as_given else _from_where_on(speed, row)
    return f"{_comparison(row)}{even}."


def _comparison(row: Row) -> str:
    own, rival = row.latency(SPARSE), row.best_rival
    factor = row.speed_up(rival) if rival else None
    assert own is not None
    assert rival is not None
    assert factor is not None
    against = f"the fastest of the others ({LABELS[rival]})"
    outcome = (
        f"{times(factor.value)} as fast as {against}"
        if factor.value >= 1
        else f"slower than {against}, at {times(factor.value)} of its speed"
    )
    where = place_text(row.threads, row.batch).lower()
    zeros = f"With the {level(row.achieved)} zeros given" if row.as_given else (
        f"At {level(row.sparsity)} zeros"
    )  # fmt: skip
    return f"{zeros}, {where}: gossamer takes {milliseconds(own.median)} ms and is {outcome}"


def _from_where_on(speed: Speed, row: Row) -> str:
    for found in speed.break_even:
        if (found.threads, found.batch, found.column) == (row.threads, row.batch, row.best_rival):
            return f"; break-even with it: {break_even_text(found)}"
    return ""


def machine_text(machine: Machine) -> str:
    """Return the machine on one line."""
    caches = ", ".join(f"{name} {size // 1024:,} KiB" for name, size in machine.caches.items())
    kernels = f"gossamer's kernels: {machine.instruction_set}"
    parts = (machine.environment.processor, counted(machine.cores, "core"), caches, kernels)
    return "; ".join(filter(None, parts))


def versions_text(machine: Machine) -> str:
    """Return the versions of what was timed."""
    found = {"gossamer": machine.environment.gossamer, "torch": machine.environment.torch}
    found |= {name: one for name, one in machine.versions.items() if name == "onnxruntime"}
    return ", ".join(f"{name} {one}" for name, one in found.items()) or NOTHING
