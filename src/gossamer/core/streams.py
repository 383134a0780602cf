"""Random streams, one for each purpose.

A stream is keyed by (seed, purpose, counters): drawing more for one purpose never shifts the
draws of another, and the shuffle of epoch 7 is the same whether epochs 1 to 6 were trained just
now or loaded from disk.
"""

import hashlib

import numpy as np


def stream_seed(seed: int, purpose: str, *counters: int | str) -> int:
    """Return a 63-bit seed for one purpose, for generators that take an integer.

    Parameters
    ----------
    seed
        The seed of the trial.
    purpose
        What the numbers are for, such as ``"shuffle"``.
    counters
        Whatever else tells streams of the same purpose apart, such as the epoch.

    Examples
    --------
    >>> stream_seed(0, "shuffle", 1) == stream_seed(0, "shuffle", 1)
    True
    >>> stream_seed(0, "shuffle", 1) == stream_seed(0, "shuffle", 2)
    False
    """
    # Plain types: a NumPy integer is written otherwise than the same number as an int.
    plain = tuple(str(c) if isinstance(c, str) else int(c) for c in counters)
    text = repr((int(seed), str(purpose), plain))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, purpose: str, *counters: int | str) -> np.random.Generator:
    """Return the NumPy generator of one purpose (Philox, keyed by `stream_seed`).

    Examples
    --------
    >>> first, again = stream(0, "shuffle", 1), stream(0, "shuffle", 1)
    >>> bool((first.permutation(9) == again.permutation(9)).all())
    True
    """
    return np.random.Generator(np.random.Philox(key=stream_seed(seed, purpose, *counters)))
