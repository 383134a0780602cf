"""Damage to a store's database: never believed, never in the way of the rest, always told."""

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gossamer.records.record import Record
from gossamer.records.salvage import salvage
from gossamer.records.store import Store
from kept_values import phase, record, study

KEYS = [f"{number:064x}" for number in range(40)]


def long(key: str, accuracy: float) -> Record:
    """Return a record that takes more than a page."""
    names = {f"measure_{number}": accuracy + number for number in range(400)}
    return record(key, accuracy).model_copy(update={"measures": names})


def records() -> dict[str, Record]:
    return {
        key: (long if number % 5 == 0 else record)(key, number / 40)
        for number, key in enumerate(KEYS)
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with forty records, ten trainings and two studies."""
    folder = tmp_path_factory.mktemp("written")
    with Store.create(folder) as store:
        for one in records().values():
            store.add_record(one)
        for key in KEYS[:10]:
            store.add_phase(phase(key))
        store.save_study(study("first"))
        store.save_study(study("second"))
        store.mark_reported()
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_record_that_was_changed_is_set_aside_and_told(copy: Path) -> None:
    with closing(sqlite3.connect(copy / "store.sqlite")) as database, database:
        database.execute(
            "UPDATE records SET json = replace(json, '0.075', '0.975') WHERE key = ?", (KEYS[3],)
        )
    database.close()
    with Store.open(copy) as store:
        assert store.records(KEYS).keys() == set(KEYS) - {KEYS[3]}
        (told,) = store.told()
        assert "left out: 1 record; `gossamer run` makes again" in told
        assert store.told() == []
    with Store.create(copy) as store:
        assert store.done_records() == set(KEYS) - {KEYS[3]}
        (told,) = store.told()
        assert told == (
            f"Damaged in {copy / 'store.sqlite'}: 1 record, moved to {copy / 'damaged'} and made "
            "again where needed."
        )
    (line,) = (copy / "damaged" / "records.jsonl").read_text().splitlines()
    assert json.loads(line)[0] == KEYS[3]
    assert "0.975" in json.loads(line)[1]
    with Store.create(copy) as store:
        assert store.told() == []


def test_two_records_that_changed_places_are_both_set_aside(copy: Path) -> None:
    with closing(sqlite3.connect(copy / "store.sqlite")) as database, database:
        swap = "SELECT json, checksum FROM records WHERE key = ?"
        one, other = (database.execute(swap, (key,)).fetchone() for key in KEYS[1:3])
        for key, row in zip(KEYS[1:3], (other, one), strict=True):
            change = "UPDATE records SET json = ?, checksum = ? WHERE key = ?"
            database.execute(change, (*row, key))
    database.close()
    with Store.create(copy) as store:
        assert store.done_records() == set(KEYS) - set(KEYS[1:3])


def test_a_study_that_is_damaged_leaves_the_one_before_it(copy: Path) -> None:
    with closing(sqlite3.connect(copy / "store.sqlite")) as database, database:
        database.execute("UPDATE studies SET json = replace(json, 'second', 'secund')")
    database.close()
    with Store.open(copy) as store:
        assert store.latest_study().name == "first"
        assert "1 study file" in store.told()[0]


def test_a_report_counts_as_written_by_its_own_checksum_alone(copy: Path) -> None:
    with Store.open(copy) as store:
        assert store.is_reported(study("second"))
    with closing(sqlite3.connect(copy / "store.sqlite")) as database, database:
        database.execute("UPDATE studies SET reported = 1")
    database.close()
    with Store.open(copy) as store:
        assert not store.is_reported(study("second"))


def test_a_record_of_another_version_of_gossamer_is_made_again(copy: Path) -> None:
    with Store.create(copy) as store:
        store._database.put("records", KEYS[0], '{"key": 1}')
        assert KEYS[0] in store.done_records()
        assert store.records(KEYS).keys() == set(KEYS[1:])
        assert KEYS[0] not in store.done_records()
        assert "1 record" in store.told()[0]


def check(folder: Path) -> None:
    """What a store gives is what was written; what it does not give can be written again."""
    expected = records()
    with Store.open(folder) as store:
        done = store.done_records()
        found = store.records(KEYS)
        assert found.keys() == done
        assert all(expected[key] == one for key, one in found.items())
    with Store.create(folder) as store:
        assert store.done_records() == store.records(KEYS).keys()
        assert all(expected[key] == one for key, one in store.records(KEYS).items())
        assert all(phase(key) == one for key, one in store.phases(KEYS[:10]).items())
        for key in expected.keys() - store.done_records():
            store.add_record(expected[key])
        store.save_study(study("second"))
    with Store.open(folder) as store:
        assert store.records(KEYS) == expected
        assert store.latest_study() == study("second")
        assert store.told() == []


@pytest.mark.parametrize("seed", range(25))
def test_no_flipped_bit_is_believed_or_stands_in_the_way(copy: Path, seed: int) -> None:
    file = copy / "store.sqlite"
    content = bytearray(file.read_bytes())
    draw = random.Random(seed)
    position = draw.randrange(len(content)) if seed % 2 else draw.randrange(4096)
    content[position] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    check(copy)


@pytest.mark.parametrize("page", range(0, 24, 3))
def test_a_lost_page_costs_its_own_rows_alone(copy: Path, page: int) -> None:
    file = copy / "store.sqlite"
    content = bytearray(file.read_bytes())
    assert len(content) > 24 * 4096
    content[4096 * page : 4096 * (page + 1)] = bytes(4096)
    file.write_bytes(content)
    check(copy)
    assert len(salvage(file).rows["records"]) == len(KEYS)


@pytest.mark.parametrize("length", [100, 4096, 5000, 40_000])
def test_a_database_that_was_cut_is_no_dead_end(copy: Path, length: int) -> None:
    (copy / "states" / f"{KEYS[0]}.safetensors").touch()
    file = copy / "store.sqlite"
    file.write_bytes(file.read_bytes()[:length])
    check(copy)


@pytest.mark.parametrize("content", [b"", b"S"])  # either is an empty database to SQLite
def test_a_database_that_is_empty_is_told_of_where_there_are_states(
    copy: Path, content: bytes
) -> None:
    (copy / "states" / f"{KEYS[0]}.safetensors").touch()
    (copy / "store.sqlite").write_bytes(content)
    with Store.create(copy) as store:
        assert "holds nothing, though there are trained states" in store.told()[0]
        assert store.done_records() == set()


def test_every_row_is_salvaged_whatever_the_first_page_says(copy: Path) -> None:
    file = copy / "store.sqlite"
    file.write_bytes(bytes(4096) + file.read_bytes()[4096:])
    found = salvage(file)
    assert {key: len(found.rows[key]) for key in ("records", "phases")} == {
        "records": 40,
        "phases": 10,
    }
    assert sorted(found.studies) == [1, 2]
    with Store.create(file.parent) as store:
        assert store.records(KEYS) == records()
        assert store.latest_study() == study("second")
        assert "was damaged: 52 rows of it are whole and kept" in store.told()[0]
    assert (file.parent / "damaged" / f"{file.parent.name}-store.sqlite").is_file()


def test_rows_that_are_still_in_the_log_are_salvaged(tmp_path: Path) -> None:
    with Store.create(tmp_path / "whole") as store:
        for one in records().values():
            store.add_record(one)
        shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    assert (tmp_path / "killed" / "store.sqlite-wal").stat().st_size > 0
    assert salvage(tmp_path / "killed" / "store.sqlite").rows["records"].keys() == set(KEYS)


BEFORE = """
CREATE TABLE phases (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE studies (
    number INTEGER PRIMARY KEY, json TEXT NOT NULL, reported INTEGER NOT NULL DEFAULT 0
);
"""
JOINTS = "CREATE TABLE joints (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;"


@pytest.mark.parametrize("layout", [1, 2])
def test_a_store_of_before_is_read_as_it_is_and_upgraded_with_a_word(
    tmp_path: Path, layout: int
) -> None:
    database = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    tables = BEFORE + (JOINTS if layout == 2 else "")
    database.executescript(f"{tables} PRAGMA user_version={layout}; PRAGMA journal_mode=WAL;")
    text = record(KEYS[0]).model_dump_json()
    database.execute("INSERT INTO records VALUES (?, ?)", (KEYS[0], text))
    asked = study("first").model_dump_json()
    database.execute("INSERT INTO studies (json, reported) VALUES (?, 1)", (asked,))
    database.close()
    before = (tmp_path / "store.sqlite").read_bytes()
    with Store.open(tmp_path) as store:
        assert store.records(KEYS) == {KEYS[0]: record(KEYS[0])}
        assert store.is_reported(study("first"))
        assert store.told() == []
    assert (tmp_path / "store.sqlite").read_bytes() == before
    with Store.create(tmp_path) as store:
        (told,) = store.told()
        assert "is from before checksums: what it holds (1 record, 0 trainings, 0 joint" in told
        assert store.records(KEYS) == {KEYS[0]: record(KEYS[0])}
        assert store.is_reported(study("first"))
        store.add_record(record(KEYS[1]))
    with Store.create(tmp_path) as store:
        assert store.told() == []
        assert store.done_records() == set(KEYS[:2])
        store._database.connection.execute("UPDATE records SET json = replace(json, '0.9', '0.8')")
    with Store.create(tmp_path) as store:
        assert store.done_records() == set()
