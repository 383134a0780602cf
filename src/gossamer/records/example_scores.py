"""What every attack says of every example: the numbers that an audit's rates are counted from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ExampleScores:
    """Scores of every attack, model by model and example by example."""

    models: tuple[int, ...]
    """Positions of the targets among the models that were given."""
    labels: NDArray[np.integer[Any]]
    """True classes, ``[examples]``."""
    members: NDArray[np.bool_]
    """``[models, examples]``: whether the target was trained on the example."""
    attacks: Mapping[str, NDArray[np.float32]]
    """By the names of the attacks, ``[models, examples]``: the higher, the more an attack takes the
    example for a member; NaN for those that it cannot judge."""
