"""How fast a compressed file is, at several batch sizes and numbers of threads."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.benchmarking.subjects import random_inputs
from gossamer.engine import TensorSpec, weights_of
from gossamer.measures.functional.latency import latency_of, time_alternately
from gossamer.measures.functional.machine import machine
from gossamer.records.file_speed import FileSpeed, FileTime, StoredLayer
from gossamer.runtime import Predictor

SUFFIX = ".gsm"


def is_compressed(model: str) -> bool:
    """Tell whether a name is that of a compressed file.

    Examples
    --------
    >>> is_compressed("small.gsm"), is_compressed("my.networks:small")
    (True, False)
    """
    return Path(model).suffix == SUFFIX


def stored_layers(predictor: Predictor) -> Iterator[StoredLayer]:
    """Yield the layers of a network that have weights."""
    for layer in predictor.network.layers:
        if weights := weights_of(layer):
            yield StoredLayer(
                kind=layer.name,
                rows=weights.rows,
                columns=weights.columns,
                stored=weights.layout,
                nonzero=int(np.count_nonzero(weights.values)),
            )


def file_speed(
    path: Path,
    predictor: Predictor,
    times: Sequence[FileTime],
    seconds: float,
    threads: int,
    *,
    finished: bool,
) -> FileSpeed:
    """Return the times of a compressed file with what it holds and where they were taken."""
    return FileSpeed(
        file=path.name,
        size=path.stat().st_size,
        input_shape=predictor.input_shape,
        output_shape=predictor.output_shape,
        layers=tuple(stored_layers(predictor)),
        seconds=seconds,
        machine=machine(threads),
        finished=finished,
        times=tuple(times),
    )


def file_times(
    predictor: Predictor,
    batches: Sequence[int],
    threads: Sequence[int],
    *,
    seconds: float,
    follow: Callable[[int, int, str], None] = lambda _done, _total, _what: None,
) -> Iterator[FileTime]:
    """Yield the time of each batch size and number of threads as soon as it is measured.

    Parameters
    ----------
    predictor
        What `gossamer.load` returned.
    batches, threads
        What is combined.
    seconds
        Time for each.
    follow
        Told how many are done, of how many, and what comes next.
    """
    places = [(count, batch) for count in sorted(set(threads)) for batch in sorted(set(batches))]
    for done, (count, batch) in enumerate(places):
        follow(done, len(places), f"batch {batch:,}")
        inputs = [_inputs(one, batch) for one in predictor.signature.inputs]
        call = partial(predictor, *inputs, threads=count)
        timing = time_alternately({SUFFIX: call}, seconds=seconds)[SUFFIX]
        yield FileTime(threads=count, batch=batch, latency=latency_of(timing))


def _inputs(spec: TensorSpec, batch: int) -> NDArray[Any]:
    """Return numbers for an input; of whole numbers 0, which every vocabulary holds."""
    shape = (batch, *spec.shape)
    return random_inputs(shape) if spec.type == "float32" else np.zeros(shape, spec.type)
