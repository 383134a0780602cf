"""Before and after: accuracy, bytes, work and times of the dense network and the chosen one."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.compression import Compressed
from gossamer.compression.onnx import export_onnx, open_session
from gossamer.core.errors import GossamerError
from gossamer.measures.functional.latency import latency_of, time_alternately
from gossamer.measures.functional.work import multiply_adds
from gossamer.records.shrinking import Bounded, Timed, Weighed
from gossamer.shrinking.costs import dense_bytes, quietly
from gossamer.shrinking.options import Options


def weighed(network: nn.Module, example: Tensor, metric: Bounded, size: int | None) -> Weighed:
    """Return a network in numbers; without the size of a file its weights are counted."""
    parameters = list(network.parameters())
    return Weighed(
        metric=metric,
        bytes=dense_bytes(network) if size is None else size,
        parameters=sum(one.numel() for one in parameters),
        nonzero=sum(int(one.count_nonzero()) for one in parameters),
        multiply_adds=multiply_adds(network, example).nonzero,
    )


def timed(
    dense: nn.Module, small: Compressed, example: Tensor, options: Options, seconds: float
) -> tuple[Timed, ...]:
    """Time both networks in turn, at batch 1 and at the given one."""
    found: list[Timed] = []
    threads = options.threads
    with onnx_session(dense, example, threads) as session:
        for size in sorted({1, options.batch}):
            some = example[:size]
            calls: dict[str, Callable[[], object]] = {
                "PyTorch": partial(dense, some),
                "gossamer": partial(small, some),
            }
            if session is not None:
                calls["ONNX Runtime"] = partial(session.run, None, {"input": some.numpy()})
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


@contextlib.contextmanager
def onnx_session(dense: nn.Module, example: Tensor, threads: int) -> Iterator[Any]:
    """Yield a session of the dense network; None where it cannot be had."""
    try:
        with TemporaryDirectory() as folder, quietly():
            path = Path(folder) / "dense.onnx"
            export_onnx(dense, example[:2], path)
            session = open_session(path.read_bytes(), threads)
    except (GossamerError, ImportError):
        session = None
    yield session
