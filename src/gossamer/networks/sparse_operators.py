"""Products with the stored weights of a sparse layer in the compiled kernels, as operators.

Each kind of layer has two operators of PyTorch, `torch.ops.gossamer.NAME`, which gives the outputs,
and `NAME_backward`, which gives the gradients of the inputs, of the stored weights and of the bias;
each is differentiable through the two, to any order. `torch.compile` and whatever else looks at
operators sees these. Otherwise a `SparseOperator` calls the same kernels without the dispatcher,
which takes longer than a small layer does.

Kernels compute in float32, under autocast as well. Their bits depend on the instruction set and on
the number of examples, not on the number of threads.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of the inputs, the values and the bias."""

Geometry = tuple[int, ...]
"""What a kind of layer must know of a layer beside its positions."""

_PLAIN = (Tensor, torch.nn.Parameter)


class Kernels(Protocol):
    """How one kind of layer calls its kernels. Units are the second axis of its outputs.

    `compiled` is what `compile` returned, `threads` how many may work.
    """

    name: str
    """Of the operators."""

    def sizes(self, inputs: Tensor) -> tuple[int, ...]:
        """Return what `compile` must know of inputs."""

    def compile(
        self,
        positions: Tensor,
        geometry: Geometry,
        sizes: tuple[int, ...],
        instruction_set: str,
    ) -> Any:
        """Return the kernels' index of the positions; ValueError and OverflowError refuse them."""

    def outputs(self, inputs: Tensor, geometry: Geometry) -> Tensor:
        """Return outputs to be filled, as they lie in memory."""

    def of_inputs(self, inputs: Tensor, geometry: Geometry) -> Tensor:
        """Return a gradient of the inputs to be filled, as it lies in memory."""

    def forward(
        self, compiled: Any, values: Tensor, inputs: Tensor, bias: Tensor | None, outputs: Tensor
    ) -> None:
        """Fill the outputs."""

    def backward(
        self, compiled: Any, values: Tensor, inputs: Tensor, gradient: Tensor, wanted: Gradients
    ) -> None:
        """Fill those gradients that are wanted, of the values and the bias both or neither."""


def kernels_are_there() -> bool:
    """Tell whether the kernels are built, and not switched off."""
    return _native is not None and _instruction_set() is not None


