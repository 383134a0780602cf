"""A network as an ONNX file, checked against what ONNX Runtime computes from it."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.compression.checking import relative_difference
from gossamer.compression.lowering.tracing import quietly, several_examples
from gossamer.errors import InputError
from gossamer.files import as_path, replacing
from gossamer.installing import needing
from gossamer.measure.modes import evaluation
from gossamer.measure.running import run, told

BATCH = "batch"
"""Name of the dimension of the file's input and output that may have any size."""
TOLERANCE = 1e-4
"""Largest difference of outputs that is still rounding, relative to the largest output."""


def export_onnx(model: nn.Module, example: Tensor, path: Path | str) -> float:
    """Write a network as ONNX, and check the file against the network with ONNX Runtime.

    The file takes batches of any size: its input "input" and its output "output" have a first
    dimension "batch". It is written whole or not at all, after the check. Zeros are stored like any
    other weight: give the result of `gossamer.compact` for a file that is smaller.

    Parameters
    ----------
    model
        A network that takes one tensor and returns one; exported in evaluation mode.
    example
        Input [examples, ...] that it takes, on the processor.
    path
        Where the file goes.

    Returns
    -------
    float
        Largest difference between the outputs of ONNX Runtime and of the network on the example,
        relative to the largest output of the network.

    Raises
    ------
    MissingPackageError
        If the extra `onnx` is not installed.
    InputError
        If the network cannot be exported, the file gives other
        answers than the network, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_onnx(network, torch.ones(3, 4), Path(folder) / "network.onnx") < 1e-5
    True
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _needed(package)
    path = as_path(path)
    with evaluation(model), torch.no_grad():
        expected = run(model, example)
        program = _exported(model, example)
    try:
        with replacing(path) as temporary:
            program.save(temporary)
            difference = _difference(temporary, example, expected)
            if not difference <= TOLERANCE:
                raise InputError(
                    f"{path}: ONNX Runtime's answers differ from those of {type(model).__name__} "
                    f"by {difference:.2g} of the largest, where at most {TOLERANCE:g} was "
                    "expected, so the file was not kept."
                )
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({(error.strerror or str(error)).lower()}); a folder that "
            "is there and can be written was expected."
        ) from error
    return difference


def _needed(package: str) -> Any:
    """Import a package of the extra `onnx`, which most users of gossamer need not have."""
    with needing("onnx", "ONNX"):
        return import_module(package)


def open_session(file: Path | bytes, threads: int, batch: int | None = None) -> Any:
    """Return a session of ONNX Runtime on the processor.

    Parameters
    ----------
    file
        What `export_onnx` wrote, by its path or its content.
    threads
        Threads within an operation. Between calls they spin for a while, as is ONNX Runtime's
        default: halting at once cost it up to half of its speed on two threads.
    batch
        The only batch size that will be asked for, if that is known.

    Raises
    ------
    MissingPackageError
        If ONNX Runtime is not installed.
    """
    runtime = _needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH, batch)
    return runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _exported(model: nn.Module, example: Tensor) -> Any:
    shapes = ({0: torch.export.Dim(BATCH)},)
    try:
        with quietly():
            return torch.onnx.export(
                model,
                (several_examples(example),),
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=["input"],
                output_names=["output"],
                verbose=False,
            )
    except Exception as error:
        raise InputError(
            f"The network {type(model).__name__} cannot be exported to ONNX "
            f"({told(error)[:300]}): give a network that torch.export takes, of one tensor in and "
            "one out, for batches of any size."
        ) from error


def _difference(path: Path, example: Tensor, expected: Tensor) -> float:
    session = open_session(path, threads=1)
    (found,) = session.run(None, {"input": example.numpy()})
    return relative_difference(torch.from_numpy(found), expected)
