"""The product of a sparse layer in the compiled kernels, as operators of PyTorch.

`torch.ops.gossamer.sparse_linear` gives the outputs, `sparse_linear_backward` the gradients of the
inputs, of the stored weights and of the bias; each is differentiable through the two, to any order.
`torch.compile` and whatever else looks at operators sees these. Otherwise `sparse_linear` calls
the same kernels without the dispatcher, which takes longer than a small layer does.

Kernels compute in float32, under autocast as well. Their bits depend on the instruction set and on
the number of examples, not on the number of threads.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.multiprocessing.reductions import StorageWeakRef

from gossamer.core.errors import InputError
from gossamer.engine.native import INSTRUCTION_SET_VARIABLE, available_instruction_sets

try:
    from gossamer.kernels import _native
except ImportError:
    _native = None  # type: ignore[assignment]

MOST_DENSITY = 0.3
"""The largest share of stored weights at which the kernels compute: little above it, the dense
product is as fast."""

_PLAIN = (Tensor, torch.nn.Parameter)


def runs_in_kernels(values: Tensor, positions: Tensor, inputs: Any, size: int) -> bool:
    """Tell whether the kernels compute the product of these, in a weight of `size` entries."""
    return (
        _native is not None
        and type(inputs) in _PLAIN
        and type(values) in _PLAIN
        and (inputs.dtype is torch.float32 or torch.is_autocast_enabled("cpu"))
        and values.dtype is torch.float32
        and inputs.device.type == values.device.type == positions.device.type == "cpu"
        and inputs.layout is torch.strided
        and values.numel() <= MOST_DENSITY * size
        and not torch.compiler.is_exporting()
        and (torch.compiler.is_compiling() or _is_plainly_run(positions))
        and _instruction_set() is not None
    )


def _is_plainly_run(positions: Tensor) -> bool:
    """Tell whether no transform is under way that the dense product alone has rules for."""
    return (
        not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and torch._C._get_tracing_state() is None
        and not positions.is_inference()  # of which no one could tell that they have changed
    )


def sparse_linear(
    values: Tensor, inputs: Tensor, bias: Tensor | None, positions: Tensor, shape: Sequence[int]
) -> Tensor:
    """Return inputs x weight transposed + bias, where `runs_in_kernels` says so.

    Parameters
    ----------
    values
        The stored weights, float32 [connections].
    inputs
        float32 [..., in_features]; under autocast of any precision.
    bias
        float32 [out_features] or None.
    positions
        Where the values stand in the flattened weight, int64 [connections], ascending.
    shape
        (out_features, in_features) of the weight.

    Returns
    -------
    Tensor
        float32 [..., out_features]. From inputs of two axes they lie in memory feature by feature,
        as the next sparse layer reads them without a copy.

    Raises
    ------
    InputError
        If the inputs are of other features, or the positions not ascending within the weight.
    """
    rows, columns = shape
    if inputs.dim() == 0 or inputs.shape[-1] != columns:
        raise InputError(
            f"the inputs have shape {tuple(inputs.shape)}, but the layer takes {columns} features: "
            f"give inputs of shape [..., {columns}]."
        )
    if inputs.dtype is not torch.float32:
        inputs = inputs.float()
    flat = inputs if inputs.dim() == 2 else inputs.reshape(-1, columns)
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
        outputs = torch.ops.gossamer.sparse_linear(values, flat, bias, positions, rows, columns)
    else:
        index = _index(positions, rows, columns)
        outputs = _Product.apply(values, flat, bias, index, positions)  # type: ignore[no-untyped-call]
    if inputs.dim() == 2:
        return outputs  # type: ignore[no-any-return]
    return outputs.reshape(*inputs.shape[:-1], rows).contiguous()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Index:
    """Where the kernels find the non-zeros, and of which positions that was made."""

    compiled: "_native.TrainingIndex"
    rows: int
    columns: int
    storage: StorageWeakRef
    version: int

    def is_stale(self) -> bool:
        """Tell whether those positions are no more."""
        return bool(self.storage.expired())  # type: ignore[no-untyped-call]


_indices: dict[tuple[int, int, int, int], _Index] = {}


def _index(positions: Tensor, rows: int, columns: int) -> _Index:
    """Return the index of these positions, made when they are new or have changed."""
    count = positions.numel()
    key = (positions.data_ptr(), count, rows, columns)
    found = _indices.get(key)
    if found and found.version == positions._version and not found.is_stale():
        return found
    for stale in [k for k, index in _indices.items() if index.is_stale()]:
        del _indices[stale]
    ordered = positions.contiguous()
    try:
        compiled = _native.TrainingIndex(
            ordered.data_ptr(), count, rows, columns, _instruction_set() or ""
        )
    except (ValueError, OverflowError) as problem:
        raise InputError(
            f"the positions of a sparse layer of {rows} units and {columns} inputs do not suit it, "
            f"{problem}: give those of weights that it has, in ascending order."
        ) from problem
    storage = StorageWeakRef(positions.untyped_storage())  # type: ignore[no-untyped-call]
    index = _Index(compiled, rows, columns, storage, positions._version)
    _indices[key] = index
    return index


_AVAILABLE = available_instruction_sets()


def _instruction_set() -> str | None:
    """Return what the kernels run on, or None where NumPy was asked for."""
    asked = os.environ.get(INSTRUCTION_SET_VARIABLE, _AVAILABLE[0])
    if asked not in _AVAILABLE:
        raise InputError(
            f"{INSTRUCTION_SET_VARIABLE} is {asked!r}, which is not available here; it must be one "
            f"of {', '.join(_AVAILABLE)}."
        )
    return None if asked == "numpy" else asked


def _readable(values: Tensor) -> Tensor:
    """Return the same numbers such that one of two axes has its numbers next to each other."""
    if 1 in values.stride() and not values.is_neg() and not values._is_zerotensor():
        return values
    return values.clone(memory_format=torch.contiguous_format)


def _forward(index: _Index, values: Tensor, inputs: Tensor, bias: Tensor | None) -> Tensor:
    inputs, values = _readable(inputs), values.contiguous()
    bias = None if bias is None else bias.contiguous()
    examples = inputs.shape[0]
    example, feature = inputs.stride()
    outputs = inputs.new_empty((index.rows, examples))
    index.compiled.forward(
        values.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        inputs.data_ptr(),
        example,
        feature,
        examples,
        outputs.data_ptr(),
        torch.get_num_threads(),
    )
    return outputs.t()


def _backward(
    index: _Index, values: Tensor, inputs: Tensor, gradient: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of the inputs, if wanted, and of the values and the bias, if wanted."""
    inputs, values, gradient = _readable(inputs), values.contiguous(), _readable(gradient)
    examples = inputs.shape[0]
    example, feature = inputs.stride()
    gradient_example, gradient_feature = gradient.stride()
    of_inputs = inputs.new_empty((index.columns, examples)) if wanted[0] else None
    of_values = torch.empty_like(values) if wanted[1] else None
    of_bias = values.new_empty(index.rows) if wanted[1] else None
    index.compiled.backward(
        values.data_ptr(),
        inputs.data_ptr(),
        example,
        feature,
        gradient.data_ptr(),
        gradient_example,
        gradient_feature,
        examples,
        0 if of_inputs is None else of_inputs.data_ptr(),
        0 if of_values is None else of_values.data_ptr(),
        0 if of_bias is None else of_bias.data_ptr(),
        torch.get_num_threads(),
    )
    return None if of_inputs is None else of_inputs.t(), of_values, of_bias


