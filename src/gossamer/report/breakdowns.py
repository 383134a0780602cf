"""Results taken apart: sparsity layer by layer, accuracy class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from gossamer.records.record import Layer, Record
from gossamer.report.results import Results


@dataclass(frozen=True)
class LayerSparsity:
    """Zeros of one layer, mean over the seeds, as fractions; effective is None if unknown."""

    arm: str
    level: float
    layer: str
    prunable: bool
    masked: float
    effective: float | None


def layer_sparsities(results: Results) -> tuple[LayerSparsity, ...]:
    """Sparsity of each layer at each level of every arm."""
    return tuple(
        row
        for arm in results.study.arms
        for level in results.levels(arm.name)
        for row in _layers_of(arm.name, level, list(results.found(arm.name, level).values()))
    )


def _layers_of(arm: str, level: float, records: list[Record]) -> list[LayerSparsity]:
    layers: dict[str, list[Layer]] = {}
    for record in records:
        for layer in record.layers:
            layers.setdefault(layer.name, []).append(layer)
    return [
        LayerSparsity(
            arm=arm,
            level=level,
            layer=name,
            prunable=all(one.prunable for one in same),
            masked=fmean(1 - one.nonzero / one.weights for one in same),
            effective=_effective(same),
        )
        for name, same in layers.items()
    ]


def _effective(layers: Sequence[Layer]) -> float | None:
    known = [1 - one.effective / one.weights for one in layers if one.effective is not None]
    return fmean(known) if known else None


@dataclass(frozen=True)
class ClassAccuracy:
    """Test accuracy of one class, mean over the seeds, as a fraction."""

    arm: str
    level: float
    class_index: int
    accuracy: float


def class_accuracies(results: Results) -> tuple[ClassAccuracy, ...]:
    """Test accuracy of each class at each level of the unpruned network and the main arms."""
    rows = []
    for arm in (*results.arms("baseline"), *results.arms("main")):
        for level in results.levels(arm.name):
            found = results.found(arm.name, level).values()
            columns = [record.per_class["test"] for record in found if "test" in record.per_class]
            means = [fmean(one) for one in zip(*columns, strict=True)]
            rows += [ClassAccuracy(arm.name, level, i, mean) for i, mean in enumerate(means)]
    return tuple(rows)
