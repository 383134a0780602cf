"""What a comparison of speeds found: frozen values that JSON holds and the report draws from.

Times are seconds of one call on one batch. A *speed-up* is the time of a dense column over the time
of the sparse one, so that a number below 1 is a loss.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from gossamer.records.record import Environment, Value

SPARSE = "gossamer"
"""The column that all others are held against: scattered zeros on gossamer's kernels."""
CHOSEN = "gossamer_chosen"
"""What `gossamer.compress` hands over: the fastest of what it tried."""
LABELS: Mapping[str, str] = {
    "eager": "PyTorch",
    "channels_last": "PyTorch channels_last",
    "bf16": "PyTorch bf16",
    "compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "csr": "PyTorch CSR",
    SPARSE: "gossamer",
    CHOSEN: "gossamer, as chosen",
}
"""The columns in the order of every table, as a reader knows them."""
RIVALS = tuple(name for name in LABELS if name not in (SPARSE, CHOSEN))
"""What gossamer is held against."""


class Latency(Value):
    """Seconds of one call over several repeats."""

    median: float
    low: float
    """Lower quartile of the repeats."""
    high: float
    """Upper quartile."""
    fastest: float
    repeats: int


class Column(Value):
    """One way to run the network in one place of the table."""

    name: str
    """One of `LABELS`."""
    latency: Latency | None = None
    """None where it was not timed."""
    absent: str = ""
    """Why it was not timed."""
    difference: float | None = None
    """Largest difference of its outputs from PyTorch's in float32, relative to the largest one."""
    remark: str = ""
    """What was run, where that was a choice."""


class SpeedUp(Value):
    """How many times faster gossamer is than another column; below 1 it is slower."""

    value: float
    """Of the medians."""
    low: float
    """The other's lower quartile over gossamer's upper one: wider than the spread of either."""
    high: float


class Row(Value):
    """All columns at one sparsity, one batch size and one number of threads."""

    sparsity: float
    """Share of zeros in the prunable weights that was asked for."""
    achieved: float
    """Share of zeros that there is."""
    as_given: bool = False
    """Whether the network has the zeros that it came with, instead of having been pruned."""
    threads: int
    batch: int
    columns: tuple[Column, ...]

    def latency(self, name: str) -> Latency | None:
        """Return the time of a column, None if it was not timed here."""
        return next((one.latency for one in self.columns if one.name == name), None)

    def speed_up(self, name: str) -> SpeedUp | None:
        """Return how many times faster gossamer is than a column; None if either was not timed."""
        other, own = self.latency(name), self.latency(SPARSE)
        if other is None or own is None:
            return None
        return SpeedUp(
            value=other.median / own.median, low=other.low / own.high, high=other.high / own.low
        )

    @property
    def best_rival(self) -> str | None:
        """The fastest of the columns that gossamer is held against."""
        timed = {name: found.median for name in RIVALS if (found := self.latency(name))}
        return min(timed, key=lambda name: timed[name]) if timed else None


class BreakEven(Value):
    """The sparsity from which gossamer is at least as fast as a column."""

    column: str
    threads: int
    batch: int
    side: Literal["between", "below", "above"]
    """Whether it lies between measured sparsities, below all of them, or above all of them."""
    sparsity: float
    """The break-even; or the lowest measured sparsity if it is below, the highest if above."""


class Machine(Value):
    """What the times were measured on."""

    environment: Environment
    cores: int
    """How many this process may run on."""
    caches: Mapping[str, int]
    """Bytes of each cache that the first core has, by name such as "L1d"."""
    instruction_set: str
    """What gossamer's kernels ran with: "avx512", "avx2", "baseline", or "numpy" without them."""
    versions: Mapping[str, str]
    """Of what was compared to, by package."""


