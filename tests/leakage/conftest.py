from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

PairedMembers = Callable[[int, int, int], NDArray[np.bool_]]


@pytest.fixture
def paired_members() -> PairedMembers:
    """Memberships of models in pairs on complementary random halves, [models, examples]."""

    def draw(models: int, examples: int, seed: int = 0) -> NDArray[np.bool_]:
        halves = np.random.default_rng(seed).random((models // 2, examples)) < 0.5
        return np.stack([halves, ~halves], axis=1).reshape(models, examples)

    return draw
