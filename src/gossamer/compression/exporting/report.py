"""What is told of an ONNX file: what it takes and gives, and what a user must know of it."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OnnxReport:
    """What an ONNX file takes and gives, and how far it was checked.

    Attributes
    ----------
    difference
        Largest difference between what the file and what the network gives, relative to the largest
        number of that output: from the network in float64, or in its own precision where it has no
        other.
    batch
        The only size of a batch that the file takes; None if it takes any.
    why_one_batch
        Why it takes no other; empty if it does.
    outputs
        Names of the file's outputs, in order.
    left_out
        What the network returns and the file does not give, as it is no tensor but the same for all
        inputs; None is not among them.
    checked
        Sizes of the batches on which it was checked.
    lengths
        The lengths of inputs at which it was checked, where they may vary.
    refused
        By the sizes among those tried on which the network itself fails, why. What the file gives
        for them means nothing.
    unsupported
        What ONNX Runtime lacks to run the file on the processor, so that it was checked with the
        reference implementation in the package onnx instead; empty if it lacks nothing.
    """

    difference: float
    batch: int | None
    why_one_batch: str
    outputs: tuple[str, ...]
    left_out: tuple[str, ...]
    checked: tuple[int, ...]
    lengths: tuple[tuple[int, ...], ...]
    refused: Mapping[int, str]
    unsupported: str


def warnings_of(report: OnnxReport, network: str, path: Path) -> Iterator[str]:
    """Yield a sentence for each thing in which a file is less than may have been expected.

    Parameters
    ----------
    report
        Of the file.
    network
        Name of the network's class.
    path
        Of the file.
    """
    if report.batch is not None:
        yield (
            f"{path} takes batches of {report.batch} only, as {network} cannot be exported for "
            f"other sizes ({report.why_one_batch}): export it once for each size that is needed."
        )
    elif report.refused:
        why = next(iter(report.refused.values()))
        yield (
            f"The network {network} fails on batches of {_listed(report.refused)} ({why}), so "
            f"{path} was checked on batches of {_listed(report.checked)} only: give it no others "
            "than the network takes."
        )
    if report.unsupported:
        yield (
            f"ONNX Runtime cannot run {path} on the CPU ({report.unsupported}), so it was checked "
            "with the reference implementation in the package onnx: export the network in float32, "
            "or run the file elsewhere."
        )
    if report.left_out:
        names = ", ".join(repr(name) for name in report.left_out)
        yield (
            f"{path} does not give {names} of what {network} returns, as an ONNX file gives "
            "tensors only: add what is no tensor where the file is used."
        )


def _listed(sizes: Collection[int]) -> str:
    """Return numbers as in a sentence.

    Examples
    --------
    >>> _listed([1, 3, 5])
    '1, 3 and 5'
    """
    *first, last = (str(size) for size in sizes)
    return f"{', '.join(first)} and {last}" if first else last
