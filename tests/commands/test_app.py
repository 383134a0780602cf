"""The command as a user meets it: what it prints, what it exits with, what it refuses."""

import csv
import gzip
import json
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from running_commands import Gossamer, Outcome

STUDY = """
name = "mine"
title = "Mine"
question = "Does it run?"
[data]
name = "{data}"
{data_options}
[network]
name = "{network}"
[grid]
sparsity = [{levels}]
[scales.quick]
seeds = 1
[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = [{{ step = "train", epochs = 1{train} }}]
[[arms]]
name = "pruned"
label = "Pruned"
recipe = [
  {{ step = "train", epochs = 1{train} }},
  {{ step = "prune", sparsity = "$sparsity"{prune} }}{more}
]
"""


@pytest.fixture
def columns() -> int:
    return 200


def write_study(
    data: str = "digits",
    data_options: str = "",
    network: str = "mlp",
    levels: str = "0.5",
    train: str = "",
    prune: str = "",
    more: str = "",
) -> str:
    text = STUDY.format(
        data=data,
        data_options=data_options,
        network=network,
        levels=levels,
        train=train,
        prune=prune,
        more=more,
    )
    Path("mine.toml").write_text(text)
    return "mine.toml"


def write_npz(**changes: np.ndarray | None) -> None:
    draws = np.random.default_rng(0)
    arrays: dict[str, np.ndarray | None] = {
        "x_train": draws.random((40, 6), dtype=np.float32),
        "y_train": np.arange(40) % 2,
        "x_test": draws.random((10, 6), dtype=np.float32),
        "y_test": np.arange(10) % 2,
    }
    arrays |= changes
    present: dict[str, Any] = {name: a for name, a in arrays.items() if a is not None}
    np.savez("mine.npz", **present)


def write_mnist(root: Path, damage: Callable[[Path], None]) -> None:
    """Write 20 and 10 images as IDX files, then damage the folder."""
    folder = root / "mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        images = np.arange(count * 16, dtype=np.uint8).tobytes()
        header = struct.pack(">IIII", 0x803, count, 4, 4)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images))
        labels = (np.arange(count, dtype=np.uint8) % 10).tobytes()
        header = struct.pack(">II", 0x801, count)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels))
    damage(folder)


def truncate(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5]))


def cut_gzip(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])


def lengthen(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\0\0"))


def empty(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")


def swap(folder: Path) -> None:
    shutil.copy(folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")


def too_large_label(folder: Path) -> None:
    path = folder / "t10k-labels-idx1-ubyte.gz"
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[:-1] + b"\x0b"))


def other_count(folder: Path) -> None:
    shutil.copy(folder / "t10k-labels-idx1-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")


def lost(folder: Path) -> None:
    (folder / "t10k-images-idx3-ubyte.gz").unlink()


def test_studies_are_listed_one_a_line(gossamer: Gossamer) -> None:
    seen = gossamer("studies")
    assert seen.code == 0
    names = [line.split()[0] for line in seen.out.splitlines() if not line.startswith(" ")]
    assert names == [
        "demo",
        "dense-sparse-dense",
        "mask-transfer",
        "method-zoo",
        "random-sparse-layers",
        "sparsity-leakage",
        "weight-vs-unit",
    ]


def test_a_study_can_be_copied_and_its_schema_printed(gossamer: Gossamer) -> None:
    file = Path("copied.toml")
    file.write_text(gossamer("studies", "--show", "demo").out)
    assert "190 trials" in gossamer("run", str(file), "--dry-run").out
    schema = json.loads(gossamer("studies", "--schema").out)
    assert "Transfer" in schema["$defs"]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["report", "--help"]])
def test_help_has_an_example(gossamer: Gossamer, arguments: list[str]) -> None:
    seen = gossamer(*arguments)
    assert seen.code == 0
    assert "gossamer " in seen.out.split("Usage", 1)[1].replace("Usage: gossamer", "")