class _Product(torch.autograd.Function):
    """The operator, called without the dispatcher."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        inputs: Tensor,
        bias: Tensor | None,
        index: _Index,
        positions: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(values, inputs, positions)
        ctx.index = index
        return _forward(index, values, inputs, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, inputs, positions = ctx.saved_tensors
        by_values, by_inputs, by_bias = ctx.needs_input_grad[:3]
        wanted = by_inputs, by_values
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            shape = ctx.index.rows, ctx.index.columns
            found = _differentiable(values, inputs, gradient, positions, shape, wanted)
        else:
            found = _backward(ctx.index, values, inputs, gradient, wanted)
        of_inputs, of_values, of_bias = found
        if by_bias and of_bias is None:
            of_bias = gradient.sum(0)
        return of_values, of_inputs, of_bias if by_bias else None, None, None


def _differentiable(
    values: Tensor,
    inputs: Tensor,
    gradient: Tensor,
    positions: Tensor,
    shape: tuple[int, int],
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return what `_backward` does, through the operator."""
    of_inputs, of_values, of_bias = torch.ops.gossamer.sparse_linear_backward(
        values, inputs, gradient, positions, *shape, *wanted
    )
    with_values = wanted[1]
    return (
        of_inputs if wanted[0] else None,
        of_values if with_values else None,
        of_bias if with_values else None,
    )


