"""A network as an ONNX file, checked against what the network computes from batches of any size."""

import contextlib
import copy
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from gossamer.compression.compacting.copying import given_module
from gossamer.compression.exporting.attempts import exported
from gossamer.compression.exporting.recording import BATCH
from gossamer.compression.exporting.report import OnnxReport, warnings_of
from gossamer.compression.lengths import DynamicShapes, declared
from gossamer.core.errors import InputError
from gossamer.core.files import as_path, replacing
from gossamer.core.installing import needing
from gossamer.graph.arguments import ONLY, Arguments
from gossamer.graph.examples import Example
from gossamer.measures.functional.modes import evaluation
from gossamer.measures.functional.repeatable import check_answers_repeat


def export_onnx(
    model: nn.Module,
    example: Example,
    path: Path | str,
    *,
    dynamic_shapes: DynamicShapes | None = None,
) -> float:
    """Write a network as ONNX, after checking the file against the network.

    A single input of the file is "input"; several have the names of the forward's parameters, with
    the way inside of these for tensors in containers, such as "features_p3". The first dimension of
    each is "batch" and may have any size, unless
    the network cannot be recorded so, because it takes one way for some sizes and another for
    others, or makes of the size a plain number in a way that cannot be followed. Then the file
    declares the size of the example, and a warning says so. The file is written whole or not at
    all. Zeros are stored like any other weight: give the result of `gossamer.compact` for a file
    that is smaller.

    Parameters
    ----------
    model
        A network on the processor, in any precision; exported in evaluation mode. The tensors of
        its output become the outputs of the file, in the order in which the network returns them.
        One alone is "output"; of several each is named after the way to it, such as "logits" or
        "hidden_0" for attributes, fields and keys, and "output_0", "output_1" for places in a tuple
        or list. None keeps its place there, but is no output; what else is no tensor has to be the
        same for all inputs, and is left out with a warning.
    example
        Input [examples, ...] that it takes, on the processor; a tuple of positional arguments or a
        dict of keyword arguments, in which tensors may stand in tuples, lists and dictionaries.
    path
        Where the file goes.
    dynamic_shapes
        Axes behind the batch that may have other lengths, as `compress` takes them; the file names
        them so, and is checked at several lengths.

    Returns
    -------
    float
        Largest difference between what the file and what the network gives, relative to the largest
        number of that output. `export_report` does the same, and returns more.

    Raises
    ------
    MissingPackageError
        If the extra `onnx` is not installed.
    InputError
        If the network cannot be exported, gives different answers for the same inputs or draws
        random numbers after a seed that it sets itself, or returns
        something computed that is no tensor; if the file gives other answers than the network, or
        cannot be written.

    Warns
    -----
    RuntimeWarning
        If the file takes batches of one size only, the network itself fails on some sizes that were
        tried, ONNX Runtime cannot run the file on the processor, or something is left out.

    Notes
    -----
    What ONNX Runtime computes from the file is compared, in shape, type and numbers, for batches of
    1, 2, 3, the example's size and one more, at one more once again for random numbers if the
    network takes them, and at the sizes next to each condition on the batch that the recording
    rests on. Batches larger than the example hold its inputs, and others that take each number from
    that place of one of them. The reference is the network in float64, or in its own precision
    where it runs in no other, or is farther from it than the square root of the machine epsilon of
    the coarsest type in the network. Of each output the largest difference over all batches may
    reach that epsilon to the power of 3/4, relative to the largest number, or four times the
    network's own rounding error if that is more, but never more than the square root, which it may
    reach without float64. Whole numbers and truth values must be the same. Where an entry is wrong
    by that, it is right all the same if it is what the network gives when its input and weights are
    moved by a few epsilons: where a network rounds, compares or sorts, rounding decides some. What
    ONNX Runtime cannot run on the processor, such as bfloat16, is checked with the reference
    implementation in the package onnx, which is slow.

    The metadata of the file hold the "network" and the "batch", which is "any" or a number.

    Examples
    --------
    >>> import tempfile
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_onnx(network, torch.ones(3, 4), Path(folder) / "network.onnx") < 1e-5
    True
    """
    return _export(model, example, path, dynamic_shapes).difference


def export_report(
    model: nn.Module,
    example: Example,
    path: Path | str,
    *,
    dynamic_shapes: DynamicShapes | None = None,
) -> OnnxReport:
    """Do what `export_onnx` does, and tell which batches the file takes and what it gives.

    Parameters, errors and warnings are those of `export_onnx`.

    Examples
    --------
    >>> import tempfile
    >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_report(network, torch.ones(3, 4), Path(folder) / "network.onnx")
    >>> report.difference < 1e-5, report.batch, report.outputs, report.checked
    (True, None, ('output',), (1, 2, 3, 4))
    """
    return _export(model, example, path, dynamic_shapes)


def _export(
    model: nn.Module, example: Example, path: Path | str, dynamic_shapes: DynamicShapes | None
) -> OnnxReport:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        _needed(package)
    path = as_path(path)
    root = given_module(model)
    given = Arguments.of(root, example)
    _check(root, given)
    asked = None if dynamic_shapes is None else declared(given, dynamic_shapes)
    check_answers_repeat(root, given, "so that no file could be checked against it")
    with evaluation(root), torch.random.fork_rng(devices=[]):
        # A recording may leave its symbols in attributes that a forward sets.
        content, report = exported(
            _copied(root), given.clone(), path, lambda file: open_session(file, threads=1), asked
        )
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({(error.strerror or str(error)).lower()}); a folder that "
            "is there and can be written was expected."
        ) from error
    for sentence in warnings_of(report, type(root).__name__, path):
        warnings.warn(sentence, RuntimeWarning, stacklevel=3)
    return report


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
    options.log_severity_level = 4  # nothing: what goes wrong is raised as well
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH, batch)
    return runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _check(model: nn.Module, example: Arguments) -> None:
    """Refuse a model that is not on the processor, and an example that is no batch there."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer) or tensor.is_meta:
            raise InputError(
                f"{name!r} of {type(model).__name__} has no values yet: run one batch through the "
                "network, or load its weights, before exporting it."
            )
        if tensor.device.type != "cpu":
            raise InputError(
                f"{name!r} of {type(model).__name__} is on {tensor.device}, but the file is "
                "checked on the CPU: move the network there with model.cpu()."
            )
    for name, tensor in zip(example.names, example.tensors, strict=True):
        where = "'example'" if name == ONLY else f"{name!r} of 'example'"
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise InputError(
                f"{where} is a tensor of layout {tensor.layout} on {tensor.device}, but a dense "
                "one on the CPU was expected."
            )
        if tensor.dim() < 1 or not tensor.numel() or len(tensor) != len(example):
            raise InputError(
                f"{where} has shape {tuple(tensor.shape)}, but a batch of at least one input, "
                "[batch, ...], was expected, of as many as the other inputs: add the dimension of "
                "the batch, or give some inputs."
            )


def _copied(model: nn.Module) -> nn.Module:
    with contextlib.suppress(Exception):
        return copy.deepcopy(model)
    return model
