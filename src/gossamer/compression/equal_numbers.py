"""Which functions put equal numbers in an order, or choose among them, as PyTorch happens to.

PyTorch says no order of numbers that are alike, but for stable sorts, so that another way to
compute the same may give other places, all of them right.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import run

_aten = torch.ops.aten
_ORDERING = {
    _aten.sort.default: 1,
    _aten.argsort.default: 1,
    _aten.topk.default: 2,
    _aten.kthvalue.default: 2,
    _aten.median.dim: 1,
    _aten.mode.default: 1,
}
"""Functions whose places of equal numbers are open, and which argument of theirs is the axis."""


def that_order_equals(network: nn.Module, inputs: Arguments) -> tuple[str, ...]:
    """Return the names of the functions that are given equal numbers to order along an axis.

    Examples
    --------
    >>> class Best(nn.Module):
    ...     def forward(self, x):
    ...         return x.topk(2).indices
    >>> rows = [torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[3.0, 1.0, 1.0]])]
    >>> [that_order_equals(Best(), Arguments.of(Best(), row)) for row in rows]
    [(), ('topk',)]
    """
    watch = _Ordering()
    with torch.no_grad(), watch:
        run(network, inputs.clone())
    return tuple(dict.fromkeys(watch.found))


class _Ordering(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the functions that meet equal numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, and look at the numbers that it orders."""
        options = dict(kwargs or {})
        if func in _ORDERING and _has_equals(args[0], _axis(func, args, options)):
            self.found.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **options)


def _axis(func: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    place = _ORDERING[func]
    return int(args[place] if len(args) > place else options.get("dim", -1))


def _has_equals(numbers: Tensor, axis: int) -> bool:
    if not numbers.dim():
        return False
    ordered = numbers.sort(dim=axis, stable=True).values
    length = ordered.shape[axis] - 1
    pairs = ordered.narrow(axis, 0, length) == ordered.narrow(axis, 1, length)
    return length > 0 and bool(pairs.any())
