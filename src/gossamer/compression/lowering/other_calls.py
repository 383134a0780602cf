"""Functions of PyTorch that a recording does not take as they are, by others that do the same."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class OtherCalls(TorchFunctionMode):
    """Calls others in place of some functions of PyTorch, by their names.

    The others take the arguments that they name; a call with more, or fewer, is left as it is.
    """

    def __init__(self, others: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self._others = others

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or the other one."""
        options = dict(kwargs or {})
        other = self._others.get(getattr(func, "__name__", ""))
        if other is not None:
            try:
                inspect.signature(other).bind(*args, **options)
            except TypeError:
                return func(*args, **options)
            return other(*args, **options)
        return func(*args, **options)


def by_gather(input: Tensor, indices: Tensor, dim: int) -> Tensor:  # noqa: A002 - named as there
    """Do what `take_along_dim` does, which a recording takes for one size of the batch.

    Lengths of 1 along other axes are repeated.
    """

    def repeated(one: Tensor, other: Tensor) -> Tensor:
        pairs = list(zip(one.shape, other.shape, strict=True))
        # The size of the batch is no plain number.
        alone = [at for at, (own, _) in enumerate(pairs) if type(own) is int and own == 1]
        more = [at for at in alone if at != dim % one.dim()]
        sizes = [other if at in more else own for at, (own, other) in enumerate(pairs)]
        return one.expand(sizes) if more else one

    return repeated(input, indices).gather(dim, repeated(indices, input))


def by_differences(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "") -> Tensor:  # noqa: ARG001 - named as there
    """Do what `cdist` does, without what PyTorch computes by products, which rounds more."""
    differences = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    found: Tensor = torch.linalg.vector_norm(differences, p, -1)
    return found


def by_linear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Do what `bilinear` does by a linear layer of the first input and a sum over the second."""
    outputs, first, second = weight.shape
    rows = torch.nn.functional.linear(
        input1, weight.transpose(1, 2).reshape(outputs * second, first)
    )
    by_output = rows.reshape(*rows.shape[:-1], outputs, second)
    found: Tensor = (by_output * input2.unsqueeze(-2)).sum(-1)
    return found if bias is None else found + bias


def by_four_axes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """Do what `scaled_dot_product_attention` does, of one head without an axis for it."""
    attend = torch.nn.functional.scaled_dot_product_attention
    if query.dim() != 3:
        return attend(query, key, value, attn_mask, dropout_p, is_causal, **options)
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.unsqueeze(1)
    q, k, v = (one.unsqueeze(1) for one in (query, key, value))
    return attend(q, k, v, attn_mask, dropout_p, is_causal, **options).squeeze(1)


def by_topk(
    input: Tensor,  # noqa: A002
    *,
    stable: bool,  # noqa: ARG001 - what asks for it
    dim: int = -1,
    descending: bool = False,
) -> Any:
    """Do what a stable sort does, for ONNX, whose `TopK` puts the first of equal numbers first."""
    return torch.topk(input, input.shape[dim], dim, descending, True)
