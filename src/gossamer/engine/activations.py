"""Functions of one number, element by element, as PyTorch computes them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gossamer.engine.fields import Array

ActivationName = Literal[
    "identity", "relu", "relu6", "leaky-relu", "elu", "gelu", "gelu-tanh", "silu", "hardswish",
    "sigmoid", "tanh",
]  # fmt: skip


@dataclass(frozen=True)
class Activation:
    """A function of one number; `alpha` is the slope of leaky-relu below 0 and the scale of elu."""

    name: ActivationName = "identity"
    alpha: float = 1.0


IDENTITY = Activation()

# Rational approximations of W. J. Cody, Mathematics of Computation 23 (1969), 631-637; the highest
# power stands first, and each denominator begins with 1.
_CENTRE = (
    (
        1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2,
        3.77485237685302021e2, 3.20937758913846947e3,
    ),
    (
        1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
        2.84423683343917062e3,
    ),
)  # fmt: skip
_MIDDLE = (
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594,
        6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
        1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
        1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
        3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
_TAIL = (
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
        1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (
        1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1,
        6.05183413124413191e-2, 2.33520497626869185e-3,
    ),
)  # fmt: skip
_MIDDLE_BEGINS, _TAIL_BEGINS, _VANISHES = 0.46875, 4.0, 26.6


def complementary_error(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return erfc(x) = 1 - erf(x), to a relative error of about 1e-15 also where it is small.

    NumPy has no error function, and `math.erfc` takes one number at a time.

    Parameters
    ----------
    x
        Numbers of any shape.

    Examples
    --------
    >>> complementary_error(np.array([0.0, 1.0, -1.0, 5.0])).round(15).tolist()
    [1.0, 0.157299207050285, 1.842700792949715, 1.537e-12]
    """
    given = np.asarray(x, np.float64)
    size = np.abs(given)
    # NaN is in none of the ranges and stays what it is.
    result = np.where(size >= _VANISHES, 0.0, np.full_like(size, np.nan))
    centre = size <= _MIDDLE_BEGINS
    middle = (size > _MIDDLE_BEGINS) & (size <= _TAIL_BEGINS)
    tail = (size > _TAIL_BEGINS) & (size < _VANISHES)
    near = given[centre]
    result[middle] = _exponential(size[middle]) * _ratio(_MIDDLE, size[middle])
    result[tail] = _exponential(size[tail]) * _tail_factor(size[tail])
    result = np.where(given < 0, 2.0 - result, result)
    result[centre] = 1.0 - near * _ratio(_CENTRE, near * near)
    return result


def activate(activation: Activation, values: Array) -> Array:
    """Apply an activation, in the precision of the values.

    Parameters
    ----------
    activation
        Which one, and its parameter.
    values
        Numbers of any shape; NaN stays NaN.

    Examples
    --------
    >>> activate(Activation("leaky-relu", 0.5), np.array([-2.0, 3.0])).tolist()
    [-1.0, 3.0]
    """
    if activation.name == "leaky-relu":
        return np.where(values > 0, values, values * activation.alpha).astype(values.dtype)
    if activation.name == "elu":
        below = activation.alpha * np.expm1(np.minimum(values, 0))
        return np.where(values > 0, values, below).astype(values.dtype)
    return _FUNCTIONS[activation.name](values)


def _ratio(coefficients: tuple[tuple[float, ...], ...], x: NDArray[np.float64]) -> Array:
    above, below = coefficients
    return np.polyval(np.array(above), x) / np.polyval(np.array(below), x)


def _exponential(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(-x * x); the square is split in two parts so that its rounding does not count."""
    coarse = np.floor(x * 16.0) / 16.0
    rest: NDArray[np.float64] = (x - coarse) * (x + coarse)
    return np.exp(-coarse * coarse) * np.exp(-rest)


def _tail_factor(x: NDArray[np.float64]) -> Array:
    inverse = 1.0 / (x * x)
    return (1.0 / math.sqrt(math.pi) - inverse * _ratio(_TAIL, inverse)) / x


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gelu(x: Array) -> Array:
    return (0.5 * x * complementary_error(-x * math.sqrt(0.5))).astype(x.dtype)


def _gelu_tanh(x: Array) -> Array:
    # (1 + tanh(u)) / 2 is the sigmoid of 2 u, which keeps its digits where it is small.
    return x * _sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))


_FUNCTIONS: dict[ActivationName, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "gelu": _gelu,
    "gelu-tanh": _gelu_tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}
