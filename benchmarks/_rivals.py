"""The dense ways to run a network that a user could take instead, each at its best setting."""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gossamer.compression.onnx import open_session

Call = Callable[[], Any]
"""Computes one batch; the first output is what is compared."""

FLOAT32 = ("PyTorch", "PyTorch channels_last", "torch.compile", "ONNX Runtime", "OpenVINO")
BF16 = ("PyTorch bf16", "OpenVINO bf16")
TOLERANCE = 1e-3
"""Largest difference from PyTorch's answers, relative to the largest, of a float32 rival."""


def rivals(
    model: nn.Module, inputs: Sequence[Any], threads: int, *, compiled: bool
) -> Iterator[tuple[str, Call]]:
    """Yield each rival that runs the network, ready to be called; what fails is told and left out.

    Parameters
    ----------
    model
        The dense network in evaluation mode.
    inputs
        Positional arguments of its forward, tensors or lists of these.
    threads
        That each may use.
    compiled
        Whether torch.compile is among them, which takes its time.
    """
    reference = _first(_eager(model, inputs)())
    makers: dict[str, Callable[[], Call]] = {
        "PyTorch": lambda: _eager(model, inputs),
        "PyTorch bf16": lambda: _eager(*_halved(model, inputs)),
    }
    if any(isinstance(layer, nn.Conv2d) and layer.kernel_size[0] < 16 for layer in model.modules()):
        makers["PyTorch channels_last"] = lambda: _eager(*_channels_last(model, inputs))
        makers["PyTorch bf16"] = lambda: _eager(*_channels_last(*_halved(model, inputs)))
    if compiled:
        makers["torch.compile"] = lambda: _compiled(model, inputs)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        _write_onnx(model, inputs, path)
        makers["ONNX Runtime"] = lambda: _onnxruntime(path, inputs, threads)
        makers["OpenVINO"] = lambda: _openvino(path, inputs, threads, "f32")
        makers["OpenVINO bf16"] = lambda: _openvino(path, inputs, threads, None)
        for name, make in makers.items():
            try:
                call = make()
                found = _first(call())
            except Exception as error:  # noqa: BLE001 - what a rival fails with is its business
                print(f"  {name} fails: {str(error)[:200]}", flush=True)
                continue
            difference = float((found - reference).abs().max() / reference.abs().max())
            if name in FLOAT32 and difference > TOLERANCE:
                raise AssertionError(f"{name} gives other answers, by {difference:.2g}")
            yield name, call


def arrays(inputs: Sequence[Any]) -> list[Any]:
    """Return tensors, also those in lists, as NumPy arrays in order."""
    return [tensor.numpy() for tensor in pytree.tree_leaves(list(inputs))]


def _first(found: Any) -> Tensor:
    found = next(iter(pytree.tree_leaves(found))) if isinstance(found, list | tuple) else found
    return torch.as_tensor(np.asarray(found) if not isinstance(found, Tensor) else found).float()


def _eager(model: Callable[..., Any], inputs: Sequence[Any]) -> Call:
    def call() -> Any:
        with torch.inference_mode():
            return model(*inputs)

    return call


def _halved(model: nn.Module, inputs: Sequence[Any]) -> tuple[nn.Module, list[Any]]:
    def halved(tensor: Tensor) -> Tensor:
        return tensor.bfloat16() if tensor.is_floating_point() else tensor

    return copy.deepcopy(model).bfloat16(), pytree.tree_map(halved, list(inputs))


def _channels_last(model: nn.Module, inputs: Sequence[Any]) -> tuple[nn.Module, list[Any]]:
    moved = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved, [one.contiguous(memory_format=torch.channels_last) for one in inputs]


def _compiled(model: nn.Module, inputs: Sequence[Any]) -> Call:
    """Compile with the weights as constants, as inference allows; for this batch alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about parts of itself
        torch.compiler.reset()
        call = _eager(torch.compile(model, dynamic=False, options={"freezing": True}), inputs)
        call()
    return call


def _write_onnx(model: nn.Module, inputs: Sequence[Any], path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, tuple(inputs), path, dynamo=True, verbose=False)


def _onnxruntime(path: Path, inputs: Sequence[Any], threads: int) -> Call:
    session = open_session(path, threads)
    names = [one.name for one in session.get_inputs()]
    feed = dict(zip(names, arrays(inputs), strict=True))
    return lambda: session.run(None, feed)


def _openvino(path: Path, inputs: Sequence[Any], threads: int, precision: str | None) -> Call:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request, given = compiled.create_infer_request(), arrays(inputs)

    def call() -> Any:
        return [*request.infer(given, share_inputs=True, share_outputs=True).values()]

    return call
