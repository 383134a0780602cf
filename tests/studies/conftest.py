"""A study small enough to run in a second, and the command in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

STUDY = """
name = "small"
title = "A small study"
question = "Does it run?"

[data]
name = "digits"
validation = 0.2

[network]
name = "mlp"
hidden = [16, 8]

[grid]
sparsity = [0.5, 0.9]

[scales.quick]
seeds = 2
values = { epochs = 2 }
notes = ["Small on purpose."]

[scales.paper]
seeds = 3
values = { epochs = 4 }

[parts]
training = [{ step = "train", epochs = "$epochs", batch = 64 }]

[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = ["training"]

[[arms]]
name = "weight"
label = "Weights"
recipe = ["training", { step = "prune", sparsity = "$sparsity" }]

[[arms]]
name = "retrained"
label = "Weights, then training"
recipe = [
  "training",
  { step = "prune", sparsity = "$sparsity", exclude = ["output layer"] },
  { step = "train", epochs = 1, batch = 64 },
]

[[arms]]
name = "rewound"
label = "Units, rewound"
role = "control"
recipe = [
  "training",
  { step = "prune", sparsity = "$sparsity", allocation = "uniform", pattern = "unit" },
  { step = "rewind" },
  { step = "train", epochs = 1, optimizer = { name = "sgd", rate = 0.1, momentum = 0.9 } },
]
"""


LEAKY = """
name = "leaky"
title = "A small study of leakage"
question = "Does it run?"
leakage = "paired-halves"
overlaps = [["weight", "lent"]]

[data]
name = "digits"
examples = 300

[network]
name = "mlp"
hidden = [16]

[grid]
sparsity = [0.5, 0.9]

[scales.quick]
seeds = 6
levels = [0.5]

[parts]
training = [{ step = "train", epochs = 3, batch = 32, optimizer = { name = "adam", rate = 0.01 } }]
half = [{ step = "prune", sparsity = "$sparsity" }]

[sources.again]
recipe = ["training", "half"]

[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = ["training"]

[[arms]]
name = "weight"
label = "Weights"
recipe = ["training", "half"]

[[arms]]
name = "lent"
label = "Borrowed mask"
data = { pool = "all" }
recipe = [{ step = "transfer", source = "again" }, "training"]

[[claims]]
name = "a"
text = "Pruning costs nothing."
says = "not-lower"
compare = "weight"
against = "dense"
"""


@pytest.fixture(scope="session")
def leaky_text() -> str:
    """A study with attacks on three pairs, a borrowed mask and an overlap."""
    return LEAKY


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write the small study, or the leaky one, with some text replaced."""

    def write(*changes: tuple[str, str], leaky: bool = False) -> Path:
        text = LEAKY if leaky else STUDY
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "changed.toml"
        path.write_text(text)
        return path

    return write