class Speed(Value):
    """A network's speed, dense and sparse, on one machine."""

    model: str
    input_shape: tuple[int, ...]
    parameters: int
    weights: str
    """Name of the file of the weights; empty for initial ones."""
    pattern: Literal["weight", "unit", "block"]
    seconds: float
    """Time that was given to the timing of each row."""
    machine: Machine
    method: str
    """How it was measured, in plain words."""
    finished: bool
    """False if it was interrupted; what was measured until then is there."""
    rows: tuple[Row, ...]
    break_even: tuple[BreakEven, ...]
    notes: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Threads and batch of each table, in the order of the rows."""
        return places(self.rows)

    def rows_at(self, threads: int, batch: int) -> tuple[Row, ...]:
        """Return the rows of one table, by rising sparsity."""
        return rows_at(self.rows, threads, batch)

    def present(self) -> tuple[str, ...]:
        """Return the columns that were timed anywhere, in the order of the tables."""
        timed = {one.name for row in self.rows for one in row.columns if one.latency}
        return tuple(name for name in LABELS if name in timed)

    def absences(self) -> dict[str, str]:
        """Return why columns that were timed nowhere were not, by name."""
        reasons = {one.name: one.absent for row in self.rows for one in row.columns if one.absent}
        return {name: why for name, why in reasons.items() if name not in self.present()}

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as plain lists, dicts, strings and numbers, as JSON has them."""
        return self.model_dump(mode="json")


def places(rows: Iterable[Row]) -> tuple[tuple[int, int], ...]:
    """Return threads and batch of each table, each once."""
    return tuple(sorted({(row.threads, row.batch) for row in rows}))


def rows_at(rows: Iterable[Row], threads: int, batch: int) -> tuple[Row, ...]:
    """Return the rows with so many threads and that batch, by rising sparsity."""
    here = (row for row in rows if (row.threads, row.batch) == (threads, batch))
    return tuple(sorted(here, key=lambda row: row.sparsity))


def typical_spread(rows: Iterable[Row]) -> float:
    """Return the ratio of the quartiles of a column's repeats, the median over all columns.

    On an idle machine it is little above 1; without any column it is 1.
    """
    ratios = [
        found.high / found.low for row in rows for one in row.columns if (found := one.latency)
    ]
    return statistics.median(ratios) if ratios else 1.0


def break_evens(rows: Sequence[Row]) -> tuple[BreakEven, ...]:
    """Return where gossamer breaks even with each column, for each number of threads and batch.

    A column that was timed at a single sparsity gives none. Rows of the network as it was given do
    not count: its zeros lie elsewhere than those of the others.
    """
    found = []
    for threads, batch in places(rows):
        here = [row for row in rows_at(rows, threads, batch) if not row.as_given]
        for name in RIVALS:
            timed = [(row.sparsity, up.value) for row in here if (up := row.speed_up(name))]
            if len(timed) > 1:
                side, sparsity = crossing(timed)
                found.append(
                    BreakEven(
                        column=name, threads=threads, batch=batch, side=side, sparsity=sparsity
                    )
                )
    return tuple(found)


def crossing(
    speed_ups: Sequence[tuple[float, float]],
) -> tuple[Literal["between", "below", "above"], float]:
    """Return where speed-ups reach 1 for good, interpolated on the logarithm of time.

    Where they cross 1 several times the highest crossing counts: from there on nothing is lost.

    Parameters
    ----------
    speed_ups
        Pairs (sparsity, speed-up) by rising sparsity, at least one.

    Returns
    -------
    str
        "between" measured sparsities, "below" the lowest, which wins already, or "above" the
        highest, which still loses.
    float
        The sparsity of the crossing; the lowest or the highest measured one if it lies outside.

    Examples
    --------
    >>> crossing([(0.5, 0.5), (0.9, 2.0)])
    ('between', 0.7)
    >>> crossing([(0.5, 1.5), (0.9, 2.0)])
    ('below', 0.5)
    """
    gains = [(sparsity, math.log(value)) for sparsity, value in speed_ups]
    losing = [index for index, (_, gain) in enumerate(gains) if gain < 0]
    if not losing:
        return "below", gains[0][0]
    if losing[-1] == len(gains) - 1:
        return "above", gains[-1][0]
    (low, loss), (high, gain) = gains[losing[-1]], gains[losing[-1] + 1]
    return "between", low + (high - low) * -loss / (gain - loss)