@torch.library.custom_op("gossamer::sparse_linear", mutates_args=(), device_types="cpu")
def _sparse_linear(
    values: Tensor, inputs: Tensor, bias: Tensor | None, positions: Tensor, rows: int, columns: int
) -> Tensor:
    return _forward(_index(positions, rows, columns), values, inputs, bias)


@torch.library.custom_op("gossamer::sparse_linear_backward", mutates_args=(), device_types="cpu")
def _sparse_linear_backward(
    values: Tensor,
    inputs: Tensor,
    gradient: Tensor,
    positions: Tensor,
    rows: int,
    columns: int,
    of_inputs: bool,
    of_values: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients; those that are not wanted are empty."""
    index = _index(positions, rows, columns)
    found = _backward(index, values, inputs, gradient, (of_inputs, of_values))
    none, no_values, no_bias = (values.new_empty(0) for _ in range(3))
    return (
        none if found[0] is None else found[0],
        no_values if found[1] is None else found[1],
        no_bias if found[2] is None else found[2],
    )


@_sparse_linear.register_fake
def _(
    values: Tensor,  # noqa: ARG001
    inputs: Tensor,
    bias: Tensor | None,  # noqa: ARG001
    positions: Tensor,  # noqa: ARG001
    rows: int,
    columns: int,  # noqa: ARG001
) -> Tensor:
    return inputs.new_empty((rows, inputs.shape[0])).t()


@_sparse_linear_backward.register_fake
def _(
    values: Tensor,
    inputs: Tensor,
    gradient: Tensor,  # noqa: ARG001
    positions: Tensor,  # noqa: ARG001
    rows: int,
    columns: int,
    of_inputs: bool,
    of_values: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        inputs.new_empty((columns, inputs.shape[0])).t() if of_inputs else values.new_empty(0),
        torch.empty_like(values) if of_values else values.new_empty(0),
        values.new_empty(rows if of_values else 0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    values, given, _, positions, *ctx.shape = inputs
    ctx.save_for_backward(values, given, positions)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    values, inputs, positions = ctx.saved_tensors
    by_values, by_inputs, by_bias = ctx.needs_input_grad[:3]
    wanted = by_inputs, by_values
    of_inputs, of_values, of_bias = _differentiable(
        values, inputs, gradient, positions, ctx.shape, wanted
    )
    if by_bias and of_bias is None:
        of_bias = gradient.sum(0)
    return of_values, of_inputs, of_bias if by_bias else None, None, None, None


def _keep_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    values, given, gradient, positions, rows, columns, *ctx.wanted = inputs
    ctx.shape = rows, columns
    ctx.save_for_backward(values, given, gradient, positions)


def _gradients_of_backward(
    ctx: Any, along_inputs: Tensor, along_values: Tensor, along_bias: Tensor
) -> tuple[Tensor | None, ...]:
    """Differentiate the gradients, which are linear in each of what they are made of."""
    values, inputs, gradient, positions = ctx.saved_tensors
    shape = ctx.shape
    of_values, of_inputs, of_gradient = None, None, torch.zeros_like(gradient)
    if ctx.wanted[0]:
        wanted = False, True
        found = _differentiable(values, along_inputs, gradient, positions, shape, wanted)
        of_values = found[1]
        of_gradient = of_gradient + torch.ops.gossamer.sparse_linear(
            values, along_inputs, None, positions, *shape
        )
    if ctx.wanted[1]:
        wanted = True, False
        found = _differentiable(along_values, inputs, gradient, positions, shape, wanted)
        of_inputs = found[0]
        of_gradient = of_gradient + torch.ops.gossamer.sparse_linear(
            along_values, inputs, along_bias, positions, *shape
        )
    return of_values, of_inputs, of_gradient, None, None, None, None, None


_sparse_linear.register_autograd(_gradients, setup_context=_keep)
_sparse_linear_backward.register_autograd(_gradients_of_backward, setup_context=_keep_backward)
_sparse_linear.register_autocast("cpu", torch.float32)