def test_a_run_ends_with_the_path_of_its_report_and_the_second_one_does_nothing(
    gossamer: Gossamer,
) -> None:
    first = gossamer("run", write_study(), "--out", "out")
    assert first.code == 0
    assert Path(first.out.strip()) == Path("out/report.html").resolve()
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.html")}
    second = gossamer("run", "mine.toml", "--out", "out")
    assert second.code == 0
    assert second.out == first.out
    assert "Nothing left to do: all 2 trials are done." in second.err
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.html")} == before
    again = gossamer("report", "out")
    assert again.code == 0
    assert Path("out/results.csv").read_text().count("\n") == 3


def test_a_dry_run_prints_the_plan_and_writes_nothing(gossamer: Gossamer) -> None:
    seen = gossamer("run", write_study(), "--out", "out", "--dry-run", "--seeds", "4")
    assert seen.code == 0
    assert "Shared: 48 optimizer steps instead of 96, a factor of 2.0." in seen.out
    assert "Left: 4 trainings" in seen.out
    assert "8 trials to measure, about" in seen.out
    assert not Path("out").exists()


def test_tensorboard_gets_losses_graph_and_weights(gossamer: Gossamer) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = gossamer("run", write_study(), "--out", "out", "--tensorboard", "board")
    assert seen.code == 0, seen.err
    run = EventAccumulator("board/dense/0/seed-0/training-1").Reload()
    assert set(run.Tags()["scalars"]) == {"train_loss", "train_accuracy", "rate"}
    assert "dense1.weight" in run.Tags()["histograms"]
    assert EventAccumulator("board/graph").Reload().Tags()["graph"]


NETWORKS = """
import torch
from torch import nn

class Tutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(6 * 4 * 4, 10)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv2(torch.relu(self.conv1(x)))))
        return self.fc(self.drop(x.view(x.size(0), -1)))

class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 12, batch_first=True)
        self.fc = nn.Linear(12, 10)

    def forward(self, x):
        rows = x.squeeze(1)
        _, last = self.gru(rows, torch.zeros(1, len(rows), 12))
        return self.fc(last[0])

class Drifting(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.register_buffer("gain", torch.ones(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.gain += 0.1
        return self.fc(x.flatten(1)) * self.gain
"""


DROPPING = """

class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 30)
        self.fc = nn.Linear(30, 10)

    def forward(self, x):
        return self.fc(nn.functional.dropout(torch.relu(self.hidden(x.flatten(1)))))
"""


@pytest.fixture
def own_networks(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "own_networks.py").write_text(NETWORKS + DROPPING)
    yield
    sys.modules.pop("own_networks", None)


