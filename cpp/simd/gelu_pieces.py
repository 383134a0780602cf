"""Where the numbers of `gelu_pieces.hpp` come from.

python cpp/simd/gelu_pieces.py          # prints both tables
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

Numbers = NDArray[np.float64]

PIECES, DEGREE = 32, 5
WIDTH = 1 / 5.625
_POINTS = 40
_ROUNDS = 60


def exact(z: Numbers) -> Numbers:
    """Return the normal distribution function of -z."""
    return np.asarray(special.erfc(z / np.sqrt(2)) / 2)


def by_tanh(z: Numbers) -> Numbers:
    """Return what stands for it in the form of GELU with a tanh (Hendrycks and Gimpel 2016)."""
    return np.asarray(special.expit(-z * (np.sqrt(8 / np.pi) * (1 + 0.044715 * z**2))))


TABLES: dict[str, Callable[[Numbers], Numbers]] = {
    "gelu_pieces": exact,
    "gelu_tanh_pieces": by_tanh,
}


def fitted(share: Callable[[Numbers], Numbers]) -> Numbers:
    """Return coefficients [degree, piece] whose largest relative error is about smallest.

    Least squares at Chebyshev's points, again and again with more weight where the error is large
    (Lawson 1961).
    """
    r = np.cos(np.pi * (np.arange(_POINTS) + 0.5) / _POINTS) / 2
    found = []
    for piece in range(PIECES):
        powers = np.vander(r, DEGREE + 1, increasing=True) / share((piece + r) * WIDTH)[:, None]
        weights = np.ones(_POINTS)
        for _ in range(_ROUNDS):
            one, *_ = np.linalg.lstsq(powers * weights[:, None], weights, rcond=None)
            errors = np.abs(powers @ one - 1)
            weights *= (errors / errors.max() + 0.1) ** 0.3
            weights /= weights.max()
        found.append(one)
    return np.array(found).T


def main() -> None:
    """Print the tables as C++ has them, before clang-format."""
    for name, share in TABLES.items():
        rows = (", ".join(f"{one:.9g}f" for one in row) for row in fitted(share).astype("f4"))
        print(f"constexpr Pieces {name} = {{{', '.join(f'{{{row}}}' for row in rows)}}};")


if __name__ == "__main__":
    main()
