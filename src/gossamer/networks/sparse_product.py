"""The product of a sparse linear layer in the compiled kernels."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.networks.sparse_operators import (
    Geometry,
    Gradients,
    SparseOperator,
    runs_in_kernels,
)

if TYPE_CHECKING:
    from gossamer.kernels._native import TrainingIndex

MOST_DENSITY = 0.3
"""The largest share of stored weights at which the kernels compute: little above it, the dense
product is as fast."""


class _LinearKernels:
    """Geometry: units and inputs of the layer. Inputs [examples, features]."""

    name = "sparse_linear"

    def sizes(self, inputs: Tensor) -> tuple[int, ...]:  # noqa: ARG002
        return ()

    def compile(
        self,
        positions: Tensor,
        geometry: Geometry,
        sizes: tuple[int, ...],  # noqa: ARG002
        instruction_set: str,
    ) -> "TrainingIndex":
        from gossamer.kernels._native import TrainingIndex

        return TrainingIndex(
            positions.data_ptr(), positions.numel(), geometry[0], geometry[1], instruction_set
        )

    def outputs(self, inputs: Tensor, geometry: Geometry) -> Tensor:
        return _empty(inputs, geometry[0])

    def of_inputs(self, inputs: Tensor, geometry: Geometry) -> Tensor:
        return _empty(inputs, geometry[1])

    def forward(
        self, compiled: Any, values: Tensor, inputs: Tensor, bias: Tensor | None, outputs: Tensor
    ) -> None:
        inputs = _readable(inputs)
        compiled.forward(
            values.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            inputs.data_ptr(),
            *inputs.stride(),
            inputs.shape[0],
            outputs.data_ptr(),
            torch.get_num_threads(),
        )

    def backward(
        self, compiled: Any, values: Tensor, inputs: Tensor, gradient: Tensor, wanted: Gradients
    ) -> None:
        inputs, gradient = _readable(inputs), _readable(gradient)
        compiled.backward(
            values.data_ptr(),
            inputs.data_ptr(),
            *inputs.stride(),
            gradient.data_ptr(),
            *gradient.stride(),
            inputs.shape[0],
            *(0 if found is None else found.data_ptr() for found in wanted),
            torch.get_num_threads(),
        )


def _empty(inputs: Tensor, features: int) -> Tensor:
    """Return room for so many features of each example, feature by feature.

    No view: autograd lets no one write in place to a view that a function of its own returned.
    """
    examples = inputs.shape[0]
    return inputs.new_empty_strided((examples, features), (1, examples))


def _readable(values: Tensor) -> Tensor:
    """Return the same numbers such that one of two axes has its numbers next to each other."""
    if 1 in values.stride() and not values.is_neg() and not values._is_zerotensor():
        return values
    return values.clone(memory_format=torch.contiguous_format)


_PRODUCT = SparseOperator(_LinearKernels())


def multiplies_in_kernels(
    values: Tensor, positions: Tensor, inputs: Tensor, shape: Geometry
) -> bool:
    """Tell whether the kernels compute the product of these, in a weight of that shape."""
    rows, columns = shape
    return runs_in_kernels(values, positions, inputs, MOST_DENSITY * rows * columns)


def sparse_linear(
    values: Tensor, inputs: Tensor, bias: Tensor | None, positions: Tensor, shape: Geometry
) -> Tensor:
    """Return inputs x weight transposed + bias, where `multiplies_in_kernels` says so.

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
    flat = inputs if inputs.dim() == 2 else inputs.reshape(-1, columns)
    outputs = _PRODUCT(values, flat, bias, positions, (rows, columns))
    if inputs.dim() == 2:
        return outputs
    return outputs.reshape(*inputs.shape[:-1], rows).contiguous()
