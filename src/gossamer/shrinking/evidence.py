"""What was chosen, measured beside the network as it was, on data that nothing was chosen by."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from gossamer.compression import Compressed, compact, compress
from gossamer.compression.compacting.copying import plain_copy
from gossamer.core.formats import duration
from gossamer.masks import Mask
from gossamer.measures.functional.machine import machine
from gossamer.records.shrinking import Bounded, LayerShare, Shrinking, Weighed
from gossamer.runtime import Predictor, load
from gossamer.shrinking.costs import dense_bytes, has_file, quietly
from gossamer.shrinking.data import Data
from gossamer.shrinking.equality import NotComparedError, compared
from gossamer.shrinking.fine_tuning import Lesson
from gossamer.shrinking.judging import drop_interval, mean_bounds
from gossamer.shrinking.leaking import leaked
from gossamer.shrinking.planning import Plan
from gossamer.shrinking.result import Shrunk, loading_lines
from gossamer.shrinking.searching import Found, Search, restored
from gossamer.shrinking.task import Task, evaluate
from gossamer.shrinking.weighing import timed, weighed
from gossamer.shrinking.wording import faster, findings, spent, widths_kept

_MEASURE = "how far outputs move from the dense network's when the layer alone is pruned"


@dataclass(frozen=True, eq=False)
class Chosen:
    """The network that was chosen in all its forms, and the dense one."""

    dense: nn.Module
    masked: nn.Module
    mask: Mask | None
    """None where the dense network stayed."""
    model: nn.Module
    network: Compressed
    file: Predictor | None
    """What the file holds that the network is deployed as; None where it has none."""
    bytes: int


@dataclass(frozen=True)
class Circumstances:
    """What is known of a search beside what it found."""

    model_name: str
    remarks: tuple[str, ...]
    forecast: float
    started: float
    """By `time.monotonic`."""
    seconds: float
    """For timing the chosen network, for each batch size."""
    own_training: bool = False
    """Whether the network is trained by a callable, whose time is in no forecast."""

    @property
    def foretold(self) -> str:
        """How long it takes, in words."""
        beside = ", beside the training of your own" if self.own_training else ""
        return f"about {duration(self.forecast)}{beside}"


def handed_over(search: Search, found: Found, known: Circumstances) -> Shrunk:
    """Make, measure and describe what was chosen; the dense network where nothing was."""
    search.follow("compressing and timing what was chosen")
    chosen = _chosen(search, found, known.seconds)
    report = _report(search, found, known, chosen)
    return Shrunk(
        network=chosen.network,
        model=chosen.model,
        masked=chosen.masked,
        mask=chosen.mask,
        report=report,
        metadata=_metadata(search.data),
        example=search.meter.example,
    )


def _chosen(search: Search, found: Found, seconds: float) -> Chosen:
    example, threads = search.meter.example, search.ground.options.threads
    dense = plain_copy(search.dense).cpu().eval().requires_grad_(requires_grad=False)
    masked, mask = (dense, None) if found.chosen is None else restored(search, found.chosen)
    with quietly():
        model = masked if mask is None else compact(masked, example)
        network = compress(masked, example, threads=threads, seconds=seconds)
    return Chosen(dense, masked, mask, model, network, *_written(network, model))


def _written(network: Compressed, model: nn.Module) -> tuple[Predictor | None, int]:
    """Return what is read back of the file of a network, and its bytes; those of weights if none.

    What runs fastest here may be another form than the file's.
    """
    if not has_file(network):
        return None, dense_bytes(model)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.gsm"
        network.save(path)
        return load(path), path.stat().st_size


def _report(search: Search, found: Found, known: Circumstances, chosen: Chosen) -> Shrinking:
    options, data, task = search.ground.options, search.data, search.budget.task
    way = found.plan
    before, after, drop = _before_and_after(search, chosen)
    times = timed(search.meter, chosen.dense, chosen.network, options, known.seconds)
    epochs = sum(one.epochs for one in found.tried) + (way.spent if way else 0)
    seconds = search.journal.earlier + time.monotonic() - known.started
    part = "validation" if data.test is None else "test"
    said = (
        *findings(found, search.budget, options, before, after, drop, times, part),
        faster(times),
        widths_kept(way.pattern, before, after) if way else "",
        f"Pattern: {way.pattern} ({way.reason})." if way else "",
        _training(way, search.learnt) if way else "",
        spent(epochs, seconds, known.foretold),
    )
    return Shrinking(
        model=known.model_name,
        task=task.name,
        higher_is_better=task.higher_is_better,
        target=options.target,
        pattern=way.pattern if way else options.pattern,
        batch=options.batch,
        threads=options.threads,
        precision=search.learnt.precision if search.learnt.train is None else None,
        max_drop=search.budget.may_lose,
        min_accuracy=options.min_accuracy,
        confidence=options.confidence,
        certified=found.chosen is not None and search.budget.is_provable,
        part="validation" if data.test is None else "test",
        validation_is_held_out=data.validation_is_held_out,
        before=before,
        after=after,
        drop=drop,
        timed=times,
        layers=_layers(chosen.mask),
        sensitivity=way.tolerances if way else (),
        measure=_MEASURE,
        tried=found.tried,
        epochs=epochs,
        seconds=seconds,
        forecast=known.forecast,
        findings=tuple(filter(None, said)),
        warnings=known.remarks,
        equality=_equality(chosen, data, task),
        leakage=leaked(chosen.dense, chosen.masked, data, task, options.seed),
        loading=loading_lines(search.dense),
        machine=machine(options.threads),
        finished=found.finished,
    )


def _training(way: Plan, learnt: Lesson) -> str:
    if learnt.train is not None:
        return ""
    computed = "bfloat16 over weights in float32" if learnt.precision == "bf16" else "float32"
    return f"Trained by Adam in {computed}, at a learning rate of at most {way.rate:g}."


def _equality(chosen: Chosen, data: Data, task: Task) -> str:
    """Hold what is run and what is written against the masked network, on all test examples."""
    forms: dict[str, Callable[..., Any]] = {"the compressed network": chosen.network}
    if chosen.file is not None:
        forms["the file network.gsm"] = chosen.file
    try:
        return str(compared(chosen.masked, forms, data.test or data.validation, task))
    except NotComparedError as reason:
        return f"not compared, as {reason}"


def _before_and_after(search: Search, chosen: Chosen) -> tuple[Weighed, Weighed, Bounded]:
    """Look at the test data, once; at the validation data where there are none."""
    task, confidence = search.budget.task, search.ground.options.confidence
    split, example = search.data.test or search.data.validation, search.meter.example
    old, new = (evaluate(one, split, task) for one in (chosen.dense, chosen.masked))
    before = weighed(chosen.dense, example, mean_bounds(task, old, confidence), None)
    after = weighed(chosen.model, example, mean_bounds(task, new, confidence), chosen.bytes)
    return before, after, drop_interval(task, task.drop(old, new), confidence)


def _layers(mask: Mask | None) -> tuple[LayerShare, ...]:
    if mask is None:
        return ()
    return tuple(
        LayerShare(name=name, weights=kept.numel(), kept=int(kept.sum()))
        for name, kept in mask.weights.items()
    )


def _metadata(data: Data) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if data.class_names:
        found["classes"] = list(data.class_names)
    if (given := data.preprocessing) is not None:
        found["preprocessing"] = {
            "scale": given.scale,
            "mean": list(given.mean),
            "deviation": list(given.deviation),
        }
    return found
