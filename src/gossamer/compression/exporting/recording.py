"""A network as ONNX for batches of any size, or of one, and the sizes at which to doubt it.

PyTorch's exporter follows a forward with a symbol for the size of the batch. Where the forward asks
something of that size it follows the answer for the example, and notes the condition; in the file
nothing is left of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._sympy.printers import PythonPrinter

from gossamer.compression.lowering.other_calls import (
    OtherCalls,
    by_differences,
    by_four_axes,
    by_gather,
    by_topk,
)
from gossamer.compression.lowering.tracing import quietly, several_examples
from gossamer.compression.random_operations import random_operations
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import told

BATCH = "batch"
"""Name of the dimension of the file's inputs and outputs that may have any size."""
_MOST_EXAMPLES = 1024
_MOST_NUMBERS = 2**22
"""How many examples, and how many numbers, a batch has at the most that is made for a doubt."""
_FAR = tuple(2**power + one for power in range(4, 21) for one in (-1, 0, 1))
"""Sizes of which is only asked whether a condition holds."""


_OTHERS: dict[str, Callable[..., Any]] = {
    "take_along_dim": by_gather,
    "cdist": by_differences,
    "scaled_dot_product_attention": by_four_axes,
    "sort": by_topk,
}
"""What does the same as functions that the exporter lacks, or has for one size of the batch."""


class NotRecordedError(Exception):
    """A network cannot be recorded, or not for the sizes that were asked for."""


Varying = Sequence[Mapping[int, str]]
"""Of each input the axes behind the batch that may have any length, with their names."""


def record_any_batch(
    model: nn.Module, example: Arguments, names: Sequence[str], varying: Varying = ()
) -> Any:
    """Return a network as a program of ONNX that takes batches of any size.

    Parameters
    ----------
    model
        In evaluation mode; it gives a tensor, or a tuple of them.
    example
        Its inputs, [batch, ...].
    names
        Of the outputs.
    varying
        Further axes that may have any length.

    Raises
    ------
    NotRecordedError
        If it cannot be recorded, or only for one size, which it uses as a plain number.
    InputError
        If a further axis has one length only.
    """
    # A name in place of a `Dim` is never replaced by the number that a forward makes of it.
    program = _recorded(model, several_examples(example), names, BATCH, varying)
    if any(isinstance(given.shape[0], int) for given in program.model.graph.inputs):
        raise NotRecordedError(_PLAIN_NUMBER)
    return program


def record_one_batch(
    model: nn.Module, example: Arguments, names: Sequence[str], varying: Varying = ()
) -> Any:
    """Return a network as a program of ONNX that takes batches of the example's size only.

    Parameters and errors are those of `record_any_batch`.
    """
    return _recorded(model, example, names, None, varying)


def _recorded(
    model: nn.Module,
    example: Arguments,
    names: Sequence[str],
    batch: str | None,
    varying: Varying,
) -> Any:
    args, kwargs = example.clone().positional_and_named
    if not kwargs and args and isinstance(args[-1], dict):
        args = (*args, {})  # or a last dict would be taken for the keyword arguments
    counted: dict[int, str] = {} if batch is None else {0: batch}
    axes = [{**counted, **one} for one in varying or [{}] * len(example.tensors)]
    try:
        with torch.no_grad(), quietly(), OtherCalls(_OTHERS):
            program = torch.onnx.export(
                model,
                args,
                kwargs=kwargs,
                dynamo=True,
                dynamic_shapes=example.dynamic_shapes(axes) if any(axes) else None,
                input_names=list(example.names),
                output_names=list(names),
                verbose=False,
            )
    except Exception as error:
        raise NotRecordedError(_reason(error)) from error
    assert program is not None
    for given, one in zip(program.model.graph.inputs, varying, strict=False):
        for axis, name in one.items():
            shape = given.shape or ()
            if axis < len(shape) and isinstance(shape[axis], int):
                raise InputError(
                    f"The length cannot vary in an ONNX file: the forward takes {name} of "
                    f"{given.name} for the plain number {shape[axis]}, or checks that it is; "
                    "leave 'dynamic_shapes' out, or let the forward ask its inputs for their sizes."
                )
    return program


_PLAIN_NUMBER = "it uses the size of the batch as a plain number"


