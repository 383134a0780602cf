"""Data in every form that people have it in, and what is said of what cannot be used."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from gossamer.core.errors import InputError
from gossamer.shrinking.data import Data, read_data
from gossamer.shrinking.split import Split

X = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
TRAIN, TEST = slice(0, 40), slice(40, 60)


class Pairs(Dataset[tuple[Tensor, int]]):
    """A dataset as people write it."""

    def __init__(self, part: slice, noise: float = 0.0) -> None:
        self.x, self.y, self.noise = X[part], Y[part], noise
        self.classes = ["a", "b", "c"]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index] + self.noise * torch.randn(5), int(self.y[index])


class Stream(IterableDataset[tuple[Tensor, int]]):
    """Examples that come one after the other."""

    def __init__(self, part: slice) -> None:
        self.pairs = Pairs(part)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter([self.pairs[i] for i in range(len(self.pairs))])


FORMS: dict[str, Any] = {
    "tensors": lambda part: (X[part], Y[part]),
    "numpy": lambda part: (X[part].double().numpy(), Y[part].numpy().astype(np.int16)),
    "named": lambda part: {"inputs": X[part], "targets": Y[part]},
    "dataset": Pairs,
    "tensor dataset": lambda part: TensorDataset(X[part], Y[part]),
    "loader": lambda part: DataLoader(Pairs(part), batch_size=7, shuffle=True),
    "sampled": lambda part: DataLoader(
        TensorDataset(X, Y),
        batch_size=7,
        sampler=SubsetRandomSampler(torch.arange(60)[part].tolist()),
    ),
    "stream": Stream,
    "split": lambda part: Split(X[part], Y[part]),
    "items": lambda part: [
        {"x": x, "label": int(y)} for x, y in zip(X[part], Y[part], strict=True)
    ],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("holder", [dict, SimpleNamespace])
def test_every_form_gives_the_same_examples(form: str, holder: Any) -> None:
    make = FORMS[form]
    data = read_data(holder(train=make(TRAIN), validation=make(TEST), test=make(TEST)))
    for split, part in ((data.train, TRAIN), (data.test, TEST), (data.validation, TEST)):
        assert split is not None
        inputs, targets = split.whole()
        torch.testing.assert_close(inputs, X[part])
        torch.testing.assert_close(targets, Y[part])
    assert data.validation_is_held_out
    if form in ("dataset", "loader", "stream"):
        expected = None if form == "stream" else ("a", "b", "c")
        assert data.class_names == expected


def test_augmented_training_examples_are_drawn_anew_in_each_epoch() -> None:
    noisy = {"train": Pairs(TRAIN, 1.0), "validation": Pairs(TEST), "test": Pairs(TEST)}
    data = read_data(noisy)
    first, again = (next(data.train.batches(40, seed=0, epoch=epoch))[0] for epoch in (0, 1))
    assert not set(first[:, 0].tolist()) & set(again[:, 0].tolist())
    del noisy["validation"]
    with pytest.raises(InputError, match="no validation set can be split off: give validation"):
        read_data(noisy)
    with pytest.raises(InputError, match="validation: examples are others whenever they are read"):
        read_data({**noisy, "validation": Pairs(TEST, 1.0)})


def test_without_validation_a_tenth_of_training_is_set_aside_and_that_is_said() -> None:
    data = read_data({"train": (X[TRAIN], Y[TRAIN]), "test": (X[TEST], Y[TEST])})
    assert (len(data.train), len(data.validation)) == (36, 4)
    assert not data.validation_is_held_out
    assert "4 of the training examples are set aside" in data.notes[0]
    rows = {
        tuple(row)
        for row in torch.cat([data.train.whole()[0], data.validation.whole()[0]]).tolist()
    }
    assert rows == {tuple(row) for row in X[TRAIN].tolist()}
    other = read_data({"train": (X[TRAIN], Y[TRAIN]), "test": (X[TEST], Y[TEST])}, seed=1)
    assert not torch.equal(other.validation.whole()[0], data.validation.whole()[0])


def test_examples_in_several_parts_are_told() -> None:
    both = X[30:50], Y[30:50]
    data = read_data({"train": (X[TRAIN], Y[TRAIN]), "val": both, "test": both})
    assert [note[:52] for note in data.notes] == [
        "10 of the 20 validation examples are training exampl",
        "10 of the 20 test examples are training examples, to",
    ]
    assert not data.validation_is_held_out


def arrays(**changed: Any) -> dict[str, Any]:
    x = np.random.default_rng(0).integers(0, 256, (30, 1, 6, 6), dtype=np.uint8)
    y = np.arange(30) % 3
    made = {"x_train": x[:20], "y_train": y[:20], "x_test": x[20:], "y_test": y[20:]}
    return {**made, **changed}


def test_an_npz_is_taken_as_studies_take_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, **arrays())
    data = read_data(str(file))
    assert data.test is not None
    inputs, targets = data.test.whole()
    np.testing.assert_array_equal(inputs.numpy(), arrays()["x_test"] / np.float32(255))
    assert targets.tolist() == arrays()["y_test"].tolist()
    assert data.preprocessing is not None
    assert (data.name, data.preprocessing.scale, data.validation_is_held_out) == (
        "mine.npz",
        255.0,
        False,
    )
    more = np.full((4, 1, 6, 6), 7, np.uint8)
    np.savez(file, **arrays(x_validation=more, y_validation=np.array([0, 1, 2, 0])))
    data = read_data(file)
    assert (len(data.train), len(data.validation), data.validation_is_held_out) == (20, 4, True)
    assert read_data(arrays()).train.whole()[0].shape == (18, 1, 6, 6)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"x_validation": np.zeros((2, 1, 6, 6), np.uint8)}, "x_validation alone"),
        (
            {"x_validation": np.zeros((2, 1, 5, 6), np.uint8), "y_validation": np.zeros(2, int)},
            "x_validation",
        ),
        (
            {"x_validation": np.zeros((2, 1, 6, 6), np.uint8), "y_validation": np.array([0, 3])},
            "y_validation holds 3 at position 1, expected class numbers from 0 to 2",
        ),
        ({"y_test": np.full(10, 5)}, "y_test holds 5 at position 0"),
        ({"x_train": np.full((20, 4), np.nan)}, "x_train holds nan"),
        ({"x_train": np.zeros((0, 1, 6, 6), np.uint8), "y_train": np.zeros(0, int)}, "x_train"),
    ],
)
def test_npz_files_that_cannot_be_used(tmp_path: Path, changed: Any, told: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays(**changed))
    for given in (tmp_path / "mine.npz", arrays(**changed)):
        with pytest.raises(InputError, match=told):
            read_data(given)


def test_a_truncated_npz_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, **arrays())
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"mine\.npz"):
        read_data(file)


def test_preprocessing_and_names_travel_with_the_data() -> None:
    given = arrays(
        preprocessing={"scale": 255, "mean": 0.5, "deviation": [0.25]}, class_names=["a", "b", "c"]
    )
    data = read_data(given)
    assert data.class_names == ("a", "b", "c")
    found = data.train.whole()[0]
    assert -2 <= float(found.min()) < -1
    assert 1 < float(found.max()) <= 2
    with pytest.raises(InputError, match="scale, mean and deviation"):
        read_data(arrays(preprocessing={"std": 1}))
    with pytest.raises(InputError, match="preprocessing is for arrays"):
        read_data({"train": Pairs(TRAIN), "test": Pairs(TEST), "preprocessing": {"scale": 2}})


def test_members_are_all_of_train_or_what_is_given() -> None:
    parts = {"train": (X[TRAIN], Y[TRAIN]), "test": (X[TEST], Y[TEST])}
    assert read_data(parts).members is None
    whole = read_data({**parts, "members": True})
    assert whole.members is not None
    assert (len(whole.members), len(whole.train)) == (40, 36)
    some = read_data({**parts, "members": (X[:5], Y[:5])})
    assert some.members is not None
    assert torch.equal(some.members.whole()[0], X[:5])
    with pytest.raises(InputError, match="members: there are no examples"):
        read_data({**parts, "members": (X[:0], Y[:0])})


PAIR = (X[TEST], Y[TEST])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"train": PAIR}, "there is no test"),
        ({"test": PAIR}, "without train was given"),
        ({"train": PAIR, "tets": PAIR}, "'tets' is not known, did you mean 'test'"),
        ({"train": PAIR, "test": PAIR, "val": PAIR, "valid": PAIR}, "valid and val, expected one"),
        ({"train": PAIR, "test": (X[:0], Y[:0])}, "test: there are no examples"),
        ({"train": PAIR, "test": (X[:3], Y[:4])}, "test: inputs and targets are not as long"),
        ({"train": PAIR, "test": (X[:3] / 0, Y[:3])}, "test: inputs of example 0 hold NaN"),
        ({"train": PAIR, "test": X}, "test: a Tensor was given, expected a pair"),
        ({"train": PAIR, "test": "x.npz"}, "test: a str was given"),
        ({"train": PAIR, "test": (np.array(["a"]), np.zeros(1))}, "test: inputs: the type is <U1"),
        ({"train": PAIR, "test": [(X[0], X[1], 1)]}, "test: an example is a list of 3"),
        ({"train": PAIR, "test": [{"x": X[0]}] * 2}, "expected inputs and one of label"),
        ({"train": PAIR, "test": [X, Y]}, "an example is a Tensor, expected a pair"),
        ({"train": PAIR, "test": [(object(), 1)] * 2}, "an example holds a object"),
        ({"train": PAIR, "test": [(X[0], 1), (X[0, :2], 1)]}, "cannot be read or put into one"),
        (
            {
                "train": PAIR,
                "test": DataLoader(
                    Pairs(TEST), sampler=WeightedRandomSampler([1.0] * 20, 20), batch_size=2
                ),
            },
            "test: the DataLoader draws its examples by a WeightedRandomSampler",
        ),
        ({"train": PAIR, "test": DataLoader(Pairs(TEST), batch_size=None)}, "makes no batches"),
        (torch.nn.Linear(2, 2), "a Linear without train was given"),
        (PAIR, "a tuple without train was given"),
        ("nothing-here", "nothing-here: no such data"),
        ("fashion-minst", "did you mean 'fashion-mnist'"),
        ("no.such.module:load", "The data 'no.such.module:load' needs the module"),
        ({"train": PAIR, "test": PAIR, "class_names": "abc"}, "class_names must be"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(given: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        read_data(given)
    assert "\n" not in str(raised.value)


def test_a_callable_gives_any_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_data_here.py").write_text(
        "import torch\n"
        "def load():\n"
        "    x = torch.arange(20.0)[:, None]\n"
        "    return {'train': (x, x), 'test': (x + 0.5, x)}\n"
        "def path(): return 'digits'\n"
        "def broken(): raise KeyError('files')\n"
        "def needy(folder): return folder\n"
        "number = 3\n"
    )
    assert len(read_data("own_data_here:load").train) == 18
    assert read_data("own_data_here.py:load").name == "own_data_here.py:load"
    assert read_data("own_data_here:path").name == "digits"
    for name, told in (
        ("broken", "fails when it is called without arguments .KeyError: 'files'"),
        ("needy", "fails when it is called without arguments"),
        ("number", "is of type int, but a function or class was expected"),
        ("absent", "has no 'absent'"),
    ):
        with pytest.raises(InputError, match=told):
            read_data(f"own_data_here:{name}")


def test_data_that_is_ready_stays_what_it_is() -> None:
    data = Data(Split(X[TRAIN], Y[TRAIN]), Split(X[TEST], Y[TEST]))
    assert read_data(data, test=False).train is data.train
    with pytest.raises(InputError, match="there is no test"):
        read_data(data)
