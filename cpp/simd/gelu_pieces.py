"""Where the numbers of `gelu_8_pieces.hpp` and `gelu_32_pieces.hpp` come from.

python cpp/simd/gelu_pieces.py          # prints all tables
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Numbers = NDArray[np.float64]

_POINTS = 40
_ROUNDS = 60


def exact(z: Numbers) -> Numbers:
    """Return the normal distribution function of -z."""
    return np.asarray(special.erfc(z / np.sqrt(2)) / 2)


def by_tanh(z: Numbers) -> Numbers:
    """Return what stands for it in the form of GELU with a tanh (Hendrycks and Gimpel 2016)."""
    return np.asarray(special.expit(-z * (np.sqrt(8 / np.pi) * (1 + 0.044715 * z**2))))


@dataclass(frozen=True)
class Table:
    """Polynomials of one degree for pieces of one width, the first of them around 0."""

    share: Callable[[Numbers], Numbers]
    pieces: int
    degree: int
    width: float


SHARES = {"gelu_pieces": exact, "gelu_tanh_pieces": by_tanh}
TABLES = {
    "gelu_32_pieces.hpp": {name: Table(one, 32, 5, 1 / 5.625) for name, one in SHARES.items()},
    "gelu_8_pieces.hpp": {"gelu_pieces": Table(exact, 8, 9, 1 / 1.28125)},
}
"""Of each file, by its name there."""


def fitted(table: Table) -> Numbers:
    """Return coefficients [degree, piece] whose largest relative error is about smallest.

    Least squares at Chebyshev's points, again and again with more weight where the error is large
    (Lawson 1961).
    """
    r = np.cos(np.pi * (np.arange(_POINTS) + 0.5) / _POINTS) / 2
    found = []
    for piece in range(table.pieces):
        kept = table.share((piece + r) * table.width)
        powers = np.vander(r, table.degree + 1, increasing=True) / kept[:, None]
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
    for file, tables in TABLES.items():
        print(f"// {file}")
        for name, table in tables.items():
            rows = (", ".join(f"{one:.9g}f" for one in row) for row in fitted(table).astype("f4"))
            print(f"constexpr Pieces {name} = {{{', '.join(f'{{{row}}}' for row in rows)}}};")


if __name__ == "__main__":
    main()
