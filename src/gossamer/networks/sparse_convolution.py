"""The convolution of images with sparse weights in the compiled kernels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gossamer.networks.sparse_operators import (
    Geometry,
    Gradients,
    SparseOperator,
    runs_in_kernels,
)

if TYPE_CHECKING:
    from gossamer.kernels._native import TrainingConvolution

MOST_DENSITY = 0.3
"""The largest share of stored weights at which the kernels compute: little above it, the dense
convolution is as fast."""


class _ConvolutionKernels:
    """Geometry: output channels, input channels of a group, groups, then of each axis, height
    first, kernel, stride, zeros before, zeros after, dilation. Inputs [images, channels, height,
    width].
    """  # noqa: D205

    name = "sparse_conv2d"

    def sizes(self, inputs: Tensor) -> tuple[int, ...]:
        return inputs.shape[2], inputs.shape[3]

    def compile(
        self, positions: Tensor, geometry: Geometry, sizes: tuple[int, ...], instruction_set: str
    ) -> "TrainingConvolution":
        from gossamer.kernels._native import TrainingConvolution

        return TrainingConvolution(
            positions.data_ptr(),
            positions.numel(),
            geometry[0],
            geometry[1],
            geometry[2],
            (sizes[0], *geometry[3:8]),
            (sizes[1], *geometry[8:]),
            instruction_set,
        )

    def outputs(self, inputs: Tensor, geometry: Geometry) -> Tensor:
        return _empty(inputs, (inputs.shape[0], geometry[0], *_sides(inputs, geometry)))

    def of_inputs(self, inputs: Tensor, geometry: Geometry) -> Tensor:  # noqa: ARG002
        return _empty(inputs, inputs.shape)

    def forward(
        self, compiled: Any, values: Tensor, inputs: Tensor, bias: Tensor | None, outputs: Tensor
    ) -> None:
        inputs = _readable(inputs)
        compiled.forward(
            values.data_ptr(),
            0 if bias is None else bias.data_ptr(),
            inputs.data_ptr(),
            _is_channels_last(inputs),
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
            _is_channels_last(inputs),
            gradient.data_ptr(),
            _is_channels_last(gradient),
            inputs.shape[0],
            *(0 if found is None else found.data_ptr() for found in wanted),
            torch.get_num_threads(),
        )


def _is_channels_last(images: Tensor) -> bool:
    """Tell whether the channels of a pixel are next to each other; an only one's stride says it."""
    return images.stride(1) == 1 and images.is_contiguous(memory_format=torch.channels_last)


def _empty(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Return images of that shape, laid out as those given.

    No view: autograd lets no one write in place to a view that a function of its own returned.
    """
    if not _is_channels_last(images):
        return images.new_empty(shape)
    _, channels, height, width = shape
    row = width * channels
    return images.new_empty_strided(tuple(shape), (height * row, 1, row, channels))


def _readable(images: Tensor) -> Tensor:
    """Return the same numbers, those of a channel or those of a pixel next to each other."""
    laid_out = images.is_contiguous() or _is_channels_last(images)
    if laid_out and not images.is_neg() and not images._is_zerotensor():
        return images
    return images.clone(memory_format=torch.contiguous_format)


_CONVOLUTION = SparseOperator(_ConvolutionKernels())


def _sides(inputs: Tensor, geometry: Geometry) -> list[int]:
    """Return height and width of the outputs."""
    return [
        (image + before + after - dilation * (kernel - 1) - 1) // stride + 1
        for image, (kernel, stride, before, after, dilation) in zip(
            inputs.shape[2:], (geometry[3:8], geometry[8:]), strict=True
        )
    ]


def convolves_in_kernels(
    values: Tensor, positions: Tensor, inputs: Tensor, geometry: Geometry
) -> bool:
    """Tell whether the kernels compute the convolution of these; `geometry` as below."""
    outputs, channels, groups, *axes = geometry
    most = MOST_DENSITY * outputs * channels * axes[0] * axes[5]
    return (
        runs_in_kernels(values, positions, inputs, most)
        and inputs.dim() == 4
        and inputs.shape[1] == channels * groups
        # What else the dense convolution refuses, or answers with nothing.
        and min(*inputs.shape, outputs, axes[0], axes[1], axes[4], *axes[5:7], axes[9]) > 0
        and min(*axes[2:4], *axes[7:9]) >= 0
        and min(_sides(inputs, geometry)) > 0
    )


def sparse_conv2d(
    values: Tensor, inputs: Tensor, bias: Tensor | None, positions: Tensor, geometry: Geometry
) -> Tensor:
    """Return the convolution of images, where `convolves_in_kernels` says so.

    Parameters
    ----------
    values
        The stored weights, float32 [connections].
    inputs
        float32 [images, channels, height, width]; under autocast of any precision.
    bias
        float32 [output channels] or None.
    positions
        Where the values stand in the flattened weight, int64 [connections], ascending.
    geometry
        Output channels, input channels of a group, groups, then of each axis, height first, kernel,
        stride, zeros before the image and after it, dilation.

    Returns
    -------
    Tensor
        float32 [images, output channels, height, width], in memory with the channels last where
        the inputs are.

    Raises
    ------
    InputError
        If the positions are not ascending within the weight.
    """
    return _CONVOLUTION(values, inputs, bias, positions, geometry)
