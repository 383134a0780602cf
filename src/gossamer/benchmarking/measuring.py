"""The rows of `gossamer bench`, measured one after the other."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from gossamer.benchmarking.processes import CAN_HALT, Bench, Ready
from gossamer.benchmarking.subjects import Case, Subject
from gossamer.compression.checking import relative_difference
from gossamer.core.errors import GossamerError, InputError
from gossamer.engine import Floats
from gossamer.measures.functional.latency import latency_of, time_blocks
from gossamer.records.speed import LABELS, Column, Row

PROCESSES: Mapping[str, tuple[str, ...]] = {
    "PyTorch": ("eager", "channels_last", "bf16", "csr"),
    "ONNX Runtime": ("onnxruntime",),
    "gossamer": ("gossamer", "gossamer_chosen"),
}
"""The columns that share a process, and so a thread pool."""
COMPILED = "compile"
REFERENCE = "eager"
TOLERANCE = 1e-3
"""Largest difference from PyTorch's outputs, relative to the largest one, of what is compared; but
for bf16, whose difference is what it costs."""

Follow = Callable[[str], None]
_Value = TypeVar("_Value")


@dataclass
class _Benches:
    """The processes, and why those that are gone are."""

    chosen: Subject
    begin: Callable[[], None] | None
    open: dict[str, Bench] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)

    def start(self, name: str, columns: Sequence[str]) -> None:
        self.open[name] = Bench(columns, self.chosen, self.begin)

    def end(self, name: str) -> None:
        self.open.pop(name).close()

    def end_all(self) -> None:
        for name in list(self.open):
            self.end(name)


def measured_rows(
    chosen: Subject,
    cases: Sequence[Case],
    *,
    seconds: float,
    compiled: Case | None = None,
    follow: Follow = lambda _: None,
    begin: Callable[[], None] | None = None,
) -> Iterator[Row]:
    """Yield each row as soon as it is measured.

    Parameters
    ----------
    chosen
        The network, and how it is pruned.
    cases
        The rows.
    seconds
        Time for timing each row, all columns together.
    compiled
        The row that `torch.compile` is measured in, too; None for none.
    follow
        Told what is done next.
    begin
        Called first of all in each process.

    Raises
    ------
    GossamerError
        If there is no such network, or a process dies while it is timed.
    """
    benches = _Benches(chosen, begin)
    try:
        for name, columns in PROCESSES.items():
            benches.start(name, columns)
        for case in cases:
            if case == compiled:
                benches.start(COMPILED, (COMPILED,))
            yield _row(benches, case, seconds, follow)
            if COMPILED in benches.open:
                benches.end(COMPILED)
    finally:
        benches.end_all()


def _row(benches: _Benches, case: Case, seconds: float, follow: Follow) -> Row:
    ready: dict[str, Ready] = {}
    absent = dict(benches.gone)
    for name, bench in list(benches.open.items()):
        follow(f"{'compiling' if name == COMPILED else 'preparing'} {name}")
        try:
            ready[name] = bench.prepare(case)
        except InputError:
            raise
        except GossamerError as error:
            benches.gone |= dict.fromkeys(bench.columns, str(error))
            absent |= dict.fromkeys(bench.columns, str(error))
            benches.end(name)
    answers = {name: one.outputs for name, one in ready.items()}
    differences = differences_from_reference(_merged(list(answers.values())))
    absent |= _merged([one.absent for one in ready.values()]) | wrong(differences)
    remarks = _merged([one.remarks for one in ready.values()])
    blocks = {
        column: benches.open[name].block(column)
        for name, outputs in answers.items()
        for column in outputs
        if column not in absent
    }
    follow("timing")
    timings = time_blocks(blocks, seconds=seconds)
    return Row(
        sparsity=case.sparsity,
        achieved=max((one.achieved for one in ready.values()), default=case.sparsity),
        as_given=case.as_given,
        threads=case.threads,
        batch=case.batch,
        columns=tuple(
            Column(
                name=name,
                latency=latency_of(timings[name]) if name in timings else None,
                absent=absent.get(name, ""),
                difference=_finite(differences.get(name)),
                remark=remarks.get(name, ""),
            )
            for name in LABELS
            if name in timings or name in absent
        ),
    )


def _merged(parts: Sequence[Mapping[str, _Value]]) -> dict[str, _Value]:
    return {name: value for part in parts for name, value in part.items()}


def differences_from_reference(outputs: Mapping[str, Floats]) -> dict[str, float]:
    """Return the largest difference of each column from PyTorch's, relative to the largest output.

    What is infinite or no number counts as an infinite difference.
    """
    if REFERENCE not in outputs:
        return {}
    reference = torch.from_numpy(outputs[REFERENCE])
    return {
        name: relative_difference(torch.from_numpy(found), reference)
        for name, found in outputs.items()
        if name != REFERENCE
    }


def wrong(differences: Mapping[str, float]) -> dict[str, str]:
    """Return which columns give other answers and so are not to be timed, with that reason."""
    return {
        name: f"its answers differ by {difference:.2g} of the largest one"
        for name, difference in differences.items()
        if name != "bf16" and not difference <= TOLERANCE
    }


def _finite(difference: float | None) -> float | None:
    """Return a difference as JSON can hold it."""
    return difference if difference is not None and math.isfinite(difference) else None


def method(seconds: float) -> str:
    """Return in words how the rows are measured."""
    others = (
        "while the processes of the others are halted"
        if CAN_HALT
        else "while the others wait, whose idle threads may disturb it"
    )
    return (
        "PyTorch, ONNX Runtime, gossamer and torch.compile each run in a process of their own; "
        f"all columns of a row take turns, each {others}. A repeat is one call, or as many calls "
        "one after the other as take 10 ms; a column is called until it gets no faster before it "
        f"is timed. Shown is the median over the repeats, with quartiles; {seconds:g} s a row. "
        "Inputs and outputs are in memory, converted beforehand; bf16 is channels_last where there "
        "are convolutions. The others run the same pruned weights, zeros and all; gossamer removes "
        "units that contribute nothing before it skips the zeros that are left."
    )
