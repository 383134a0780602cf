"""How large the networks of a study are, as means over the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from gossamer.records.record import Layer
from gossamer.report.results import Results


@dataclass(frozen=True)
class Size:
    """How large one arm is at one level: means over the seeds, by measure."""

    arm: str
    level: float
    means: Mapping[str, float]


SIZE_MEASURES = (
    "sparsity_requested",
    "sparsity",
    "sparsity_all",
    "effective_sparsity",
    "nonzero_parameters",
    "bytes_compressed",
    "macs_dense",
    "macs_nonzero",
)


def sizes(results: Results) -> tuple[Size, ...]:
    """Sizes of every arm at each of its own levels that has a record."""
    rows = []
    for arm in results.study.arms:
        for level in sorted(level for name, level in results.asked if name == arm.name):
            found = {m: results.interval(arm.name, level, m) for m in SIZE_MEASURES}
            means = {m: interval.mean for m, interval in found.items() if interval}
            if means:
                rows.append(Size(arm.name, level, means))
    return tuple(rows)


def reaching(results: Results, arm: str, level: float) -> float | None:
    """Weights of all layers that still reach the output, mean over the seeds; None if unknown."""
    counts = [_reaching(record.layers) for record in results.found(arm, level).values()]
    known = [count for count in counts if count is not None]
    return fmean(known) if known else None


def _reaching(layers: Sequence[Layer]) -> float | None:
    known = [layer.effective for layer in layers if layer.effective is not None]
    return float(sum(known)) if layers and len(known) == len(layers) else None
