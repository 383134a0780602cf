"""`gossamer store`: what a folder of results holds, whether it is whole, and moving it about."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from gossamer.commands.console import PatientConsole, echo
from gossamer.commands.ending import FAILED, say
from gossamer.core.errors import InputError, StoreError
from gossamer.core.formats import compact, counted
from gossamer.core.progress import followed

if TYPE_CHECKING:
    from gossamer.records.store import Store
    from gossamer.studies.inventory import Files, Verified

EPILOG = (
    "Exit codes: 0 done, 1 something is damaged, 2 wrong input, 130 interrupted.\n\n"
    "Examples:\n\n"
    "`gossamer store list`  \n"
    "`gossamer store show runs/demo`  \n"
    "`gossamer store verify runs/demo`  \n"
    "`gossamer store export runs/demo half.jsonl`  \n"
    "`gossamer store merge runs/demo half.jsonl`"
)
"""What follows the subcommands in the help."""

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="What `run --out` wrote.")]
_RUNS = Path("runs")
_SHOWN = 10


class Keep(StrEnum):
    """Whose numbers are kept where those of one key differ."""

    refuse = "refuse"
    mine = "mine"
    theirs = "theirs"


def store() -> None:
    """Look into folders of results, check and repair them, and move them between machines."""


def list_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of results, or one with several.")
    ] = _RUNS,
) -> None:
    """List folders of results: studies, trials done, and size.

    Example: `gossamer store list runs`
    """
    from gossamer.records.store import Store
    from gossamer.studies.inventory import stores_in

    table = Table(box=None, pad_edge=False)
    for header in ("Folder", "Study", "Scale"):
        table.add_column(header)
    for header in ("Trials done", "Size", "Not needed"):
        table.add_column(header, justify="right")
    for one in stores_in(folder):
        try:
            with Store.open(one) as opened:
                _list_store(table, opened)
                _tell(opened)
        except StoreError as error:  # one of several, that nobody asked for by its name
            if one == folder:
                raise
            say(f"Left out: {error}")
    if not table.row_count:
        raise InputError(f"{folder} holds no results: name a folder that `gossamer run` wrote")
    PatientConsole(highlight=False).print(table)


def _list_store(table: Table, store: "Store") -> None:
    """Add a row for each study of a folder."""
    from gossamer.studies.inventory import inventory

    seen, records = inventory(store), store.done_records()
    whole, idle = compact(seen.size, "B"), compact(seen.idle.size, "B")
    studies = store.studies()
    for number, study in enumerate(reversed(studies)):
        keys = {trial.key for trial in study.trials}
        done = f"{len(keys & records):,} of {len(keys):,}"
        name, sizes = (str(store.folder), (whole, idle)) if number == 0 else ("", ("", ""))
        table.add_row(name, study.name, study.scale, done, *sizes)
    if not studies:
        table.add_row(str(store.folder), "", "", "", whole, idle)


def show(
    folder: Folder,
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="Of a record or a state, or how it begins."),
    ] = None,
) -> None:
    """Show what a folder holds and how large it is, or one record or training and who needs it.

    Example: `gossamer store show runs/demo 3f2a`
    """
    from gossamer.studies.inventory import inventory

    console = PatientConsole(highlight=False)
    with _opened(folder) as opened:
        if key is not None:
            _show_key(console, opened, key)
            return
        seen = inventory(opened)
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, files in seen.files.items():
            table.add_row(name, counted(files.count, "file"), compact(files.size, "B"))
        console.print(table)
        if opened.states_at is not None:
            console.print(f"elsewhere: {opened.states_at}", markup=False, soft_wrap=True)
        for study in opened.studies():
            keys = {trial.key for trial in study.trials}
            done = len(keys & opened.done_records())
            console.print(
                f"{study.name}, {study.scale} scale: {done:,} of {counted(len(keys), 'trial')} done"
            )
        for failed in opened.failed().values():
            console.print(f"given up: {failed.reason}", markup=False, soft_wrap=True)
        if seen.idle.count:
            console.print(_not_needed(seen.idle, folder), soft_wrap=True)


def verify(folder: Folder) -> None:
    """Hold every record, trained state and file of statistics against its checksum.

    Nothing is changed. The exit code is 1 if something is damaged.

    Example: `gossamer store verify runs/demo`
    """
    from gossamer.studies import inventory

    with _opened(folder) as opened, followed(_stderr(), "file") as follow:
        found = inventory.verify(opened, follow)
    _say_verified(found)
    if not found.is_whole:
        echo(f"`gossamer store repair {folder}` sets it aside, so that it is made again.")
        raise typer.Exit(FAILED)


def repair(folder: Folder) -> None:
    """Set aside what is damaged, so that `gossamer run` makes it again.

    What is from before checksums and can be read gets one. Nothing is deleted but half-written
    files.

    Example: `gossamer store repair runs/demo`
    """
    from gossamer.records.store import Store, only_writer
    from gossamer.studies import inventory

    _check_there(folder)
    with (
        only_writer(folder),
        Store.create(folder) as opened,
        followed(_stderr(), "file") as follow,
    ):
        found, told = inventory.repair(opened, follow)
    for sentence in told:
        echo(sentence)
    _say_verified(found)


def prune(
    folder: Folder,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete them. [default: only say what would go]")
    ] = False,
) -> None:
    """Find trained states and statistics that no study of the folder needs, with their size.

    Example: `gossamer store prune runs/demo --delete`
    """
    from gossamer.records.store import Store, only_writer
    from gossamer.studies.inventory import inventory

    if not delete:
        with _opened(folder) as opened:
            found = inventory(opened).idle
        echo(
            _not_needed(found, folder) if found.count else f"A study needs every file of {folder}."
        )
        return
    _check_there(folder)
    with only_writer(folder), Store.create(folder) as opened:
        seen = inventory(opened)
        for name in seen.not_needed:
            (folder / name).unlink()
        for name in seen.not_needed_there:
            opened.remove_elsewhere(name)
    echo(f"{counted(seen.idle.count, 'file')} deleted, {compact(seen.idle.size, 'B')}.")


def export(
    folder: Folder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Its ending says as what: .csv, .parquet, .jsonl")
    ],
) -> None:
    """Write the numbers of the latest study as .csv or .parquet, or all that is kept as .jsonl.

    Lines of JSON hold whole records, trainings and joint measures, which `merge` reads again;
    trained states and statistics stay where they are.

    Example: `gossamer store export runs/demo demo.parquet`
    """
    from gossamer.records.lines import contents_of, lines_of

    kinds = (".csv", ".parquet", ".jsonl")
    if file.suffix not in kinds:
        raise InputError(f"{file}: expected a file that ends in .csv, .parquet or .jsonl")
    with _opened(folder) as opened:
        if file.suffix == ".jsonl":
            _write(file, "".join(lines_of(contents_of(opened))).encode())
        else:
            _write(file, _table_of(opened, file.suffix))
        _tell(opened)
    echo(str(file.resolve()))


def merge(
    folder: Folder,
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="FROM...", help="Other folders, or .jsonl files of `store export`."),
    ],
    keep: Annotated[
        Keep, typer.Option(help="Whose numbers to keep where those of one key differ.")
    ] = Keep.refuse,
) -> None:
    """Take into a folder what others hold: of another machine, or another half of a study.

    Differences are named: the same key with other numbers. They are refused unless it is said
    whose to keep.

    Example: `gossamer store merge runs/demo /mnt/other/runs/demo --keep mine`
    """
    from gossamer.records.lines import contents_of, read_lines
    from gossamer.records.store import Store, only_writer
    from gossamer.studies.merging import merge as merged

    with only_writer(folder), Store.create(folder) as opened:
        for source in sources:
            if source.is_dir():
                with _opened(source) as other:
                    theirs, their_folder = contents_of(other), source
            else:
                theirs, their_folder = read_lines(source), None
            found = merged(opened, theirs, their_folder, keep.value)
            parts = ", ".join(f"{count:,} {name}" for name, count in found.taken.items() if count)
            echo(f"{source}: {parts or 'nothing'} taken.")
            for one in found.differences[:_SHOWN]:
                echo(f"  {one.text}; kept: {keep.value}")
            if len(found.differences) > _SHOWN:
                echo(f"  and {len(found.differences) - _SHOWN:,} more, kept: {keep.value}")
            for sentence in found.left_out:
                say(sentence)
        _tell(opened)


SUBCOMMANDS = {
    "list": list_,
    "show": show,
    "verify": verify,
    "repair": repair,
    "prune": prune,
    "export": export,
    "merge": merge,
}
"""What stands behind the command."""


@contextmanager
def _opened(folder: Path) -> Iterator["Store"]:
    from gossamer.records.store import Store

    with Store.open(folder) as opened:
        yield opened


def _check_there(folder: Path) -> None:
    """Refuse to make a store where there is none."""
    with _opened(folder):
        pass


def _stderr() -> Console:
    return Console(stderr=True, highlight=False)


def _tell(opened: "Store") -> None:
    for sentence in opened.told():
        say(sentence)


def _show_key(console: Console, opened: "Store", key: str) -> None:
    from gossamer.studies.inventory import needed_by

    records, phases = opened.done_records(), opened.done_phases()
    found = [one for one in sorted(records | phases) if one.startswith(key)]
    if len(found) != 1:
        raise InputError(
            f"{key}: {counted(len(found), 'key')} of {opened.folder} "
            f"{'begins' if len(found) == 1 else 'begin'} so, expected one"
        )
    value = (opened.records(found) or opened.phases(found))[found[0]]
    echo(value.model_dump_json(indent=2))
    for study, trials in needed_by(opened, found[0]):
        shown = "; ".join(trials[:_SHOWN])
        more = f"; and {len(trials) - _SHOWN:,} more" if len(trials) > _SHOWN else ""
        console.print(f"needed by {study.name}: {shown}{more}", markup=False, soft_wrap=True)


def _not_needed(found: "Files", folder: Path) -> str:
    return (
        f"No study needs {counted(found.count, 'file')} of {compact(found.size, 'B')}: `gossamer "
        f"store prune {folder} --delete` deletes them."
    )


def _say_verified(found: "Verified") -> None:
    echo(f"{found.whole:,} rows and files are what was written.")
    for path in found.damaged:
        echo(f"damaged: {path}")
    for name in found.damaged_there:
        echo(f"damaged at the address of the states: {name}")
    for sentence in found.told:
        echo(sentence)
    if found.unverified:
        echo(
            f"{counted(len(found.unverified), 'file')} from before checksums covered all of a file "
            "can be read, and could not be verified."
        )


def _table_of(opened: "Store", kind: str) -> bytes:
    from gossamer.reporting.columns import results_table
    from gossamer.reporting.parquet import parquet_of
    from gossamer.reporting.results import Results

    study = opened.latest_study()
    records = opened.records({trial.key for trial in study.trials})
    phases = opened.phases({key for trial in study.trials for key in trial.phases})
    joints = tuple(opened.joints(study.joints).values())
    results = Results(study, records, joints, phases)
    return parquet_of(results) if kind == ".parquet" else results_table(results).encode()


def _write(file: Path, content: bytes) -> None:
    from gossamer.reporting.files import write_whole

    write_whole(file, content)
