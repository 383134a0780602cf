"""The global random generators that a user's network may draw from."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from gossamer.core.streams import stream_seed


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Restore the global generators of torch, NumPy and `random` at the end.

    Of torch, only the processor's: networks are built and tried there.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def seed_generators(seed: int) -> None:
    """Seed them for the initialisation of a trial's network."""
    drawn = stream_seed(seed, "initialise")
    torch.default_generator.manual_seed(drawn)
    random.seed(drawn)
    np.random.seed(drawn % 2**32)  # noqa: NPY002
