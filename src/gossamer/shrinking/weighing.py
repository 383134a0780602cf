"""Before and after: accuracy, bytes, work and times of the dense network and the chosen one."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from gossamer.compression import Compressed
from gossamer.compression.onnx import export_onnx, open_session
from gossamer.core.errors import GossamerError
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import Example
from gossamer.measures.functional.latency import latency_of, time_alternately
from gossamer.records.shrinking import Bounded, Timed, Weighed
from gossamer.shrinking.costs import Meter, dense_bytes, in_faster_layout, quietly, work_of
from gossamer.shrinking.options import Options
from gossamer.shrinking.split import first


def weighed(network: nn.Module, example: Example, metric: Bounded, size: int | None) -> Weighed:
    """Return a network in numbers; without the size of a file its weights are counted."""
    parameters = list(network.parameters())
    return Weighed(
        metric=metric,
        bytes=dense_bytes(network) if size is None else size,
        parameters=sum(one.numel() for one in parameters),
        nonzero=sum(int(one.count_nonzero()) for one in parameters),
        multiply_adds=work_of(network, example)[1],
    )


def timed(
    meter: Meter, dense: nn.Module, small: Compressed, options: Options, seconds: float
) -> tuple[Timed, ...]:
    """Time both networks in turn, at batch 1 and at the given one.

    PyTorch runs the dense one in the layout of images that is faster at each.
    """
    found: list[Timed] = []
    threads = options.threads
    with onnx_session(dense, meter.example, threads) as session:
        for size in sorted({1, options.batch}):
            some = first(meter.example, size)
            calls = {
                "PyTorch": in_faster_layout(replace(meter, example=some)).in_pytorch(some),
                "gossamer": meter.calling(small, some),
            }
            if session is not None:
                calls["ONNX Runtime"] = session_call(session, dense, some)
            with torch.no_grad():
                timings = time_alternately(calls, seconds=seconds, threads=threads)
            found += [
                Timed(
                    network="shrunk" if name == "gossamer" else "dense",
                    runner=name,
                    batch=size,
                    threads=threads,
                    latency=latency_of(timing),
                )
                for name, timing in timings.items()
            ]
    return tuple(found)


def session_call(session: Any, dense: nn.Module, example: Example) -> Callable[[], object]:
    """Return what runs a session of a network on an example."""
    given = Arguments.of(dense, example)
    arrays = {name: one.numpy() for name, one in zip(given.names, given.tensors, strict=True)}
    taken = {one.name for one in session.get_inputs()}  # what nothing depends on is left out
    return partial(session.run, None, {name: one for name, one in arrays.items() if name in taken})


@contextlib.contextmanager
def onnx_session(dense: nn.Module, example: Example, threads: int) -> Iterator[Any]:
    """Yield a session of the dense network; None where it cannot be had."""
    try:
        with TemporaryDirectory() as folder, quietly():
            path = Path(folder) / "dense.onnx"
            export_onnx(dense, first(example, 2), path)
            session = open_session(path.read_bytes(), threads)
    except (GossamerError, ImportError):
        session = None
    yield session
