from collections.abc import Iterator

import numpy as np
import pytest
import torch

from gossamer.data.resident import Resident, make_resident


def clusters(count: int, seed: int) -> Resident:
    """Three overlapping clusters in six dimensions."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.random.default_rng(0).normal(size=(3, 6))
    return make_resident((centres[labels] + draw.normal(size=(count, 6))).astype("f4"), labels, 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def points() -> Resident:
    """50 examples: three batches of 16 and one of 2."""
    return clusters(50, seed=1)


@pytest.fixture
def held_out() -> Resident:
    return clusters(30, seed=2)


@pytest.fixture
def images() -> Resident:
    draw = np.random.default_rng(3)
    labels = np.arange(20) % 3
    pixels = draw.integers(0, 256, size=(20, 1, 28, 28)) // (1 + labels[:, None, None, None])
    return make_resident(pixels.astype("u1"), labels, 255)
