"""Setting and counting the values of parameters of any type and origin."""

import torch
from torch import Tensor

WITHOUT_ZERO = tuple(
    getattr(torch, name) for name in ("float8_e8m0fnu", "float4_e2m1fn_x2") if hasattr(torch, name)
)
"""Types that cannot hold a zero, or hold two numbers in one element."""


def clear(values: Tensor, where: Tensor) -> None:
    """Set values to zero in place where a boolean tensor is True.

    Works on what was made in inference mode and on eight-bit floats, too, of which torch fills
    neither as they are.

    Examples
    --------
    >>> eight_bits = torch.ones(3).to(torch.float8_e4m3fn)
    >>> clear(eight_bits, torch.tensor([True, False, True]))
    >>> eight_bits.float().tolist()
    [0.0, 1.0, 0.0]
    """
    with torch.inference_mode(values.is_inference()), torch.no_grad():
        plain = values.detach()
        if values.is_floating_point() and values.element_size() == 1:
            plain = plain.view(torch.uint8)  # all bits 0 are the number 0
        plain.masked_fill_(where.to(values.device), 0)


def fill(parameter: Tensor, values: Tensor) -> None:
    """Set the values of a parameter in place, whatever mode it was made in."""
    with torch.inference_mode(parameter.is_inference()), torch.no_grad():
        parameter.detach().copy_(values)


def wide(values: Tensor) -> Tensor:
    """Return values in float32 at least: exact, and NumPy has no bfloat16."""
    return values.float() if values.dtype.itemsize < torch.float32.itemsize else values


def nonzero(values: Tensor) -> Tensor:
    """Return where values are not zero; what is no number is not zero."""
    plain = values.detach()
    if plain.is_floating_point() and plain.element_size() == 1:
        plain = plain.float()  # which torch can compare
    return plain != 0


def any_nonzero(values: Tensor, where: Tensor) -> Tensor:
    """Return, as one number on the device, whether a value is not zero where a boolean is True.

    Examples
    --------
    >>> bool(any_nonzero(torch.tensor([1.0, 0.0]), torch.tensor([False, True])))
    False
    """
    found = nonzero(values).logical_and_(where)
    # The greatest of bytes is found many times faster than whether any boolean is True.
    return found.view(torch.uint8).max() if found.numel() else found.any()
