"""The inputs that weights multiply, seen where tensors meet: below modules, functions and autograd.

Whatever code calls it, a weight ends up as an operand of a product. There the squares of the other
operand are summed, over all examples, positions and uses, for the very elements of memory that the
operand covers: a slice, a transposed view and a weight that several parameters hold are all told
apart or together as they should be.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer.core.errors import InputError
from gossamer.graph.examples import tensors_in
from gossamer.masks.storages import overlaps_itself, reach
from gossamer.masks.values import wide

_aten = torch.ops.aten

View = tuple[tuple[int, ...], tuple[int, ...], int]
"""Shape, strides and first element of a view into the memory of a weight."""


class InputSums(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums up, while it is entered, something of the inputs of each weight.

    A kind of it says what is summed, and how what is found for views makes up a weight.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = weights
        self._sums: dict[str, dict[Any, Tensor]] = {name: {} for name in weights}
        for name, weight in weights.items():
            if 1 + reach(weight) != weight.numel():
                raise InputError(
                    f"{name} lies in memory with gaps, so its inputs cannot be told: give it "
                    "memory of its own first, by parameter.data = parameter.data.contiguous()"
                )

    def check(self) -> None:
        """Refuse weights that nothing was multiplied with, or with what is not finite.

        Raises
        ------
        InputError
            If there is one.
        """
        for name, found in self._sums.items():
            if not found:
                raise InputError(
                    f"the batches never reach {name}: exclude it, or give batches that use it"
                )
            if not all(sums.isfinite().all() for sums in found.values()):
                raise InputError(
                    f"the inputs of {name} are not finite: look for values that are not finite in "
                    "the batches or the network"
                )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do what is to be done, and note what it says of weights."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not func.is_view:
            met = [(one, name) for one in tensors_in((args, kwargs)) if (name := self._owner(one))]
            for operand, name in met:
                self._note(name, operand, func, args, kwargs, output)
        return output

    def _note(
        self, name: str, operand: Tensor, func: Any, args: Any, kwargs: Any, output: Tensor
    ) -> None:
        """Add what an operation says of the inputs of an operand, a part of a weight."""
        raise NotImplementedError

    def _owner(self, tensor: Tensor) -> str | None:
        """Return the weight in whose memory a tensor lies, if only in part."""
        begin, size = tensor.data_ptr(), tensor.element_size()
        end = begin + (1 + reach(tensor)) * size
        for name, weight in self._weights.items():
            start = weight.data_ptr()
            touches = begin < start + weight.numel() * weight.element_size() and start < end
            if touches and tensor.device == weight.device and tensor.numel():
                return name
        return None

    def _view(self, name: str, operand: Tensor) -> View:
        """Return which elements of a weight an operand covers, each once.

        Raises
        ------
        InputError
            If it covers others, too.
        """
        weight = self._weights[name]
        first = (operand.data_ptr() - weight.data_ptr()) // weight.element_size()
        if overlaps_itself(operand) or first < 0 or first + reach(operand) > reach(weight):
            raise InputError(
                f"{name} is multiplied together with other memory, so its inputs cannot be told: "
                "exclude it, or choose another score"
            )
        return tuple(operand.shape), operand.stride(), first

    def _add(self, name: str, key: Any, value: Tensor) -> None:
        found = self._sums[name]
        found[key] = value.double() + found[key] if key in found else value.double()


class InputSquares(InputSums):  # type: ignore[no-untyped-call]
    """Sums, while it is entered, the squares of what each element of each weight multiplies."""

    def norms(self, name: str) -> Tensor:
        """Return the L2 norm of the inputs that each element of a weight multiplies, float64."""
        weight = self._weights[name]
        memory = torch.zeros(1 + reach(weight), dtype=torch.float64, device=weight.device)
        for (shape, strides, first), squares in self._sums[name].items():
            memory.as_strided(shape, strides, first).add_(squares)
        return memory.as_strided(weight.shape, weight.stride()).sqrt()

    def _note(
        self, name: str, operand: Tensor, func: Any, args: Any, kwargs: Any, output: Tensor
    ) -> None:
        squares = _squares(func, args, kwargs, operand, output, name).double()
        for dimension, (size, stride) in enumerate(
            zip(operand.shape, operand.stride(), strict=True)
        ):
            if stride == 0 and size > 1:  # one element of memory for all of them
                squares = squares.expand(operand.shape).sum(dimension, keepdim=True)
                operand = operand.narrow(dimension, 0, 1)
        self._add(name, self._view(name, operand), squares)


FIRST_FACTOR = {_aten.mm: 0, _aten.bmm: 0, _aten.mv: 0, _aten.addmm: 1, _aten.baddbmm: 1}
"""Products of two tensors, with the position of the first among the arguments."""


def _squares(
    func: Any, args: Any, kwargs: Any, operand: Tensor, output: Tensor, name: str
) -> Tensor:
    """Return the squares of what each element of an operand multiplies, to be broadcast to it.

    Raises
    ------
    InputError
        If it is no factor of a product.
    """
    kind = func.overloadpacket
    if kind is _aten.convolution and operand is args[1]:
        inputs, _, _, *options = args
        squares = wide(inputs).square()
        # Each element's share in the sum of all outputs is the sum of the squares it multiplies.
        of_weight: Tensor = _aten.convolution_backward(
            squares.new_ones(output.shape), squares, operand.to(squares.dtype), None, *options,
            [False, True, False],
        )[1]  # fmt: skip
        return of_weight
    if kind in FIRST_FACTOR:
        left, right = args[FIRST_FACTOR[kind] : FIRST_FACTOR[kind] + 2]
        scale = float(kwargs.get("alpha", 1)) ** 2
        if operand is left:
            squares = scale * wide(right).square()
            return squares if kind is _aten.mv else squares.sum(-1)[..., None, :]
        if operand is right and kind is not _aten.mv:
            return scale * wide(left).square().sum(-2)[..., None]
    raise no_product(func, name)


def no_product(func: Any, name: str) -> InputError:
    """Return what to say of an operation that takes a weight and is no product with it."""
    kind = func.overloadpacket
    if kind is _aten.embedding:
        return InputError(
            f"{name} is an embedding, which is looked up and multiplies no inputs: exclude it, or "
            "choose another score"
        )
    return InputError(
        f"{name} goes into {kind.__name__}, which is no product that is known, so the inputs that "
        "it multiplies cannot be told: exclude it, or choose another score"
    )
