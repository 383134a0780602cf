"""The products of the inputs that weights multiply: the Hessian of what each output adds up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.masks.inputs import FIRST_FACTOR, InputSums, no_product
from gossamer.masks.units import UnitLayout
from gossamer.masks.values import wide

_aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Contraction:
    """Weights that multiply the same inputs, row by row: each row makes one output of them.

    Parameters
    ----------
    elements
        The place of each weight in the flattened parameter, ``[groups, rows, columns]``; the rows
        of a group multiply the same inputs.
    hessian
        Of each group ``X X^T``, where X holds, in float64, what each column multiplies, over all
        uses: ``[groups, columns, columns]``.
    """

    elements: Tensor
    hessian: Tensor


@dataclass(frozen=True)
class _Matrix:
    """A factor of matrix products, ``[rows, columns]`` or the other way round."""

    flipped: bool

    def rows(self, values: Tensor) -> Tensor:
        """Return values ``[groups, rows, columns]``."""
        matrices = values if values.dim() == 3 else values[None]
        return matrices.mT if self.flipped else matrices


@dataclass(frozen=True)
class _Kernels:
    """The weight of a convolution."""

    transposed: bool
    groups: int

    def rows(self, values: Tensor) -> Tensor:
        """Return values ``[groups, rows, columns]``."""
        rows = UnitLayout(int(self.transposed), self.groups).rows(values)
        return rows.reshape(self.groups, -1, rows.shape[1])


class InputProducts(InputSums):  # type: ignore[no-untyped-call]
    """Sums, while it is entered, the products of what the weights of each output multiply.

    It takes the memory of a square matrix, in float64, of the inputs of each output: those of a
    linear layer, the channels of a convolution's group times the positions of its kernel.
    """

    def contractions(self, name: str) -> list[Contraction]:
        """Return the contractions that a weight takes part in, each of its elements in one.

        Raises
        ------
        InputError
            If elements are in several that differ, as of one that is used as it is and transposed,
            or in none.
        """
        weight = self._weights[name]
        places = torch.arange(weight.numel(), device=weight.device)
        memory = torch.empty_like(places)
        memory.as_strided(weight.shape, weight.stride()).copy_(places.view(weight.shape))
        found: list[Contraction] = []
        for ((shape, strides, first), layout), sums in self._sums[name].items():
            elements = layout.rows(memory.as_strided(shape, strides, first))
            same = [one for one in found if torch.equal(one.elements, elements)]
            if same:
                same[0].hessian.add_(sums)
            else:
                found.append(Contraction(elements, sums.clone()))
        elements = torch.cat([one.elements.flatten() for one in found])
        counts = elements.bincount(minlength=weight.numel())
        if int(counts.max()) > 1 or int(counts.min()) < 1:
            what = "is used in several ways" if int(counts.max()) > 1 else "is used in part only"
            raise InputError(
                f"{name} {what}, so what each output adds up cannot be told: exclude it, or choose "
                "another score"
            )
        return found

    def _note(
        self,
        name: str,
        operand: Tensor,
        func: Any,
        args: Any,
        kwargs: Any,
        output: Tensor,  # noqa: ARG002
    ) -> None:
        kind = func.overloadpacket
        layout: _Matrix | _Kernels
        if kind is _aten.convolution and operand is args[1]:
            inputs, _, _, *options, groups = args
            layout = _Kernels(options[3], groups)
            products = _of_patches(wide(inputs), operand.shape[2:], groups, *options)
        elif kind in FIRST_FACTOR:
            left, right = args[FIRST_FACTOR[kind] : FIRST_FACTOR[kind] + 2]
            if operand is not left and (operand is not right or kind is _aten.mv):
                raise no_product(func, name)
            layout = _Matrix(flipped=operand is not left)
            columns = wide(left).mT if layout.flipped else wide(right)
            columns = columns[:, None] if kind is _aten.mv else columns
            if operand.dim() == 3 and operand.stride(0) == 0:  # one matrix for all of them
                operand, columns = operand[0], columns.transpose(0, 1).flatten(1)
            products = float(kwargs.get("alpha", 1)) ** 2 * (columns @ columns.mT)
        else:
            raise no_product(func, name)
        products = products if products.dim() == 3 else products[None]
        self._add(name, (self._view(name, operand), layout), products)


def _of_patches(
    inputs: Tensor,
    kernel: Sequence[int],
    groups: int,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    beyond: Sequence[int],
) -> Tensor:
    """Return the products of what the kernels of a convolution multiply, over all positions.

    Parameters
    ----------
    inputs
        ``[examples, channels, *positions]``.
    beyond
        How much longer the output of a transposed convolution is on one side.

    Returns
    -------
    Tensor
        ``[groups, columns, columns]``, columns the channels of a group times the kernel.
    """
    reaches = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    before = after = list(padding)
    if transposed:  # a convolution of inputs with gaps between them, its kernel turned round
        sizes = [step * (n - 1) + 1 for step, n in zip(strides, inputs.shape[2:], strict=True)]
        spaced = inputs.new_zeros(*inputs.shape[:2], *sizes)
        places: list[Any] = [slice(None, None, step) for step in strides]
        spaced[..., *places] = inputs
        inputs, strides = spaced, [1] * len(kernel)
        before = [span - pad for span, pad in zip(reaches, padding, strict=True)]
        after = [one + more for one, more in zip(before, beyond, strict=True)]
    edges = [pad for pair in zip(reversed(before), reversed(after), strict=True) for pad in pair]
    padded = functional.pad(inputs, edges)
    windows = padded.view(len(padded), groups, -1, *padded.shape[2:])
    for axis, (span, stride, step) in enumerate(zip(reaches, strides, dilation, strict=True), 3):
        windows = windows.unfold(axis, span + 1, stride)[..., ::step]
    kernel_axes = list(range(-len(kernel), 0))
    windows = windows.flip(kernel_axes) if transposed else windows
    position_axes = [axis - len(kernel) for axis in kernel_axes]
    windows = windows.permute(0, 1, 2, *kernel_axes, *position_axes)
    columns = windows.shape[2] * math.prod(kernel)
    sums = inputs.new_zeros(groups, columns, columns, dtype=torch.float64)
    for example in windows:  # one by one: each input is copied for every place of the kernel
        patches = example.reshape(groups, columns, -1)
        sums += patches @ patches.mT
    return sums