def _reason(error: Exception) -> str:
    """Return the beginning of what first went wrong; the exporter wraps it in advice of its own."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    if any(words in str(error) for words in ("static shape", "Constraints violated", "not in VR[")):
        return _PLAIN_NUMBER
    return told(error)[:300].partition(". ")[0]


def check_draws_nothing(program: Any, network: str) -> None:
    """Refuse a recording that draws random numbers, of a network that repeats its answers.

    Raises
    ------
    InputError
        If it does.
    """
    parts = program.exported_program.graph_module.modules()
    graphs = [part.graph for part in parts if isinstance(part, fx.GraphModule)]
    names = list(dict.fromkeys(name for graph in graphs for name in random_operations(graph)))
    if names:
        raise InputError(
            f"The network {network} draws random numbers ({', '.join(names)}) that repeat only "
            "because its forward sets the seed, which an ONNX file does not keep, so that the file "
            "would give other answers each time: draw them in training mode only, or once and "
            "keep them, with register_buffer."
        )


def doubtful_sizes(program: Any, example: Arguments) -> list[int]:
    """Return sizes at which a condition does not hold that the recording rests on.

    The file may be right there all the same: many conditions are about how fast, not about what.

    Parameters
    ----------
    program
        What `record_any_batch` returned.
    example
        What it was recorded with, [batch, ...].

    Returns
    -------
    list of int
        The two smallest such sizes of each condition, among those that can be tried.

    Raises
    ------
    NotRecordedError
        If a condition fails only for batches too large to be tried.
    """
    numbers = sum(tensor[0].numel() for tensor in example)
    in_reach = max(4 * len(example), min(_MOST_EXAMPLES, _MOST_NUMBERS // numbers))
    found: set[int] = set()
    for condition, holds in _conditions(program):
        fails = [size for size in range(1, in_reach + 1) if not holds(size)]
        found.update(fails[:2])
        far = [size for size in _FAR if not holds(size)]
        if far and not fails:
            raise NotRecordedError(_asking(condition, far[0]))
    return sorted(found)


def check_conditions(program: Any, size: int) -> None:
    """Refuse a recording that rests on a condition which does not hold for a size.

    Raises
    ------
    NotRecordedError
        If it does, with the condition, such as 'batch <= 64'.
    """
    for condition, holds in _conditions(program):
        if not holds(size):
            raise NotRecordedError(_asking(condition, size))


def _asking(condition: str, size: int) -> str:
    return f"its forward asks whether {condition}, and computes a batch of {size} in another way"


def doubtful_sizes_of(program: Any, place: int, axis: int, least: int, most: int) -> list[int]:
    """Return sizes of an axis of an input at which a condition on it does not hold, two of each."""
    found: set[int] = set()
    for _, holds in _conditions(program, place, axis):
        found.update([size for size in range(least, most + 1) if not holds(size)][:2])
    return sorted(found)


def _conditions(
    program: Any, place: int = 0, axis: int = 0
) -> Iterator[tuple[str, Callable[[int], bool]]]:
    """Yield what was taken for granted of the size of an axis, in words and as a function."""
    size = _symbolic_size(program.exported_program, place, axis)
    if size is None or not size.node.expr.is_Symbol:
        return
    symbol, shapes = size.node.expr, size.node.shape_env
    bounds = shapes.var_to_range.get(symbol)
    if bounds is not None:
        yield f"{BATCH} >= {bounds.lower}", lambda size: bool(bounds.lower <= size)
        yield f"{BATCH} <= {bounds.upper}", lambda size: bool(size <= bounds.upper)
    asserted = [one.expr for several in shapes.deferred_runtime_asserts.values() for one in several]
    for expression in (*asserted, *(guard.expr for guard in shapes.guards)):
        if expression.free_symbols == {symbol}:
            words = PythonPrinter().doprint(expression).replace(str(symbol), BATCH)
            yield words, _as_function(expression, symbol)


def _as_function(expression: Any, symbol: Any) -> Callable[[int], bool]:
    return lambda size: bool(expression.subs(symbol, size))


def _symbolic_size(
    program: torch.export.ExportedProgram, place: int, axis: int
) -> torch.SymInt | None:
    names = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.name in names]
    tensors = [value for value in values if isinstance(value, Tensor)]
    size = tensors[place].shape[axis] if place < len(tensors) else None
    return size if isinstance(size, torch.SymInt) else None


def content_of(program: Any, metadata: dict[str, str]) -> bytes:
    """Return the bytes of an ONNX file.

    Raises
    ------
    InputError
        If there are more than such a file holds.
    """
    program.model.metadata_props.update(metadata)
    try:
        return bytes(program.model_proto.SerializeToString())
    except Exception as error:
        raise InputError(
            f"The network cannot be written as one ONNX file ({_reason(error)}), which holds 2 GB "
            "at the most: export a smaller one."
        ) from error