def runs_in_kernels(values: Tensor, positions: Tensor, inputs: Any, most: float) -> bool:
    """Tell whether the kernels compute with these, if they are not more than `most` values."""
    return (
        _native is not None
        and type(inputs) in _PLAIN
        and type(values) in _PLAIN
        and (inputs.dtype is torch.float32 or torch.is_autocast_enabled("cpu"))
        and values.dtype is torch.float32
        and inputs.device.type == values.device.type == positions.device.type == "cpu"
        and inputs.layout is torch.strided
        and values.numel() <= most
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


@dataclass(frozen=True)
class _Index:
    """Where the kernels find the non-zeros, and of which positions that was made."""

    operator: "SparseOperator"
    compiled: Any
    geometry: Geometry
    sizes: tuple[int, ...]
    storage: StorageWeakRef
    version: int

    def is_stale(self) -> bool:
        """Tell whether those positions are no more."""
        return bool(self.storage.expired())  # type: ignore[no-untyped-call]


_indices: dict[tuple[Any, ...], _Index] = {}

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


class SparseOperator:
    """The product of one kind of layer, and its two operators of PyTorch.

    Called with values (float32 [connections]), inputs, bias (float32 [units] or None), positions
    (of the values in the flattened weight, int64 [connections], ascending) and geometry, where
    `runs_in_kernels` says so, it returns the outputs in float32.
    """

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels
        name = f"gossamer::{kernels.name}"
        custom_op = torch.library.custom_op
        self._operator = custom_op(name, self._outputs, mutates_args=(), device_types="cpu")
        self._backward_operator = custom_op(
            f"{name}_backward", self._gradients, mutates_args=(), device_types="cpu"
        )
        self._operator.register_fake(self._fake_outputs)
        self._backward_operator.register_fake(self._fake_gradients)
        self._operator.register_autograd(self._derive, setup_context=_keep)
        self._backward_operator.register_autograd(
            self._derive_gradients, setup_context=_keep_backward
        )
        self._operator.register_autocast("cpu", torch.float32)

    def __call__(
        self,
        values: Tensor,
        inputs: Tensor,
        bias: Tensor | None,
        positions: Tensor,
        geometry: Geometry,
    ) -> Tensor:
        """Return the outputs."""
        if inputs.dtype is not torch.float32:
            inputs = inputs.float()
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0:
            return self._operator(values, inputs, bias, positions, geometry)  # type: ignore[no-any-return]
        index = self.index(positions, geometry, self.kernels.sizes(inputs))
        return _Product.apply(values, inputs, bias, index, positions)  # type: ignore[no-any-return, no-untyped-call]

    def index(self, positions: Tensor, geometry: Geometry, sizes: tuple[int, ...]) -> _Index:
        """Return the index of these positions, made when they, or sizes, are others than before.

        Raises
        ------
        InputError
            If they are not ascending ones within the weight.
        """
        key = (self.kernels.name, positions.data_ptr(), positions.numel(), geometry)
        found = _indices.get(key)
        if (
            found
            and found.version == positions._version
            and found.sizes == sizes
            and not found.is_stale()
        ):
            return found
        for stale in [k for k, index in _indices.items() if index.is_stale()]:
            del _indices[stale]
        try:
            compiled = self.kernels.compile(
                positions.contiguous(), geometry, sizes, _instruction_set() or ""
            )
        except (ValueError, OverflowError) as problem:
            raise InputError(
                f"the positions of a sparse layer of sizes {geometry} do not suit it, {problem}: "
                "give those of weights that it has, in ascending order."
            ) from problem
        storage = StorageWeakRef(positions.untyped_storage())  # type: ignore[no-untyped-call]
        index = _Index(self, compiled, geometry, sizes, storage, positions._version)
        _indices[key] = index
        return index

    def forward(self, index: _Index, values: Tensor, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """Return the outputs."""
        outputs = self.kernels.outputs(inputs, index.geometry)
        bias = None if bias is None else bias.contiguous()
        self.kernels.forward(index.compiled, values.contiguous(), inputs, bias, outputs)
        return outputs

    def backward(
        self,
        index: _Index,
        values: Tensor,
        inputs: Tensor,
        gradient: Tensor,
        wanted: tuple[bool, bool],
    ) -> Gradients:
        """Return the gradients of the inputs, if wanted, and of the values and bias, if wanted."""
        of_inputs = self.kernels.of_inputs(inputs, index.geometry) if wanted[0] else None
        of_values = values.new_empty(values.shape) if wanted[1] else None
        of_bias = values.new_empty(index.geometry[0]) if wanted[1] else None
        found = of_inputs, of_values, of_bias
        self.kernels.backward(index.compiled, values.contiguous(), inputs, gradient, found)
        return found

    def differentiable(
        self,
        values: Tensor,
        inputs: Tensor,
        gradient: Tensor,
        positions: Tensor,
        geometry: Geometry,
        wanted: tuple[bool, bool],
    ) -> Gradients:
        """Return what `backward` does, through the operator."""
        of_inputs, of_values, of_bias = self._backward_operator(
            values, inputs, gradient, positions, geometry, *wanted
        )
        with_values = wanted[1]
        return (
            of_inputs if wanted[0] else None,
            of_values if with_values else None,
            of_bias if with_values else None,
        )

    def _outputs(
        self,
        values: Tensor,
        inputs: Tensor,
        bias: Tensor | None,
        positions: Tensor,
        geometry: Sequence[int],
    ) -> Tensor:
        index = self.index(positions, tuple(geometry), self.kernels.sizes(inputs))
        return self.forward(index, values, inputs, bias)

    def _gradients(
        self,
        values: Tensor,
        inputs: Tensor,
        gradient: Tensor,
        positions: Tensor,
        geometry: Sequence[int],
        of_inputs: bool,
        of_values: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients; those that are not wanted are empty."""
        index = self.index(positions, tuple(geometry), self.kernels.sizes(inputs))
        found = self.backward(index, values, inputs, gradient, (of_inputs, of_values))
        none, no_values, no_bias = (values.new_empty(0) for _ in range(3))
        return (
            none if found[0] is None else found[0],
            no_values if found[1] is None else found[1],
            no_bias if found[2] is None else found[2],
        )

    def _fake_outputs(
        self,
        values: Tensor,  # noqa: ARG002
        inputs: Tensor,
        bias: Tensor | None,  # noqa: ARG002
        positions: Tensor,  # noqa: ARG002
        geometry: Sequence[int],
    ) -> Tensor:
        return self.kernels.outputs(inputs, tuple(geometry))

    def _fake_gradients(
        self,
        values: Tensor,
        inputs: Tensor,
        gradient: Tensor,  # noqa: ARG002
        positions: Tensor,  # noqa: ARG002
        geometry: Sequence[int],
        of_inputs: bool,
        of_values: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self.kernels.of_inputs(inputs, tuple(geometry)) if of_inputs else values.new_empty(0),
            values.new_empty(values.shape if of_values else 0),
            values.new_empty(geometry[0] if of_values else 0),
        )

    def _derive(self, ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, inputs, positions = ctx.saved_tensors
        by_values, by_inputs, by_bias = ctx.needs_input_grad[:3]
        wanted = by_inputs, by_values
        of_inputs, of_values, of_bias = self.differentiable(
            values, inputs, gradient, positions, ctx.geometry, wanted
        )
        if by_bias and of_bias is None:
            of_bias = _total(gradient)
        return of_values, of_inputs, of_bias if by_bias else None, None, None

    def _derive_gradients(
        self, ctx: Any, along_inputs: Tensor, along_values: Tensor, along_bias: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Differentiate the gradients, which are linear in each of what they are made of."""
        values, inputs, gradient, positions = ctx.saved_tensors
        geometry = ctx.geometry
        of_values, of_inputs, of_gradient = None, None, torch.zeros_like(gradient)
        if ctx.wanted[0]:
            wanted = False, True
            found = self.differentiable(values, along_inputs, gradient, positions, geometry, wanted)
            of_values = found[1]
            of_gradient = of_gradient + self._operator(
                values, along_inputs, None, positions, geometry
            )
        if ctx.wanted[1]:
            wanted = True, False
            found = self.differentiable(along_values, inputs, gradient, positions, geometry, wanted)
            of_inputs = found[0]
            of_gradient = of_gradient + self._operator(
                along_values, inputs, along_bias, positions, geometry
            )
        return of_values, of_inputs, of_gradient, None, None, None, None


def _total(gradient: Tensor) -> Tensor:
    """Return the gradient of the bias."""
    return gradient.sum([axis for axis in range(gradient.dim()) if axis != 1])


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
        return index.operator.forward(index, values, inputs, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, inputs, positions = ctx.saved_tensors
        by_values, by_inputs, by_bias = ctx.needs_input_grad[:3]
        wanted = by_inputs, by_values
        index = ctx.index
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            found = index.operator.differentiable(
                values, inputs, gradient, positions, index.geometry, wanted
            )
        else:
            found = index.operator.backward(index, values, inputs, gradient, wanted)
        of_inputs, of_values, of_bias = found
        if by_bias and of_bias is None:
            of_bias = _total(gradient)
        return of_values, of_inputs, of_bias if by_bias else None, None, None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    values, given, _, positions, geometry = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(values, given, positions)


def _keep_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    values, given, gradient, positions, geometry, *ctx.wanted = inputs
    ctx.geometry = tuple(geometry)
    ctx.save_for_backward(values, given, gradient, positions)
