"""`gossamer store`: folders looked into, checked, repaired, exported and merged."""

import csv
import io
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from gossamer.leakage import statistics
from gossamer.recipes.state import State, load_state, save_state
from gossamer.recipes.statistics_files import write_statistics
from gossamer.records.record import TrialLabel
from gossamer.records.store import Store, checkpoint_path, state_path, statistics_path
from kept_values import phase, record, study
from running_commands import Gossamer

KEYS = [f"{number:x}" * 64 for number in range(6)]


def label(key: str, seed: int) -> TrialLabel:
    return TrialLabel(arm="dense", seed=seed, level=0, key=key, phases=(key,), optimizer_steps=3)


def fill(folder: Path, keys: list[str], accuracy: Callable[[int], float] = float) -> None:
    """Keep records, trainings, states and statistics of some keys of a study of all."""
    with Store.create(folder) as store:
        for number, key in enumerate(KEYS):
            if key in keys:
                store.add_record(record(key, accuracy(number) / 10))
                save_state(state_path(folder, key), State({"w": torch.full((2,), number + 0.5)}))
                store.add_phase(phase(key))
                draw = np.random.default_rng(number)
                found = statistics(draw.normal(size=(5, 3)), draw.integers(0, 3, 5))
                write_statistics(statistics_path(folder, key), found)
        trials = tuple(label(key, seed) for seed, key in enumerate(KEYS))
        store.save_study(study("small").model_copy(update={"trials": trials}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill(tmp_path / "runs" / "mine", KEYS[:4])
    return tmp_path / "runs" / "mine"


def contents(folder: Path) -> tuple[object, ...]:
    with Store.open(folder) as store:
        return (
            store.records(KEYS),
            store.phases(KEYS),
            store.studies(),
            store.done_states(),
            store.kept_statistics(),
        )


def test_list_and_show_tell_what_there_is(gossamer: Gossamer, folder: Path) -> None:
    seen = gossamer("store", "list")
    assert seen.code == 0
    assert "4 of 6" in seen.out
    seen = gossamer("store", "show", "runs/mine")
    assert "trained states        4 files" in seen.out
    assert "small, quick scale: 4 of 6 trials done" in seen.out
    seen = gossamer("store", "show", "runs/mine", "2222")
    assert json.loads(seen.out[: seen.out.index("needed by")])["key"] == KEYS[2]
    assert "needed by small: dense, sparsity 0, seed 2" in seen.out
    assert (
        "0 keys of runs/mine begin so, expected one"
        in gossamer("store", "show", "runs/mine", "zz").err
    )
    assert "holds no results" in gossamer("store", "list", "elsewhere").err


def test_a_folder_that_cannot_be_read_does_not_keep_the_others_from_being_listed(
    gossamer: Gossamer, folder: Path
) -> None:
    strange = folder.with_name("strange")
    strange.mkdir()
    with closing(sqlite3.connect(strange / "store.sqlite")) as database, database:
        database.execute("CREATE TABLE own (number)")
    database.close()
    seen = gossamer("store", "list")
    assert seen.code == 0
    assert "4 of 6" in seen.out
    assert "Left out: runs/strange/store.sqlite is another program's database" in seen.err
    assert gossamer("store", "list", "runs/strange").code == 2


def test_verify_names_what_is_damaged_and_repair_sets_it_aside(
    gossamer: Gossamer, folder: Path
) -> None:
    assert "17 rows and files are what was written" in gossamer("store", "verify", "runs/mine").out
    state = state_path(folder, KEYS[1])
    content = bytearray(state.read_bytes())
    content[-2] ^= 4
    state.write_bytes(content)
    one, other = (statistics_path(folder, key) for key in KEYS[2:4])
    one.write_bytes(other.read_bytes())
    with Store.create(folder) as store:
        store._database.write("UPDATE records SET json = replace(json, '0.3', '0.8')")
    seen = gossamer("store", "verify", "runs/mine")
    assert seen.code == 1
    for path in (state, one):
        assert f"damaged: {path.relative_to(folder.parents[1])}" in seen.out
    assert "left out: 1 record;" in seen.out
    assert "`gossamer store repair runs/mine` sets it aside" in seen.out
    assert state.read_bytes() == content
    seen = gossamer("store", "repair", "runs/mine")
    assert seen.code == 0
    assert not state.exists()
    assert not one.exists()
    names = sorted(path.name for path in (folder / "damaged").iterdir())
    assert names == ["records.jsonl", f"states-{state.name}", f"statistics-{one.name}"]
    assert gossamer("store", "verify", "runs/mine").code == 0
    with Store.open(folder) as store:
        assert store.done_records() == {KEYS[0], KEYS[1], KEYS[2]}


def test_repair_binds_states_of_before_to_their_names(
    gossamer: Gossamer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = statistics_path(folder, KEYS[0])
    from safetensors.numpy import load_file, save_file

    numbers = load_file(path)
    save_file(numbers, path)
    assert "1 file from before checksums" in gossamer("store", "verify", "runs/mine").out
    gossamer("store", "repair", "runs/mine")
    assert "before checksums" not in gossamer("store", "verify", "runs/mine").out
    for name, value in load_file(path).items():
        assert np.array_equal(value, numbers[name])


def test_prune_deletes_what_no_study_needs_and_only_when_told(
    gossamer: Gossamer, folder: Path
) -> None:
    idle = state_path(folder, "f" * 64)
    save_state(idle, State({"w": torch.ones(100)}))
    checkpoint_path(folder, KEYS[0]).write_bytes(b"left over")
    needed = {path for path in (folder / "states").glob("*.safetensors") if path != idle}
    seen = gossamer("store", "prune", "runs/mine")
    assert "No study needs 2 files of" in seen.out
    assert idle.exists()
    assert "2 files deleted" in gossamer("store", "prune", "runs/mine", "--delete").out
    assert set((folder / "states").iterdir()) == needed
    assert "A study needs every file" in gossamer("store", "prune", "runs/mine").out


@pytest.fixture
def elsewhere(folder: Path, tmp_path: Path) -> Path:
    """The states and statistics of the folder, moved to an address."""
    pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")
    there = tmp_path / "there"
    with Store.create(folder) as store:
        store.keep_states_at(there.as_uri())
    for part in ("states", "statistics"):
        for path in (folder / part).iterdir():
            path.replace(there / part / path.name)
    return there


def test_states_at_an_address_are_counted_checked_and_repaired(
    gossamer: Gossamer, folder: Path, elsewhere: Path, tmp_path: Path
) -> None:
    shown = " ".join(gossamer("store", "show", str(folder)).out.split())
    assert "trained states elsewhere 4 files" in shown
    assert f"elsewhere: {elsewhere.as_uri()} " in shown
    assert gossamer("store", "verify", str(folder)).out.startswith("17 rows and files are what")
    damaged = state_path(elsewhere, KEYS[0])
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    found = gossamer("store", "verify", str(folder))
    assert found.code == 1
    assert f"damaged at the address of the states: states/{damaged.name}" in found.out
    assert gossamer("store", "repair", str(folder)).code == 0
    assert not damaged.exists()
    assert (folder / "damaged" / f"states-{damaged.name}").read_bytes() == content
    with Store.open(folder) as store:
        assert store.done_states() == set(KEYS[1:4])
    assert gossamer("store", "verify", str(folder)).code == 0
    merged = gossamer("store", "merge", str(tmp_path / "runs" / "mine"), str(folder))
    assert "stay there" not in merged.err + merged.out  # the two have one address
    fill(tmp_path / "other", KEYS[4:])
    merged = gossamer("store", "merge", str(tmp_path / "other"), str(folder))
    assert f"statistics of {folder} at {elsewhere.as_uri()} stay there." in merged.err + merged.out


def test_prune_deletes_what_no_study_needs_at_an_address_too(
    gossamer: Gossamer, folder: Path, elsewhere: Path
) -> None:
    idle = checkpoint_path(elsewhere, "f" * 64)
    idle.write_bytes(bytes(1000))
    assert "No study needs 1 file of 1.00 kB" in gossamer("store", "prune", str(folder)).out
    found = gossamer("store", "prune", str(folder), "--delete")
    assert found.out == "1 file deleted, 1.00 kB.\n"
    assert not idle.exists()
    assert len(list((elsewhere / "states").iterdir())) == 4


def test_a_damaged_state_of_an_address_is_not_brought_back(folder: Path, elsewhere: Path) -> None:
    state_path(elsewhere, KEYS[0]).write_bytes(b"damaged")
    with Store.create(folder) as store:
        for key, whole in ((KEYS[0], False), (KEYS[1], True)):
            store.fetch("states", {key})
            state_path(folder, key).write_bytes(b"damaged")
            store.set_aside(state_path(folder, key))
            assert state_path(elsewhere, key).exists() == whole
            assert not state_path(folder, key).exists()
        assert store.done_states() == set(KEYS[1:4])


def test_export_writes_the_table_of_the_study(gossamer: Gossamer, folder: Path) -> None:
    assert gossamer("store", "export", "runs/mine", "x.csv").code == 0
    rows = list(csv.DictReader(io.StringIO(Path("x.csv").read_text())))
    assert [row["seed"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [row["test_accuracy"] for row in rows] == ["0.0", "0.1", "0.2", "0.3", "", ""]
    seen = gossamer("store", "export", "runs/mine", "x.xlsx")
    assert (seen.code, "ends in .csv, .parquet or .jsonl" in seen.err) == (2, True)


def test_export_as_parquet_has_the_same_numbers(gossamer: Gossamer, folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    gossamer("store", "export", "runs/mine", "x.parquet")
    table = parquet.read_table("x.parquet").to_pydict()
    assert table["test_accuracy"] == [0.0, 0.1, 0.2, 0.3, None, None]
    assert table["seed"] == list(range(6))


def test_without_pyarrow_one_sentence_says_what_to_install(
    gossamer: Gossamer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    seen = gossamer("store", "export", "runs/mine", "x.parquet")
    assert seen.code == 2
    assert "Parquet needs pyarrow, which is not installed: " in seen.err
    assert "parquet]" in seen.err


@pytest.mark.parametrize("as_text", [True, False])
def test_two_halves_make_the_whole(gossamer: Gossamer, folder: Path, as_text: bool) -> None:
    root = folder.parent
    fill(root / "half", KEYS[3:])
    fill(root / "whole", KEYS)
    source = "runs/half"
    if as_text:
        gossamer("store", "export", source, "half.jsonl")
        source = "half.jsonl"
    seen = gossamer("store", "merge", "runs/mine", source)
    assert seen.code == 0
    assert "2 trainings, 2 records" in seen.out
    records, phases, studies, states, kept = contents(root / "whole")
    if as_text:
        assert contents(folder)[:3] == (records, phases, studies)
    else:
        assert contents(folder) == (records, phases, studies, states, kept)
        assert "2 states, 2 statistics taken" in seen.out
        loaded = load_state(state_path(folder, KEYS[5]))[0]
        assert torch.equal(loaded.network["w"], torch.full((2,), 5.5))
    assert "nothing taken" in gossamer("store", "merge", "runs/mine", source).out


def test_other_numbers_of_one_key_are_refused_or_kept_by_choice(
    gossamer: Gossamer, folder: Path
) -> None:
    fill(folder.parent / "other", KEYS[2:5], accuracy=lambda number: number + 1)
    before = contents(folder)
    seen = gossamer("store", "merge", "runs/mine", "runs/other")
    assert seen.code == 2
    assert "2 values of the same key differ, so nothing was merged" in seen.err
    assert f"record {KEYS[2][:12]}: test_accuracy is 0.2 here and 0.3 there" in seen.err
    assert contents(folder) == before
    seen = gossamer("store", "merge", "runs/mine", "runs/other", "--keep", "mine")
    assert seen.code == 0
    assert "kept: mine" in seen.out
    with Store.open(folder) as store:
        found = {key: one.measures["test_accuracy"] for key, one in store.records(KEYS).items()}
    assert found == dict(zip(KEYS, (0.0, 0.1, 0.2, 0.3, 0.5), strict=False))
    assert gossamer("store", "merge", "runs/mine", "runs/other", "--keep", "theirs").code == 0
    with Store.open(folder) as store:
        found = {key: one.measures["test_accuracy"] for key, one in store.records(KEYS).items()}
    assert found == dict(zip(KEYS, (0.0, 0.1, 0.3, 0.4, 0.5), strict=False))


def test_a_line_that_was_changed_is_left_out_and_named(gossamer: Gossamer, folder: Path) -> None:
    gossamer("store", "export", "runs/mine", "x.jsonl")
    lines = Path("x.jsonl").read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if KEYS[3] in line and '"records"' in line)
    lines[number] = lines[number].replace('"test_accuracy":0.3', '"test_accuracy":0.9')
    Path("x.jsonl").write_text("\n".join(lines))
    seen = gossamer("store", "merge", "runs/new", "x.jsonl")
    assert f"left out: line {number + 1}." in seen.err
    with Store.open(folder.parent / "new") as store:
        assert store.done_records() == set(KEYS[:3])
    Path("x.jsonl").write_text("hello")
    seen = gossamer("store", "merge", "runs/new", "x.jsonl")
    assert "expected a file that `gossamer store export` wrote" in seen.err


def test_a_damaged_state_of_another_folder_is_not_taken(gossamer: Gossamer, folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "other")
    path = state_path(folder.parent / "other", KEYS[0])
    path.write_bytes(path.read_bytes()[:-1])
    seen = gossamer("store", "merge", "runs/new", "runs/other")
    assert "Damaged, and so left out: runs/other/states/" in seen.err
    with Store.open(folder.parent / "new") as store:
        assert store.done_states() == set(KEYS[1:4])
