import errno
import multiprocessing
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from gossamer.core.errors import GossamerError, InputError, StoreError
from gossamer.records.store import Store, checkpoint_path, only_writer
from kept_values import phase, record, study


def sentence(action: Callable[[], object], kind: type[GossamerError] = StoreError) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_put_is_got_after_opening_again(tmp_path: Path) -> None:
    with Store.create(tmp_path / "a" / "b") as store:
        store.add_phase(phase("one"))
        store.add_record(record("two"))
    with Store.open(tmp_path / "a" / "b") as store:
        assert store.phases(["one", "absent"]) == {"one": phase("one")}
        assert store.records(["two", "one"]) == {"two": record("two")}
        assert store.done_records() == {"two"}


def test_creating_twice_keeps_what_is_there(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add_record(record("one"))
    with Store.create(tmp_path) as store:
        assert store.done_records() == {"one"}


def test_putting_again_replaces(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add_record(record("one", 0.1))
        store.add_record(record("one", 0.2))
        assert store.records(["one"])["one"].measures["test_accuracy"] == 0.2


def test_a_thousand_records_are_read_at_once(tmp_path: Path) -> None:
    keys = [f"{number:064d}" for number in range(1000)]
    with Store.create(tmp_path) as store:
        for number, key in enumerate(keys):
            store.add_record(record(key, number / 1000))
        found = store.records(keys)
    accuracies = [found[key].measures["test_accuracy"] for key in keys]
    assert accuracies == [number / 1000 for number in range(1000)]


def test_a_state_is_done_with_its_file_and_its_phase_only(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add_phase(phase("phase-only"))
        store.state_path("file-only").touch()
        store.add_phase(phase("both"))
        store.state_path("both").touch()
        checkpoint_path(tmp_path, "file-only").touch()
        (tmp_path / "states" / ".phase-only.safetensors.123.tmp").touch()
        assert store.done_states() == {"both"}


def test_a_checkpoint_goes_once_its_phase_is_kept(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        checkpoint_path(tmp_path, "one").touch()
        checkpoint_path(tmp_path, "other").touch()
        store.add_phase(phase("one"))
        assert not checkpoint_path(tmp_path, "one").exists()
        assert checkpoint_path(tmp_path, "other").exists()


def test_what_a_crash_left_half_written_is_swept(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        (tmp_path / "states" / ".one.safetensors.123.tmp").touch()
        store.state_path("one").touch()
        store.sweep()
        assert list((tmp_path / "states").iterdir()) == [store.state_path("one")]


def test_an_empty_file_that_a_crash_left_is_no_store_and_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").touch()
    assert not Store.is_there(tmp_path)
    Store.create(tmp_path).close()
    assert Store.is_there(tmp_path)


def test_a_report_is_stale_once_something_was_added(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.save_study(study("first"))
        assert not store.is_reported(study("first"))
        store.mark_reported()
        assert store.is_reported(study("first"))
        assert not store.is_reported(study("second"))
        store.add_phase(phase("one"))
        assert not store.is_reported(study("first"))


def test_the_study_saved_last_is_the_latest(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        assert "no study" in sentence(store.latest_study)
        store.save_study(study("first"))
        store.save_study(study("second"))
        assert store.latest_study().name == "second"
        store.save_study(study("first"))
        assert store.latest_study().name == "first"
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database, database:
        assert database.execute("SELECT count(*) FROM studies").fetchone() == (2,)
    database.close()


def test_a_study_is_reported_until_it_is_asked_for_again(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        assert not store.is_reported(study("first"))
        store.save_study(study("first"))
        assert not store.is_reported(study("first"))
        store.mark_reported()
        assert store.is_reported(study("first"))
        assert store.is_reported(study("first", command="another command line"))
        assert not store.is_reported(study("second"))
        store.save_study(study("first"))
        assert not store.is_reported(study("first"))


def test_a_study_that_cannot_be_saved_leaves_the_store_usable(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.save_study(study("first"))
        refuse = (
            "CREATE TRIGGER full BEFORE INSERT ON studies BEGIN SELECT RAISE(FAIL, 'full'); END"
        )
        store._database.connection.execute(refuse)
        assert "full" in sentence(lambda: store.save_study(study("first")))
        assert store.latest_study().name == "first"
        store._database.connection.execute("DROP TRIGGER full")
        store.save_study(study("second"))
        assert store.latest_study().name == "second"


@pytest.mark.parametrize("content", [b"no database at all " * 50, b"SQLite format 3\0" + b"x" * 99])
@pytest.mark.parametrize("make", [Store.create, Store.open])
def test_a_file_that_is_no_database_is_refused_and_stays(
    tmp_path: Path, content: bytes, make: Callable[[Path], Store]
) -> None:
    (tmp_path / "store.sqlite").write_bytes(content)
    assert str(tmp_path / "store.sqlite") in sentence(lambda: make(tmp_path))
    assert (tmp_path / "store.sqlite").read_bytes() == content


def test_a_store_of_which_nothing_is_whole_gives_a_sentence_and_stays(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        for number in range(100):
            store.add_record(record(f"{number:064d}"))
    file = tmp_path / "store.sqlite"
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    assert f"{file} is no database, or nothing" in sentence(lambda: Store.create(tmp_path))
    assert file.read_bytes() == content


@pytest.mark.parametrize("make", [Store.create, Store.open])
def test_another_layout_is_refused(tmp_path: Path, make: Callable[[Path], Store]) -> None:
    Store.create(tmp_path).close()
    database = sqlite3.connect(tmp_path / "store.sqlite")
    database.execute("PRAGMA user_version=99")
    database.execute("CREATE TABLE invented_later (key TEXT)")
    database.close()
    assert "layout 99" in sentence(lambda: make(tmp_path))


@pytest.mark.parametrize("make", [Store.create, Store.open])
def test_another_programs_database_is_refused_and_stays(
    tmp_path: Path, make: Callable[[Path], Store]
) -> None:
    database = sqlite3.connect(tmp_path / "store.sqlite")
    database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    before = (tmp_path / "store.sqlite").read_bytes()
    assert "another folder" in sentence(lambda: make(tmp_path))
    assert (tmp_path / "store.sqlite").read_bytes() == before


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    assert not Store.is_there(tmp_path)
    assert "holds no results" in sentence(lambda: Store.open(tmp_path))
    assert "holds no results" in sentence(lambda: Store.open(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in sentence(lambda: Store.create(tmp_path / "file"))
    assert "holds no results" in sentence(lambda: Store.open(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    message = sentence(lambda: Store.create(tmp_path))
    assert message == (
        f"the folder {tmp_path} cannot be written (permission denied): make it writable, or choose "
        "another one"
    )


def test_a_closed_store_is_a_sentence(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.close()
    assert "store.sqlite" in sentence(store.done_records)


def test_a_reader_sees_whole_records_while_another_process_writes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started, enough = context.Event(), context.Event()
    Store.create(tmp_path).close()
    writer = context.Process(target=_write_until, args=(tmp_path, started, enough))
    writer.start()
    try:
        assert started.wait(20)
        with Store.open(tmp_path) as store:
            counts: list[int] = []
            while not counts or counts[-1] < counts[0] + 20:
                keys = store.done_records()
                assert store.records(sorted(keys)).keys() == keys
                counts.append(len(keys))
            assert counts == sorted(counts)
    finally:
        enough.set()
        writer.join()
    assert writer.exitcode == 0


def _write_until(folder: Path, started: Event, enough: Event) -> None:
    with Store.create(folder) as store:
        number = 0
        while not enough.is_set() and number < 100_000:
            store.add_record(record(f"{number:064d}"))
            number += 1
            started.set()


def test_only_one_process_writes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gossamer.records.store import only_writer\n"
        "from gossamer.core.errors import InputError\n"
        "try:\n"
        "    with only_writer(Path(sys.argv[1])): print('writes')\n"
        "except InputError as error: print(error)"
    )

    def attempt() -> str:
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with only_writer(tmp_path):
        assert attempt().startswith(f"another gossamer run is at work in {tmp_path}")
        second = sentence(only_writer(tmp_path).__enter__, InputError)
        assert "at work" in second
    assert attempt() == "writes"


def test_a_lock_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = sentence(only_writer(tmp_path / "file").__enter__)
    assert "cannot be written" in message


def test_a_store_is_read_where_there_is_no_room_for_the_files_of_readers(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add_phase(phase("a"))
    (tmp_path / "store.sqlite-shm").mkdir()  # SQLite cannot make it, as on a full disk
    with Store.open(tmp_path) as store:
        assert store.phases(["a"]) == {"a": phase("a")}
        assert "cannot be written" in sentence(lambda: store.add_phase(phase("b")))


def test_what_a_killed_run_left_in_its_journal_is_read_on_a_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killed").mkdir()
    with Store.create(tmp_path / "at work") as store:
        store.add_phase(phase("a"))
        for name in ("store.sqlite", "store.sqlite-wal"):
            shutil.copy(tmp_path / "at work" / name, tmp_path / "killed")
    assert (tmp_path / "killed" / "store.sqlite-wal").stat().st_size
    before = {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}
    monkeypatch.setattr("gossamer.records.layout._can_be_read", lambda connection: False)  # noqa: ARG005
    with Store.open(tmp_path / "killed") as store:
        assert store.phases(["a"]) == {"a": phase("a")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()} == before


def test_a_path_too_long_for_sqlite_is_called_that(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d" * 100] * 5)
    folder.mkdir(parents=True)
    said = sentence(lambda: Store.create(folder))
    length = len(str(folder / "store.sqlite"))
    assert said.endswith(
        f"store.sqlite has {length} bytes, and SQLite opens no file of more than about 500: choose "
        "a folder with a shorter path"
    )


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_locks_is_written_nevertheless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with only_writer(tmp_path), Store.create(tmp_path) as store:
        store.add_record(record("one"))
        assert store.done_records() == {"one"}


def test_a_lock_that_finds_no_room_says_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # Python ignores the signal of it
    try:
        with only_writer(tmp_path) as was_killed:
            assert not was_killed
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "lock").read_bytes() == b""


def test_what_a_killed_report_left_half_written_is_swept(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        (tmp_path / "figures").mkdir()
        for name in (".report.html.12.tmp", "figures/.claims.svg.12.tmp"):
            (tmp_path / name).touch()
        (tmp_path / "report.html").touch()
        store.sweep()
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"report.html", "store.sqlite"}