@pytest.mark.slow
@pytest.mark.usefixtures("own_networks")
def test_a_tutorials_network_runs_with_its_view_after_a_convolution(gossamer: Gossamer) -> None:
    seen = gossamer("run", write_study(network="own_networks:Tutorial"), "--out", "out")
    assert seen.code == 0, seen.err
    with Path("out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["sparsity"]) for row in rows] == pytest.approx([0, 0.5], abs=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("own_networks")
def test_a_network_whose_connectivity_is_unknown_is_measured_all_the_same(
    gossamer: Gossamer,
) -> None:
    seen = gossamer("run", write_study(network="own_networks:Recurrent"), "--out", "out")
    assert seen.code == 0, seen.err
    with Path("out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["test_accuracy"]) > 0 for row in rows)
    assert "effective_sparsity" not in rows[0]


@pytest.mark.usefixtures("own_networks")
def test_a_network_that_always_drops_out_is_told_of_and_no_connectivity_is_recorded(
    gossamer: Gossamer,
) -> None:
    with pytest.warns(
        RuntimeWarning, match=r"own_networks:Dropping gives different answers"
    ) as told:
        seen = gossamer("run", write_study(network="own_networks:Dropping"), "--out", "out")
    assert seen.code == 0, seen.err
    assert len(told) == 1
    with Path("out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["sparsity"]) for row in rows] == pytest.approx([0, 0.5], abs=1e-3)
    assert "effective_sparsity" not in rows[0]


@pytest.mark.usefixtures("own_networks")
def test_a_buffer_that_no_state_would_hold_is_refused(gossamer: Gossamer) -> None:
    seen = gossamer("run", write_study(network="own_networks:Drifting"), "--out", "out")
    assert seen.code == 1
    assert "'gain', which is not persistent" in seen.err


def test_a_layer_that_is_not_there_is_refused_before_anything_is_trained(
    gossamer: Gossamer,
) -> None:
    study = write_study(prune=', exclude = ["denze*"]')
    for options in ([], ["--dry-run"]):
        seen = gossamer("run", study, "--out", "out", *options)
        assert seen.code == 2
        assert "arm pruned, prune: exclude='denze*' matches no" in seen.err
    assert not list(Path("out/states").iterdir())


def test_brackets_in_a_title_are_printed_as_they_are(gossamer: Gossamer) -> None:
    path = Path(write_study())
    path.write_text(path.read_text().replace('title = "Mine"', 'title = "A [/b] and [x]"'))
    assert "A [/b] and [x]" in gossamer("run", str(path), "--dry-run").out


def test_a_study_file_may_begin_with_a_byte_order_mark_and_name_data_beside_it(
    gossamer: Gossamer,
) -> None:
    write_npz()
    text = Path(write_study(data="mine.npz")).read_text()
    Path("sub").mkdir()
    Path("mine.npz").rename("sub/mine.npz")
    Path("sub/mine.toml").write_text("\ufeff" + text, encoding="utf-8")
    assert gossamer("run", "sub/mine.toml", "--out", "out").code == 0


def test_a_report_that_was_deleted_is_written_again(gossamer: Gossamer) -> None:
    gossamer("run", write_study(), "--out", "out")
    Path("out/report.html").unlink()
    assert gossamer("run", "mine.toml", "--out", "out").code == 0
    assert Path("out/report.html").is_file()


BAD_STUDIES: dict[str, tuple[Callable[[], str], str]] = {
    "sparsity above one": (lambda: write_study(levels="1.5"), "grid.sparsity.1: must be at most 1"),
    "sparsity as text": (lambda: write_study(levels='"half"'), "grid.sparsity.1: must be a number"),
    "no levels": (lambda: write_study(levels=""), "grid.sparsity"),
    "unknown field": (lambda: write_study(prune=", amount = 3"), "amount: there is no such key"),
    "unknown score": (lambda: write_study(prune=', score = "luck"'), "score"),
    "unknown optimizer": (lambda: write_study(train=', optimizer = { name = "lion" }'), "lion"),
    "rate of zero": (
        lambda: write_study(train=', optimizer = { name = "sgd", rate = 0 }'),
        "greater than 0",
    ),
    "early stop without validation": (
        lambda: write_study(train=", early_stop = { patience = 2 }"),
        "no part of the data is held out",
    ),
    "rewind to the future": (
        lambda: write_study(more=', { step = "rewind", to = 9 }'),
        "goes back to after step 9",
    ),
    "optimizer state that is not there": (
        lambda: write_study(
            more=', { step = "train", epochs = 1, optimizer_state = "keep", '
            'optimizer = { name = "sgd" } }'
        ),
        "keeps the optimizer's state",
    ),
    "unknown dataset": (lambda: write_study(data="mnits"), "did you mean mnist"),
    "unknown network": (lambda: write_study(network="mpl"), "did you mean 'mlp'"),
    "network module that is not there": (lambda: write_study(network="nowhere:make"), "nowhere"),
    "images too small for the network": (lambda: write_study(network="fashion-cnn"), "8"),
    "validation of everything": (lambda: write_study(data_options="validation = 1"), "validation"),
    "no such npz": (lambda: write_study(data="none.npz"), "none.npz"),
}


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_a_bad_study_is_told_of_and_leaves_nothing(gossamer: Gossamer, case: str) -> None:
    write, message = BAD_STUDIES[case]
    seen = gossamer("run", write(), "--out", "out")
    assert seen.code == 2
    first, *others = seen.err.strip().splitlines()
    assert first.startswith("gossamer: the study mine.toml")
    assert all(line.startswith("  line ") for line in others)  # a sentence for each arm
    assert message in seen.err
    assert not Path("out").exists()


BAD_ARRAYS: dict[str, tuple[dict[str, np.ndarray | None], str]] = {
    "nan": ({"x_train": np.full((40, 6), np.nan, np.float32)}, "x_train"),
    "missing array": ({"y_test": None}, "y_test"),
    "labels too few": ({"y_train": np.arange(39) % 2}, "y_train"),
    "negative label": ({"y_test": np.arange(10) % 2 - 1}, "y_test"),
    "one class": ({"y_train": np.zeros(40, int), "y_test": np.zeros(10, int)}, "class"),
    "shapes disagree": ({"x_test": np.zeros((10, 7), np.float32)}, "x_test"),
    "empty": ({"x_train": np.zeros((0, 6), np.float32), "y_train": np.zeros(0, int)}, "x_train"),
    "text": ({"x_train": np.full((40, 6), "a")}, "x_train"),
    "objects": ({"x_train": np.array([{}] * 40, dtype=object)}, "x_train"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_one_sentence(gossamer: Gossamer, case: str) -> None:
    changes, message = BAD_ARRAYS[case]
    write_npz(**changes)
    assert_one_sentence(gossamer("run", write_study(data="mine.npz"), "--out", "out"), message)


def test_good_arrays_run(gossamer: Gossamer) -> None:
    write_npz()
    assert gossamer("run", write_study(data="mine.npz"), "--out", "out").code == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "train-images"),
        (cut_gzip, "train-images"),
        (lengthen, "train-images"),
        (empty, "t10k-labels"),
        (swap, "train-labels"),
        (too_large_label, "11"),
        (other_count, "train-labels"),
        (lost, "t10k-images"),
    ],
)
def test_damaged_idx_files_are_one_sentence(
    gossamer: Gossamer, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    write_mnist(tmp_path / "data", damage)
    seen = gossamer("run", write_study(data="mnist"), "--data", "data", "--out", "out")
    assert_one_sentence(seen, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "choose one of demo"),
        (["run", "gone.toml"], "gone.toml cannot be read"),
        (["run", "demo", "--data", "nowhere", "--out", "file"], "cannot be written"),
        (["run", "demo", "--out", "/proc/nowhere"], "cannot be written"),
        (["run", "demo", "--device", "cuda"], "no such device"),
        (["run", "demo", "--scale", "huge"], "huge"),
        (["run", "demo", "--seeds", "0"], "--seeds"),
        (["run", "demo", "--jobs", "-1"], "--jobs"),
        (["run", "weight-vs-unit", "--data", "nowhere"], "nowhere: no such folder"),
        (["report", "nowhere"], "holds no results"),
        (["report", "damaged"], "is no database, or nothing in it is whole: move it away"),
        (["report", "bare"], "holds no study yet"),
        (["dance"], "dance"),
    ],
)
def test_bad_arguments_are_refused(
    gossamer: Gossamer, tmp_path: Path, arguments: list[str], message: str
) -> None:
    from gossamer.records.store import Store

    (tmp_path / "file").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "store.sqlite").write_bytes(b"no database at all" * 100)
    Store.create(tmp_path / "bare").close()
    seen = gossamer(*arguments)
    assert seen.code == 2
    assert message in seen.err
    assert "Traceback" not in seen.err


def assert_one_sentence(seen: Outcome, message: str) -> None:
    assert seen.code == 2
    lines = seen.err.strip().splitlines()
    assert len(lines) == 1, seen.err
    assert lines[0].startswith("gossamer: ")
    assert message in lines[0]
    assert "Traceback" not in seen.err
