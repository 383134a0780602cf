"""What rounding to float32 may do to each number that a network gives.

A right kernel computes every operation in float32, in an order of its own and perhaps several at
once, so that its answers differ from the exact ones. By how much is no matter of the size of an
answer: a number that is what is left of large ones keeps the rounding errors of these. So errors
are put in where float32 puts them, and what comes out is looked at: Monte Carlo arithmetic
(Parker, "Monte Carlo Arithmetic: exploiting randomness in floating-point arithmetic", UCLA
CSD-970002, 1997).

How large they are in one operation. With the unit roundoff u = 2**-24, a sum of n products that
are added in any order is off by at most n u S, where S is the sum of the products' absolute values
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 3.1). But rounding errors do
not all point one way, and partial sums are smaller than S. Each of the n additions adds an error of
at most u times the partial sum so far, with a sign of its own. Where the products' signs are mixed,
the k-th partial sum is about S sqrt(k) / n, and the root of the sum of squares of the errors
u S sqrt(n**2 / 2) / n = 0.7 u S, whatever n is. Where they are all alike, it is u S sqrt(n / 3);
but the result is S itself then, beside which this is less than the relative tolerance that is
allowed in any case, for all n below 80,000. Between the two, where the first half has one sign and
the second the other, it is 0.5 u S sqrt(n / 3), or 8 u S for n = 800, added one by one; kernels add
8 or 16 sums at once, for which n is as many times larger. Other operations (activations, sums of
two values, poolings, batch normalisation) are off by a few u of the sum of the absolute values
that they add. `_LOCAL` = 8 covers these, and what folding constants into weights rounds beside
them; random networks whose products are added one by one came to a third of it.

Which operations are modelled how: those in `_EXACT` round nothing; those in `_ADDING` and
`_DIFFERENCES` are off by a share of the sum of the absolute values that they add; all others are
off by the same share of what they give; what has no real numbers is left as it is.

How they add up over operations is not estimated at all: the errors travel through the network
itself, as far as it amplifies or drowns them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer.compression.outputs import comparable
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import run

_UNIT_ROUNDOFF = 2.0**-24
_LOCAL = 8
"""Error of one operation, in unit roundoffs of the sum of the absolute values that it adds."""
_RUNS = 4
"""How often the network is run with other errors; the largest deviation counts."""


def rounding_errors(
    network: nn.Module, inputs: Arguments, exact: Sequence[Any]
) -> list[Tensor | None]:
    """Return how far right float32 computations may lie from a network's exact answers.

    Parameters
    ----------
    network
        In evaluation mode, and in float64, so that it adds no rounding errors of its own.
    inputs
        A batch that it takes.
    exact
        The tensors that it gives for them.

    Returns
    -------
    list
        For each output that is a tensor, deviations of its shape in float64: the largest of a few
        runs. None for all others.

    Examples
    --------
    A difference of large numbers keeps their errors; the number beside it has its own alone:

    >>> class Network(nn.Module):
    ...     def forward(self, x):
    ...         return torch.stack([(x + 1000) - 1000, x], 1)
    >>> x = torch.ones(50, dtype=torch.float64)
    >>> (found,) = rounding_errors(Network(), Arguments.of(Network(), x), [Network()(x)])
    >>> large, small = found.amax(0).tolist()
    >>> large > 1e-4, small < 1e-6
    (True, True)
    """
    largest: list[Tensor | None] = [
        torch.zeros_like(one, dtype=torch.float64) if isinstance(one, Tensor) else None
        for one in exact
    ]
    for number in range(_RUNS):
        generator = torch.Generator().manual_seed(number)
        given = inputs.clone()  # which the network may write into
        try:
            with torch.no_grad(), _WithErrors(generator):
                _, *found = comparable(run(network, given))
        except InputError:  # it has operations that cannot be changed this way
            return largest
        largest = [
            known if known is None else torch.maximum(known, _deviation(one, right))
            for known, one, right in zip(largest, found, exact, strict=True)
        ]
    return largest


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _deviation(found: Tensor, exact: Tensor) -> Tensor:
    return (found.double() - exact.double()).abs().nan_to_num(0.0, 0.0, 0.0)


class _WithErrors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds to what every operation gives an error as large as float32's may be."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = generator

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        read = [one for one in pytree.tree_leaves((args, options)) if _is_real(one)]
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if not read or name in _EXACT:
            return func(*args, **options)
        # Before the call, as an operation in place overwrites what it adds.
        added = _absolute_sum(name, args, options)
        result = func(*args, **options)
        held = {one.untyped_storage().data_ptr() for one in read}
        for given in filter(_is_real, pytree.tree_leaves(result)):
            if func._schema.is_mutable or given.untyped_storage().data_ptr() not in held:
                known = added is not None and added.shape == given.shape
                self._disturb(given, added if known else given.abs())
        return result

    def _disturb(self, values: Tensor, scale: Tensor | None) -> None:
        assert scale is not None
        signs = torch.rand(values.shape, generator=self._generator, dtype=values.dtype) * 2 - 1
        values.add_(signs * scale, alpha=_LOCAL * _UNIT_ROUNDOFF)


def _absolute_sum(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> Tensor | None:
    """Return what an operation gives if nothing in it cancels; None if that is its own size."""
    if name not in _ADDING and name not in _DIFFERENCES:
        return None
    if name in _DIFFERENCES:
        first, second = (abs(one) for one in args[:2])
        factor = abs(args[2] if len(args) > 2 else options.get("alpha", 1))
        first, second = (first, second * factor) if name == "sub" else (second, first * factor)
        return torch.as_tensor(first + second)
    positive = pytree.tree_map(_absolute, args)
    if name == "native_batch_norm":  # of input, scale, shift, mean, variance, training, ...
        if args[5]:
            return None
        positive = (*positive[:3], -positive[3], *positive[4:])
    found = getattr(torch.ops.aten, name)(*positive, **options)
    return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]


def _absolute(value: Any) -> Any:
    return abs(value) if _is_real(value) or isinstance(value, float) else value


_ADDING = frozenset({
    "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "linear", "convolution", "add", "sum",
    "mean", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "native_batch_norm",
})  # fmt: skip
"""Operations that add up numbers: with absolute values nothing in them cancels."""

_DIFFERENCES = frozenset({"sub", "rsub"})
"""Operations that add the negative of a number; the second takes its first from its second."""

_EXACT = frozenset({
    "abs", "cat", "clone", "constant_pad_nd", "copy", "gather", "index", "index_select", "im2col",
    "max", "max_pool2d_with_indices", "maximum", "neg", "relu", "stack", "where", "_to_copy",
})  # fmt: skip
"""Operations that round nothing; those that give a view of what they read are no others."""
