"""What the rows of a comparison come to, with what to know before relying on them."""

from collections.abc import Iterator, Sequence

from gossamer.benchmarking.measuring import method
from gossamer.benchmarking.subjects import Subject
from gossamer.core.formats import listed
from gossamer.measures.functional.machine import machine
from gossamer.records.speed import Row, Speed, break_evens, typical_spread
from gossamer.reporting.speed_words import level
from gossamer.studies.process_settings import processor_has_bf16

_STEADY = 1.2
"""Ratio of the quartiles that an idle machine stays below."""


def summarised(
    chosen: Subject,
    rows: Sequence[Row],
    parameters: int,
    seconds: float,
    *,
    finished: bool,
    zeros: float,
    left_out: Sequence[float],
) -> Speed:
    """Return a comparison as it is printed, written and drawn.

    Parameters
    ----------
    chosen
        The network.
    rows
        What was measured.
    parameters
        How many the network has.
    seconds
        Time for timing each row.
    finished
        Whether all rows were measured.
    zeros
        Share of zeros in the weights as they were given.
    left_out
        Sparsities that were asked for, and that the network as given has already.
    """
    here = machine(max((row.threads for row in rows), default=1))
    return Speed(
        model=chosen.model,
        input_shape=chosen.input_shape,
        parameters=parameters,
        weights="" if chosen.weights is None else chosen.weights.name,
        pattern=chosen.pattern,
        seconds=seconds,
        machine=here,
        method=method(seconds),
        finished=finished,
        rows=tuple(rows),
        break_even=break_evens(rows),
        notes=tuple(_notes(rows, here.instruction_set, zeros, left_out)),
    )


def _notes(
    rows: Sequence[Row], kernels: str, zeros: float, left_out: Sequence[float]
) -> Iterator[str]:
    """Yield what a reader should know before relying on the numbers."""
    if kernels == "numpy":
        yield (
            "gossamer was installed without its compiled kernels, so its columns are those of "
            "NumPy alone: install it where a C++ compiler is present."
        )
    spread = typical_spread(rows)
    if spread > _STEADY:
        yield (
            f"The quartiles of a column typically lie {spread:.2f}× apart: the machine was busy "
            "with other things. Measure again when it is idle."
        )
    if any(row.latency("bf16") for row in rows) and processor_has_bf16() is False:
        yield "This processor has no bf16 instructions, so bf16 is slow here."
    if left_out:
        yield (
            f"Not pruned to {listed([level(share) for share in left_out])}: the weights given "
            f"have {level(zeros)} zeros already."
        )
